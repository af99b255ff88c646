"""Reading and writing by index: against NumPy, in and out of range, repeated, and at what cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from op_checks import host, on_device
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import ops

VALUES = np.random.default_rng(0).standard_normal((4, 3, 5))

INDICES: dict[str, Any] = {
    "int": 2,
    "negative int": -1,
    "ints": (1, -2, 0),
    "slice": np.s_[1:3],
    "slices": np.s_[::2, 1:, -3:-1],
    "reversed": np.s_[::-1],
    "negative step": np.s_[3:0:-2, ::-1],
    "empty slice": np.s_[2:1],
    "slice past the end": np.s_[2:100],
    "ellipsis": np.s_[..., 1],
    "only ellipsis": ...,
    "none": np.s_[None, :, None, 1],
    "int, ellipsis, none": np.s_[0, ..., None],
    "list": [0, 2, 2],
    "empty list": [],
    "list of bools": [True, False, True, False],
    "array": np.array([0, -1, 2, 2]),
    "2-d array": np.array([[0, 1], [3, 3]]),
    "small integers": np.array([1, 2], np.int8),
    "unsigned": np.array([1, 2], np.uint16),
    "two arrays": (np.array([0, 1, 0]), np.array([2, 2, 2])),
    "arrays that broadcast": (np.array([[0], [1]]), np.array([0, 2, 2])),
    "arrays apart": (np.array([0, 1, 1]), slice(None), np.array([4, 4, -5])),
    "array then slice": (np.array([3, 3]), np.s_[::-1]),
    "slice then array": np.s_[1:3, [0, 0, 1]],
    "array and int": (np.array([1, 1]), 0, slice(None)),
    "int and array apart": (0, slice(None), np.array([1, 1])),
    "array and none": (None, np.array([1, 1]), None, 0),
    "array after ellipsis": (..., np.array([4, 4, -5])),
    "array after ellipsis and int": (0, ..., np.array([4])),
    "mask": VALUES > 0,
    "mask of rows": np.array([True, False, True, True]),
    "mask of two axes": VALUES[..., 0] > 0,
    "mask of a middle axis": (slice(None), np.array([True, False, True])),
    "mask and int": (np.array([True, False, True, True]), 1),
    "mask and array": (np.array([True, False, True, False]), np.array([0, 2])),
    "mask of nothing": np.zeros(4, bool),
    "True": True,
    "False": False,
    "0-d array": np.array(2),
}
every_index = pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())


def placed(index: Any, device: str) -> Any:
    """The index with its arrays on the device."""
    if isinstance(index, tuple):
        return tuple(placed(item, device) for item in index)
    return on_device(index, device) if isinstance(index, np.ndarray) else index


def of_tensors(index: Any, device: str) -> Any:
    """The index with its arrays as Tensors."""
    if isinstance(index, tuple):
        return tuple(of_tensors(item, device) for item in index)
    return tg.tensor(index, device=device) if isinstance(index, np.ndarray) else index


def adjoint(index: Any, g: np.ndarray) -> np.ndarray:
    """The gradient of reading VALUES at the index: repetitions all count."""
    total = np.zeros_like(VALUES)
    np.add.at(total, index, g)
    return total


@every_index
@pytest.mark.parametrize("convert", [placed, of_tensors])
def test_reading(index: Any, convert: Callable[..., Any], device: str) -> None:
    x = tg.tensor(VALUES, device=device, requires_grad=True)
    wanted = VALUES[index]
    y = x[convert(index, device)]
    assert y.shape == np.shape(wanted)
    np.testing.assert_array_equal(host(y), wanted)
    g = np.random.default_rng(1).standard_normal(np.shape(wanted))
    y.backward(tg.tensor(g, device=device))
    np.testing.assert_allclose(host(x.grad), adjoint(index, g), rtol=1e-15, atol=1e-15)


@every_index
def test_adding(index: Any, device: str) -> None:
    values = np.random.default_rng(2).standard_normal(np.shape(VALUES[index]))
    x = tg.tensor(VALUES, device=device, requires_grad=True)
    v = tg.tensor(values, device=device, requires_grad=True)
    y = x.at[placed(index, device)].add(v)
    np.testing.assert_allclose(host(y), VALUES + adjoint(index, values), rtol=1e-14, atol=1e-14)
    np.testing.assert_array_equal(host(x), VALUES)
    y.backward(tg.tensor(VALUES, device=device))
    np.testing.assert_array_equal(host(x.grad), VALUES)
    np.testing.assert_array_equal(host(v.grad), VALUES[index])


def _names_an_element_twice(index: Any) -> bool:
    return bool((adjoint(index, np.ones(np.shape(VALUES[index]))) > 1).any())


@every_index
def test_setting(index: Any, device: str) -> None:
    values = np.random.default_rng(2).standard_normal(np.shape(VALUES[index]))
    x = tg.tensor(VALUES, device=device, requires_grad=True)
    v = tg.tensor(values, device=device, requires_grad=True)
    if _names_an_element_twice(index):
        with pytest.raises(IndexError, match=r"at\.set: the index names an element twice"):
            x.at[placed(index, device)].set(v)
        return
    y = x.at[placed(index, device)].set(v)
    wanted = VALUES.copy()
    wanted[index] = values
    np.testing.assert_array_equal(host(y), wanted)
    y.backward(tg.tensor(VALUES, device=device))
    kept = VALUES.copy()
    kept[index] = 0
    np.testing.assert_array_equal(host(x.grad), kept)
    np.testing.assert_array_equal(host(v.grad), VALUES[index])


def test_setting_numbers(device: str) -> None:
    x = tg.tensor(VALUES, device=device)
    wanted = VALUES.copy()
    wanted[1:, 0] = 7
    np.testing.assert_array_equal(host(x.at[1:, 0].set(7)), wanted)
    np.testing.assert_array_equal(host(tg.scatter(x, np.s_[1:, 0], 7.0)), wanted)
    np.testing.assert_array_equal(host(x.at[0, 0, 0].add(1.5))[0, 0, 0], VALUES[0, 0, 0] + 1.5)


def test_a_number_keeps_the_dtype(device: str) -> None:
    for dtype in (np.float16, np.float32, np.int32):
        x = tg.zeros((3,), dtype, device)
        assert x.at[0].set(1).dtype == dtype
        assert x.at[0].add(1).dtype == dtype


@given(st.data())
def test_any_basic_index(device: str, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    index = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    _reads_as_numpy_does(shape, index, device)


@given(st.data())
def test_any_integer_arrays(device: str, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4))
    index = data.draw(hnp.integer_array_indices(shape, dtype=np.int32))
    _reads_as_numpy_does(shape, index, device)


@given(st.data())
def test_any_mixture(device: str, data: st.DataObject) -> None:
    """Slices, integers, masks and one array in any order."""
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
    length = data.draw(st.integers(0, 3))

    def item(size: int, kind: str) -> Any:
        if kind == "array":
            return rng.integers(-size, size, length)
        if kind == "mask":
            return np.arange(size) == rng.integers(size)
        return (
            rng.integers(-size, size).item() if kind == "int" else np.s_[:: rng.choice([-1, 1, 2])]
        )

    count = data.draw(st.integers(1, len(shape)))
    kinds = st.sampled_from(["array", "mask", "int", "slice"])
    chosen = [data.draw(kinds) for _ in range(count)]
    if "mask" in chosen and length > 1:  # one row of a mask and several of an array broadcast
        length = 1
    index = tuple(item(n, kind) for n, kind in zip(shape, chosen, strict=False))
    index = tuple(slice(None, None, int(i.step)) if isinstance(i, slice) else i for i in index)
    _reads_as_numpy_does(shape, index, device)


def _reads_as_numpy_does(shape: tuple[int, ...], index: Any, device: str) -> None:
    values = np.arange(np.prod(shape, dtype=int), dtype=float).reshape(shape)
    x = tg.tensor(values, device=device, requires_grad=True)
    wanted = values[index]
    y = x[placed(index, device)]
    assert y.shape == np.shape(wanted)
    np.testing.assert_array_equal(host(y), wanted)
    y.backward(tg.ones_like(y))
    total = np.zeros(shape)
    np.add.at(total, index, 1.0)
    np.testing.assert_array_equal(host(x.grad), total)


# Out of range: the same sentence on every device


def long(*values: int) -> Callable[[str], Any]:
    return lambda device: tg.tensor(np.array(values, int), device=device)


OUT_OF_RANGE: dict[str, tuple[Callable[[tg.Tensor, str], Any], str]] = {
    "int": (lambda x, d: x[4], r"^getitem: .*4.*out of (range|bounds)"),
    "negative int": (lambda x, d: x[-5], r"^getitem: .*-5.*out of (range|bounds)"),
    "array": (lambda x, d: x[long(0, 4)(d)], r"^getitem: .*4.*out of (range|bounds)"),
    "negative array": (lambda x, d: x[long(0, -5)(d)], r"^getitem: .*-5.*out of (range|bounds)"),
    "second axis": (lambda x, d: x[:, long(3)(d)], r"^getitem: .*3.*out of (range|bounds)"),
    "after ellipsis": (lambda x, d: x[..., long(5)(d)], r"^getitem: .*5.*out of (range|bounds)"),
    "after ellipsis and slice": (
        lambda x, d: x[:, ..., long(3)(d), 0],
        r"^getitem: .*3.*out of (range|bounds)",
    ),
    "after none": (lambda x, d: x[None, long(4)(d)], r"^getitem: .*4.*out of (range|bounds)"),
    "after a mask": (
        lambda x, d: x[tg.ones((4, 3), bool, d), long(5)(d)],
        r"^getitem: .*5.*out of (range|bounds)",
    ),
    "list of integers": (lambda x, d: x[[0, 4]], r"^getitem: .*4.*out of (range|bounds)"),
    "set": (lambda x, d: x.at[long(4)(d)].set(0.0), r"^at\.set: .*4.*out of (range|bounds)"),
    "add": (lambda x, d: x.at[long(4)(d)].add(0.0), r"^at\.add: .*4.*out of (range|bounds)"),
    "take": (lambda x, d: tg.take(x, long(4)(d), 0), r"^take: index 4 is out of range for 4"),
    "take negative": (lambda x, d: tg.take(x, long(-1)(d), 0), r"^take: index -1 is out of range"),
    "take along an axis": (lambda x, d: tg.take(x, long(3)(d), 1), r"^take: .*3.*out of"),
    "scatter_add": (
        lambda x, d: ops.scatter_add(x, long(0, 1, 2, 9)(d), 3),
        r"^scatter_add: index 9 is out of range for 3",
    ),
    "scatter_add negative": (
        lambda x, d: ops.scatter_add(x, long(0, 1, 2, -1)(d), 3),
        r"^scatter_add: index -1 is out of range for 3",
    ),
    "label": (
        lambda x, d: ops.cross_entropy(x[0], long(0, 1, 5)(d)),
        r"^cross_entropy: label 5 is out of range for 5 classes",
    ),
    "too many": (lambda x, d: x[0, 0, 0, 0], r"^getitem: .*too many indices|4 were indexed"),
    "mask of another size": (lambda x, d: x[tg.ones((3,), bool, d)], r"^getitem: .*bool"),
    "float": (lambda x, d: x[1.5], r"^getitem: an index is made of .*got float"),
    "float array": (lambda x, d: x[tg.ones(3, device=d)], r"^getitem: an index must be integer"),
    "string": (lambda x, d: x["a"], r"^getitem: an index is made of .*got str"),
}


@pytest.mark.parametrize(("use", "message"), OUT_OF_RANGE.values(), ids=OUT_OF_RANGE.keys())
def test_out_of_range(use: Callable[..., Any], message: str, device: str) -> None:
    x = tg.tensor(VALUES, device=device, requires_grad=True)
    with pytest.raises(IndexError, match=message) as caught:
        use(x, device)
    assert "\n" not in str(caught.value)


def test_item_assignment_names_the_alternative(device: str) -> None:
    x = tg.tensor(VALUES, device=device)
    with pytest.raises(TypeError, match=r"x = x\.at\[index\]\.set\(values\)"):
        x[0] = 1.0


# What it costs


def _bytes_of_backward(use: Callable[[tg.Tensor, int], tg.Tensor], steps: int) -> int:
    x = tg.tensor(np.ones((steps, 64)), device="strict", requires_grad=True)
    loss = use(x, steps)
    with STRICT.counting() as count:
        loss.backward()
    np.testing.assert_array_equal(host(x.grad), 1)
    return count.bytes_made


def _by_integer(x: tg.Tensor, steps: int) -> tg.Tensor:
    return sum((x[t].sum() for t in range(steps)), tg.zeros((), "d", "strict"))


def _by_slice(x: tg.Tensor, steps: int) -> tg.Tensor:
    return sum((x[t : t + 1].sum() for t in range(steps)), tg.zeros((), "d", "strict"))


def _by_iteration(x: tg.Tensor, steps: int) -> tg.Tensor:
    return sum((row.sum() for row in x), tg.zeros((), "d", "strict"))


@pytest.mark.parametrize("use", [_by_integer, _by_slice, _by_iteration])
def test_reading_every_step_costs_one_buffer(use: Any) -> None:
    """The bytes that backward allocates grow with T and not with its square."""
    short, long_run = (_bytes_of_backward(use, steps) for steps in (32, 128))
    assert long_run < 5 * short


def test_rows_taken_often_cost_one_table() -> None:
    """An embedding looked up at T steps allocates its gradient a few times, not T times."""
    table = tg.tensor(np.ones((1000, 8)), device="strict", requires_grad=True)
    indices = [tg.tensor(np.array([t, t + 1, 5]), device="strict") for t in range(50)]
    loss = sum((tg.take(table, i, 0).sum() for i in indices), tg.zeros((), "d", "strict"))
    with STRICT.counting() as count:
        loss.backward()
    assert count.bytes_made < 5 * table.nbytes


def test_two_runs_are_bit_equal(device: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.standard_normal((50, 4)).astype("f")
    indices = rng.integers(0, 50, (7, 300))
    weights = rng.standard_normal((7, 300, 4)).astype("f")

    def run() -> bytes:
        x = tg.tensor(values, device=device, requires_grad=True)
        i, w = tg.tensor(indices, device=device), tg.tensor(weights, device=device)
        ((x[i] * w).sum() + (tg.take(x, i, 0) * w).sum() + x.at[i].add(w).sum()).backward()
        return host(x.grad).tobytes()

    assert run() == run()


def test_sorted_sums_equal_additions_one_by_one(device: str) -> None:
    """Row indices take a faster way than others; both count every repetition."""
    rng = np.random.default_rng(4)
    for shape in ((), (1,), (20,), (3, 7), (0,)):
        indices = rng.integers(0, 5, shape)
        values = rng.standard_normal((*shape, 2))
        wanted = np.zeros((5, 2))
        np.add.at(wanted, indices, values)
        if shape:
            found = ops.scatter_add(
                tg.tensor(values, device=device), tg.tensor(indices, device=device), 5
            )
            np.testing.assert_allclose(host(found), wanted, rtol=1e-14, atol=1e-14)
