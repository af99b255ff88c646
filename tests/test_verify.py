"""Passes broken on purpose: verifying finds each of them, and names the pass.

What it finds in passes that are not broken is held by every other test, since it is on in all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from loop_cases import fused, layer_norm, line, lstm, phase, spec, whole
from networks import CELLS, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import ops, replay, rnn
from tinygrad_rnn.ops import primitives
from tinygrad_rnn.replay.cache import CACHE
from tinygrad_rnn.replay.passes import fuse, gradient, lower, plan, simplify, split, strides
from tinygrad_rnn.replay.passes import in_place as states
from tinygrad_rnn.replay.program import trace
from tinygrad_rnn.replay.program.loop import Call, Kernel, Loop, Phase, Product, Ref
from tinygrad_rnn.replay.program.program import Op, Program, Value
from tinygrad_rnn.replay.program.verify import PassError, results_of
from tinygrad_rnn.replay.program.verify_loop import verify_loop

T, B, H = 5, 3, 4


def normal(*shape: int) -> tg.Tensor:
    values = np.random.default_rng([1, *shape]).standard_normal(shape)
    return tg.tensor(0.5 * values, requires_grad=True)


W, V, U, LATE = normal(H, 2 * H), normal(2 * H, H), normal(2 * H, 2 * H), normal(H, H)


def step(x: tg.Tensor, state: Any) -> Any:
    """A bit of everything: views, reductions, a call, a part of each kind."""
    h, c = state
    a, b = tg.split(x @ W + h @ W + tg.relu(c) @ U, parts=2, axis=-1)
    mean = tg.mean(a, axis=-1, keepdims=True)
    a = tg.tanh(a - mean) * tg.cumsum(b, axis=-1)
    c = tg.concat([a, b], axis=-1) * 0.5 + c
    h = tg.sigmoid(c @ V) * h
    return (h @ LATE, tg.sum(c * c)), (h, c)


def run() -> None:
    """Compiled anew, forward and backward."""
    CACHE.known.clear()
    try:
        ys, ends = tg.scan(step, normal(T, B, H), (normal(B, H), normal(B, 2 * H)))
        loss: Any = sum(tg.sum(v * v) for v in (*ys, *ends))
        loss.backward()
    finally:
        CACHE.known.clear()


# Ways to break a program


def middle(program: Program) -> int:
    """The place of an op that others need."""
    return next(k for k, op in enumerate(program.ops[1:], 1) if readers(program, op))


def readers(program: Program, op: Op) -> list[Op]:
    return [other for other in program.ops if {*other.values()} & {*op.outputs}]


def dropped(program: Program) -> Program:
    k = middle(program)
    return replace(program, ops=[*program.ops[:k], *program.ops[k + 1 :]])


def doubled(program: Program) -> Program:
    return replace(program, ops=[*program.ops, program.ops[middle(program)]])


def swapped(program: Program) -> Program:
    k = middle(program)
    a, lines = program.ops[k], [*program.ops]
    lines.remove(a)
    return replace(program, ops=[*lines, a])


def with_results(program: Program, change: Callable[[Value], Value]) -> Program:
    """The same with other results said of one op, wherever they are read."""
    old = program.ops[middle(program)]
    new = {y: change(y) for y in old.outputs}
    lines = [
        Op(
            op.primitive,
            [new.get(x, x) if isinstance(x, Value) else x for x in op.inputs],
            op.params,
            [new.get(y, y) for y in op.outputs],
        )
        for op in program.ops
    ]
    return replace(program, ops=lines)


def other_dtype(program: Program) -> Program:
    return with_results(program, lambda y: Value(y.shape, np.dtype(np.float32)))


def other_shape(program: Program) -> Program:
    return with_results(program, lambda y: Value((*y.shape, 1), y.dtype))


def states_exchanged(program: Program) -> Program:
    return replace(program, next_state=program.next_state[::-1])


def state_forgotten(program: Program) -> Program:
    return replace(program, next_state=program.next_state[:-1])


def output_of_nothing(program: Program) -> Program:
    y = program.ys[0]
    return replace(program, ys=[Value(y.shape, y.dtype), *program.ys[1:]])


def inputs_exchanged(program: Program) -> Program:
    return replace(program, consts=program.consts[::-1])


PROGRAM = [dropped, doubled, swapped, other_dtype, other_shape, states_exchanged, state_forgotten,
           output_of_nothing, inputs_exchanged]  # fmt: skip

Change = Callable[[Any], Any]


def first(change: Change) -> Change:
    """Of a tuple that begins with a program."""
    return lambda found: (change(found[0]), *found[1:])


def inner(change: Change) -> Change:
    """Of a backward step."""
    return lambda found: replace(found, program=change(found.program))


# Ways to break parts and schedules


def forgotten(parts: Any) -> Any:
    return replace(parts, after=[])


def in_two(parts: Any) -> Any:
    return replace(parts, before=[*parts.before, parts.loop[0]])


def too_early(parts: Any) -> Any:
    return replace(parts, once=[*parts.once, parts.loop[0]], loop=parts.loop[1:])


def before_the_loop(parts: Any) -> Any:
    return replace(parts, before=[*parts.before, *parts.loop], loop=[])


def after_the_loop(parts: Any) -> Any:
    return replace(parts, after=[*parts.loop, *parts.after], loop=[])


def backwards(parts: Any) -> Any:
    return replace(parts, loop=parts.loop[::-1])


def tasks_changed(change: Change) -> Change:
    def broken(schedule: Any) -> Any:
        schedule.tasks = change(schedule.tasks)
        return schedule

    return broken


def group_short(tasks: Any) -> Any:
    group = next(task for task in tasks if not isinstance(task, Op))
    group.ops = group.ops[:-1]
    return tasks


def group_backwards(tasks: Any) -> Any:
    group = next(task for task in tasks if not isinstance(task, Op) and len(task.ops) > 2)
    group.ops = group.ops[::-1]
    return tasks


# Ways to break places and loops


def shifted(ref: Any) -> Any:
    return ref and ref._replace(offset=ref.offset + 1)


def turned(ref: Any) -> Any:
    return ref and ref._replace(strides=tuple(s + 1 for s in ref.strides))


def steps_changed(change: Change) -> Change:
    return lambda loop: loop._replace(steps=tuple(change([*loop.steps])))


def of_kind(kind: type, change: Change) -> Change:
    """The first step of a kind is changed."""

    def broken(loop: Loop) -> Loop:
        steps = [*loop.steps]
        k = next(k for k, step in enumerate(steps) if isinstance(step, kind))
        steps[k] = change(steps[k])
        return loop._replace(steps=tuple(steps))

    return broken


def of_phase(change: Callable[[Phase], Phase]) -> Change:
    """The longest phase of the kernels is changed."""

    def broken(loop: Loop) -> Loop:
        kernels = [step for step in loop.steps if isinstance(step, Kernel)]
        longest = max((p for step in kernels for p in step.phases), key=lambda p: len(p.lines))

        def changed(step: Any) -> Any:
            if not isinstance(step, Kernel):
                return step
            phases = tuple(change(p) if p is longest else p for p in step.phases)
            return step._replace(phases=phases)

        return loop._replace(steps=tuple(map(changed, loop.steps)))

    return broken


def reads_changed(change: Callable[[Ref], Ref]) -> Callable[[Phase], Phase]:
    return lambda p: p._replace(reads=tuple((name, change(ref)) for name, ref in p.reads))


def writes_changed(change: Callable[[Ref], Ref]) -> Callable[[Phase], Phase]:
    return lambda p: p._replace(writes=tuple((name, change(ref)) for name, ref in p.writes))


def one_buffer(loop: Loop) -> Loop:
    """Two arrays of one form are one."""
    temps = [k for k, array in enumerate(loop.arrays) if array.name.startswith("temp")]
    a, b = next(
        (a, b) for a in temps for b in temps if a < b and loop.arrays[a][1:] == loop.arrays[b][1:]
    )
    return loop._replace(steps=tuple(states.moved(step, b, a) for step in loop.steps))


LOOP: dict[str, Change] = {
    "a step dropped": steps_changed(lambda steps: steps[:1] + steps[2:]),
    "a step doubled": steps_changed(lambda steps: [*steps, steps[0]]),
    "steps backwards": steps_changed(lambda steps: steps[::-1]),
    "one buffer for two": one_buffer,
    "a line dropped": of_phase(lambda p: p._replace(lines=p.lines[1:])),
    "a line doubled": of_phase(lambda p: p._replace(lines=(*p.lines, p.lines[0]))),
    "lines backwards": of_phase(lambda p: p._replace(lines=p.lines[::-1])),
    "less precision": of_phase(
        lambda p: p._replace(lines=tuple(x._replace(compute=np.dtype(np.float32)) for x in p.lines))
    ),
    "another dtype": of_phase(
        lambda p: p._replace(lines=tuple(x._replace(dtype=np.dtype(np.float32)) for x in p.lines))
    ),
    "reads shifted": of_phase(reads_changed(shifted)),
    "writes shifted": of_phase(writes_changed(shifted)),
    "writes at one place": of_phase(
        writes_changed(lambda ref: ref._replace(strides=(0,) * len(ref.shape)))
    ),
    "writes dropped": of_phase(lambda p: p._replace(writes=())),
    "another row": of_phase(
        writes_changed(lambda ref: ref if ref.time is None else ref._replace(time=1 - ref.time))
    ),
    "a product turned": of_kind(Product, lambda p: p._replace(a=p.b, b=p.a)),
    "a product over itself": of_kind(Product, lambda p: p._replace(out=p.a)),
    "a call of less": of_kind(Call, lambda call: call._replace(operands=call.operands[:-1])),
    "a call of another": of_kind(Call, lambda call: call._replace(primitive=ops.equal)),
    "an array of another dtype": lambda loop: loop._replace(
        arrays=tuple(array._replace(dtype=np.dtype(np.float32)) for array in loop.arrays[:3])
        + loop.arrays[3:]
    ),
}


def plan_changed(**change: Change) -> Change:
    return lambda found: replace(
        found, **{name: new(getattr(found, name)) for name, new in change.items()}
    )


BROKEN: list[tuple[Any, str, Change]] = [
    *((trace.program_of, f.__name__, first(f)) for f in PROGRAM),
    *((pass_, f.__name__, f) for f in PROGRAM
      for pass_ in (lower.lower, simplify.merge_equal, simplify.raise_slices)),
    *((gradient.with_residuals, f.__name__, inner(f)) for f in PROGRAM),
    *((split.summed_inside, f.__name__, first(f)) for f in PROGRAM[:-1]),
    *((split.split, f.__name__, f)
      for f in (forgotten, in_two, too_early, before_the_loop, after_the_loop, backwards)),
    (fuse.fuse, "a task dropped", tasks_changed(lambda tasks: tasks[:-1])),
    (fuse.fuse, "a task doubled", tasks_changed(lambda tasks: [*tasks, tasks[0]])),
    (fuse.fuse, "tasks backwards", tasks_changed(lambda tasks: tasks[::-1])),
    (fuse.fuse, "a group without its last", tasks_changed(group_short)),
    (fuse.fuse, "a group backwards", tasks_changed(group_backwards)),
    *((pass_, f.__name__, f) for f in (shifted, turned)
      for pass_ in (strides.viewed, strides.joined, strides.spread)),
    *((states.in_place, name, change) for name, change in LOOP.items()),
    (plan.plan, "inputs exchanged", plan_changed(
        inputs=lambda held: dict(zip(held, [*held.values()][::-1], strict=True)))),
    (plan.plan, "states exchanged", plan_changed(state=lambda held: held[::-1])),
    (plan.plan, "nothing leaves", plan_changed(crossing=lambda held: {})),
    (plan.plan, "nothing done", plan_changed(loop=steps_changed(lambda steps: []))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("broken", "change"),
    [(broken, change) for broken, _, change in BROKEN],
    ids=[f"{broken.__name__}: {name}" for broken, name, _ in BROKEN],
)
def test_broken(broken: Any, change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass that is broken is named, or the one that it is a part of."""
    right = broken.__wrapped__
    run()
    monkeypatch.setattr(broken, "__wrapped__", lambda *given: change(right(*given)))
    with pytest.raises(PassError, match=f"^({broken.__name__}|plan): "):
        run()


def test_switched_off_nothing_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    right = simplify.merge_equal.__wrapped__
    monkeypatch.setattr(simplify.merge_equal, "__wrapped__", lambda given: doubled(right(given)))
    with replay.verifying(False):
        run()
    with pytest.raises(PassError):
        run()


def test_what_is_said_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower.lower, "__wrapped__", dropped)
    with pytest.raises(PassError) as found:
        run()
    assert str(found.value) == (
        "lower: the line '%2 = add(%0, %1)   float64 (3, 8)' reads a value before it is computed"
    )


# States in place


def read_later(x: tg.Tensor, state: Any) -> Any:
    h, c = state
    new = tg.tanh(x + h)
    return x, (new, tg.tanh(new @ LATE * h + c))


def read_across(x: tg.Tensor, h: tg.Tensor) -> Any:
    return x, tg.tanh(x @ LATE + tg.swapaxes(h, 0, 1))


def multiplied(x: tg.Tensor, h: tg.Tensor) -> Any:
    return x, h @ LATE


@pytest.mark.parametrize("step", [read_later, read_across, multiplied])
def test_states_overwritten_too_early(step: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    h = normal(H, H)

    def loop() -> None:
        CACHE.known.clear()
        with tg.no_grad():
            tg.scan(step, normal(T, H, H), (h, h) if step is read_later else h)
        CACHE.known.clear()

    loop()
    monkeypatch.setattr(states, "can_overwrite", lambda *_: True)
    with pytest.raises(PassError, match=r"^in_place: "):
        loop()


# Loops by hand


@pytest.mark.parametrize("loop", [lstm(B, H), lstm(B, H, reverse=True), layer_norm(B, H)])
def test_loops_that_hold_together(loop: Loop) -> None:
    verify_loop(loop)


X, Y, S = whole(0, (B, H)), whole(1, (B, H)), Ref(2, None, (B, H), (1, 0))
NEXT = line("v", "x0 + 1", "r")
ARRAYS = (spec("x", (B, H)), spec("y", (B, H)), spec("s", (B, 1)))
WRITE = phase(NEXT, reads={"r": X}, writes={"v": Y})


def after(*reads: Ref) -> Kernel:
    """A kernel that writes y, and then reads."""
    return Kernel((B,), (WRITE, phase(reads={f"r{k}": r for k, r in enumerate(reads)})))


def across(ref: Ref) -> Ref:
    return ref._replace(strides=(-H, 1), offset=(B - 1) * H)


FAULTS: dict[str, tuple[Kernel, str]] = {
    "another row of the kernel": (after(across(Y)), "reads y where another element is written"),
    "another element of the phase": (
        Kernel((B,), (phase(NEXT, reads={"r": Y._replace(strides=(H, -1), offset=H - 1)},
                            writes={"v": Y}),)),
        "reads y where another element is written",
    ),
    "what the phase sums up": (
        Kernel((B,), (phase(reads={"r": X, "s": S}, reduces=[("r", "sum", S)]),)),
        "reads s where another element is written",
    ),
    "what is written at its own place": (
        Kernel((B,), (phase(NEXT, reads={"r": Y}, writes={"v": Y}),)),
        "the loop reads y before it writes it",
    ),
    "a sum in many places": (
        Kernel((B,), (phase(reads={"r": X}, reduces=[("r", "sum", Y)]),)),
        "has more than one place in a row for a reduction",
    ),
    "one place for many": (
        fused(NEXT, reads={"r": X}, writes={"v": S}),
        "writes an element of s for the second time",
    ),
    "another array": (after(X._replace(offset=1)), "leaves x with"),
}  # fmt: skip


@pytest.mark.parametrize(("kernel", "why"), FAULTS.values(), ids=FAULTS.keys())
def test_kernels_that_do_not(kernel: Kernel, why: str) -> None:
    with pytest.raises(PassError, match=why):
        verify_loop(Loop(ARRAYS, (kernel,), False))


def test_what_may_be_read_in_a_kernel() -> None:
    verify_loop(Loop(ARRAYS, (after(X, Y),), False))
    in_place = Kernel((B,), (phase(NEXT, reads={"r": Y}, writes={"v": Y}),))
    ((_, is_new),) = verify_loop(Loop(ARRAYS, (in_place,), False), {1})
    assert not is_new.any()


@pytest.mark.parametrize("reverse", [False, True])
def test_a_state_is_not_written_over_the_step_before(reverse: bool) -> None:
    loop = lstm(B, H, reverse=reverse)
    with pytest.raises(PassError, match=r"^the loop writes c in the row of the step before$"):
        verify_loop(loop._replace(reverse=not reverse))


def test_what_changes_is_not_constant() -> None:
    a, b, y = (whole(k, (H, H)) for k in range(3))
    arrays = tuple(spec(name, (H, H)) for name in "aby")
    compute = fused(NEXT, reads={"r": a}, writes={"v": b})
    verify_loop(Loop(arrays, (compute, Product(a, b, y, False)), False))
    with pytest.raises(PassError, match="step 1 of the loop, a product, has a constant operand"):
        verify_loop(Loop(arrays, (compute, Product(a, b, y, True)), False))


# What is no fault


@pytest.mark.parametrize("name", CELLS)
def test_cells(name: str) -> None:
    """With gradients and without; random steps are verified in test_replay_random.py."""
    CACHE.known.clear()
    cell = randomise(CELLS[name](H, H))
    for gradients in (True, False):
        rnn.Recurrent(cell).explain(batch_size=B, gradients=gradients)


def test_a_primitive_may_refuse_what_it_is_asked_with() -> None:
    def forward(xp: Any, x: Any) -> Any:
        if (x == 1).all():
            raise ValueError("only ones")
        return x * 2

    own = tg.primitive("own", forward, [lambda g, y, x: g * 2])
    value = Value((B, H), np.dtype(float))
    assert results_of(own, [value], {}) is None
    with pytest.raises(PassError, match="matmul refuses its operands"):
        results_of(primitives.matmul, [value, value], {})
    assert results_of(ops.equal, [value, 1], {}) == [((B, H), np.dtype(bool))]
