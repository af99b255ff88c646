"""The language of kernel expressions: what it has is computed alike by every emitter, what it does
not have is refused when the primitive is made.
"""

from __future__ import annotations

import enum
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from elementwise import PRIMITIVES
from emitters import EMITTERS, in_a_loop, running
from op_checks import KERNEL_FUNCTIONS, host
from strict import StrictArray

import tinygrad_rnn as tg
from tinygrad_rnn import ops
from tinygrad_rnn.ops import kernel_language as language
from tinygrad_rnn.replay.passes.kernel_lines import kernel_lines

inf, nan = np.inf, np.nan
SUPPORTED = (
    "x0", "(x0)", "((x1))", "2.5", "-3", "True", "gain", "-gain", "+x0", "- - x0", "not x0",
    "not (x0 > 1)", "x0 ** 2", "x0 ** 3", "x0 ** -1", "x0 ** 0.5", "2 ** x0", "x0 // 2", "x0 % 2",
    "x0 // x1", "x0 % x1", "-7 // x0", "x0 * 1e400", "x0 * 1e-400", "x0 + 10 ** 3", "x0 * (1 / 3)",
    "x0 / 3", "sigmoid(x0)", "tanh(sigmoid(x0) * gain)", "0.5 * x0 * (1 + erf(x0 / sqrt(2)))",
    "select(1 < x0 < 2, 1.0, 0.0)", "select(0 <= x1 < x0 <= 2 != x0, x0, -x1)", "x0 < x1",
    "(x0 > 0) & (x1 > 0) | ~(x0 < 1)", "(x0 > 0) ^ True", "(x0 > 0) * x1", "(x0 > 0) + 0.5",
    "(x0 > x1) + (x1 > 0)", "select(x0, x1, 3)", "select(x0 == x1, gain, select(x0 > 1, 2, 3))",
    "select(True, x0, x1)", "select(gain > 1, x0, x1)", "floor(x0 / x1)", "floor(2.5) * x0",
    "round(x0) + ceil(x1) - abs(x0)", "maximum(x0, 0) + minimum(x1, gain)", "remainder(x0, gain)",
    "floor_divide(x0, gain)", "power(abs(x0), x1)", "isnan(x0)", "isfinite(x0 / 0) * 1.0",
    "log1p(expm1(abs(x0) % 5))", "sign(x0) * sqrt(abs(x0))", "exp(sin(x0)) - cos(x1) * x0",
    "1_000 * x0 + 0x10", "x0 * (1 < 2)", "(1e20 * 1e20) * 1e-20 * 1e-20 * x0", "  x0 + x1  ",
    "x0 == x0 == x1", "(x0 // 1) * 0.5", "-x0 ** 2",
)  # fmt: skip
X = np.array([3, 2, 1.5, 1, 0.5, 0.0, -0.5, -1, -2.5, 7.25, nan, inf, -inf, 1e3, -7])
DTYPES = [np.dtype(name) for name in ("f4", "f8", "i8")]


WRITTEN_OTHERWISE = {
    "not x0": "x0 == 0",
    "not (x0 > 1)": "~(x0 > 1)",
    "select(1 < x0 < 2, 1.0, 0.0)": "select((1 < x0) & (x0 < 2), 1.0, 0.0)",
    "select(0 <= x1 < x0 <= 2 != x0, x0, -x1)": (
        "select((0 <= x1) & (x1 < x0) & (x0 <= 2) & (2 != x0), x0, -x1)"
    ),
    "x0 == x0 == x1": "(x0 == x0) & (x0 == x1)",
}
"""What Python cannot do with arrays: it asks for the truth of one."""


def evaluated(expression: str, x: Any, y: Any, gain: float) -> np.ndarray:
    """What Python and NumPy make of an expression."""
    text = WRITTEN_OTHERWISE.get(expression, expression).strip()
    with np.errstate(all="ignore"):
        found = eval(text, KERNEL_FUNCTIONS, {"x0": x, "x1": y, "gain": gain})
    if isinstance(found, bool | int | float):  # of numbers alone: in the dtype of the operands
        found = np.asarray(found, x.dtype if type(found) is not bool else bool)
    return np.array(np.broadcast_to(found, x.shape))


def primitive(expression: str) -> Any:
    def forward(xp: Any, x: Any, y: Any, gain: float) -> Any:
        found = evaluated(expression, host(x), host(y), gain)
        return found if isinstance(x, np.ndarray) else StrictArray(found)

    return tg.primitive("mine", forward, [None, None], kernel=expression)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("emitter", EMITTERS)
def test_what_the_language_has_is_alike_everywhere(emitter: str, dtype: Any) -> None:
    values = X if dtype.kind == "f" else np.trunc(X[np.abs(X) <= 7])
    x, y = (part.reshape(-1).astype(dtype) for part in np.meshgrid(values, values))
    mine = {expression: primitive(expression) for expression in SUPPORTED}
    wanted: dict[str, np.ndarray] = {}
    for expression in SUPPORTED:
        try:
            wanted[expression] = evaluated(expression, x, y, 1.5)
        except (TypeError, ValueError):  # such as a negative power of integers
            assert dtype.kind == "i"
    assert len(wanted) > len(SUPPORTED) - 8
    functions: dict[str, Any] = {
        expression: lambda x, y, p=mine[expression]: p(x, y, gain=1.5) for expression in wanted
    }
    found, _ = in_a_loop(functions, [x, y], emitter)
    for expression, want in wanted.items():
        have = found[expression]
        assert have.dtype == want.dtype, expression
        eps = 8 * float(np.finfo(want.dtype).eps) if want.dtype.kind == "f" else 0
        np.testing.assert_allclose(have, want, eps, eps, err_msg=expression)


@pytest.mark.parametrize("emitter", EMITTERS)
@pytest.mark.parametrize("kernel", ["x0", "(x0)", "2.5", "gain"])
def test_fault_46_a_bare_value_in_a_step_that_goes_on(emitter: str, kernel: str) -> None:
    """A copy is a line like any other."""
    mine = primitive(kernel)
    with running(emitter) as device:
        x = tg.tensor(np.array([[1], [2], [4]], np.float32), device=device)

        def step(x: Any, h: Any) -> Any:
            h = mine(h + 2 * x, x, gain=2.5) + 4
            return h, h

        found, _ = tg.scan(step, x, tg.zeros(1, device=device))
        want = {"x": [6, 14, 26], "(": [6, 14, 26]}.get(kernel[0], [6.5] * 3)
        np.testing.assert_array_equal(found.numpy()[:, 0], want)


REFUSED = (
    ("gamma(x0)", "has 'gamma(x0)', which is not of its language"),
    ("exp(x0, x0)", "has 'exp(x0, x0)', which"),
    ("exp()", "has 'exp()', which"),
    ("select(x0, x1)", "has 'select(x0, x1)', which"),
    ("exp(x=x0)", "has 'exp(x=x0)', which"),
    ("exp(*x0)", "has '*x0', which"),
    ("np.exp(x0)", "has 'np.exp(x0)', which"),
    ("x0.real", "has 'x0.real', which"),
    ("x0[0]", "has 'x0[0]', which"),
    ("x0 if x1 else 2", "has 'x0 if x1 else 2', which"),
    ("x0 and x1", "has 'x0 and x1', which"),
    ("x0 in x1", "has 'x0 in x1', which"),
    ("x0 is x1", "has 'x0 is x1', which"),
    ("x0 @ x1", "has 'x0 @ x1', which"),
    ("x0 << 1", "has 'x0 << 1', which"),
    ("(y := x0)", "has '(y := x0)', which"),
    ("lambda: x0", "has 'lambda: x0', which"),
    ("[x0]", "has '[x0]', which"),
    ("'a'", "has \"'a'\", which"),
    ("f'{x0}'", "has \"f'{x0}'\", which"),
    ("None", "has 'None', which"),
    ("1j * x0", "has '1j', which"),
    ("...", "has '...', which"),
    (f"x0 * {10**30}", f"has '{10**30}', which"),
    ("x2", "has 'x2', which is no argument and no parameter"),
    ("x00", "has 'x00', which is no argument"),
    ("x", "has 'x', which is no argument"),
    ("x0 * gian", "has 'gian', which is no argument"),
    ("exp", "has 'exp', which is no argument"),
    ("x0 +", "is no expression"),
    ("", "is no expression"),
    ("x0; x1", "is no expression"),
    ("x0\0", "is no expression"),
    ("(" * 300 + "x0" + ")" * 300, "is no expression"),
    (" + ".join(["x0"] * 500), "is nested more than 100 deep"),
)


@pytest.mark.parametrize(("kernel", "problem"), REFUSED)
def test_fault_46_what_the_language_has_not(kernel: str, problem: str) -> None:
    """Refused in one sentence of a bounded length, when the primitive is made."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        primitive(kernel)
    message = str(caught.value)
    assert message.startswith("mine: the kernel ")
    assert problem in message
    assert message.endswith(
        "; a kernel is made of x0, x1, ..., the parameters of forward by name, numbers, + - * / // "
        "% ** & | ^ ~ not, comparisons, and abs, ceil, cos, erf, exp, expm1, floor, floor_divide, "
        "isfinite, isnan, log, log1p, maximum, minimum, power, remainder, round, sigmoid, sign, "
        "sin, sqrt, tanh, select(condition, a, b)"
    )
    assert len(message) < 700


def test_what_a_kernel_may_name() -> None:
    """Parameters are those of forward; where it takes any, they are looked for at each call."""
    with pytest.raises(TypeError, match=r"^mine: a kernel is an expression in a string, got int$"):
        tg.primitive("mine", lambda xp, x: x, kernel=3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        ValueError, match=r"^mine: an operation with several results has no kernel$"
    ):
        tg.primitive("mine", lambda xp, x: (x, x), kernel="x0", multiple=True)
    with pytest.raises(ValueError, match="has 'x1', which is no argument"):
        tg.primitive("mine", lambda xp, x: x, kernel="x0 + x1")
    tg.primitive("mine", lambda xp, *xs: xs[0] + xs[1], kernel="x0 + x1")
    tg.primitive("mine", lambda xp, x, **params: x * params["k"], kernel="x0 * k")
    tg.primitive("mine", lambda xp, x, *, k: x * k, kernel="x0 * k")
    tg.primitive("mine", lambda xp, x, y: x * y, kernel="x0 * y")  # y may be a parameter
    tg.primitive("mine", np.add.outer, kernel="x0")  # a function that does not tell


def test_the_tables_of_the_emitters_have_every_function() -> None:
    """What the language has is used by an operation of ours or by one of the cases above."""
    text = " ".join([*SUPPORTED, *(p.kernel or "" for p in PRIMITIVES.values())])
    assert set(re.findall(r"([a-z]\w*)\(", text)) >= set(language.FUNCTIONS)


@pytest.mark.parametrize("compute", [np.dtype("i8"), np.dtype("f4")], ids=str)
def test_lines_of_bools_and_integers_are_plain(compute: Any) -> None:
    """What NumPy makes of arithmetic between bools is decided with the lines, for all emitters."""
    of_bools = {"cast", "select", "bitwise_and", "bitwise_or", "bitwise_xor", *language.COMPARISONS}
    more = (
        "abs(x0 > 1)", "floor(x0 > x1) + ceil(x1)", "~(x0 > 1) * (x1 > 0)", "isnan(x0 > 0)",
        "maximum(x0 > 0, x1 > 0)", "minimum(x0 > 0, isfinite(x1))", "round(x0 > 0)",
    )  # fmt: skip
    seen: set[str] = set()
    for expression in (*SUPPORTED, *more):
        for line in kernel_lines("y", expression, ["a", "b"], {"gain": 1.5}, compute, compute):
            compared = line.function in (*language.COMPARISONS, *language.PREDICATES)
            kind = line.compute.kind
            assert line.dtype == ("?" if compared else line.compute) or line.function == "cast"
            assert kind != "b" or line.function in of_bools, expression
            assert kind != "i" or line.function not in ("floor", "ceil", "round", "isnan")
            seen.add(f"{line.function} of {kind}")
    assert {"bitwise_or of b", "bitwise_xor of b", "cast of b"} <= seen


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 3


class Hostile(float):
    def __repr__(self) -> str:
        return "__import__('os').abort()"

    __str__ = __repr__


NUMBERS = (
    np.float32(0.1), np.float64(0.1), np.float16(0.5), np.int64(-3), np.uint8(200), np.bool_(True),
    np.longdouble(0.25), True, 2, 2.5, nan, inf, -inf, -0.0, Level.HIGH, Fraction(1, 2),
    Hostile(0.5), 1e-300,
)  # fmt: skip
SCALE = tg.primitive(
    "scale",
    lambda xp, x, factor: x * language.plain(factor),
    [lambda g, y, x, factor: g * float(factor)],
    kernel="x0 * factor",
)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
@pytest.mark.parametrize("emitter", EMITTERS)
def test_fault_55_a_parameter_is_a_number_and_no_text(emitter: str, number: Any) -> None:
    x = np.array([1, -2, 0.5, 0], np.float32)
    with np.errstate(all="ignore"):
        want = SCALE(tg.tensor(x), factor=number).numpy()
    found, slopes = in_a_loop(
        {"y": lambda x: SCALE(x, factor=number)}, [x], emitter, gradients=True
    )
    np.testing.assert_allclose(found["y"], want, rtol=1e-6, atol=1e-37)
    assert found["y"].dtype == want.dtype
    np.testing.assert_allclose(slopes["y"], np.full(4, float(number)), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
@pytest.mark.parametrize("emitter", [EMITTERS[0], EMITTERS[2]])  # NumPy takes them all
def test_fault_55_an_operand_is_a_number_and_no_text(emitter: str, number: Any) -> None:
    if isinstance(number, Fraction):
        number = float(number)
    x = np.array([1, -2, 0.5, 0], np.float32)
    with np.errstate(all="ignore"):
        want = ops.maximum(tg.tensor(x), number).numpy()
    found, _ = in_a_loop({"y": lambda x: ops.maximum(x, number)}, [x], emitter)
    np.testing.assert_allclose(found["y"], want, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("emitter", EMITTERS)
def test_fault_55_what_is_no_number_is_left_to_forward(emitter: str) -> None:
    def forward(xp: Any, x: Any, factor: Any, mode: Any = None) -> Any:
        return x * (2.0 if factor == "two" else factor) + (1.0 if mode else 0.0)

    mine = tg.primitive("mine", forward, [None], kernel="x0 * factor")

    def optional(xp: Any, x: Any, factor: Any = 3.0) -> Any:
        return x * factor

    other = tg.primitive("other", optional, [None], kernel="x0 * factor")
    x = np.array([1, -2, 0.5], np.float32)
    functions = {
        "text": lambda x: mine(x, factor="two"),
        "mode": lambda x: mine(x, factor=2.0, mode="one more"),
        "missing": lambda x: other(x),
        "number": lambda x: mine(x, factor=2.0),
    }
    found, _ = in_a_loop(functions, [x], emitter)
    for name, want in {"text": 2 * x, "mode": 2 * x + 1, "missing": 3 * x, "number": 2 * x}.items():
        np.testing.assert_array_equal(found[name], want, name)
