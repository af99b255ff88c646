"""The same values once more: in a value of its own, in memory of its own, on another device."""

from __future__ import annotations

from tinygrad_rnn.backends import device_of, transfer
from tinygrad_rnn.ops.arrays import A, raw
from tinygrad_rnn.ops.elementwise.declaration import elementwise
from tinygrad_rnn.tape import Primitive


@elementwise("x0", lambda g, y, x: g, forward=lambda xp, x: x, promote=None)
def identity(x: A, /) -> A:
    """X itself, as a new value on the tape."""
    ...


@elementwise("x0", lambda g, y, x: g, forward=lambda xp, x: x.copy(), promote=None)
def copy(x: A, /) -> A:
    """X in memory of its own."""
    ...


to_device_p = Primitive(
    "to_device",
    lambda xp, x, device: transfer(x, device),
    [lambda g, y, x, device: to_device_p(g, device=device_of(raw(x)))],
)


def to_device(x: A, device: str) -> A:
    """The same values on another device; the gradient travels back."""
    return to_device_p(x, device=device)
