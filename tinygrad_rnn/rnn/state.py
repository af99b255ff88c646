"""What every recurrent layer asks of its inputs and states, said in one sentence where it fails."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.backends import DeviceError
from tinygrad_rnn.nn import Module
from tinygrad_rnn.tape import leaves, rebuild
from tinygrad_rnn.tensor import Tensor


def check_inputs(who: str, x: Any, shape: tuple[Any, ...], module: Module) -> None:
    """Refuse inputs whose shape, dtype or device is not the layer's. A letter stands for any size."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{who}: inputs must be a Tensor, got {type(x).__name__}")
    fits = x.ndim == len(shape) and all(
        isinstance(want, str) or want == size for want, size in zip(shape, x.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{who}: inputs must have shape ({wanted}), got {x.shape}")
    like = next((p for p in module.parameters() if p.dtype.kind == "f"), None)
    if like is None:
        return
    if x.dtype != like.dtype:
        raise TypeError(
            f"{who}: inputs must be {like.dtype} as its parameters are, got {x.dtype}; convert one "
            "of them with .to(dtype)"
        )
    if x.device != like.device:
        raise DeviceError(
            f"{who}: inputs must be on {like.device} as its parameters are, got {x.device}"
        )


def fit_state(who: str, given: Any, expected: Any) -> Any:
    """The given state in the containers of the expected one, or the expected one for None."""
    if given is None:
        return expected
    found, wanted = leaves(given), leaves(expected)
    if isinstance(given, Tensor) != isinstance(expected, Tensor) or len(found) != len(wanted):
        raise TypeError(f"{who}: the state must be {_describe(expected)}, got {_describe(given)}")
    for have, want in zip(found, wanted, strict=True):
        if not isinstance(have, Tensor):
            raise TypeError(f"{who}: a state is made of Tensors, got {type(have).__name__}")
        if have.shape != want.shape or have.dtype != want.dtype or have.device != want.device:
            raise ValueError(
                f"{who}: the state must be {_describe(expected)}, got {_describe(given)}"
            )
    return rebuild(expected, found)


def _describe(state: Any) -> str:
    if isinstance(state, Tensor):
        where = "" if state.device == "cpu" else f" on {state.device}"
        return f"{state.dtype} {state.shape}{where}"
    if isinstance(state, tuple | list):
        name = type(state).__name__
        return f"{name}({', '.join(_describe(part) for part in state)})"
    return f"a {type(state).__name__}"
