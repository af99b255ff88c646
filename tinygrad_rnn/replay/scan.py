"""scan: a step run over time, unrolled on the tape or replayed as one operation of it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Any

from tinygrad_rnn import ops, tape
from tinygrad_rnn.backends import Array, backend_of, device_of
from tinygrad_rnn.replay.checks import check_arguments, checked_step
from tinygrad_rnn.replay.compiled import Held, Replay, carried
from tinygrad_rnn.replay.gradient import Wanted, backward_step
from tinygrad_rnn.replay.program import Program, Value, replace_outputs
from tinygrad_rnn.replay.simplify import canonical
from tinygrad_rnn.replay.trace import Random, Trace, drawn
from tinygrad_rnn.tape import Deferred, Primitive
from tinygrad_rnn.tensor import Tensor

Step = Callable[[Any, Any], Any]

KEPT = 128
"""How many compiled steps are kept; beyond, those that were not used for longest go."""


class _Cache:
    """Compiled steps by what they compute."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.known: OrderedDict[Any, Replay] = OrderedDict()

    def find(self, program: Program, reverse: bool, like: Array) -> Replay:
        key = (reverse, backend_of(like), device_of(like), program_key(program))
        with self.lock:
            found = self.known.get(key)
            if found is None:
                found = Replay(program, reverse, backend_of(like), device_of(like))
                self.known[key] = found
                while len(self.known) > KEPT:
                    self.known.popitem(last=False)
            else:
                self.known.move_to_end(key)
        return found


_cache = _Cache()


def program_key(program: Program) -> Any:
    """Equal for programs that compute the same."""
    numbers: dict[Value, int] = {}

    def number(v: Any) -> Any:
        return numbers.setdefault(v, len(numbers)) if isinstance(v, Value) else canonical(v)

    roles = tuple(
        tuple((number(v), v.shape, v.dtype.str) for v in group)
        for group in (program.consts, program.xs, program.state)
    )
    lines = tuple(
        (op.primitive, *map(number, op.inputs), canonical(op.params), *map(number, op.outputs))
        for op in program.ops
    )
    ends = tuple(
        tuple(map(number, group)) for group in (program.ys, program.next_state, program.totals)
    )
    key = (roles, lines, ends)
    try:
        hash(key)
    except TypeError:  # a parameter of an operation that cannot be compared
        return object()
    return key


def _forward(
    xp: Any, *inputs: Array, replay: Replay, steps: int, held: Held | None
) -> tuple[Array, ...]:
    consts, xs, state = _roles(replay.program, inputs)
    return tuple(replay.forward(consts, xs, state, steps, held))


def _roles(program: Program, inputs: Sequence[Any]) -> tuple[list[Any], list[Any], list[Any]]:
    first = len(program.consts)
    second = first + len(program.xs)
    return [*inputs[:first]], [*inputs[first:second]], [*inputs[second:]]


def _as_it_is(g: Any) -> Any:
    return g


def _owned(shape: Any, dtype: Any, parts: Sequence[tuple[Any]]) -> Any:
    """The sum of arrays that nobody else holds."""
    (total,) = parts[0]
    for (part,) in parts[1:]:
        total += part
    return total


def _rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    results: Sequence[Any],
    *inputs: Any,
    replay: Replay,
    steps: int,
    held: Held | None,
) -> list[Any]:
    program = replay.program
    want_consts, want_xs, want_state = _roles(program, needed)
    count = len(program.ys)
    finals = gs[count : count + len(program.state)]
    wanted = Wanted(
        tuple(want_consts),
        tuple(want_xs),
        True,
        tuple(g is not None and y.dtype.kind == "f" for g, y in zip(gs, program.ys, strict=False)),
    )
    dys = [g for g, w in zip(gs, wanted.ys, strict=False) if w]
    carry = carried(program)
    recorded = any(isinstance(x, Tensor) for x in (*inputs, *gs))
    zeros = partial(_zeros, replay)
    dstate = [zeros(program.state[k]) if finals[k] is None else finals[k] for k in carry]
    ends = zip(program.totals, gs[count + len(program.state) :], strict=True)
    dtotals = [zeros(v) if g is None else g for v, g in ends]
    backward = _recorded_backward if recorded else _plain_backward
    dxs, dstarts, dconsts = backward(replay, wanted, inputs, dys, dstate, dtotals, steps, held)
    found: list[Any] = []
    sums, series = iter(dconsts), iter(dxs)
    wrap: Callable[[Any], Any] = _as_it_is if recorded else partial(Deferred, _owned)
    found += [wrap(next(sums)) if w else None for w in want_consts]
    found += [wrap(next(series)) if w else None for w in want_xs]
    starts = dict(zip(carry, dstarts, strict=True))
    return found + [wrap(starts[k]) if w else None for k, w in enumerate(want_state)]


def _zeros(replay: Replay, v: Value) -> Array:
    return replay.backend.xp.zeros(v.shape, dtype=v.dtype)


def _plain_backward(
    replay: Replay, wanted: Wanted, inputs: Sequence[Any], dys: Sequence[Array],
    dstate: Sequence[Array], dtotals: Sequence[Array], steps: int, held: Held | None,
) -> Any:  # fmt: skip
    consts, xs, state = _roles(replay.program, inputs)
    if held is None:  # inside another step there is no place to hold anything
        held = Held(_all_outputs(replay.program, wanted), None, replay.backend)
        replay.forward(consts, xs, state, steps, held)
    return replay.backward(wanted, consts, xs, state, dys, dstate, dtotals, steps, held)


def _recorded_backward(
    replay: Replay, wanted: Wanted, inputs: Sequence[Any], dys: Sequence[Any],
    dstate: Sequence[Any], dtotals: Sequence[Any], steps: int, held: Held | None,
) -> Any:  # fmt: skip
    """The backward pass as scans that can be differentiated again: they compute anew what the
    plain one stores.
    """
    program = replay.program
    consts, xs, state = _roles(program, inputs)
    states = replace_outputs(program, [*program.state])
    before = apply(states, consts, xs, state, steps, replay.reverse)[0]
    back = backward_step(program, wanted, replay.backend, replay.device)
    fixed = [*consts, *dtotals, *back.zeros]
    return apply(back.program, fixed, [*xs, *before, *dys], dstate, steps, not replay.reverse)


def _all_outputs(program: Program, wanted: Wanted) -> Wanted:
    return replace(wanted, ys=tuple(y.dtype.kind == "f" for y in program.ys))


def _reads(replay: Replay, **_: Any) -> str:
    """The outputs over time lie in memory that the backward pass reads; other results do not."""
    return " ".join(["x", *(f"y{k}" for k in range(len(replay.program.ys)))])


_scan = Primitive("scan", _forward, joint_rule=_rule, multiple=True, reads=_reads)


def apply(
    program: Program,
    consts: Sequence[Any],
    xs: Sequence[Any],
    state: Sequence[Any],
    steps: int,
    reverse: bool,
    every: int | None = None,
    replay: Replay | None = None,
) -> tuple[list[Any], list[Any], list[Any]]:
    """A program over time, as one operation on the tape: (ys, final states, totals)."""
    inputs = [*consts, *xs, *state]
    arrays = [x.array if isinstance(x, tape.Traced) else x for x in inputs]
    if replay is None:
        replay = _cache.find(program, reverse, arrays[0])
    held = None
    tracing = tape.is_tracing()
    if tape.is_recording() and not tracing:
        wants = [isinstance(x, tape.Traced) and x.needs_grad for x in inputs]
        if any(wants):
            a, b, _ = _roles(program, wants)
            wanted = _all_outputs(program, Wanted(tuple(a), tuple(b), True, ()))
            held = Held(wanted, every, replay.backend)
    if held is not None or tracing or tape.is_observed():
        found = _scan(*inputs, replay=replay, steps=steps, held=held)
    else:  # the same without what is there for the tape
        found = replay.forward(*_roles(program, arrays), steps, None)
        leader = next((x for x in inputs if isinstance(x, tape.Traced)), None)
        if leader is not None:
            found = [leader.output_type(y) for y in found]
    first = len(program.ys)
    second = first + len(program.state)
    return [*found[:first]], [*found[first:second]], [*found[second:]]


def _nothing(_: Any) -> int:
    return 0


class Recipe:
    """A traced step as it can be run again: on other inputs, with the same captured values.

    It holds what the step captured, and nothing of the run in which it was traced.
    """

    def __init__(self, traced: Trace, y: Any, state: Any, reverse: bool, like: Array) -> None:
        self.captured = traced.captured
        self.looked_outside = traced.looked_outside
        self.draws = traced.random.draws
        self.replay = _cache.find(traced.program, reverse, like)
        self.y_form, self.state_form = (tape.tree_map(_nothing, tree) for tree in (y, state))

    def run(
        self,
        xs: Sequence[Any],
        state: Sequence[Any],
        blocks: Sequence[Any],
        steps: int,
        every: int | None,
    ) -> tuple[Any, Any]:
        """Outputs over time and the last state, in the containers of the step's."""
        inputs = [*xs, *blocks]
        replay = self.replay
        ys, ends, _ = apply(
            replay.program, self.captured, inputs, state, steps, replay.reverse, every, replay
        )
        return tape.rebuild(self.y_form, ys), tape.rebuild(self.state_form, ends)

    def run_arrays(
        self, xs: Sequence[Array], state: Sequence[Array], steps: int
    ) -> tuple[list[Array], list[Array]]:
        """Outputs over time and the last state as arrays, where nothing is to be recorded."""
        consts = [x.array for x in self.captured]
        found = self.replay.forward(consts, xs, state, steps, None)
        count = len(self.replay.program.ys)
        return found[:count], found[count : count + len(state)]

    def draw(self, steps: int) -> list[Any]:
        """New random numbers for another run."""
        return [drawn(None, steps, shape, draw) for shape, draw in self.draws]


def trace(step: Step, xs: Any, state: Any, steps: int, reverse: bool) -> tuple[Recipe, list[Any]]:
    """Trace a step on the first of ``steps`` inputs: its recipe, and random numbers for all steps.

    Arguments are those of :func:`scan`. The traced program is ``recipe.replay.program``. The random
    numbers were drawn meanwhile, in the order in which the step asks for them.
    """
    at = steps - 1 if reverse else 0
    x = tape.tree_map(partial(_leaf, at=(at, ...)), xs)
    start = tape.tree_map(partial(_leaf, at=...), state)
    random = Random(steps)
    traced = Trace(step, x, start, random)
    y, end = checked_step(traced.result, state)
    traced.finish(tape.leaves(y), tape.leaves(end))
    like = [*tape.leaves(xs), *tape.leaves(state), *traced.captured][0]
    array = like.array if isinstance(like, tape.Traced) else like
    return Recipe(traced, y, state, reverse, array), random.blocks


def _leaf(value: Tensor, at: Any) -> Tensor:
    return Tensor(value.array[at], value.dtype.kind == "f")


class _Drawn:
    """The random numbers of an unrolled loop: blocks drawn at the first step, read at each."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.around: ops.Blocks | None = None
        self.blocks: list[Any] = []
        self.t = self.count = 0

    def read(self, shape: tuple[int, ...], draw: Callable[[tuple[int, ...]], Array]) -> Any:
        k = self.count
        self.count += 1
        if k == len(self.blocks):
            self.blocks.append(drawn(self.around, self.steps, shape, draw))
        if tuple(self.blocks[k].shape[1:]) != tuple(shape):  # the steps do not draw alike
            return drawn(self.around, 1, shape, draw)[0]
        return self.blocks[k][self.t, ...]


def unrolled(step: Step, xs: Any, state: Any, steps: int, reverse: bool) -> tuple[Any, Any]:
    """Every step called in turn, with everything that it does on the tape."""
    columns = [ops.unstack(x, 0) for x in tape.leaves(xs)]
    random = _Drawn(steps)
    outputs: list[Any] = [None] * steps
    form: Any = None
    with ops.blocks_of_steps(random) as random.around:
        for t in reversed(range(steps)) if reverse else range(steps):
            random.t, random.count = t, 0
            x = tape.rebuild(xs, [column[t] for column in columns])
            form, state = checked_step(step(x, state), state)
            outputs[t] = tape.leaves(form)
    series = [ops.stack(values, 0) for values in zip(*outputs, strict=True)]
    return tape.rebuild(form, series), state


def segment_length(checkpoint: int | str | None, steps: int) -> int | None:
    """How many steps lie between two states that are held; None for all of them."""
    if checkpoint is None:
        return None
    if checkpoint == "sqrt":
        return math.isqrt(steps - 1) + 1
    if not isinstance(checkpoint, int) or isinstance(checkpoint, bool) or checkpoint < 1:
        raise ValueError(
            f'checkpoint: expected a number of steps >= 1 or "sqrt", got {checkpoint!r}'
        )
    return checkpoint


def scan(
    step: Step,
    xs: Any,
    state: Any,
    *,
    reverse: bool = False,
    unroll: bool = False,
    checkpoint: int | str | None = None,
) -> tuple[Any, Any]:
    """Run ``step(x_t, state) -> (y_t, state)`` over the leading axis of ``xs``.

    Returns the outputs of all steps and the last state. The step is traced once; its tape is
    differentiated, split, fused and run T times, and the whole is one operation on the tape, with
    gradients of any order for everything that the step reads.

    Parameters
    ----------
    step : reads Tensors and returns Tensors, in nested tuples or NamedTuples of any form. What it
        closes over is found by itself. It may not look at elements (``float(h)``, ``if h > 0``).
    xs : Tensors (T, ...), T >= 1, in containers.
    state : Tensors in containers; those that the step returns must have the same form, shapes and
        dtypes.
    reverse : begin at the last step. Outputs stay at their steps.
    unroll : call the step T times instead, with every operation of every step on the tape.
    checkpoint : hold the states before every k-th step only, and compute the rest again in the
        backward pass; ``"sqrt"`` for k = sqrt(T), with memory in proportion.

    >>> import tinygrad_rnn as tg
    >>> decay = tg.tensor(0.5, requires_grad=True)
    >>> ys, last = tg.scan(lambda x, h: (h, decay * h + x), tg.ones(4), tg.tensor(0.0))
    >>> ys, last
    (tensor([0.  , 1.  , 1.5 , 1.75], ...), tensor(1.875, ...))
    """
    steps = check_arguments(xs, state)
    if unroll:
        if checkpoint is not None:
            raise ValueError("scan: checkpoint needs the replayed loop, unroll=True was given")
        return unrolled(step, xs, state, steps, reverse)
    every = segment_length(checkpoint, steps)
    recipe, blocks = trace(step, xs, state, steps, reverse)
    return recipe.run(tape.leaves(xs), tape.leaves(state), blocks, steps, every)
