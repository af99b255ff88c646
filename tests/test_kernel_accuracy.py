"""How near each function of a kernel, and its gradient rule, is to the truth, by each emitter.

The truth of float32 is float64's, that of float64 the widest float of the platform. Where a rule
subtracts what is nearly equal (1 - y y), what holds is an absolute error, which is said here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from emitters import EMITTERS, in_a_loop

import tinygrad_rnn as tg
from tinygrad_rnn import ops, replay, rnn

Function = Callable[[Any], Any]
inf, nan = np.inf, np.nan
SPECIAL = (
    0.0, -0.0, inf, -inf, nan, 1, -1, 0.5, -0.5, 9, -9, 9.02, -9.02, 10, -10, 19.1, -19.1, 88.72,
    88.73, -87.33, -87.34, 104, -104, 709.78, 709.79, -708.39, -745.2, 1000, -1000, 1e20, -1e20,
    3.4e38, -3.4e38,
)  # fmt: skip


class Row(NamedTuple):
    """A function, its true value and derivative, and what is allowed of each.

    ``ulps`` of the value; of the derivative ``slope_ulps``, or else 2^-20 in float32, and
    likewise in float64, times ``unit``, which says what is rounded. ``domain`` bounds x.
    """

    function: Function
    truth: Function
    slope: Function
    ulps: int | None = 8
    unit: Function | None = None
    slope_unit: Function | None = None
    domain: tuple[float, float] = (-inf, inf)


def one(x: Any) -> Any:
    return 1


def size(x: Any) -> Any:
    return 1 + np.abs(np.maximum(x, -45))


def erf(x: Any) -> Any:
    return np.vectorize(math.erf, otypes=[x.dtype])(x.astype(np.float64))


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def bell(x: Any) -> Any:
    """The density of the standard normal distribution."""
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


def within(x: Any) -> Any:
    return np.clip(x, -100, 100)


def gelu(x: Any) -> Any:
    return 0.5 * np.maximum(x, -100) * (1 + erf(x * math.sqrt(0.5)))


def inner(x: Any) -> Any:
    w = within(x)
    return math.sqrt(2 / math.pi) * (w + 0.044715 * w**3)


def tanh_gelu(x: Any) -> Any:
    return 0.5 * np.maximum(x, -100) * (1 + np.tanh(inner(x)))


def tanh_gelu_slope(x: Any) -> Any:
    t, w = np.tanh(inner(x)), within(x)
    change = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * w * w)
    return 0.5 * (1 + t) + 0.5 * w * (1 - t * t) * change


ROWS: dict[str, Row] = {
    "tanh": Row(tg.tanh, np.tanh, lambda x: 1 - np.tanh(x) ** 2, slope_unit=one),
    "sigmoid": Row(
        tg.sigmoid, sigmoid, lambda x: sigmoid(x) * sigmoid(-x), slope_unit=one
    ),
    "exp": Row(tg.exp, np.exp, np.exp),
    "log": Row(tg.log, np.log, lambda x: 1 / x, domain=(0, inf)),
    "log1p": Row(ops.log1p, np.log1p, lambda x: 1 / (1 + x), domain=(-1, inf)),
    "expm1": Row(ops.expm1, np.expm1, np.exp, slope_unit=lambda x: 1 + np.exp(x)),
    "sqrt": Row(tg.sqrt, np.sqrt, lambda x: 0.5 / np.sqrt(x), domain=(0, inf)),
    "square": Row(tg.ops.square, np.square, lambda x: 2 * x),
    "sin": Row(tg.sin, np.sin, np.cos, unit=one, slope_unit=one, domain=(-1e4, 1e4)),
    "cos": Row(tg.cos, np.cos, lambda x: -np.sin(x), unit=one, slope_unit=one, domain=(-1e4, 1e4)),
    "erf": Row(ops.erf, erf, lambda x: 2 / np.sqrt(np.pi) * np.exp(-x * x), slope_unit=one),
    "softplus": Row(ops.softplus, lambda x: np.logaddexp(x, 0), sigmoid),
    "gelu": Row(
        tg.gelu, gelu, lambda x: 0.5 * (1 + erf(x * math.sqrt(0.5))) + within(x) * bell(within(x)),
        unit=size, slope_unit=size,
    ),
    "gelu by tanh": Row(
        lambda x: tg.gelu(x, "tanh"), tanh_gelu, tanh_gelu_slope, unit=size, slope_unit=size
    ),
    "cube": Row(
        lambda x: ops.power(x, 3.0), lambda x: x**3, lambda x: 3 * x**2, domain=(-1e12, 1e12)
    ),
    "root": Row(
        lambda x: ops.power(x, 0.5), np.sqrt, lambda x: 0.5 * x**-0.5, domain=(0, inf)
    ),
    "inverse": Row(lambda x: 1 / x, lambda x: 1 / x, lambda x: -1 / (x * x)),
    "relu": Row(tg.relu, lambda x: np.maximum(x, 0), lambda x: np.where(x > 0, 1.0, 0.0)),
    "abs": Row(ops.abs, np.abs, np.sign),
}  # fmt: skip


def dense(dtype: Any) -> np.ndarray:
    """Floats of every size and sign, and special ones; the subnormal ones count as 0 in a loop."""
    if dtype == np.float32:
        x = np.arange(0, 1 << 32, 65521, dtype=np.uint64).astype(np.uint32).view(dtype)
    else:
        x = np.arange(0, 1 << 20, 23, dtype=np.uint64) << np.uint64(44)
        x = (x + x // np.uint64(3)).view(dtype)
    near = np.linspace(-30, 30, 60001).astype(dtype)
    with np.errstate(over="ignore"):
        x = np.concatenate([x, near, np.array(SPECIAL).astype(dtype)])
    return x[~(np.abs(x) < np.finfo(dtype).tiny) | (x == 0)]


def error(have: np.ndarray, want: Any, x: np.ndarray, unit: Function | None) -> Any:
    """The largest one in ulp, or in roundings of ``unit``; what is below the normal range is 0."""
    limits = np.finfo(have.dtype)
    with np.errstate(all="ignore"):
        rounded = want.astype(have.dtype)
        np.testing.assert_array_equal(np.isnan(have), np.isnan(rounded))
        step = np.spacing(np.abs(rounded)) if unit is None else limits.eps * unit(x.astype(float))
        found = np.abs(have.astype(want.dtype) - want) / np.asarray(step).astype(want.dtype)
    edge = np.abs(want) >= float(limits.max) * (1 - 8 * float(limits.eps))  # one of the two is inf
    np.testing.assert_array_equal(np.sign(have[edge]), np.sign(rounded[edge]))
    assert np.all(np.abs(have[edge]) >= limits.max * (1 - 8 * limits.eps))
    small = np.abs(want) < 4 * float(limits.tiny)
    assert np.all(np.abs(have[small]) <= 8 * limits.tiny)
    counted = found[~edge & ~small & ~np.isnan(want)]
    return counted.max(initial=0)


LIMITS = {np.float32: (8, 2.0**-20), np.float64: (8, 2.0**-49)}


@pytest.mark.parametrize("dtype", LIMITS, ids=["float32", "float64"])
@pytest.mark.parametrize("emitter", EMITTERS)
def test_value_and_gradient(
    emitter: str, dtype: Any, record_property: Callable[[str, object], None]
) -> None:
    ulps, absolute = LIMITS[dtype]
    wide = np.float64 if dtype == np.float32 else np.longdouble
    x = dense(dtype)
    functions = {name: row.function for name, row in ROWS.items()}
    values, slopes = in_a_loop(functions, [x], emitter, gradients=True)
    roundings = absolute / np.finfo(dtype).eps
    for name, row in ROWS.items():
        inside = (x >= row.domain[0]) & (x <= row.domain[1])
        given = x[inside]
        with np.errstate(all="ignore"):
            want, slope = (f(given.astype(wide)) for f in (row.truth, row.slope))
        value = error(values[name][inside], want, given, row.unit)
        assert value <= (ulps if row.unit is None else roundings), name
        change = error(slopes[name][inside], slope, given, row.slope_unit)
        assert change <= (ulps if row.slope_unit is None else roundings), f"gradient of {name}"
        record_property(name, (float(value), float(change)))


@pytest.mark.parametrize("emitter", EMITTERS)
def test_fault_1_tanh_reaches_one(emitter: str) -> None:
    """And its derivative 0, exactly, from where float64's tanh rounds to 1 at the latest."""
    x = np.concatenate([[9.0, 10, 100, inf], np.geomspace(19.07, 3e38, 1000)]).astype(np.float32)
    x = np.concatenate([x, -x])
    found, slopes = in_a_loop({"tanh": tg.tanh}, [x], emitter, gradients=True)
    np.testing.assert_allclose(found["tanh"], np.sign(x), rtol=1e-7)
    far = np.abs(x) >= 10
    np.testing.assert_array_equal(found["tanh"][far], np.sign(x[far]))
    np.testing.assert_array_equal(slopes["tanh"][far], 0)
    assert np.abs(slopes["tanh"]).max() < 2e-7


@pytest.mark.parametrize("jit", [True, False], ids=["numba", "array"])
@pytest.mark.parametrize("steps", [500, 1000, 2000])
def test_fault_2_an_lstm_that_counts(steps: int, jit: bool) -> None:
    layer = rnn.LSTM(1, 1)
    for parameter in layer.parameters():
        parameter.data = tg.zeros(parameter.shape)
    bias = dict(layer.named_parameters())["bias_ih_l0"]
    bias.data = tg.tensor(np.array([20, 20, 0.5, 20], np.float32))
    with replay.using(jit=jit):
        tg.sum(layer(tg.zeros((steps, 1, 1)))[0]).backward()
    assert bias.grad is not None
    assert bias.grad.numpy()[2] == pytest.approx(2.48560165, rel=1e-5)


@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize("emitter", EMITTERS)
def test_fault_11g_gelu_far_from_zero(emitter: str, approximate: str) -> None:
    x = np.array([30, 1000, 1e13, 1e20, 3e38, inf], np.float32)
    x = np.concatenate([x, -x])
    functions = {"gelu": lambda x: tg.gelu(x, approximate)}
    found, slopes = in_a_loop(functions, [x], emitter, gradients=True)
    np.testing.assert_array_equal(found["gelu"], np.maximum(x, 0))
    np.testing.assert_array_equal(slopes["gelu"], x > 0)


@pytest.mark.parametrize("emitter", EMITTERS)
def test_operations_are_done_in_the_order_in_which_they_are_written(emitter: str) -> None:
    """What looks as if it cancelled carries the rounding that was meant."""
    x = np.array([1e10, 3.3, 1e-9, inf], np.float32)
    far = np.array([3e38, 2e38, 2, 3e38], np.float32)
    functions = {
        "lost": lambda x, far: (x + 1) - x,
        "quotient": lambda x, far: x / far + (x + 1) / far,
    }
    found, _ = in_a_loop(functions, [x, far], emitter)
    with np.errstate(all="ignore"):
        for name, function in functions.items():
            np.testing.assert_allclose(found[name], function(x, far), rtol=3e-7, err_msg=name)
