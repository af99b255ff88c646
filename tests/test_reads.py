"""What gradient rules read: all else is poisoned, and the gradients stay as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from op_cases import CASES
from op_checks import host, make, on_device, outputs
from op_rows import Case

import tinygrad_rnn as tg
from tinygrad_rnn import ops
from tinygrad_rnn.backends import backend_of
from tinygrad_rnn.tape import Record, differentiate, mark_overwritten, read_by

DIFFERENTIABLE = [case for case in CASES if case.order]
every_case = pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)


class Run:
    """One run of a case, with gradients wanted for some of its inputs."""

    def __init__(self, case: Case, wanted: tuple[bool, ...], device: str = "cpu") -> None:
        arrays = [on_device(v, device) for v in make(case.draw.typical, "d", 0)]
        flags = zip(arrays, wanted, strict=True)
        inputs = [tg.Tensor(a, w) for a, w in flags]
        found = outputs(case.call(*inputs, **case.draw.typical.params))
        self.outputs = [y for y in found if y.requires_grad]
        self.targets = [x for x in inputs if x.requires_grad]
        self.records = [r for r in tg.Tape.of(*self.outputs) if not r.freed]

    def gradients(self, create_graph: bool = False) -> list[np.ndarray]:
        rng = np.random.default_rng(1)
        seeds = [
            tg.Tensor(on_device(rng.standard_normal(y.shape), y.device)).astype(y.dtype)
            for y in self.outputs
        ]
        found = differentiate(self.outputs, seeds, self.targets, create_graph=create_graph)
        return [np.zeros(()) if g is None else host(g) for g in found]

    def memories(self) -> dict[int, Any]:
        """All memory on the tape, by the array that owns it."""
        owners = [owner(array) for r in self.records for array in (*arrays(r.inputs), *r.results)]
        return {id(array): array for array in owners}

    def read(self) -> set[int]:
        """The memory that any rule reads."""
        found: set[int] = set()
        for record in self.records:
            for k, x in enumerate(record.inputs):
                if isinstance(x, tg.Tensor) and x.requires_grad and has_rule(record, k):
                    inputs, results = read_by(record, k)
                    read = [record.inputs[j] for j in inputs]
                    read += [record.results[j] for j in results]
                    found.update(id(owner(array)) for array in arrays(read))
        return found


def has_rule(record: Record, k: int) -> bool:
    rules = record.primitive.rules
    return record.primitive.joint_rule is not None or rules[k] is not None


def arrays(values: Any) -> Iterator[Any]:
    for value in values:
        array = value.array if isinstance(value, tg.Tensor) else value
        if hasattr(array, "dtype"):
            yield array


def owner(array: Any) -> Any:
    return backend_of(array).owner(array)


def wishes(case: Case) -> Iterator[tuple[bool, ...]]:
    """A gradient for everything that can have one, and for each of them alone."""
    floating = [v.dtype.kind == "f" for v in make(case.draw.typical, "d", 0)]
    yield tuple(floating)
    if sum(floating) > 1:
        for k, is_float in enumerate(floating):
            if is_float:
                yield tuple(j == k for j in range(len(floating)))


def poison(array: np.ndarray) -> None:
    """Values by which no rule could compute."""
    kind = array.dtype.kind
    array[...] = np.nan if kind == "f" else ~array if kind == "b" else 1 << 20


@every_case
@pytest.mark.parametrize("create_graph", [False, True])
def test_what_is_not_read_may_hold_anything(case: Case, create_graph: bool) -> None:
    for wanted in wishes(case):
        plain = Run(case, wanted).gradients(create_graph)
        run = Run(case, wanted)
        read = run.read()
        for key, array in run.memories().items():
            if key not in read:
                poison(array)
        for g, expected in zip(run.gradients(create_graph), plain, strict=True):
            assert np.array_equal(g, expected, equal_nan=True), (str(case), wanted)


@every_case
def test_what_is_read_may_not_be_overwritten(case: Case) -> None:
    for wanted in wishes(case):
        for k in range(len(Run(case, wanted).memories())):
            run = Run(case, wanted)
            read = run.read()
            key, array = list(run.memories().items())[k]
            mark_overwritten(array)
            if key in read:
                with pytest.raises(RuntimeError, match="has been overwritten since"):
                    run.gradients()
            else:
                run.gradients()


def test_everything_in_the_table_has_a_case() -> None:
    reached: set[str] = set()
    for case in DIFFERENTIABLE:
        for wanted in wishes(case):
            run = Run(case, wanted)
            with tg.observe(seen := Seen()):
                run.gradients(create_graph=True)
            reached |= {r.primitive.name for r in run.records} | seen.names
    assert {primitive.name for primitive in ops.READS} <= reached


class Seen(tg.Observer):
    """The names of the operations that were computed."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def after_forward(self, record: Record) -> None:
        self.names.add(record.primitive.name)


def test_a_rule_that_reads_more_than_it_says_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    (case,) = [case for case in DIFFERENTIABLE if case.name == "multiply"]
    for wrong in ("", ("x0", "x1"), ("x1", "")):
        monkeypatch.setattr(ops.multiply, "reads", wrong)
        with pytest.raises(AssertionError, match="multiply"):
            test_what_is_not_read_may_hold_anything(case, False)


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ("z", r"^bad: reads='z' has the word 'z', the words are x, x0, x1, "),
        ("x y,", "has the word 'y,'"),
        (("x", "y"), "^bad: reads has 2 texts for 1 gradient rules$"),
    ],
)
def test_words_that_say_nothing(reads: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tg.primitive("bad", lambda xp, x: x * 1, [lambda g, y, x: g], reads=reads)


def test_a_primitive_of_ones_own() -> None:
    for reads, refused in (("x y", True), ("x", True), ("", False), (("y",), False)):
        double = tg.primitive("double", lambda xp, x: x * 2, [lambda g, y, x: g * 2], reads=reads)
        x = tg.ones(2, requires_grad=True)
        y = double(x)
        x.data = [7, 7]
        if refused:
            with pytest.raises(RuntimeError, match="a tensor used by 'double' has been over"):
                y.sum().backward()
        else:
            y.sum().backward()
            assert x.grad.tolist() == [2, 2]
