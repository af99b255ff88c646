"""Trading time for memory: a function whose inner records are dropped and computed again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
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
    def wrapped(*args: Any) -> Any:
        if not tape.is_recording():
            return function(*args)
        before = ops.generator_state()
        start = tape.next_position()
        given: list[Any] = tape.leaves(list(args))
        inner = [_leaf(value) for value in given]
        result = function(*tape.rebuild(list(args), inner))
        outputs: list[Tensor] = tape.leaves(result)
        captured = _captured(outputs, inner, start)
        if not any(isinstance(y, Tensor) and y.requires_grad for y in outputs):
            return result

        def run_again(inputs: Sequence[Tensor]) -> list[Tensor]:
            after = ops.generator_state()
            ops.set_generator_state(before)
            try:
                return tape.leaves(function(*tape.rebuild(list(args), list(inputs))))
            finally:
                ops.set_generator_state(after)

        def rule(
            needed: Sequence[bool], gs: Sequence[Any], ys: Sequence[Any], *inputs: Any
        ) -> list[Any]:
            connected = any(isinstance(x, Tensor) for x in inputs)
            with tape.enable_grad():
                since = tape.next_position()
                fresh = [
                    (ops.identity(x) if isinstance(x, Tensor) else Tensor(x, True)) if want else x
                    for x, want in zip(inputs[: len(given)], needed, strict=False)
                ]
                again = run_again([_wrap(x, g) for x, g in zip(fresh, given, strict=True)])
            targets = [x for x, want in zip([*fresh, *captured], needed, strict=True) if want]
            pairs = [(y, g) for y, g in zip(again, gs, strict=True) if g is not None]
            found = iter(
                tape.differentiate(
                    [y for y, _ in pairs],
                    [g if isinstance(g, Tensor) else Tensor(g) for _, g in pairs],
                    targets,
                    create_graph=connected,
                    since=since,
                )
            )
            return [next(found) if want else None for want in needed]

        arrays = tuple(y.array for y in outputs)
        primitive = tape.Primitive(
            f"checkpoint({function.__name__})",
            lambda xp, *inputs: arrays,
            joint_rule=rule,
            multiple=True,
        )
        return tape.rebuild(result, list(primitive(*given, *captured)))

    return wrapped


def _leaf(value: Any) -> Any:
    """The same value, where the inner tape shall end."""
    return Tensor(value.array, value.requires_grad) if isinstance(value, Tensor) else value


def _wrap(value: Any, given: Any) -> Any:
    if isinstance(value, Tensor) or not isinstance(given, Tensor):
        return value
    return Tensor(value)


def _captured(outputs: Sequence[Any], inner: Sequence[Any], start: int) -> list[Any]:
    """What the inner records read from outside and that wants a gradient."""
    records = tape.collect(outputs, since=start)
    own = {value for value in inner if isinstance(value, Tensor)}
    found = {
        tape.key_of(x): x
        for record in records
        for x in record.inputs
        if isinstance(x, Tensor)
        and x.requires_grad
        and x not in own
        and (x.record is None or x.record.position < start)
    }
    return list(found.values())
