"""Random Tensors, from the one seeded generator.

Within a step of a loop over time they are operations like any other: each call draws one block for
all steps, and each step reads its own part, whether the loop is replayed or not.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn import backends, ops
from tinygrad_rnn.ops.shaping import as_shape
from tinygrad_rnn.tensor.creation import tensor
from tinygrad_rnn.tensor.dtypes import checked_dtype
from tinygrad_rnn.tensor.tensor import Tensor


def _drawn(
    kind: tuple[Hashable, ...],
    shape: tuple[int, ...],
    draw: Callable[[tuple[int, ...]], np.ndarray],
    dtype: Any,
    device: str | None,
    requires_grad: bool = False,
) -> Tensor:
    """``draw(size)``, given on the host, in a dtype and on a device."""
    wanted = checked_dtype(dtype, str(kind[0]))

    def make(lead: tuple[int, ...]) -> backends.Array:
        values = np.asarray(draw((*lead, *shape))).astype(wanted, copy=False)
        return backends.transfer(values, "cpu" if device is None else device)

    found = ops.from_blocks(ops.Draw((*kind, wanted.str, device), shape, make))
    if not isinstance(found, Tensor):
        found = Tensor(found)
    if requires_grad:
        found.requires_grad = True
    return found


def _shape(shape: tuple[Any, ...], who: str) -> tuple[int, ...]:
    """``rand(2, 3)`` and ``rand((2, 3))`` mean the same."""
    return as_shape(shape[0] if len(shape) == 1 else shape, who)


def rand(
    *shape: Any, dtype: Any = np.float32, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Uniform on [0, 1)."""
    size = _shape(shape, "rand")
    return _drawn(("rand",), size, ops.generator().random, dtype, device, requires_grad)


def randn(
    *shape: Any, dtype: Any = np.float32, device: str | None = None, requires_grad: bool = False
) -> Tensor:
    """Normal with mean 0 and variance 1."""
    size = _shape(shape, "randn")
    return _drawn(("randn",), size, ops.generator().standard_normal, dtype, device, requires_grad)


def randint(low: int, high: int, shape: Any, device: str | None = None) -> Tensor:
    """Integers low <= k < high, all equally likely."""
    size = as_shape(shape, "randint")
    draw = partial(ops.generator().integers, low, high)
    return _drawn(("randint", low, high), size, draw, np.int64, device)


def bernoulli(p: Tensor) -> Tensor:
    """1 with probability p, else 0, element by element, in the dtype of p; it has no gradient."""
    p = _floating(p, "bernoulli")
    uniform = _drawn(("rand",), p.shape, ops.generator().random, p.dtype, p.device)
    return ops.cast(uniform < p.detach(), p.dtype)


def normal(mean: Tensor | float, std: Tensor | float) -> Tensor:
    """Mean + std * e with e from N(0, 1); gradients reach mean and std.

    The two are broadcast against each other. Source: Kingma, Welling 2014, section 2.4.
    """
    given = [value for value in (mean, std) if isinstance(value, Tensor)]
    if not given:
        raise TypeError("normal: mean or std must be a Tensor; for numbers take mean + std * randn")
    like = _floating(given[0], "normal")
    shape = np.broadcast_shapes(*(value.shape for value in given))
    draw = ops.generator().standard_normal
    return mean + std * _drawn(("randn",), shape, draw, like.dtype, like.device)


def categorical(logits: Tensor, axis: int = -1) -> Tensor:
    """Indices along an axis, drawn with probabilities softmax(logits); they have no gradient.

    The largest of logits + e, with e from Gumbel's distribution. An element at -inf is never drawn.
    Source: Gumbel 1954; Maddison, Tarlow, Minka 2014.
    """
    logits = _floating(logits, "categorical")
    draw = partial(ops.generator().gumbel, 0.0, 1.0)
    noise = _drawn(("gumbel",), logits.shape, draw, logits.dtype, logits.device)
    return ops.argmax(logits.detach() + noise, axis)


def _floating(value: Any, who: str) -> Tensor:
    given = value if isinstance(value, Tensor) else tensor(value)
    if given.dtype.kind != "f":
        raise TypeError(f"{who}: expected floating values, got {given.dtype}")
    return given
