"""Checking gradients against central differences, in random directions, to any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn import backends, tape
from tinygrad_rnn.tensor.tensor import Tensor
from tinygrad_rnn.tensor.transforms import vjp


class GradientError(AssertionError):
    """A gradient that central differences contradict."""


def check_gradients(
    function: Callable[..., Any],
    inputs: Sequence[Tensor] | Tensor,
    order: int = 2,
    *,
    eps: float = 1e-6,
    atol: float = 1e-6,
    rtol: float = 1e-4,
    seed: int = 0,
) -> bool:
    """Check the gradients of ``function(*inputs)`` up to ``order``; True, or GradientError.

    The result is reduced to a scalar with random weights, and for each input its gradient in a
    random direction v is compared with (f(x + eps v) - f(x - eps v)) / (2 eps). A higher order
    checks the pullback in the same way, as a function of the point and of the cotangents, with
    ten times the tolerances.

    Parameters
    ----------
    function : takes float64 Tensors and returns a Tensor or a container of Tensors.
    inputs : the point at which to check. Integer and boolean inputs are held fixed.

    Raises
    ------
    GradientError
        naming the order and the input, with both values.
    """
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    rng = np.random.default_rng(seed)
    for k, x in enumerate(given):
        if x.dtype.kind == "f" and x.dtype != np.float64:
            raise TypeError(f"check_gradients: input {k} must be float64, got {x.dtype}")
    names = [f"input {k}" for k in range(len(given))]
    _check(function, given, names, order, order, eps, atol, rtol, rng)
    return True


def _like(x: Tensor, values: np.ndarray) -> Tensor:
    return Tensor(backends.transfer(np.asarray(values, dtype=x.dtype), x.device))


def _check(
    function: Callable[..., Any],
    inputs: list[Tensor],
    names: list[str],
    order: int,
    orders: int,
    eps: float,
    atol: float,
    rtol: float,
    rng: np.random.Generator,
) -> None:
    active = [k for k, x in enumerate(inputs) if x.dtype.kind == "f"]
    points = [inputs[k].detach() for k in active]

    def of_active(*values: Tensor) -> list[Tensor]:
        full = list(inputs)
        for k, value in zip(active, values, strict=True):
            full[k] = value
        return [y for y in tape.leaves(function(*full)) if y.dtype.kind == "f"]

    shapes = of_active(*points)
    weights = [_like(y, rng.standard_normal(y.shape)) for y in shapes]

    def scalar(values: Sequence[Tensor]) -> float:
        with tape.no_grad():
            outputs = of_active(*values)
        return float(
            sum(np.sum(y.numpy() * w.numpy()) for y, w in zip(outputs, weights, strict=True))
        )

    def gradients(*values: Tensor) -> Any:
        return vjp(of_active, *values[: len(points)])[1](list(values[len(points) :]))

    if scalar(points) != scalar(points):
        raise GradientError(
            "check_gradients: the function gives two values at one point; is it random?"
        )
    found = gradients(*points, *weights)
    ordinal = {0: "first", 1: "second"}.get(orders - order, f"{orders - order + 1}th")
    for k, x, g in zip(active, points, found, strict=True):
        direction = rng.standard_normal(x.shape)
        ends: list[float] = []
        for sign in (1, -1):
            moved = list(points)
            moved[active.index(k)] = _like(x, x.numpy() + sign * eps * direction)
            ends.append(scalar(moved))
        numeric = (ends[0] - ends[1]) / (2 * eps)
        analytic = float(np.sum(g.numpy() * direction))
        if not abs(numeric - analytic) <= atol + rtol * abs(numeric):
            raise GradientError(
                f"check_gradients: {ordinal}-order gradient of {names[k]} {tuple(x.shape)} in a "
                f"random direction is {analytic:.10g}, central differences give {numeric:.10g}"
            )
    if order > 1:
        inner = [names[k] for k in active] + [f"cotangent {k}" for k in range(len(weights))]
        _check(
            gradients, points + weights, inner, order - 1, orders, eps, 10 * atol, 10 * rtol, rng
        )
