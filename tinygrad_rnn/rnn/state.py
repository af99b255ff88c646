"""What every recurrent layer asks of its inputs and states, said in one sentence where it fails."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.backends import DeviceError
from tinygrad_rnn.nn import Module, check_like
from tinygrad_rnn.tape import leaves, rebuild
from tinygrad_rnn.tensor import Tensor


def check_inputs(who: str, x: Any, shape: tuple[Any, ...], module: Module) -> None:
    """Refuse inputs that the layer cannot take. In ``shape`` a letter stands for any size."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{who}: inputs must be a Tensor, got {type(x).__name__}")
    fits = x.ndim == len(shape) and all(
        isinstance(want, str) or want == size for want, size in zip(shape, x.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{who}: inputs must have shape ({wanted}), got {x.shape}")
    like = module.some_tensor()
    if like is not None:
        check_like(who, x, like)


def fit_state(who: str, given: Any, expected: Any) -> Any:
    """The given state in the containers of the expected one, or the expected one for None."""
    if given is None:
        return expected
    message = f"{who}: the state must be {_describe(expected)}, got {_describe(given)}"
    if not _same_form(given, expected):
        raise TypeError(message)
    found = leaves(given)
    for have, want in zip(found, leaves(expected), strict=True):
        if have.shape != want.shape:
            raise ValueError(message)
        if have.dtype != want.dtype:
            raise TypeError(message)
        if have.device != want.device:
            raise DeviceError(message)
    return rebuild(expected, found)


def _same_form(given: Any, expected: Any) -> bool:
    """Whether two states have the same containers; a plain tuple or list stands for any of them."""
    if isinstance(expected, Tensor):
        return isinstance(given, Tensor)
    if isinstance(given, dict) or isinstance(expected, dict):
        return (
            isinstance(given, dict)
            and list(given) == list(expected)
            and _same_form(list(given.values()), list(expected.values()))
        )
    return (
        isinstance(given, tuple | list)
        and len(given) == len(expected)
        and all(map(_same_form, given, expected))
    )


def _describe(state: Any) -> str:
    if isinstance(state, Tensor):
        where = "" if state.device == "cpu" else f" on {state.device}"
        return f"{state.dtype} {state.shape}{where}"
    if isinstance(state, tuple | list):
        name = type(state).__name__
        return f"{name}({', '.join(_describe(part) for part in state)})"
    return f"a {type(state).__name__}"
