"""The tables of docs/dtypes.md, cell by cell: on Tensors, on raw arrays, in a replayed loop."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from dtype_page import CALLS, CELLS, HEAD, KINDS, MEETING

import tinygrad_rnn as tg
from tinygrad_rnn import ops, replay, tape


def operand(name: str, shape: tuple[int, ...] = (3,)) -> Any:
    """A NumPy array of a dtype, or the number that the page writes."""
    if name in ("True", "2", "2.5"):
        return ast.literal_eval(name)
    return np.ones(shape, name)


def tensor(value: Any) -> Any:
    return tg.Tensor(value) if isinstance(value, np.ndarray) else value


def dtype_of(call: Callable[[], Any]) -> str:
    """The dtype that a call gives, or the word for its refusal."""
    try:
        with np.errstate(all="ignore"):
            return str(call().dtype)
    except TypeError:
        return "refused"


def test_the_page_has_a_cell_for_every_pair() -> None:
    assert len(CELLS) == 12 * 15
    assert [row[0] for row in MEETING[1:]] == MEETING[0][1:13]


@pytest.mark.parametrize(("one", "other", "said"), CELLS)
def test_where_operands_meet(one: str, other: str, said: str) -> None:
    """Whatever their shapes, which comes first, and whether they are Tensors or raw arrays."""
    chosen = np.array([True, False, True])
    for shape in ((3,), ()):
        a, b = operand(one), operand(other, shape)
        for x, y in ((a, b), (b, a)):
            assert dtype_of(lambda x=x, y=y: tensor(x) + tensor(y)) == said
            assert dtype_of(lambda x=x, y=y: ops.add(x, y)) == said
            if isinstance(x, np.ndarray):
                assert dtype_of(lambda x=x, y=y: tensor(x) * y) == said
            assert dtype_of(lambda x=x, y=y: tg.maximum(tensor(x), tensor(y))) == said
            assert dtype_of(lambda x=x, y=y: tg.where(tensor(chosen), tensor(x), tensor(y))) == said
            assert dtype_of(lambda x=x, y=y: ops.where(chosen, x, y)) == said
            compared = dtype_of(lambda x=x, y=y: ops.less(tensor(x), tensor(y)))
            assert compared == ("refused" if said == "refused" else "bool")


@pytest.mark.parametrize(
    ("one", "other", "said"), [cell for cell in CELLS if cell[1] in KINDS or cell[1][-1].isdigit()]
)
def test_where_arrays_meet(one: str, other: str, said: str) -> None:
    """Products and joins."""
    a, b = operand(one), operand(other)
    if not isinstance(b, np.ndarray):
        return
    for make in (tensor, np.asarray):
        x, y = make(a), make(b)
        assert dtype_of(lambda x=x, y=y: ops.concat([x, y])) == said
        assert dtype_of(lambda x=x, y=y: ops.stack([y, x])) == said
        assert dtype_of(lambda x=x, y=y: ops.matmul(x, y)) == said
        assert dtype_of(lambda x=x, y=y: ops.outer(x, y)) == said
        assert dtype_of(lambda x=x, y=y: ops.einsum("i,i->", x, y)) == said
        assert dtype_of(lambda x=x, y=y: ops.linear(x[None], y[None])) == said
        assert ops.scatter(x, 0, y[0]).dtype == one
        assert ops.At(x)[0].add(y[0]).dtype == one


@pytest.mark.parametrize("jit", [False, True], ids=["array", "jit"])
def test_a_replayed_loop_has_the_same_dtypes(jit: bool) -> None:
    """All cells that are not refused, in one loop, whose values are those of the unrolled run."""
    cells = [cell for cell in CELLS if cell[2] != "refused"]

    def step(x: Any, state: tg.Tensor) -> Any:
        held = dict(zip(HEAD, x, strict=False))
        pairs = [(held[one], held.get(other, operand(other))) for one, other, _ in cells]
        return [f(a, b) for a, b in pairs for f in (ops.multiply, ops.less_equal)], state + 1

    rng = np.random.default_rng(0)
    xs = tuple(tg.tensor(rng.integers(0, 2, (4, 3)).astype(name)) for name in HEAD[:12])
    with replay.using(jit=jit):
        found, _ = tg.scan(lambda x, s: _as_tuple(step(x, s)), xs, tg.zeros(()))
    wanted, _ = tg.scan(lambda x, s: _as_tuple(step(x, s)), xs, tg.zeros(()), unroll=True)
    for (_, _, said), y, compared in zip(cells, found[::2], found[1::2], strict=True):
        assert (y.dtype, compared.dtype) == (said, "bool")
    for y, reference in zip(found, wanted, strict=True):
        assert y.dtype == reference.dtype
        np.testing.assert_array_equal(y.numpy(), reference.numpy())


def _as_tuple(result: Any) -> Any:
    ys, state = result
    return tuple(ys), state


@pytest.mark.parametrize("jit", [False, True], ids=["array", "jit"])
@pytest.mark.parametrize("dtype", [dtype for kind in KINDS.values() for dtype in kind])
def test_a_replayed_loop_gives_what_the_page_says(dtype: str, jit: bool) -> None:
    """All operations on a dtype in one loop, whose values are those of the unrolled run.

    Once on what is there before the loop, once on what changes within it.
    """
    calls = [(call, said) for call, d, said in CALLS if d == dtype and said != "refused"]

    def step(x: tg.Tensor, state: tg.Tensor) -> Any:
        inside = tg.where(state >= 0, x, x)
        results = [eval(call, {"tg": tg, "x": v}) for v in (x, inside) for call, _ in calls]
        return tuple(results), state + 1

    values = np.array([[3, 1, 2], [1, 1, 4], [2, 3, 5]])
    x = tg.tensor(values.astype(dtype))
    with replay.using(jit=jit):
        found, _ = tg.scan(step, x, tg.zeros(()))
    wanted, _ = tg.scan(step, x, tg.zeros(()), unroll=True)
    tolerance = {"float16": 2e-3, "float64": 1e-12}.get(dtype, 2e-6)
    for (call, said), y, reference in zip(calls * 2, found, wanted, strict=True):
        assert y.dtype == reference.dtype == (dtype if said == "the same" else said), call
        np.testing.assert_allclose(y.numpy(), reference.numpy(), tolerance, tolerance, err_msg=call)


@pytest.mark.parametrize("jit", [False, True], ids=["array", "jit"])
def test_a_replayed_loop_casts_gradients_back(jit: bool) -> None:
    """Integers, bools and all widths of floats in one step: gradients as unrolled."""
    counts, wide = tg.tensor(np.arange(12).reshape(4, 3)), np.array([0.5, 2.0, 1.0])
    small = tg.tensor(np.array([0.5, 1.0, 1.5], "e"))

    def total(x: tg.Tensor, w: tg.Tensor, unroll: bool) -> tg.Tensor:
        def step(xs: Any, h: tg.Tensor) -> Any:
            x, k = xs
            h = tg.tanh(h * small.astype("f") + x / (k + 1) + tg.where(k > 5, 1.0, 0.0))
            y = (h * (k > 3)) * w + tg.stack([h[0] * k[0], w[1], h[2]])
            return y, h

        with replay.using(jit=jit):
            ys, last = tg.scan(step, (x, counts), tg.zeros(3), unroll=unroll)
        assert (ys.dtype, last.dtype) == ("float64", "float32")
        return (ys**2).sum() + last.sum()

    x = tg.tensor(np.random.default_rng(0).normal(size=(4, 3)).astype("f"))
    found, wanted = (
        tg.grad(lambda x, w, unroll=unroll: total(x, w, unroll), (0, 1))(x, tg.tensor(wide))
        for unroll in (False, True)
    )
    assert [g.dtype for g in found] == [g.dtype for g in wanted] == ["float32", "float64"]
    for g, reference in zip(found, wanted, strict=True):
        np.testing.assert_allclose(g.numpy(), reference.numpy(), 1e-5)


@pytest.mark.parametrize(("call", "dtype", "said"), CALLS)
def test_what_an_operation_gives(call: str, dtype: str, said: str) -> None:
    """And the values are those of the same numbers as floats."""
    values = np.array([3, 1, 2])
    if dtype == "bool":
        values = np.array([1, 1, 1] if "%" in call or "//" in call else [1, 0, 1])
    said = dtype if said == "the same" else said

    def result(dtype: str) -> Any:
        return eval(call, {"tg": tg, "x": tg.tensor(values.astype(dtype))})

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert dtype_of(lambda: result(dtype)) == said
        if (
            said == "refused"
            or any(sign in call for sign in "&|^~")
            or (call == "-x" and dtype.startswith("u"))
        ):
            return
        found = result(dtype).numpy().astype("d")
        wanted = result("float64").numpy().astype("d")
    if dtype == "bool" and said == "bool":
        wanted = wanted.astype(bool).astype("d")  # True + True is True
    tolerance = 2e-3 if dtype == "float16" else 1e-6
    np.testing.assert_allclose(found, wanted, tolerance, tolerance)


@pytest.mark.parametrize(("call", "dtype", "said"), [c for c in CALLS if c[0].startswith("tg.")])
def test_what_an_operation_gives_for_raw_arrays(call: str, dtype: str, said: str) -> None:
    x = np.array([1, 0, 1] if dtype == "bool" else [3, 1, 2]).astype(dtype)
    said = dtype if said == "the same" else said
    assert dtype_of(lambda: eval(call, {"tg": tg, "x": x})) == said


# Faults found by strangers


def test_fault_9_a_fraction_is_a_float() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    for half in (Fraction(1, 2), np.float64(0.5), np.float16(0.5)):
        for y in (x * half, half * x):
            assert (y.dtype, y.tolist()) == ("float32", [0.5, 1.0])
    (x * Fraction(1, 2)).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.5, 0.5]
    assert (tg.tensor([1, 2]) * Fraction(1, 2)).tolist() == [0.5, 1.0]
    assert ops.multiply(np.ones(2, "f"), Fraction(1, 2)).dtype == "float32"
    assert tg.tensor([Fraction(1, 2), 1]).tolist() == [0.5, 1.0]
    assert tg.full((2,), Fraction(1, 2)).dtype == "float32"


@pytest.mark.parametrize("number", [1j, np.complex64(1), np.ones(2, complex), np.array([None, 1])])
def test_fault_9_what_is_no_real_number_is_refused(number: Any) -> None:
    x = tg.ones(2)
    for call in (lambda: x * number, lambda: number + x, lambda: tg.maximum(x, number)):
        with pytest.raises(
            TypeError, match=r"^(multiply|add|maximum): expected .*, got "
        ) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_fault_11_masks_and_lengths_stay_float32() -> None:
    mask, lengths = tg.tensor([True, False, True]), tg.tensor([1, 2, 4])
    x = tg.tensor(np.ones((3, 2), "f"), requires_grad=True)
    for y in (
        tg.where(mask, 1.0, 0.0), mask * 1.0, 1.0 - mask, mask / 2, lengths * 0.5, lengths / 2,
        x.sum(1) / lengths, x.sum(1) * mask, x * lengths.numpy()[:, None], tg.mean(lengths),
        tg.where(mask, x.sum(1), 0), tg.where(mask, lengths, 0.5), lengths.mean() * x,
    ):  # fmt: skip
        assert y.dtype == "float32"
    (x.sum(1) / lengths).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 1.0], [0.5, 0.5], [0.25, 0.25]]
    assert tg.where(mask, 1, 0).dtype == "int64"
    assert tg.where(mask, True, False).dtype == "bool"


def test_fault_11a_integers_are_floats() -> None:
    for dtype in ("uint8", "int32", "int64"):
        x = tg.tensor(np.array([1, 2, 3], dtype))
        exact = x.astype("float64")
        for function in (tg.softmax, tg.log_softmax, tg.erf, tg.sigmoid, tg.logsumexp, tg.tanh):
            y = function(x)
            assert y.dtype == "float32"
            np.testing.assert_allclose(y.numpy(), function(exact).numpy(), 1e-6)


def test_a_condition_counts_what_is_not_zero_as_true() -> None:
    tiny = tg.tensor(np.array([1e-300, 0.0, -1.0, np.nan]))
    assert tg.where(tiny, 1, 0).tolist() == [1, 0, 1, 1]
    found, _ = tg.scan(lambda c, s: (tg.where(c, 1.0, s), s), tiny, tg.zeros(()))
    assert found.tolist() == [1, 0, 1, 1]


def test_a_cast_is_a_line_of_the_tape() -> None:
    """Gradients come back in the dtype of what was cast, to any order."""
    x = tg.tensor(np.array([1.0, 2.0], "e"), requires_grad=True)
    y = tg.tensor(np.array([3.0, 4.0]), requires_grad=True)
    loss = (x * x * y).sum()
    assert [r.primitive.name for r in tg.Tape.of(loss)] == ["multiply", "cast", "multiply", "sum"]
    gx, gy = tg.grad(lambda x, y: (x * x * y).sum(), (0, 1))(x, y)
    assert (gx.dtype, gy.dtype) == ("float16", "float64")
    assert (gx.tolist(), gy.tolist()) == ([6.0, 16.0], [1.0, 4.0])
    tg.check_gradients(lambda y: (tg.tensor([2, 3]) ** y).sum(), y)


def test_rules_see_one_dtype() -> None:
    """On raw arrays too a rule has nothing to promote: the cotangents are float32 throughout."""
    seen: list[Any] = []

    class Watch(tg.Observer):
        def after_backward(self, record: tape.Record, cotangents: tuple[Any, ...]) -> None:
            seen.extend(g.dtype for g in cotangents if hasattr(g, "dtype"))

    x = tg.tensor([0.5, 1.5], requires_grad=True)
    k = tg.tensor([2, 3])
    with tg.observe(Watch()):
        loss = x * k + x / k + x**k + x % k + tg.maximum(x, k) + tg.where(x > k, x, k) + k**x
        (loss * k.numpy()).sum().backward()
    assert set(seen) == {np.dtype("f")}


def test_python_integers_that_do_not_fit() -> None:
    with pytest.raises(OverflowError, match=r"^add: Python integer 300 .*uint8"):
        tg.tensor(np.array([1], "uint8")) + 300
