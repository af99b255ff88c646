"""Trading time for memory: a function whose inner records are dropped and computed again."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tinygrad_rnn import ops, tape
from tinygrad_rnn.tensor.tensor import Tensor


def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the values and gradients of ``function`` that keeps no inner tape.

    The tape holds one record, with the arguments and every Tensor that ``function`` closes over.
    Backward runs ``function`` once more, with the random numbers of the first run, and
    differentiates that. Source: Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        if not tape.is_recording() or tape.is_tracing():
            return function(*args, **options)
        call = _Call(function, [list(args), options])
        start = tape.next_position()
        inner = [Tensor(x.array, x.requires_grad) for x in call.given]
        result = call.run(inner)
        outputs = _tensors(result)
        if not any(y.requires_grad for y in outputs):
            return result
        call.captured, call.constants = _captured(outputs, inner, start)
        call.end = tape.next_position()
        call.arrays = tuple(y.array for y in outputs)
        return _replaced(result, _checkpoint(*call.given, *call.captured, call=call))

    return wrapped


class _Call:
    """One call of a function, so that it can be made again."""

    def __init__(self, function: Callable[..., Any], arguments: list[Any]) -> None:
        self.function = function
        self.arguments = arguments
        self.given = _tensors(arguments)
        self.captured: list[Tensor] = []
        self.constants: list[weakref.ref[Tensor]] = []
        self.end = 0
        self.arrays: tuple[Any, ...] = ()
        self.random = ops.generator_state()
        self.precision = ops.current_precision()
        self.blocks = ops.Remembered()
        self.place = tape.current_place.get()

    def __repr__(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def run(self, given: Iterable[Tensor]) -> Any:
        """The result with other Tensors in place of the given ones."""
        args, options = _replaced(self.arguments, given)
        with self.blocks.again():
            return self.function(*args, **options)

    def run_again(self, given: Iterable[Tensor]) -> list[Tensor]:
        """The outputs, with the random numbers and the precision of the first run."""
        for constant in self.constants:
            x = constant()
            if x is not None and tape.is_overwritten(x.array, self.end):
                what = f"the Tensor {x.name!r}" if x.name else "a Tensor"
                raise RuntimeError(
                    f"backward: {what} that the checkpointed function {self!r} reads has been "
                    "overwritten since, so that it would compute other values; call backward "
                    "before it, or compute the value again"
                )
        source = ops.generator().bit_generator
        after = source.state
        try:
            source.state = self.random
            with ops.matmul_precision(self.precision):
                run = self.run
                if tape.current_modes.get().looking:
                    run = tape.in_place(self.place)(run)
                return _tensors(run(given))
        finally:
            source.state = after  # no function of Python's, at whose start Ctrl-C may come


def _rule(
    needed: Sequence[bool], gs: Sequence[Any], ys: Sequence[Any], *inputs: Any, call: _Call
) -> list[Any]:
    connected = any(isinstance(x, Tensor) for x in inputs)
    with tape.enable_grad():
        since = tape.next_position()
        given = [
            Tensor(x, want) if not isinstance(x, Tensor) else ops.identity(x) if want else x
            for x, want in zip(inputs[: len(call.given)], needed, strict=False)
        ]
        outputs = call.run_again(given)
    pairs = [(y, g) for y, g in zip(outputs, gs, strict=True) if g is not None]
    inner = zip([*given, *call.captured], needed, strict=True)
    found = iter(
        tape.differentiate(
            [y for y, _ in pairs],
            [g if isinstance(g, Tensor) else Tensor(g) for _, g in pairs],
            [x for x, want in inner if want],
            create_graph=connected,
            since=since,
        )
    )
    return [next(found) if want else None for want in needed]


_checkpoint = tape.Primitive(
    "checkpoint", lambda xp, *inputs, call: call.arrays, joint_rule=_rule, multiple=True, reads="x"
)


def _tensors(tree: Any) -> list[Tensor]:
    return [value for value in tape.leaves(tree) if isinstance(value, Tensor)]


def _replaced(tree: Any, tensors: Iterable[Tensor]) -> Any:
    """``tree`` with ``tensors`` in place of its own, in order."""
    items = iter(tensors)
    return tape.tree_map(lambda value: next(items) if isinstance(value, Tensor) else value, tree)


def _captured(
    outputs: Sequence[Tensor], inner: Sequence[Tensor], start: int
) -> tuple[list[Tensor], list[weakref.ref[Tensor]]]:
    """What the run read from outside: what wants a gradient (leaves, and records before it), and
    the constants. Those that it made itself are not kept alive.
    """
    own = set(inner)
    read: list[Any] = [*outputs, *tape.Tape(outputs, since=start).inputs]
    found = {
        tape.key_of(x): x
        for x in read
        if x not in own and (x.record is None or x.record.position < start)
    }
    wanted = [x for x in found.values() if x.requires_grad]
    return wanted, [weakref.ref(x) for x in found.values() if not x.requires_grad]
