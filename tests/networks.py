"""What the tests of networks share: random weights, a module as a function of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import nn


def randomise(module: nn.Module, seed: int = 0, scale: float = 0.7) -> Any:
    """The module in float64 with every parameter drawn anew, biases and gains included."""
    rng = np.random.default_rng(seed)
    module.to(np.float64)
    for parameter in module.parameters():
        nn.init.constant_(parameter, 0)
        parameter.data = tg.tensor(
            scale * rng.standard_normal(parameter.shape), device=parameter.device
        )
    return module


def functional(module: nn.Module, call: Callable[..., Any]) -> tuple[Callable[..., Any], list[Any]]:
    """``call(*inputs)`` as a function of ``(*parameters, *inputs)``, and the parameters' values."""
    named = dict(module.named_parameters())

    def function(*values: Any) -> Any:
        for name, value in zip(named, values, strict=False):
            _assign(module, name.split("."), value)
        return call(*values[len(named) :])

    return function, [parameter.detach() for parameter in named.values()]


def _assign(owner: Any, path: list[str], value: Any) -> None:
    for key in path[:-1]:
        owner = owner[int(key)] if isinstance(owner, list) else getattr(owner, key)
    setattr(owner, path[-1], value)


def draw(*shape: int, seed: int = 1, device: str | None = None, **options: Any) -> tg.Tensor:
    """A normal float64 Tensor."""
    values = np.random.default_rng(seed).standard_normal(shape)
    return tg.tensor(values, device=device, **options)


def close(have: Any, want: Any, rtol: float = 1e-10) -> None:
    """Equal within ``rtol`` of the larger of 1 and the largest value."""
    a, b = (np.asarray(v.numpy() if isinstance(v, tg.Tensor) else v) for v in (have, want))
    assert a.shape == b.shape
    scale = max(1.0, float(np.abs(b).max(initial=0)))
    np.testing.assert_allclose(a, b, rtol=0, atol=rtol * scale)
