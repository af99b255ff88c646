"""New values in the memory of a Tensor: what is assigned to ``.data``, and arithmetic in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from tinygrad_rnn import backends, ops, tape
from tinygrad_rnn.backends import Array
from tinygrad_rnn.tensor.methods import Methods

KINDS = "biuf"
"""Kinds of dtypes that can be cast, each without loss only to its own or to one behind it."""


def overwrite(x: tape.Traced, value: Any, who: str) -> None:
    """Copy values into the memory of ``x``, cast to its dtype, or say why they do not fit."""
    old = x.array
    if value is old:  # it was changed itself, as by x.data += 1
        tape.mark_overwritten(old)
        return
    array = value.array if isinstance(value, tape.Traced) else value
    if backends.find_backend(array) is None:
        array = _from_host(array, x, who)
    here, there = backends.device_of(old), backends.device_of(array)
    if here != there:
        raise backends.DeviceError(f"{who}: expected an array on {here}, got one on {there}")
    if tuple(array.shape) != tuple(old.shape) or not _can_cast(array.dtype, old.dtype):
        raise ValueError(
            f"{who}: expected {old.dtype} {tuple(old.shape)}, got {array.dtype} "
            f"{tuple(array.shape)}"
        )
    if not getattr(old.flags, "writeable", True):
        raise ValueError(
            f"{who}: the memory of this Tensor is read-only; make one of its own by .copy()"
        )
    _write(old, array)


@backends.there
def _write(old: Array, array: Array) -> None:
    """Copy values in, also from memory that the two share."""
    owner = backends.backend_of(old).owner
    new = array.astype(old.dtype, copy=owner(array) is owner(old))
    tape.mark_overwritten(old)
    old[...] = new


def _from_host(value: Any, x: tape.Traced, who: str) -> Any:
    """Numbers and lists as an array like ``x``, where its dtype can hold them."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{who}: the rows have different lengths ({error})") from None
    dtype = x.array.dtype
    if array.dtype.kind in KINDS and KINDS.index(array.dtype.kind) <= KINDS.index(dtype.kind):
        array = np.asarray(value, dtype)
    return backends.transfer(array, backends.device_of(x.array))


def _can_cast(given: np.dtype[Any], own: np.dtype[Any]) -> bool:
    return given.kind == own.kind and (own.kind == "f" or np.can_cast(given, own))


def _in_place(who: str, operation: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    def method(self: InPlace, other: Any) -> Any:
        if self.record is not None or self.is_followed:
            return NotImplemented
        if tape.is_recording():
            if not self.needs_grad:
                return NotImplemented
            raise RuntimeError(
                f"{who}: a leaf that requires a gradient changes in place only within no_grad() "
                f"(or by x.data {who} ...); for a new value that the tape follows, write x = x "
                f"{who[:-1]} ..."
            )
        overwrite(self, operation(self, other), who)
        return self

    return method


class InPlace(Methods):
    """Arithmetic in place: ``x += y`` and its kin.

    Within ``no_grad`` the values of a leaf change, in its own memory and dtype, and with them all
    views of it. Everywhere else the name is bound to the new value ``x + y``, and what the tape has
    read stays as it was; only a leaf that requires a gradient is refused there, since its name
    would be lost to whoever trains it.
    """

    __slots__ = ()
    is_followed: ClassVar[bool] = False
    """Whether this is a value of a step that is traced, which keeps its memory to itself."""

    __iadd__ = _in_place("+=", ops.add)
    __isub__ = _in_place("-=", ops.subtract)
    __imul__ = _in_place("*=", ops.multiply)
    __itruediv__ = _in_place("/=", ops.divide)
    __ifloordiv__ = _in_place("//=", ops.floor_divide)
    __imod__ = _in_place("%=", ops.remainder)
    __ipow__ = _in_place("**=", ops.power)
    __imatmul__ = _in_place("@=", ops.matmul)
    __iand__ = _in_place("&=", ops.bitwise_and)
    __ior__ = _in_place("|=", ops.bitwise_or)
    __ixor__ = _in_place("^=", ops.bitwise_xor)
