"""The values at which gradients go wrong quietly, and the accuracy that is promised."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from op_checks import host, on_device

import tinygrad_rnn as tg
from tinygrad_rnn import ops

inf = math.inf


def double(values: Any, device: str) -> tg.Tensor:
    return tg.tensor(np.array(values, "d"), device=device)


def gradient(function: Callable[[tg.Tensor], tg.Tensor], values: Any, device: str) -> np.ndarray:
    """The gradient of the sum of ``function``, which in passing must give no warning."""
    return host(tg.grad(lambda x: function(x).sum())(double(values, device)))


def second(function: Callable[[tg.Tensor], tg.Tensor], values: Any, device: str) -> np.ndarray:
    """The sum of each row of the Hessian of the sum of ``function``."""
    once = tg.grad(lambda x: function(x).sum())
    return gradient(once, values, device)


# prod


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([2.0, 0.0, 3.0], [0.0, 6.0, 0.0]),
        ([0.0, 0.0, 3.0], [0.0, 0.0, 0.0]),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([0.0], [1.0]),
        ([-2.0, 0.0, 3.0, 5.0, 7.0], [0.0, -210.0, 0.0, 0.0, 0.0]),
    ],
)
def test_prod_with_zeros(values: list[float], wanted: list[float], device: str) -> None:
    assert gradient(tg.prod, values, device).tolist() == wanted
    tg.check_gradients(tg.prod, double(values, device))


def test_prod_with_zeros_second_order(device: str) -> None:
    hessian = host(tg.hessian(tg.prod)(double([0.0, 0.0, 3.0], device)))
    assert hessian.tolist() == [[0, 3, 0], [3, 0, 0], [0, 0, 0]]


def test_prod_with_zeros_along_axes(device: str) -> None:
    values = np.array(
        [[[0.0, 2.0], [3.0, 4.0]], [[5.0, 0.0], [0.0, 6.0]], [[1.0, 7.0], [8.0, 9.0]]]
    )
    for axis in (0, 1, (0, 2), None):
        tg.check_gradients(lambda x, a=axis: tg.prod(x, a), double(values, device))


# Ties


@pytest.mark.parametrize("function", [tg.max, tg.min])
def test_ties_share_equally(function: Any, device: str) -> None:
    g = gradient(lambda x: function(x, 0), [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]], device)
    np.testing.assert_allclose(g, 1 / 3, rtol=1e-15)
    g = gradient(function, [1.0, 5.0, 1.0, 5.0], device)
    assert g.tolist() == ([0, 0.5, 0, 0.5] if function is tg.max else [0.5, 0, 0.5, 0])


@pytest.mark.parametrize("function", [tg.maximum, tg.minimum])
def test_ties_of_two(function: Any, device: str) -> None:
    a, b = double([1.0, 2.0, 3.0], device), double([1.0, 3.0, 2.0], device)
    ga, gb = (host(g) for g in tg.grad(lambda a, b: function(a, b).sum(), (0, 1))(a, b))
    assert (ga + gb).tolist() == [1, 1, 1]
    assert ga[0] == gb[0] == 0.5


def test_kinks_take_a_fixed_side(device: str) -> None:
    assert gradient(tg.relu, [0.0, -0.0], device).tolist() == [0, 0]
    assert gradient(tg.abs, [0.0], device).tolist() == [0]
    assert gradient(tg.leaky_relu, [0.0], device).tolist() == [0.01]
    assert gradient(lambda x: tg.clip(x, -1, 1), [-1.0, 1.0, 1.5], device).tolist() == [1, 1, 0]


# Power and root


@pytest.mark.parametrize(
    ("exponent", "first", "then"), [(0, 0.0, 0.0), (1, 1.0, 0.0), (2, 0.0, 2.0), (3, 0.0, 0.0)]
)
def test_power_at_zero(exponent: int, first: float, then: float, device: str) -> None:
    for p in (exponent, float(exponent), double([exponent], device)):
        assert gradient(lambda x, p=p: x**p, [0.0], device).tolist() == [first]
        assert second(lambda x, p=p: x**p, [0.0], device).tolist() == [then]


def test_zero_to_a_power(device: str) -> None:
    """0**p is 0 for every p > 0, so its slope is 0, and the second too."""
    for zero in (0, 0.0, double([0.0, 0.0], device)):
        assert gradient(lambda p, z=zero: z**p, [1.0, 2.0], device).tolist() == [0, 0]
        assert second(lambda p, z=zero: z**p, [1.0, 2.0], device).tolist() == [0, 0]


def test_power_of_zero_with_a_tensor_exponent(device: str) -> None:
    x, p = double([0.0, 0.0, 2.0], device), double([0.0, 2.0, 3.0], device)
    gx, gp = (host(g) for g in tg.grad(lambda x, p: (x**p).sum(), (0, 1))(x, p))
    assert gx.tolist() == [0, 0, 12]
    np.testing.assert_allclose(gp, [0, 0, 8 * math.log(2)])


def test_negative_base(device: str) -> None:
    assert gradient(lambda x: x**3, [-2.0], device).tolist() == [12]
    assert gradient(lambda x: x**-2, [-2.0], device).tolist() == [0.25]
    p = double([3.0], device)
    assert host(tg.grad(lambda x: (x**p).sum())(double([-2.0], device))).tolist() == [12]


@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_root_at_zero_is_infinitely_steep(device: str) -> None:
    assert gradient(tg.sqrt, [0.0, 4.0], device).tolist() == [inf, 0.25]


def test_roots_that_are_not_taken(device: str) -> None:
    """The advice for a root at 0: choose a harmless argument, then the result."""

    def safe(x: tg.Tensor) -> tg.Tensor:
        return tg.where(x > 0, tg.sqrt(tg.where(x > 0, x, 1.0)), 0.0)

    assert gradient(safe, [0.0, 4.0], device).tolist() == [0, 0.25]


# Division with a rest


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_division_with_a_rest(dtype: str, device: str) -> None:
    """NumPy's numbers on every device, where the quotient rounds up and for infinite divisors."""
    values = np.array(
        [0.0, -0.0, 1.0, -1.0, 0.1, -0.3, 0.7, 5.5, -1e20, inf, -inf, math.nan], dtype
    )
    a, b = (part.ravel() for part in np.meshgrid(values, values))
    x, y = (on_device(part, device) for part in (a, b))
    with np.errstate(all="ignore"):
        for ours, theirs in ((ops.remainder, np.remainder), (ops.floor_divide, np.floor_divide)):
            for found, wanted in (
                (ours(x, y), theirs(a, b)),
                (ours(x, -0.3), theirs(a, -0.3)),
                (ours(5.5, y), theirs(5.5, b)),
                (ours(x, 0.0), theirs(a, 0.0)),
            ):
                np.testing.assert_array_equal(host(found), wanted)
                number = ~np.isnan(wanted)
                signs = np.signbit(host(found)), np.signbit(wanted)
                np.testing.assert_array_equal(signs[0][number], signs[1][number])
    assert host(ops.floor_divide(double([1.0], device), 0.1)).tolist() == [9]


# Functions of a whole axis, at -inf


def test_logsumexp_at_minus_infinity(device: str) -> None:
    x = [[-inf, 0.0, 0.0], [-inf, -inf, 1.0], [-inf, -inf, -inf]]
    y = host(tg.logsumexp(double(x, device)))
    np.testing.assert_allclose(y, [math.log(2), 1, -inf])
    wanted = [[0, 0.5, 0.5], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_allclose(gradient(tg.logsumexp, x, device), wanted, atol=1e-15)
    assert np.isfinite(second(tg.logsumexp, x, device)).all()


def test_softmax_at_minus_infinity(device: str) -> None:
    x = [[-inf, 0.0, 0.0], [-inf, -inf, 1.0], [-inf, -inf, -inf]]
    wanted = [[0, 0.5, 0.5], [0, 0, 1], [0, 0, 0]]
    np.testing.assert_allclose(host(tg.softmax(double(x, device))), wanted)

    def squared(x: tg.Tensor) -> tg.Tensor:
        return tg.softmax(x) ** 2

    g = gradient(squared, x, device)
    assert np.isfinite(g).all()
    assert (g[:, 0] == 0).all()
    assert np.isfinite(second(squared, x, device)).all()


def test_log_softmax_at_minus_infinity(device: str) -> None:
    x = [[-inf, 0.0, 0.0], [-inf, -inf, 1.0], [-inf, -inf, -inf]]
    y = host(tg.log_softmax(double(x, device)))
    half = -math.log(2)
    np.testing.assert_allclose(y, [[-inf, half, half], [-inf, -inf, 0], [-inf, -inf, -inf]])

    def picked(x: tg.Tensor) -> tg.Tensor:
        return tg.log_softmax(x)[:, 2]

    wanted = [[0, -0.5, 0.5], [0, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(gradient(picked, x, device), wanted, atol=1e-15)
    assert np.isfinite(second(picked, x, device)).all()


@pytest.mark.parametrize("function", [tg.logsumexp, tg.softmax, tg.log_softmax])
@pytest.mark.parametrize("dtype", ["e", "f", "d"])
def test_large_inputs_do_not_overflow(function: Any, dtype: str, device: str) -> None:
    x = tg.tensor(np.array([3e4, 3e4, -3e4], dtype), device=device)
    assert np.isfinite(host(function(x))).all()


@pytest.mark.parametrize("dtype", ["e", "f", "d"])
def test_masked_with_the_smallest_number(dtype: str, device: str) -> None:
    """A mask of finfo.min in place of -inf, less the largest element, overflows in float16."""
    x = tg.tensor(np.array([100.0, 100.0, np.finfo(dtype).min], dtype), device=device)
    assert host(tg.softmax(x)).tolist() == [0.5, 0.5, 0]
    assert np.isfinite(host(tg.logsumexp(x)))


def test_masked_attention_row(device: str) -> None:
    """Cross entropy over logits of which some are masked with -inf."""
    labels = tg.tensor([1, 2], device=device)
    x = [[-inf, 0.0, 0.0], [-inf, 1.0, 1.0]]
    g = gradient(lambda x: ops.cross_entropy(x, labels), x, device)
    np.testing.assert_allclose(g, [[0, -0.5, 0.5], [0, 0.5, -0.5]], atol=1e-15)


# where


def test_where_with_an_infinite_branch_not_taken(device: str) -> None:
    big = double([inf, math.nan, -inf], device)
    taken = double([True, True, True], device) > 0
    x = [1.0, 2.0, 3.0]
    assert host(tg.where(taken, double(x, device), big)).tolist() == x
    assert gradient(lambda x: tg.where(taken, x * x, big), x, device).tolist() == [2, 4, 6]
    assert gradient(lambda x: tg.where(~taken, big, x * x), x, device).tolist() == [2, 4, 6]
    assert gradient(lambda x: tg.where(taken, 1.0, x * 0), x, device).tolist() == [0, 0, 0]


def test_where_with_an_infinite_cotangent(device: str) -> None:
    """What arrives for the branch that was not taken is 0, also where the other one gets inf."""
    taken = double([1.0, 0.0], device) > 0
    a, b = double([1.0, 1.0], device), double([1.0, 1.0], device)
    ga, gb = (
        host(g)
        for g in tg.grad(
            lambda a, b: (tg.where(taken, a, b) * double([inf, inf], device)).sum(), (0, 1)
        )(a, b)
    )
    assert ga.tolist() == [inf, 0]
    assert gb.tolist() == [0, inf]


# Norms


@pytest.mark.parametrize("function", [tg.norm, tg.std])
def test_lengths_at_zero(function: Any, device: str) -> None:
    for value in (0.0, 2.0) if function is tg.std else (0.0,):
        x = [[value, value, value], [1.0, 2.0, 4.0]]
        g = gradient(lambda x: function(x, axis=1), x, device)
        assert g[0].tolist() == [0, 0, 0]
        assert np.isfinite(second(lambda x: function(x, axis=1), x, device)).all()
        assert (g[1] != 0).any()


def test_norm_neither_overflows_nor_vanishes(device: str) -> None:
    x = double([[3e200, 4e200], [3e-200, 4e-200]], device)
    np.testing.assert_allclose(host(tg.norm(x, axis=1)), [5e200, 5e-200], rtol=1e-15)
    g = gradient(lambda x: tg.norm(x, axis=1), [[3e200, 4e200], [3e-200, 4e-200]], device)
    np.testing.assert_allclose(g, [[0.6, 0.8], [0.6, 0.8]], rtol=1e-15)


def test_norm_of_the_infinite(device: str) -> None:
    x = double([[inf, 1.0], [math.nan, 1.0]], device)
    y = host(tg.norm(x, axis=1))
    assert y[0] == inf
    assert math.isnan(y[1])


# einsum


def test_einsum_refuses_a_diagonal(device: str) -> None:
    x = double(np.eye(3), device)
    for equation in ("ii", "ii->i", "iij->j", "ij,kk->ij"):
        operands = [x] * (1 + equation.count(","))
        with pytest.raises(ValueError, match="einsum: a letter is repeated within the operand"):
            tg.einsum(equation, *operands)


# Accuracy and extremes


def _ulps(found: np.ndarray, exact: np.ndarray) -> float:
    wanted = exact.astype(found.dtype)
    normal = np.abs(wanted) >= np.finfo(found.dtype).tiny
    error = np.abs(found.astype("d") - exact)[normal] / np.spacing(np.abs(wanted[normal]))
    return float(error.max())


def _sigmoid(x: np.ndarray) -> np.ndarray:
    """In float64, without cancellation on either side."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, small) / (1 + small)


@pytest.mark.parametrize(
    ("function", "exact"), [(tg.sigmoid, _sigmoid), (tg.tanh, np.tanh)], ids=["sigmoid", "tanh"]
)
@pytest.mark.parametrize("dtype", ["e", "f"])
def test_within_8_ulp(function: Any, exact: Any, dtype: str, device: str) -> None:
    grid = np.concatenate([np.linspace(-95, 95, 40001), np.geomspace(1e-30, 1, 4001)])
    x = np.concatenate([grid, -grid]).astype(dtype)
    y = host(function(tg.tensor(x, device=device)))
    assert y.dtype == dtype
    assert _ulps(y, exact(x.astype("d"))) <= 8


@pytest.mark.parametrize("dtype", ["f", "d"])
def test_erf_within_4_ulp(dtype: str, device: str) -> None:
    grid = np.concatenate([np.linspace(0, 7, 20001), np.geomspace(1e-30, 1, 4001)])
    x = np.concatenate([grid, -grid]).astype(dtype)
    y = host(ops.erf(on_device(x, device)))
    assert _ulps(y, np.array([math.erf(v) for v in x.astype("d")])) <= 4


EXTREMES = [-inf, -1e30, -1e4, -800.0, -100.0, -0.0, 0.0, 100.0, 800.0, 1e4, 1e30, inf]


@pytest.mark.parametrize("dtype", ["e", "f", "d"])
@pytest.mark.parametrize(
    ("function", "limits"),
    [(tg.sigmoid, (0, 1)), (tg.tanh, (-1, 1)), (tg.softplus, (0, inf)), (tg.relu, (0, inf))],
    ids=["sigmoid", "tanh", "softplus", "relu"],
)
def test_extremes_without_warnings(function: Any, limits: Any, dtype: str, device: str) -> None:
    with np.errstate(over="ignore"):
        values = np.array(EXTREMES, dtype)
    x = tg.tensor(values, device=device, requires_grad=True)
    y = function(x)
    found = host(y)
    assert (found[0], found[-1]) == limits
    assert (np.diff(found[np.isfinite(found)]) >= 0).all()
    y.backward(tg.ones_like(y))
    assert np.isfinite(host(x.grad)).all()


def test_exp_at_extremes(device: str) -> None:
    """Underflow is silent; overflow gives inf, and NumPy's warning with it."""
    assert host(tg.exp(double([-inf, -1e4, -750.0], device))).tolist() == [0, 0, 0]
    if device == "cpu":
        with pytest.warns(RuntimeWarning, match="overflow"):
            assert host(tg.exp(double([1e4], device))).tolist() == [inf]


# Nothing at all


def test_reductions_of_nothing(device: str) -> None:
    x = double(np.zeros((0, 3)), device)
    assert host(tg.sum(x, 0)).tolist() == [0, 0, 0]
    assert host(tg.prod(x, 0)).tolist() == [1, 1, 1]
    assert tg.cumsum(x, 0).shape == (0, 3)
    for function in (tg.mean, tg.var, tg.std):
        assert np.isnan(host(function(x, 0))).all()
        assert function(x, 1).shape == (0,)
        assert gradient(lambda x, f=function: f(x, 0), np.zeros((0, 3)), device).shape == (0, 3)
    for function in (tg.cumsum, tg.sum, tg.mean, tg.var, tg.softmax, tg.logsumexp):
        g = gradient(lambda x, f=function: f(x, 1), np.zeros((0, 3)), device)
        assert g.shape == (0, 3)


def test_variance_without_freedom(device: str) -> None:
    for function in (tg.var, tg.std):
        assert np.isnan(host(function(double([1.0], device), ddof=1)))
        assert np.isnan(host(function(double([1.0], device), ddof=2)))


# float16


def test_half_precision_is_accumulated_in_float32(device: str) -> None:
    """4,096 ones: a float16 sum would stop at 2,048."""
    x = tg.ones((4096,), np.float16, device)
    assert tg.sum(x).item() == 4096
    assert host(tg.sum(tg.ones((4096, 3), np.float16, device), 0)).tolist() == [4096] * 3
    assert tg.mean(x).item() == 1
    assert host(tg.cumsum(x))[-1] == 4096
    assert (x @ x).item() == 4096
    assert tg.einsum("i,i->", x, x).item() == 4096
    assert tg.norm(x).item() == 64
    assert (tg.broadcast_to(x[:1], (4096,)) * 0 + 1).sum().item() == 4096
    assert host(tg.softmax(x * 0)).sum(dtype="f") == pytest.approx(1, rel=1e-3)


def test_half_precision_gradients_are_accumulated_in_float32(device: str) -> None:
    for shape in ((1,), (3,)):  # NumPy adds rows one by one, and a single column in pairs
        b = tg.zeros(shape, np.float16, device, requires_grad=True)
        g = tg.ones((4096, *shape), np.float16, device)
        (b + g).backward(g)
        assert (host(b.grad) == 4096).all()
    w = tg.zeros((1, 1), np.float16, device, requires_grad=True)
    x = tg.ones((4096, 1), np.float16, device)
    tg.linear(x, w).backward(tg.ones((4096, 1), np.float16, device))
    assert host(w.grad).tolist() == [[4096]]


def test_mean_of_large_half_precision_numbers(device: str) -> None:
    x = tg.full((4096,), 60000.0, np.float16, device)
    assert tg.mean(x).item() == 60000
    assert tg.norm(tg.full((4,), 300.0, np.float16, device)).item() == 600


def test_casting_a_gradient_back(device: str) -> None:
    x = tg.tensor(np.array([1.0, 2.0], "d"), device=device, requires_grad=True)
    (x.astype(np.float32) * 3).sum().backward()
    assert x.grad.dtype == np.float64
    assert host(x.grad).tolist() == [3, 3]
    assert not x.astype(np.int32).requires_grad
