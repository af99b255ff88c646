"""The strict backend refuses what CuPy refuses, and differs where CuPy differs in silence."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from strict import STRICT, XP, StrictArray


def array(values: Any = ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))) -> StrictArray:
    return STRICT.from_host(np.array(values), "strict")


REFUSED: dict[str, Callable[[StrictArray], Any]] = {
    "NumPy conversion": np.asarray,
    "NumPy function": np.sum,
    "NumPy ufunc": np.exp,
    "bool": lambda x: bool(x[0, 0]),
    "float": lambda x: float(x[0, 0]),
    "int": lambda x: int(x[0, 0]),
    "index": lambda x: range(5)[x[0, 0]],
    "iteration": list,
    "unpacking": lambda x: (lambda a, b: None)(*x),
    "membership": lambda x: 1.0 in x,
    "item": lambda x: x[0, 0].item(),
    "tolist": lambda x: x.tolist(),
    "plus a NumPy array": lambda x: x + np.ones(3),
    "a NumPy array plus": lambda x: np.ones(3) + x,
    "plus a NumPy scalar": lambda x: x + np.float64(1),
    "a NumPy scalar plus": lambda x: np.float64(1) + x,
    "plus a list": lambda x: x.__add__([1, 2, 3]),
    "in place with NumPy": lambda x: x.__iadd__(np.ones(3)),
    "where=": lambda x: XP.add(x, x, where=True),
    "initial=": lambda x: XP.sum(x, initial=0),
    "max of empty with initial=": lambda x: XP.max(x, initial=0),
    "a list to a function": lambda x: XP.sum([1, 2]),
    "a NumPy array to a function": lambda x: XP.matmul(x, np.ones((3, 2))),
    "a NumPy scalar as a bound": lambda x: XP.maximum(x, np.float32(0)),
    "NumPy among several": lambda x: XP.concatenate([x, np.ones((1, 3))]),
    "an array as an axis": lambda x: XP.sum(x, axis=np.int64(0)),
    "out= to NumPy": lambda x: XP.exp(x, out=np.ones((2, 3))),
    "asarray of NumPy": lambda x: XP.asarray(np.ones(3)),
    "casting": lambda x: x.astype(np.float32, casting="same_kind"),
    "hash": hash,
}


@pytest.mark.parametrize("use", REFUSED.values(), ids=REFUSED.keys())
def test_refused(use: Callable[[StrictArray], Any]) -> None:
    with STRICT.counting() as count, pytest.raises(TypeError):
        use(array())
    assert count.host_reads == 0


@pytest.mark.parametrize("index", [[0, 1], np.array([0, 1]), np.int64(1), 1.0], ids=repr)
def test_index_refused(index: Any) -> None:
    with pytest.raises(IndexError):
        array()[index]


def test_unknown_function() -> None:
    with pytest.raises(AttributeError, match="nansum"):
        XP.nansum  # noqa: B018


def test_sorts_by_one_kind_only() -> None:
    with pytest.raises(ValueError, match="stable"):
        XP.argsort(array(), kind="quicksort")


def test_flags_say_how_memory_lies_and_no_more() -> None:
    flags = array().T.flags
    assert (flags.c_contiguous, flags.f_contiguous, flags.owndata) == (False, True, False)
    assert not hasattr(flags, "writeable")


def test_division_with_a_rest_is_cupys() -> None:
    x = array([1.0, 5.0])
    with np.errstate(all="ignore"):
        assert STRICT.to_host(x // 0.1).tolist() == [10, 50]
        assert np.isnan(STRICT.to_host(x % np.inf)).all()
        assert STRICT.to_host(array([7, -7]) % array([-4, 0])).tolist() == [-1, 0]


def test_integers_have_negative_powers() -> None:
    x, p = array([-1, -1, 0, 1, 2, 3]), array([-2, -1, -1, -3, -1, 2])
    assert STRICT.to_host(x**p).tolist() == [1, -1, 0, 1, 0, 9]
    assert STRICT.to_host(XP.power(x, 2)).tolist() == [1, 1, 0, 1, 4, 9]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="needs a mode of the processor")
def test_subnormal_float32_numbers_count_as_zero() -> None:
    x = array(np.array([1e-40, 1e-38], np.float32))
    for y in (x * 1, 1 * x, XP.multiply(x, 1), x.astype(np.float64)):
        assert STRICT.to_host(y).tolist() == [0, 0]
    assert STRICT.to_host(x).all()
    assert STRICT.to_host(array([1e-310]) * 0.5).all()


def test_results_are_arrays() -> None:
    x = array()
    for y in (XP.sum(x), x.max(), x[0, 1], x[0, 0] + 1, XP.exp(x[1, 1]), x.mean(axis=(0, 1))):
        assert isinstance(y, StrictArray)
        assert y.shape == ()


def test_an_element_is_a_view() -> None:
    x = array()
    y = x[0, 0]
    y += 10
    assert STRICT.to_host(x)[0, 0] == 11
    assert y.base is not None
    assert (x + 1).base is None


def test_indices_wrap() -> None:
    x = array([0.0, 1.0, 2.0])
    assert STRICT.to_host(x[array([3, -4, 7])]).tolist() == [0, 2, 1]
    with pytest.raises(IndexError):
        x[3]


def test_repeated_assignment_keeps_the_first() -> None:
    x = array([0.0, 0.0, 0.0])
    x[array([1, 1])] = array([5.0, 6.0])
    assert STRICT.to_host(x).tolist() == [0, 5, 0]


def test_scatter_add_counts_repetitions() -> None:
    x = array([0.0, 0.0, 0.0])
    STRICT.scatter_add(x, array([1, 1, -1]), array([5.0, 6.0, 7.0]))
    assert STRICT.to_host(x).tolist() == [0, 11, 7]


def test_counting() -> None:
    with STRICT.counting() as count:
        x = array()
        STRICT.to_host(x)
        _ = (x + 1)[0]
    assert count.host_reads == 1
    assert count.arrays_made == 1
    assert count.bytes_made == 48


def test_the_host_gets_copies() -> None:
    values = np.zeros(3)
    x = STRICT.from_host(values, "strict")
    values += 1
    STRICT.to_host(x)[0] = 5
    assert STRICT.to_host(x).tolist() == [0, 0, 0]
