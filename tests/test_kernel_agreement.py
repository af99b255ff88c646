"""Every elementwise operation on special values: in a loop, by each emitter, as eagerly."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from emitters import EMITTERS, in_a_loop
from expressions import PARAMS, PRIMITIVES

import tinygrad_rnn as tg
from tinygrad_rnn.ops import kernel_language as language

inf, nan = np.inf, np.nan
FLOATS = [
    0.0, -0.0, 1, -1, 0.5, -0.5, 1.5, -1.5, 2, -2, 2.5, -2.5, 3, -3, 7, -7, 10, -10, 0.1, -0.1,
    1e-3, -1e-3, 2e-38, -2e-38, 9.01, -9.01, 20, -20, 88.7, -88.7, 104, -104, 1e4, -6e4, 3e38,
    -3e38, inf, -inf, nan, -nan,
]  # fmt: skip
INTEGERS = [
    0, 1, -1, 2, -2, 3, -3, 4, -4, 5, 7, -7, 8, -8, 9, 10, -10, 12, 15, -16, 31, 32, -33, 63, 64,
    100, -100, 127, -128, 255, 1000, -1000, 32767, 46340, 46341, 65536, -65536, 2**30,
    2**31 - 1, 1 - 2**31,
]  # fmt: skip
DTYPES = [np.dtype(name) for name in ("f4", "f8", "i4", "i8", "?")]


def values(dtype: Any) -> np.ndarray:
    given = {"f": FLOATS, "i": INTEGERS, "b": [False, True]}[dtype.kind]
    assert len(given) == (2 if dtype.kind == "b" else 40)
    return np.array(given).astype(dtype)


def operands(name: str, dtype: Any) -> list[np.ndarray]:
    """All pairs, and a condition for each; no negative power of an integer, which NumPy refuses."""
    count, _ = language.names(PRIMITIVES[name].kernel or "")
    x = values(dtype)
    a, b = (part.reshape(-1) for part in np.meshgrid(x, x))
    if name == "where":
        return [np.arange(a.size) % 3 == 0, a, b]
    if name == "power" and dtype.kind == "i":
        b = np.clip(b, 0, 40)
    return [a, b][:count]


def eagerly(name: str, dtype: Any) -> np.ndarray | None:
    """What the operation gives, None where NumPy does not have it for the dtype."""
    given = [tg.tensor(array) for array in operands(name, dtype)]
    try:
        with np.errstate(all="ignore"):
            return PRIMITIVES[name](*given, **PARAMS.get(name, {})).numpy()
    except TypeError:
        return None


def same(have: np.ndarray, want: np.ndarray, name: str, ulps: int = 4) -> None:
    assert have.dtype == want.dtype, name
    if want.dtype.kind != "f":
        np.testing.assert_array_equal(have, want, name)
        return
    limits = np.finfo(want.dtype)
    flushed = 2 * float(limits.tiny)  # what is below counts as 0
    np.testing.assert_allclose(have, want, ulps * float(limits.eps), flushed, err_msg=name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("emitter", EMITTERS)
def test_every_operation_as_eagerly(emitter: str, dtype: Any) -> None:
    wanted = {name: eagerly(name, dtype) for name in PRIMITIVES}
    defined = {name: want for name, want in wanted.items() if want is not None}
    assert len(defined) > (15 if dtype.kind == "b" else 35)
    groups: dict[Any, list[str]] = {}
    for name in defined:
        given = operands(name, dtype)
        groups.setdefault(tuple(array.tobytes() for array in given), []).append(name)
    for names in groups.values():
        given = operands(names[0], dtype)
        functions = {name: partial(PRIMITIVES[name], **PARAMS.get(name, {})) for name in names}
        found, _ = in_a_loop(functions, given, emitter)
        for name in names:
            same(found[name], defined[name], name)


@pytest.mark.parametrize("emitter", EMITTERS)
def test_casts(emitter: str) -> None:
    """Between all dtypes, of values that the target has; nan and infinities are True."""
    for source in DTYPES:
        x = values(source)
        for target in DTYPES:
            inside = np.ones(x.shape, bool)
            if source.kind == "f" and target.kind == "i":
                inside = np.abs(x) < 2**31 - 1
            given = x[inside]
            with np.errstate(all="ignore"):
                want = given.astype(target)
            found, _ = in_a_loop({"y": partial(tg.ops.cast, dtype=target)}, [given], emitter)
            np.testing.assert_array_equal(found["y"], want, f"{source} to {target}")


@pytest.mark.parametrize("emitter", EMITTERS)
def test_fault_11f_a_quotient_is_rounded_down_as_numpy_does(emitter: str) -> None:
    a = np.array([1, 1, -1, 0.7, 5, nan, inf], np.float32)
    d = np.array([0.1, -0.1, 0.1, 0.1, 0, 1, 3], np.float32)
    found, _ = in_a_loop({"//": lambda a, d: a // d, "%": lambda a, d: a % d}, [a, d], emitter)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(found["//"], a // d)
        np.testing.assert_allclose(found["%"], a % d, rtol=1e-6)
    assert found["//"][0] == 9
