"""What the tape is made of: a value that is followed, and one line, which is an operation done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

from tinygrad_rnn.backends import Array, device_of
from tinygrad_rnn.tape.clock import mark_overwritten, next_position, version_of
from tinygrad_rnn.tape.hooks import Watch
from tinygrad_rnn.tape.operation import Operation
from tinygrad_rnn.tape.origin import Origin

_NOTHING: dict[str, Any] = {}


class Traced:
    """A value that the tape can follow: an array, and the record that it came from.

    ``Tensor`` is this class with operators. A value without a record is a leaf.

    Attributes
    ----------
    array : the values.
    needs_grad : whether a gradient is wanted for this value or for a leaf that it came from.
    record, slot : the record that computed it, and which of its results it is.
    name : what a printed tape and an error call it.
    watch : what somebody wants to know of the gradient of this value, None where nobody does.
    """

    __slots__ = (
        "__weakref__",
        "_grad",
        "array",
        "name",
        "needs_grad",
        "record",
        "slot",
        "watch",
    )

    output_type: ClassVar[Callable[..., Any]]
    """The type of what is computed from such values, set by the subclass that has operators."""

    def __init__(
        self, array: Array, needs_grad: bool = False, record: Record | None = None, slot: int = 0
    ) -> None:
        self.array = array
        self.needs_grad = needs_grad
        self.record = record
        self.slot = slot
        self._grad: Any = None
        self.watch: Watch | None = None
        self.name: str | None = None

    @property
    def version(self) -> int:
        """How often the memory of this value has been overwritten, through whichever view of it."""
        return version_of(self.array)

    def replace_array(self, array: Array) -> None:
        """Take another array for this one, which counts as overwriting it."""
        version, self.array = self.version, array
        mark_overwritten(array, version)

    @property
    def grad(self) -> Any:
        """The gradient that ``backward`` left here, a Tensor like this value, or None."""
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if isinstance(value, Traced):
            a, b = self.array, value.array
            if a.shape != b.shape or a.dtype != b.dtype or device_of(a) != device_of(b):
                here, there = (f"{x.dtype} {tuple(x.shape)} on {device_of(x)}" for x in (a, b))
                raise ValueError(f"grad: expected {here} as the value is, got {there}")
        elif value is not None:
            raise TypeError(f"grad: expected a Tensor or None, got {type(value).__name__}")
        self._grad = value

    def accumulate(self, g: Any) -> None:
        """Add a gradient, an array or a Tensor like this value, to the one that is here."""
        if self._grad is None:
            self._grad = g.in_own_memory() if isinstance(g, Traced) else self.output_type(g)
        elif isinstance(g, Traced) or self._grad.needs_grad:
            self.grad = self._grad + g
        else:
            mark_overwritten(self._grad.array)
            self._grad.array += g

    def in_own_memory(self) -> Traced:
        """The same value at the same place of the tape, in memory that nobody shares."""
        if self.needs_grad and self.record is None:
            return self
        array = self.array.copy(order="C")
        return self.output_type(array, self.needs_grad, self.record, self.slot)


Key: TypeAlias = "Traced | Record | tuple[Record, int]"


def key_of(value: Traced) -> Key:
    """What identifies a value on the tape: a leaf itself, else its record (and slot, if not 0)."""
    record = value.record
    if record is None:
        return value
    return (record, value.slot) if value.slot else record


class Record:
    """One line of the tape: an operation, what went in, what came out.

    It holds the results as raw arrays and no handle to its own outputs, so nothing points in a
    circle and dropping the last handle frees the tape at once. ``constants`` are the numbers of
    those inputs that are leaves and wanted no gradient when it was made. ``origin`` says where it
    comes from, None where nobody looked.
    """

    __slots__ = ("constants", "inputs", "origin", "params", "position", "primitive", "results")

    def __init__(
        self,
        primitive: Operation,
        inputs: tuple[Any, ...],
        params: dict[str, Any],
        results: tuple[Array, ...],
        constants: tuple[int, ...] = (),
        origin: Origin | None = None,
    ) -> None:
        self.primitive = primitive
        self.inputs: tuple[Any, ...] = inputs
        self.params = params
        self.results: tuple[Array, ...] = results
        self.constants = constants
        self.origin = origin
        self.position = next_position()

    @property
    def freed(self) -> bool:
        """Whether a backward pass has gone by and let go of the arrays."""
        return not self.results

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of those of its inputs that are leaves and have one, as parameters do."""
        leaves = (x for x in self.inputs if isinstance(x, Traced) and x.record is None)
        return tuple(dict.fromkeys(x.name for x in leaves if x.name))

    @property
    def inside(self) -> tuple[int, Any] | None:
        """How often it runs which program of its own, None where it is no such operation."""
        inside = self.primitive.inside
        return None if inside is None or self.freed else inside(**self.params)

    def followed(self) -> list[Traced]:
        """The inputs for which a gradient was wanted when the record was made."""
        constants = self.constants
        return [
            x
            for k, x in enumerate(self.inputs)
            if isinstance(x, Traced) and (k not in constants if x.record is None else x.needs_grad)
        ]

    def free(self) -> None:
        """Let go of everything that takes memory.

        What is left of the inputs are the keys of those that wanted a gradient, so that it can be
        told what depends on a record that is gone.
        """
        if not self.results:
            return
        self.inputs = tuple([key_of(x) for x in self.followed()])
        self.constants = ()
        self.params = _NOTHING
        self.results = ()
