"""Tensor: a traced value with the notation of a NumPy array."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from tinygrad_rnn import backends, ops, tape
from tinygrad_rnn.ops import At
from tinygrad_rnn.tensor.dtypes import checked_dtype
from tinygrad_rnn.tensor.operators import Operand
from tinygrad_rnn.tensor.overwriting import InPlace, overwrite


class Tensor(InPlace):
    """An array that remembers how it was computed. Made by :func:`tinygrad_rnn.tensor`.

    Operators, indexing, broadcasting and dtypes are NumPy's. Numbers never change the dtype of a
    floating Tensor. Gradients flow through floating dtypes only.
    """

    __slots__ = ()

    def __init__(self, array: backends.Array, needs_grad: bool = False) -> None:
        if backends.find_backend(array) is None:
            raise TypeError(
                f"Tensor: expected an array, got {type(array).__name__}; use "
                "tinygrad_rnn.tensor(...), which takes numbers and lists"
            )
        super().__init__(backends.as_array(array), needs_grad)

    # Values

    @property
    def data(self) -> backends.Array:
        """The raw array. What is assigned is copied into it.

        It must have the shape of this value; floating values are cast to its dtype. After changing
        the elements of the array itself, call :meth:`mark_changed`, so that a backward pass through
        a tape that still needs the old values is refused.

        >>> import numpy as np
        >>> import tinygrad_rnn as tg
        >>> x, given = tg.zeros(2), np.array([1.0, 2.0])
        >>> x.data = given
        >>> x.data += 1
        >>> x, given
        (tensor([2., 3.], dtype=float32), array([1., 2.]))
        """
        tape.reading(self)
        return self.array

    @data.setter
    def data(self, value: Any) -> None:
        overwrite(self, value, "data")

    def mark_changed(self) -> None:
        """Say that the elements of the array, or of a view of it, were changed in place."""
        tape.mark_overwritten(self.array)

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient is wanted for this value."""
        return self.needs_grad

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        if tape.is_tracing() and bool(value) != self.needs_grad:
            raise RuntimeError(
                "requires_grad: a step that is traced once for all time steps cannot change it; "
                "run it step by step with unroll=True, or take the gradient by "
                "tinygrad_rnn.grad(...)"
            )
        if self.record is not None:
            raise RuntimeError("requires_grad: only a leaf can change it; use detach()")
        if value and self.array.dtype.kind != "f":
            raise TypeError(f"requires_grad: {self.dtype} values carry no gradient")
        self.needs_grad = bool(value)

    @property
    def is_leaf(self) -> bool:
        """Whether no record computed this value."""
        return self.record is None

    def __reduce__(self) -> Any:
        """A copy carries the values and not the tape."""
        wants_grad = self.needs_grad and self.record is None
        return _rebuild, (type(self), self.numpy(), self.device, wants_grad, self.name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copied = _rebuild(
            type(self),
            backends.copied(self.array),
            self.device,
            self.needs_grad and self.is_leaf,
            self.name,
        )
        memo[id(self)] = copied
        return copied

    # Gradients

    def backward(
        self,
        gradient: Operand | None = None,
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
    ) -> None:
        """Differentiate this value: add to ``.grad`` of every leaf that it depends on.

        Parameters
        ----------
        gradient : the cotangent to begin with, of this value's shape; 1 for a single element.
        retain_graph : keep the tape, so that it can be walked again.
        create_graph : record the pass itself, so that gradients can be differentiated.

        Raises
        ------
        RuntimeError
            where nothing requires a gradient, the tape has been freed by an earlier pass, or what
            a gradient rule reads has been overwritten since; also within a step that is traced.
        """
        if tape.is_tracing():
            raise RuntimeError(
                "backward: a step that is traced once for all time steps cannot call backward; run "
                "it step by step with unroll=True, or take the gradient by tinygrad_rnn.grad(...)"
            )
        start = tape.seed(self, gradient, "backward")
        tape.backward([self], [start], retain_graph=retain_graph, create_graph=create_graph)

    def retain_grad(self) -> None:
        """Ask ``backward`` to leave ``.grad`` here too, though this is not a leaf."""
        if not self.needs_grad:
            raise RuntimeError("retain_grad: this value does not require a gradient")
        self._watched().keeps_grad = True

    def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> tape.Handle:
        """Call ``hook(gradient)`` in ``backward`` when the gradient of this value is complete.

        What it returns, unless None, takes the place of the gradient, here and on the way to what
        this value was computed from. ``remove()`` of the handle takes the hook off again. The
        functions that return gradients (``grad``, ``vjp``) call no hooks.
        """
        if not self.needs_grad:
            raise RuntimeError("register_hook: this value does not require a gradient")
        return tape.Handle(self._watched().hooks, hook)

    def _watched(self) -> tape.Watch:
        if self.watch is None:
            self.watch = tape.Watch()
        return self.watch

    def detach(self) -> Tensor:
        """The same values, shared, without the tape and without a gradient."""
        if tape.is_tracing():
            with tape.no_grad():
                return ops.identity(self)
        return type(self).output_type(self.array)

    def to(self, target: str | Any) -> Tensor:
        """The values on another device (``"cuda"``) or in another dtype; gradients travel back."""
        if isinstance(target, str) and target not in np.sctypeDict:
            return self if target == self.device else ops.to_device(self, target)
        return self.astype(target)

    def astype(self, dtype: Any) -> Tensor:
        """The values in another dtype; itself where it has that dtype already."""
        kind = checked_dtype(dtype, "astype")
        return self if kind == self.dtype else ops.cast(self, kind)

    def copy(self) -> Tensor:
        """The same values in memory of their own, connected to the tape."""
        return ops.copy(self)

    @property
    def at(self) -> At[Self]:
        """``x.at[index].set(values)`` and ``.add(values)``: writing that returns a new Tensor."""
        return At(self)


def _computed(
    array: backends.Array,
    needs_grad: bool = False,
    record: tape.Record | None = None,
    slot: int = 0,
) -> Tensor:
    """A Tensor for the result of a record: what came out of a primitive needs no checks."""
    result = _new(Tensor)
    _begin(result, array, needs_grad, record, slot)
    return result


_new, _begin = Tensor.__new__, tape.Traced.__init__
Tensor.output_type = staticmethod(_computed)


def _rebuild(
    kind: type[Tensor], values: Any, device: str, needs_grad: bool, name: str | None
) -> Tensor:
    copied = kind.__new__(kind)
    tape.Traced.__init__(copied, backends.transfer(values, device), needs_grad)
    copied.name = name
    return copied
