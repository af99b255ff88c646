"""Every operation of the table: forward, gradients, dtypes, layouts, kernels, host reads."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import numpy as np
import pytest
from elementwise import ALL, PRIMITIVES
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from op_cases import CASES
from op_checks import (
    LAYOUTS,
    Recorder,
    check_backward,
    check_forward,
    check_kernels,
    expected,
    host,
    leaf,
    make,
    on_device,
    outputs,
)
from op_rows import Case
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import ops

seeds = st.integers(0, 2**16)
layout = st.sampled_from(LAYOUTS)
layouts = st.tuples(layout, layout, layout, layout)
DIFFERENTIABLE = [case for case in CASES if case.order]
FEWER = settings(max_examples=max(5, settings().max_examples // 4))

every_case = pytest.mark.parametrize("case", CASES, ids=str)
every_differentiable = pytest.mark.parametrize("case", DIFFERENTIABLE, ids=str)


def _code(case: Case) -> str:
    return "d" if "d" in case.dtypes else "l"


@every_case
def test_forward(case: Case, device: str) -> None:
    typical = case.draw.typical

    @given(case.draw.strategy, st.sampled_from(case.dtypes), layouts, seeds)
    @example(typical, case.dtypes[0], ("plain",) * 4, 0)
    @example(typical, case.dtypes[-1], ("transposed", "reversed", "strided", "plain"), 1)
    def against_numpy(drawn: Any, code: str, lie: tuple[str, ...], seed: int) -> None:
        check_forward(case, drawn, code, lie, device, seed)

    against_numpy()


@every_differentiable
def test_gradients(case: Case, device: str) -> None:
    @FEWER
    @given(case.draw.strategy, layout, seeds)
    @example(case.draw.typical, "plain", 0)
    def against_central_differences(drawn: Any, lie: str, seed: int) -> None:
        wanted = expected(case, make(drawn, "d", seed), drawn)
        assume(all(np.isfinite(y).all() for y in wanted))  # a mean of nothing is NaN
        check_backward(case, drawn, device, lie, seed)

    against_central_differences()


@every_differentiable
def test_value_and_gradient_together(case: Case) -> None:
    """A gradient penalty: cotangents arrive for the result and for what its rule read."""
    drawn = case.draw.typical

    def both(*xs: tg.Tensor) -> list[tg.Tensor]:
        result, pull = tg.vjp(lambda *xs: _call_with(case, inputs, xs), *xs)
        found = [y for y in outputs(result) if y.dtype.kind == "f"]
        pulled = pull([y.detach() * 0 + 1 for y in outputs(result)])
        return [*found, *pulled]

    inputs = [tg.Tensor(array) for array in make(drawn, "d", 0)]
    floating = [x for x in inputs if x.dtype.kind == "f"]
    tg.check_gradients(both, floating, order=1, atol=1e-5, rtol=1e-3)


def _call_with(case: Case, inputs: list[tg.Tensor], floating: tuple[tg.Tensor, ...]) -> Any:
    """The call with its floating inputs replaced."""
    rest = iter(floating)
    arguments = [next(rest) if x.dtype.kind == "f" else x for x in inputs]
    return case.call(*arguments, **case.draw.typical.params)


@every_differentiable
@pytest.mark.parametrize("code", "efd")
def test_gradient_dtype(case: Case, code: str, device: str) -> None:
    """A gradient has the dtype and shape of its input, and the values of the float64 one."""
    found = [
        [x.grad for x in _after_backward(case, kind, device)[0] if x.requires_grad]
        for kind in (code, "d")
    ]
    for g, reference in zip(*found, strict=True):
        if g is None:
            assert reference is None
            continue
        assert g.dtype == np.dtype(code)
        tolerance = {"e": 5e-2, "f": 1e-4, "d": 0}[code]
        scale = max(1.0, float(np.max(np.abs(host(reference)), initial=0)))
        np.testing.assert_allclose(
            host(g).astype("d"), host(reference), tolerance, tolerance * scale
        )


def _after_backward(case: Case, code: str, device: str) -> tuple[list[tg.Tensor], Any]:
    """The inputs of a typical call after backward, and the counts of the strict backend."""
    drawn = case.draw.typical
    rounded = make(drawn, code if code in "il?" else "e", 0)
    arrays = [on_device(v.astype(code) if v.dtype.kind == "f" else v, device) for v in rounded]
    inputs = [leaf(array) for array in arrays]
    found = [y for y in outputs(case.call(*inputs, **drawn.params)) if y.requires_grad]
    gradients = [ops.cast(y.detach(), y.dtype) * 0 + 0.5 for y in found]
    with STRICT.counting() as count:
        for y, g in zip(found, gradients, strict=True):
            y.backward(g, retain_graph=True)
    return inputs, count


@pytest.mark.parametrize("case", [c for c in CASES if not c.order], ids=str)
def test_no_gradient(case: Case, device: str) -> None:
    """Comparisons, logic and indices give results that want no gradient."""
    arrays = make(case.draw.typical, case.dtypes[0], 0)
    inputs = [leaf(on_device(array, device)) for array in arrays]
    assert not case.call(*inputs, **case.draw.typical.params).requires_grad


@pytest.mark.parametrize("case", [c for c in CASES if not c.reads_host], ids=str)
def test_host_is_left_alone(case: Case) -> None:
    """On a GPU neither pass waits for the device, but where indices are checked."""
    with STRICT.counting() as forward:
        _, backward = _after_backward(case, _code(case), "strict")
    assert (forward.host_reads, backward.host_reads) == (0, 0)


@every_case
def test_kernel_expressions(case: Case) -> None:
    """What the fuser would compile equals the forward, for the call and for its gradients."""
    for seed in range(3):
        check_kernels(_recorded(case, seed).records)


def _recorded(case: Case, seed: int = 0) -> Recorder:
    """Every record of a typical call and of its backward pass."""
    inputs = [leaf(array) for array in make(case.draw.typical, _code(case), seed)]
    recorder = Recorder()
    with tg.observe(recorder):
        for y in outputs(case.call(*inputs, **case.draw.typical.params)):
            if y.requires_grad:
                y.backward(tg.ones_like(y), create_graph=True)
    return recorder


@every_case
def test_covers_what_it_says(case: Case) -> None:
    records = _recorded(case).records
    assert set(case.covers) <= {record.primitive.name for record in records}


def primitives() -> dict[str, tg.Primitive]:
    """Every primitive of the room, private ones too, by name."""
    found: dict[str, tg.Primitive] = {}
    for module in pkgutil.walk_packages(ops.__path__, "tinygrad_rnn.ops."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, tg.Primitive):
                assert found.setdefault(value.name, value) is value, f"two are called {value.name}"
    return found


def test_every_primitive_has_a_row() -> None:
    covered = {name for case in CASES for name in case.covers}
    assert covered == set(primitives())


def test_every_elementwise_primitive_has_a_kernel() -> None:
    without = ALL.keys() - PRIMITIVES.keys()
    assert without == {"to_device"}
