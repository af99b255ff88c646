"""Edge values that strangers found: infinities, large numbers, single numbers, empty axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import ops, replay

inf, nan = math.inf, math.nan
FLOATS = ["float16", "float32", "float64"]


def gradient(function: Callable[[tg.Tensor], tg.Tensor], values: Any, dtype: str) -> np.ndarray:
    """That of the sum of what a function gives; a gradient has the dtype of its value."""
    found = tg.grad(lambda x: function(x).sum())(tg.tensor(np.array(values, dtype)))
    assert found.dtype == dtype
    return found.numpy()


def both_ways(function: Callable[[tg.Tensor], tg.Tensor], values: Any, dtype: str) -> Any:
    """The values and gradients of each row, eagerly, by the NumPy emitter and by Numba."""
    rows = np.array(values, dtype)
    found = [(function(tg.tensor(rows)).numpy(), gradient(function, rows, dtype))]
    for jit in (False, True):

        def looped(x: tg.Tensor) -> tg.Tensor:
            step = lambda row, state: (function(row), state)  # noqa: E731
            return tg.scan(step, x, tg.zeros((), dtype))[0]

        with replay.using(jit=jit):
            x = tg.tensor(rows)
            found.append((looped(x).numpy(), gradient(looped, rows, dtype)))
    return found


def close(found: np.ndarray, wanted: Any, dtype: str) -> None:
    tolerance = {"float16": 2e-3, "float32": 2e-6, "float64": 1e-13}[dtype]
    np.testing.assert_allclose(found.astype("d"), wanted, tolerance, tolerance)


# Only -inf is treated


ROWS = [[1.0, nan, 2.0], [1.0, inf, 2.0], [1.0, -inf, 2.0], [-inf, -inf, -inf], [inf, inf, 0.0]]
SOFT = [[nan] * 3, [nan] * 3, [0.2689414, 0, 0.7310586], [0] * 3, [nan] * 3]


@pytest.mark.parametrize("dtype", FLOATS)
def test_fault_11b_softmax(dtype: str) -> None:
    for y, g in both_ways(tg.softmax, ROWS, dtype):
        np.testing.assert_allclose(y.astype("d"), SOFT, 2e-3)
        np.testing.assert_allclose(g.astype("d"), np.array(SOFT) * 0, atol=1e-3)


@pytest.mark.parametrize("dtype", FLOATS)
def test_fault_11b_log_softmax(dtype: str) -> None:
    with np.errstate(divide="ignore"):
        wanted = np.log(SOFT)
    wanted[3] = -inf
    for y, g in both_ways(tg.log_softmax, ROWS, dtype):
        np.testing.assert_allclose(y.astype("d"), wanted, 2e-3)
        np.testing.assert_allclose(g.astype("d"), 1 - 3 * np.array(SOFT), atol=2e-3)


@pytest.mark.parametrize("dtype", FLOATS)
def test_fault_11b_logsumexp(dtype: str) -> None:
    shares = [SOFT[0], [0, nan, 0], SOFT[2], SOFT[3], [nan, nan, 0]]
    for y, g in both_ways(tg.logsumexp, ROWS, dtype):
        np.testing.assert_allclose(y.astype("d"), [nan, inf, 2.3132617, -inf, inf], 2e-3)
        np.testing.assert_allclose(g.astype("d"), shares, 2e-3)


def test_fault_11b_cross_entropy() -> None:
    labels = tg.tensor([0] * 5)
    y = ops.cross_entropy(tg.tensor(ROWS), labels)
    np.testing.assert_allclose(y.numpy(), [nan, nan, 1.3132617, inf, nan], 1e-6)
    g = gradient(lambda x: ops.cross_entropy(x, labels), ROWS, "float32")
    np.testing.assert_allclose(g, np.array(SOFT) - np.eye(3)[[0] * 5], 1e-6)


# The largest element and the logarithm of the sum stay apart


LARGE = {"float16": [100.0, 100.5], "float32": [1e6, 1e6 + 1], "float64": [1e15, 1e15 + 1]}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("sign", [1, -1])
def test_fault_11c_large_logits(dtype: str, sign: int) -> None:
    rows = np.array([LARGE[dtype]]) * sign
    shifted = rows - rows.max()
    share = np.exp(shifted) / np.exp(shifted).sum()
    weights = tg.tensor(np.array([1.0, 3.0], dtype))
    for y, g in both_ways(lambda x: tg.log_softmax(x) * weights, rows, dtype):
        close(y, np.log(share) * [1, 3], dtype)
        close(g, [1, 3] - 4 * share, dtype)
    for _, g in both_ways(tg.logsumexp, rows, dtype):
        close(g, share, dtype)
    label = tg.tensor(np.zeros(1, int))
    close(
        ops.cross_entropy(tg.tensor(rows.astype(dtype)), label).numpy(), -np.log(share[:, 0]), dtype
    )
    g = gradient(lambda x: ops.cross_entropy(x, label), rows, dtype)
    close(g, share - [1, 0], dtype)
    found = tg.nn.cross_entropy(tg.tensor(rows.astype(dtype)), [0]).numpy()
    close(found, -np.log(share[0, 0]), dtype)


def test_cross_entropy_to_the_second_order() -> None:
    labels = tg.tensor([1, 0])
    logits = tg.tensor(np.array([[0.3, -0.2, 1.0], [2.0, 0.1, -1.0]]) + 1e3)

    def penalty(x: tg.Tensor, w: tg.Tensor) -> tg.Tensor:
        return tg.grad(lambda x: (ops.cross_entropy(x, labels) * w).sum())(x) ** 2

    tg.check_gradients(penalty, [logits, tg.tensor(np.array([0.5, 2.0]))], order=1, atol=1e-6)


# remainder


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("a", "b"), [(1.0, 0.1), (-1.0, 0.1), (1.0, -0.1), (7.0, 0.7), (3.0, inf)])
def test_fault_11d_remainder(a: float, b: float, dtype: str) -> None:
    x, y = np.array(a, dtype), np.array(b, dtype)
    wanted = float(-(x // y))
    assert gradient(lambda b: a % b, b, dtype) == wanted
    assert gradient(lambda b: tg.tensor(x) % b, b, dtype) == wanted
    assert gradient(lambda a: a % tg.tensor(y), a, dtype) == 1
    if b < inf:
        second = tg.grad(tg.grad(lambda b: (tg.tensor(x) % b) * b))
        assert second(tg.tensor(y)).item() == 2 * wanted


def test_fault_11d_integers_beside_floats() -> None:
    b = tg.tensor([0.1, -0.3])
    assert tg.grad(lambda b: (tg.tensor([1, 2]) % b).sum())(b).tolist() == [-9, 7]
    assert tg.grad(lambda b: (np.array([1, 2]) % b).sum())(b).tolist() == [-9, 7]


# Writing


SHAPES = [(1, 3), (1, 1, 3), (1, 1, 1), (3,), (1,), ()]


PLACES = [(shape, index) for shape in SHAPES for index in (slice(None), [0, 2, 1])]
MASKED = [
    (shape, np.array([True] * 3)) for shape in SHAPES if len(shape) < 2
]  # others NumPy refuses


@pytest.mark.parametrize(("shape", "index"), PLACES + MASKED, ids=str)
def test_fault_11e_values_with_axes_in_front(shape: tuple[int, ...], index: Any) -> None:
    values = np.arange(1.0, 1 + math.prod(shape)).reshape(shape).astype("f")
    x, w = tg.zeros(3), np.array([1.0, 2.0, 4.0], "f")
    reference = np.zeros(3, "f")
    reference[index] = values
    for write in ("set", "add"):
        call = lambda v, write=write: getattr(x.at[index], write)(v)  # noqa: E731
        assert call(tg.tensor(values)).tolist() == call(values).tolist() == reference.tolist()
        g = gradient(lambda v, call=call: call(v) * w, values, "float32")
        share = w[index] if values.size == 3 else w.sum()
        assert g.tolist() == np.broadcast_to(share, shape).tolist()
        tg.check_gradients(
            lambda v, write=write: getattr(x.astype("d").at[index], write)(v) ** 2,
            tg.tensor(values.astype("d")),
        )
    with pytest.raises(ValueError, match=r"^(at|broadcast_to)"):
        x.at[:].set(np.ones((2, 3), "f"))
    with pytest.raises(ValueError, match=r"^(at|broadcast_to)"):
        x.at[:].add(np.ones((2, 3), "f"))


@pytest.mark.parametrize("write", ["set", "add"])
def test_fault_11e_values_take_the_dtype_of_the_array(write: str) -> None:
    x, k = tg.zeros(3), tg.tensor([1, 2, 3])
    for values in (k, k.numpy(), np.int64(2), 2, np.float64(2.5), k.astype("float64")):
        assert getattr(x.at[:], write)(values).dtype == "float32"
        assert getattr(k.at[:], write)(values).dtype == "int64"
    v = tg.tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    getattr(x.at[:], write)(v).sum().backward()
    assert v.grad is not None
    assert (v.grad.dtype, v.grad.tolist()) == ("float64", [1, 1, 1])


# Products and squares of large and small numbers


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1e20, 1e20], "float32"),
        ([1e30, 1e30, 1e-30, 1e-30], "float32"),
        ([1e-30, 1e-30, 1e-30], "float32"),
        ([1e30, 0.0, 1e30, 1e-30], "float32"),
        ([1e20] * 20 + [1e-20] * 21, "float32"),
        ([300.0, 300.0], "float16"),
        ([1e-3, 1e-3, 1e4], "float16"),
        ([1e200, 1e200, 1e-200], "float64"),
        ([2.0**-140, 2.0**100], "float32"),
    ],
)
def test_fault_11h_prod(values: list[float], dtype: str) -> None:
    """Finite and right wherever the true gradient is; scaled by 1e-4 here."""
    x = [Fraction(float(v)) for v in np.array(values, dtype)]
    exact = [math.prod(x[:k] + x[k + 1 :]) * Fraction(1, 10**4) for k in range(len(x))]
    found = gradient(lambda x: tg.prod(x) * 1e-4, values, dtype)
    with np.errstate(all="ignore"):
        wanted = np.array([_float(v) for v in exact]).astype(dtype).astype("d")
    np.testing.assert_allclose(found.astype("d"), wanted, 5e-3, float(np.finfo(dtype).tiny))


def _float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return inf


@pytest.mark.parametrize("function", [tg.var, tg.std, tg.norm, tg.mean])
def test_fault_11h_half_precision_is_squared_in_float32(function: Any) -> None:
    rng = np.random.default_rng(0)
    few = np.array([0.0] * 99 + [1000.0], "e")
    for values in (few, rng.normal(500, 200, 3000).astype("e"), np.full(100_000, 2.0, "e")):
        x = tg.tensor(values)
        wide = tg.tensor(values.astype("d"))
        with np.errstate(over="ignore"):
            y = function(wide).numpy().astype("e")
        np.testing.assert_allclose(function(x).numpy(), y, 2e-3)
        g = gradient(function, values, "float16")
        exact = gradient(function, values, "float64")
        np.testing.assert_allclose(g.astype("d"), exact, 2e-3, 6e-8)


def test_norm_of_the_smallest_numbers_has_a_gradient() -> None:
    for dtype, tiny in (("float32", 1e-42), ("float64", 1e-315), ("float16", 6e-8)):
        g = gradient(tg.norm, [tiny, 0.0], dtype)
        np.testing.assert_allclose(g, [1, 0], 1e-6)


def test_ties_of_many_half_precision_numbers() -> None:
    g = gradient(tg.max, np.zeros(100_000), "float16")
    np.testing.assert_allclose(g.astype("d"), 1e-5, 1e-2)


# Single numbers, nothing at all, and NumPy's functions


REDUCTIONS = ["sum", "mean", "var", "std", "max", "min", "prod", "any", "all", "argmax", "argmin"]


@pytest.mark.parametrize("name", [*REDUCTIONS, "norm", "softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("axis", [0, -1])
def test_fault_11k_single_numbers_have_the_axes_0_and_minus_1(name: str, axis: int) -> None:
    x = tg.tensor(3.0, requires_grad=True)
    y = getattr(tg, name)(x, axis=axis)
    assert y.shape == ()
    wanted = {"norm": 3, "softmax": 1, "log_softmax": 0, "logsumexp": 3}
    assert y.item() == (wanted[name] if name in wanted else getattr(np, name)(np.float32(3)))
    with pytest.raises(IndexError, match=f"^{name}: axis 1 is out of range"):
        getattr(tg, name)(x, axis=1)
    if y.requires_grad:
        y.backward()
        assert x.grad is not None
        slopes = {"var": 0, "std": 0, "softmax": 0, "log_softmax": 0}
        assert x.grad.item() == slopes.get(name, 1)


def test_fault_11k_cumsum_as_numpys() -> None:
    for axis in (0, -1, None):
        assert tg.cumsum(tg.tensor(3.0), axis).tolist() == np.cumsum(np.array(3.0), axis).tolist()
    x = np.arange(6.0).reshape(2, 3)
    assert tg.cumsum(tg.tensor(x), None).tolist() == np.cumsum(x).tolist()
    assert np.cumsum(tg.tensor(x)).tolist() == np.cumsum(x).tolist()
    tg.check_gradients(lambda x: tg.cumsum(x, None) ** 2, tg.tensor(x))


@pytest.mark.parametrize("shape", [(0,), (2, 0), (0, 3)])
def test_fault_11k_softmax_of_nothing_is_nothing(shape: tuple[int, ...]) -> None:
    for function in (tg.softmax, tg.log_softmax):
        x = tg.zeros(shape, requires_grad=True)
        y = function(x)
        assert (y.shape, y.dtype) == (shape, "float32")
        y.sum().backward()
        assert x.grad is not None
        assert x.grad.shape == shape
    assert (tg.logsumexp(tg.zeros(shape)).numpy() == -inf).all()
    assert gradient(tg.logsumexp, np.zeros(shape), "float32").shape == shape
    x = tg.zeros((4, *shape))
    for jit in (False, True):
        with replay.using(jit=jit):
            ys, _ = tg.scan(lambda x, s: (tg.softmax(x) + 1, s), x, tg.zeros(()))
        assert ys.shape == x.shape


@pytest.mark.parametrize("name", REDUCTIONS)
def test_fault_11k_numpys_functions(name: str) -> None:
    """They give what the method of the name gives, followed by the tape."""
    values = np.array([[1.0, 2.0, 4.0], [3.0, 0.5, 1.5]], "f")
    function = getattr(np, name)
    x = tg.tensor(values, requires_grad=True)
    for options in ({}, {"axis": 1}, {"axis": 0, "keepdims": True}):
        if name.startswith("arg"):
            options.pop("keepdims", None)
        y = function(x, **options)
        assert isinstance(y, tg.Tensor)
        np.testing.assert_allclose(y.detach().numpy(), function(values, **options), 1e-6)
        assert y.requires_grad == (name not in ("any", "all", "argmax", "argmin"))
    if name in ("sum", "mean", "prod", "std", "var"):
        assert function(x, dtype="float64").dtype == "float64"


def test_fault_11k_numpys_functions_of_other_signatures() -> None:
    x = tg.tensor([[1.0, 2.0, 4.0]], requires_grad=True)
    assert np.clip(x, 0, 2).tolist() == [[1, 2, 2]]
    assert np.std(x, ddof=1).item() == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert np.transpose(x).shape == (3, 1)
    assert np.squeeze(x).shape == (3,)
    with pytest.raises(TypeError, match=r"^max: out= is not taken, .* use tg\.max\(x\)$"):
        np.max(x, out=np.ones(()))


def test_fault_11k_joining_with_nothing_as_numpy() -> None:
    nothing = np.zeros((0,), "f")
    y = tg.concat([tg.tensor(nothing), tg.ones(3), tg.tensor(nothing)])
    assert (y.tolist(), y.dtype) == ([1, 1, 1], "float32")
    with pytest.raises(ValueError, match=r"^concat: shapes must agree .* got \(0,\), \(2, 3\)$"):
        tg.concat([tg.tensor(nothing), tg.ones((2, 3))])
    with pytest.raises(ValueError, match="number of dimensions"):
        np.concatenate([nothing, np.ones((2, 3))])


def test_fault_11k_squeezing_another_axis_is_refused_as_in_numpy() -> None:
    with pytest.raises(ValueError, match="size not equal to one"):
        np.ones((2, 3)).squeeze(0)
    with pytest.raises(ValueError, match=r"^squeeze: axis 0 has size 2, not 1$"):
        tg.ones((2, 3)).squeeze(0)
    assert tg.tensor(1.0).squeeze(0).shape == np.squeeze(np.array(1.0), 0).shape == ()
