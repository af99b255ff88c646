"""Random steps, replayed and unrolled: equal in all outputs and gradients, on every emitter.

The unrolled loop is the ground truth: every operation of every step on the tape, which other tests
hold to central differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, event, given, note, settings
from random_steps import Step, cases, form, inputs
from random_values import Captured, Case
from row_emitter import in_parts, row_by_row

import tinygrad_rnn as tg
from tinygrad_rnn import backends, ops, replay, tape
from tinygrad_rnn.replay.cache import CACHE
from tinygrad_rnn.replay.emit import choice
from tinygrad_rnn.replay.emit.choice import has_numba

FIRST, SECOND = 1e-12, 1e-10
"""Relative to the larger of 1 and the largest value."""


def host(value: Any) -> np.ndarray:
    array = value.array if isinstance(value, tg.Tensor) else value
    return np.asarray(backends.backend_of(array).to_host(array))


def weighted(values: Sequence[Any], seed: int, curved: bool) -> Any:
    """A number that depends on every element of those values that want a gradient."""
    total: Any = 0.0
    for k, v in enumerate(values):
        if not isinstance(v, tg.Tensor) or not v.requires_grad:
            continue
        w = np.random.default_rng([seed, k]).uniform(-1, 1, v.shape).astype(v.dtype)
        weight = tg.tensor(w, device=v.device)
        total = total + tg.sum(weight * (v * v * 0.5 + v if curved else v))
    return total


class Run:
    """One run of a case: outputs, gradients, gradients of a sum of the gradients."""

    def __init__(
        self, case: Case, device: str, dtype: Any, unroll: bool, order: int,
        captured: Captured | None = None, noise: float = 0,
    ) -> None:  # fmt: skip
        captured = captured or Captured(case, device, dtype)
        self.captured = captured
        xs, state = inputs(case, device, dtype)
        for value in (*xs, *state):
            if noise and value.dtype.kind == "f":
                value.data = tg.Tensor(value.array * (1 + noise) + noise)
        tg.manual_seed(case.seed)
        recording = nullcontext() if order else tg.no_grad()
        with recording:
            ys, ends = tg.scan(
                Step(captured, unroll),
                form(xs, case.forms >> 2),
                form(state, case.forms >> 4),
                reverse=case.reverse,
                unroll=unroll,
                checkpoint=None if unroll else case.checkpoint,
            )
        self.values = [*tape.leaves(ys), *tape.leaves(ends)]
        self.form = tape.tree_map(lambda v: (v.shape, v.dtype), (ys, ends))
        self.state = ops.generator_state()
        self.groups: list[list[Any]] = [[host(v) for v in self.values]]
        self.count = 0
        if not order:
            return
        targets = [v for v in (*xs, *state, *captured.leaves) if v.requires_grad]
        asked = [v if case.used >> (k % 8) & 1 else None for k, v in enumerate(self.values)]
        found = self.gradients(weighted(asked, case.seed, True), targets, order > 1)
        self.count = sum(g is not None for g in found)
        if order > 1:
            self.gradients(weighted(found, case.seed + 1, False), targets, False)

    def gradients(self, loss: Any, targets: list[tg.Tensor], create: bool) -> list[Any]:
        """Those of the targets; zeros are kept where nothing depends on one."""
        found: list[Any] = [None] * len(targets)
        if isinstance(loss, tg.Tensor):
            seeds = [tg.ones_like(loss)]
            found = tape.differentiate([loss], seeds, targets, create_graph=create)
        self.groups.append(
            [np.zeros(x.shape, x.dtype) if g is None else host(g)
             for x, g in zip(targets, found, strict=True)]
        )  # fmt: skip
        return found


def difference(found: Run, wanted: Run, group: int) -> float:
    """The largest, relative to the larger of 1 and the largest value wanted."""
    largest, scale = 0.0, 1.0
    for a, b in zip(found.groups[group], wanted.groups[group], strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        if not b.size:
            continue
        assert np.isfinite(b.astype(float)).all(), "the case is not tame"
        scale = max(scale, float(np.abs(b.astype(float)).max()))
        largest = max(largest, float(np.abs(a.astype(float) - b.astype(float)).max()))
    return largest / scale if largest == largest else np.inf


def check(case: Case, device: str, order: int, dtype: Any = np.float64, factor: float = 1) -> None:
    """Replay equals unrolled."""
    wanted = Run(case, device, dtype, True, order)
    found = Run(case, device, dtype, False, order, wanted.captured)
    event(f"gradients: {min(wanted.count, 3)}")
    note(str(case))
    assert found.form == wanted.form
    assert found.state == wanted.state, "the generator of random numbers"
    assert len(found.groups) == len(wanted.groups)
    for k in range(len(wanted.groups)):
        limit = factor * (SECOND if k == 2 else FIRST)
        found_off = difference(found, wanted, k)
        if not found_off <= limit:
            unit = float(np.finfo(dtype).eps) * 16
            near = Run(case, device, dtype, True, order, wanted.captured, noise=unit)
            assume(difference(near, wanted, k) <= limit / 2)  # else the case is at an edge
        what = ("outputs", "gradients", "second order")[k]
        assert found_off <= limit, f"{what}: {found_off:.1e}"


@settings(max_examples=settings().max_examples * 30)
@given(cases())
def test_outputs_and_gradients(case: Case) -> None:
    with replay.using(jit=False):
        check(case, "cpu", 1)


@settings(max_examples=settings().max_examples * 10)
@given(cases(lines=6, steps=3))
def test_second_order(case: Case) -> None:
    with replay.using(jit=False):
        check(case, "cpu", 2)


@settings(max_examples=max(settings().max_examples // 5, 1))
@given(cases(lines=7))
@pytest.mark.skipif(not has_numba(), reason="the extra jit is not installed")
def test_compiled_by_numba(case: Case) -> None:
    """Its functions are within a few ulp of NumPy's, and so the bound of 1e-12 is the same."""
    with replay.using(jit=True):
        check(case, "cpu", 1)


@given(cases(lines=6))
def test_single_precision(case: Case) -> None:
    """Outputs only: what a dtype is must not depend on the way that a step is run."""
    with replay.using(jit=False):
        check(case, "cpu", 0, np.float32, 1e8)


def directional(case: Case, captured: Captured, unroll: bool) -> list[tg.Tensor]:
    """The jvp of a loop with respect to its float inputs, in a random direction."""
    xs, state = inputs(case, "cpu", np.float64)
    leaves = [*xs, *state]
    moving = [k for k, v in enumerate(leaves) if v.dtype.kind == "f"]

    def loop(*values: Any) -> Any:
        given = [*leaves]
        for k, v in zip(moving, values, strict=True):
            given[k] = v
        tg.manual_seed(case.seed)
        ys, ends = tg.scan(
            Step(captured, unroll),
            form(given[: len(xs)], case.forms >> 2),
            form(given[len(xs) :], case.forms >> 4),
            reverse=case.reverse,
            unroll=unroll,
        )
        return [v for v in [*tape.leaves(ys), *tape.leaves(ends)] if v.dtype.kind == "f"]

    values = [leaves[k] for k in moving]
    rng = np.random.default_rng(case.seed)
    directions = [tg.tensor(rng.uniform(-1, 1, v.shape)) for v in values]
    return tg.jvp(loop, values, directions)[1]


@settings(max_examples=settings().max_examples * 3)
@given(cases(lines=6, steps=3))
def test_directional_derivatives(case: Case) -> None:
    captured = Captured(case, "cpu", np.float64)
    assume(any(not case.is_int(kind) for kind in (*case.xs, *case.states)))
    wanted = directional(case, captured, True)
    with replay.using(jit=False):
        found = directional(case, captured, False)
    for a, b in zip(found, wanted, strict=True):
        scale = max(1.0, float(np.abs(b.numpy()).max()))
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=SECOND * scale)


@settings(max_examples=settings().max_examples * 5)
@given(cases())
def test_inference(case: Case) -> None:
    with replay.using(jit=False):
        check(case, "cpu", 0)


@settings(max_examples=settings().max_examples * 3)
@given(cases())
def test_strict_backend(case: Case) -> None:
    check(case, "strict", 1)


@pytest.mark.parametrize("emitter", [row_by_row, in_parts])
@settings(
    max_examples=settings().max_examples * 5,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(case=cases())
def test_kernels_row_by_row_and_rows_in_parts(
    emitter: Any, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What compiled kernels may do, the plan must allow; what is divided is independent."""
    monkeypatch.setattr(choice, "emit", emitter)
    CACHE.known.clear()
    try:
        with replay.using(jit=False), np.errstate(all="ignore"):
            check(case, "cpu", 1)
    finally:
        CACHE.known.clear()
