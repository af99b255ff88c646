"""What layers refuse: inputs of another dtype or on another device, sizes that are none."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn import backends
from tinygrad_rnn.ops import note_range
from tinygrad_rnn.ops.arrays import is_integer
from tinygrad_rnn.tensor import Tensor, tensor


def check_floating(who: str, x: Any, what: str = "inputs") -> None:
    """Refuse what is not a floating Tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{who}: {what} must be a Tensor, got {type(x).__name__}")
    if x.dtype.kind != "f":
        raise TypeError(f"{who}: {what} must be floating, got {x.dtype}")


def check_device(who: str, x: Tensor, like: Tensor, what: str, whose: str) -> None:
    """Refuse a Tensor on another device than the one it is to meet."""
    if x.device != like.device:
        raise backends.DeviceError(
            f"{who}: {what} must be on {like.device} as {whose} are, got {x.device}; bring them to "
            "one device with .to(device)"
        )


def beside(like: Tensor, value: Any) -> Tensor:
    """``value`` as a Tensor, made on the device of ``like`` where it is none.

    Of integers that come from the host the range is noted, so that nobody has to ask the device.
    """
    if isinstance(value, Tensor):
        return value
    here = tensor(value)
    if here.device == like.device:
        return here
    there = Tensor(backends.transfer(here.array, like.device))
    if here.device == "cpu" and here.size and here.dtype.kind in "iu":
        note_range(there.array, int(here.array.min()), int(here.array.max()))
    return there


def fit(
    who: str, what: str, value: Any, shape: tuple[int, ...], like: Tensor, whose: str
) -> Tensor:
    """``value`` as a Tensor of a shape :func:`beside` another one, or one sentence on why not."""
    found = beside(like, value)
    check_device(who, found, like, what, whose)
    if tuple(found.shape) != tuple(shape):
        raise ValueError(f"{who}: {what} must have shape {tuple(shape)}, got {found.shape}")
    return found


def check_like(who: str, x: Any, parameter: Tensor) -> None:
    """Refuse inputs whose dtype or device is not that of a layer."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{who}: inputs must be a Tensor, got {type(x).__name__}")
    if x.dtype != parameter.dtype:
        raise TypeError(
            f"{who}: inputs must be {parameter.dtype} as its parameters are, got {x.dtype}; "
            "convert one of them with .to(dtype)"
        )
    check_device(who, x, parameter, "inputs", "its parameters")


def check_size(who: str, **sizes: Any) -> None:
    """Refuse sizes that are not positive integers."""
    for name, size in sizes.items():
        if not is_integer(size) or size < 1:
            raise ValueError(f"{who}: {name} must be a positive integer, got {size!r}")
