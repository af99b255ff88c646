"""Tensor beside NumPy arrays and other libraries: operands, conversion, DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg

A = np.random.default_rng(0).standard_normal((2, 3))


def leaf() -> tg.Tensor:
    return tg.tensor(A, requires_grad=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, x: a * x,
        lambda a, x: x * a,
        lambda a, x: a + x,
        lambda a, x: a - x,
        lambda a, x: a / x,
        lambda a, x: (a * a) ** x,
        lambda a, x: a @ x.T,
        lambda a, x: x @ a.T,
        lambda a, x: a[0] * x,
        lambda a, x: a[0, 0] * x,
        lambda a, x: x - a[0, 0],
    ],
)
def test_arrays_are_operands_on_either_side(function: Any) -> None:
    x = leaf()
    a = np.random.default_rng(1).standard_normal((2, 3))
    y = function(a, x)
    assert isinstance(y, tg.Tensor)
    np.testing.assert_allclose(y.numpy(), function(a, A))
    y.sum().backward()
    assert x.grad.shape == (2, 3)
    assert tg.check_gradients(lambda v: function(a, v), tg.tensor(A), order=1)


def test_comparisons_with_arrays_are_elementwise() -> None:
    x = tg.tensor(A)
    for found in (x == A, A == x, A <= x, x <= A):  # noqa: SIM300
        assert isinstance(found, tg.Tensor)
        assert found.numpy().all()
    assert (A != x).tolist() == [[False] * 3] * 2  # noqa: SIM300


def test_an_array_is_not_changed_in_place_by_a_tensor() -> None:
    a = A.copy()
    with pytest.raises(TypeError):
        np.add(a, leaf(), out=a)
    np.testing.assert_array_equal(a, A)


@pytest.mark.parametrize("convert", [np.asarray, np.array, np.stack, np.allclose])
def test_a_conversion_that_would_lose_a_gradient_gives_advice(convert: Any) -> None:
    x = leaf()
    arguments = {np.stack: ([x, x],), np.allclose: (x, x)}.get(convert, (x,))
    with pytest.raises(TypeError, match=r"lose the gradient.*tensor\.detach\(\)\.numpy\(\)"):
        convert(*arguments)


@pytest.mark.parametrize("function", [np.exp, np.negative, np.arctan2])
def test_ufuncs_are_refused(function: Any) -> None:
    with pytest.raises(TypeError, match=r"numpy\.\w+ does not know the tape of a Tensor"):
        function(*[tg.tensor(A)] * function.nin)


def test_ufuncs_of_operators_are_followed() -> None:
    x = leaf()
    np.multiply(np.add(x, 1), A).sum().backward()
    np.testing.assert_array_equal(x.grad, A)


def test_values_without_a_gradient_convert() -> None:
    x = leaf()
    (x * x).sum().backward()
    assert np.allclose(x.grad, 2 * A)
    np.testing.assert_allclose(x.grad, 2 * A)
    assert np.array_equal(x.detach(), A)
    assert np.asarray(x.grad) is x.grad.data or np.shares_memory(np.asarray(x.grad), x.grad.data)
    assert not np.shares_memory(np.array(x.grad), x.grad.data)
    assert np.asarray(x.grad, dtype=np.float32).dtype == np.float32
    assert np.concatenate([x.detach(), A]).shape == (4, 3)
    assert np.isfinite(np.asarray(tg.tensor(1.0)))
    with pytest.raises(TypeError, match=r"the Tensor is on strict: copy its values with \.numpy"):
        np.asarray(x.detach().to("strict"))


def test_numpy_shares_memory() -> None:
    x = leaf()
    assert x.numpy() is x.data
    shared = tg.from_numpy(A)
    assert shared.data is A
    for wrong in ([1.0], 1.0, tg.ones(2)):
        with pytest.raises(TypeError, match=r"^from_numpy: expected a numpy.ndarray, got"):
            tg.from_numpy(wrong)
    with pytest.raises(TypeError, match=r"^from_numpy: expected float16.*got complex128"):
        tg.from_numpy(np.ones(2, complex))


def test_matrices_and_subclasses_of_arrays() -> None:
    x = leaf()
    memory = np.ones((2, 3)).view(np.recarray)
    y = x * memory
    np.testing.assert_array_equal(y.numpy(), A)
    y.sum().backward()
    assert type(x.grad.data) is np.ndarray


def test_dlpack_from_numpy() -> None:
    shared = tg.from_dlpack(A)
    assert np.shares_memory(shared.data, A)
    x = tg.tensor(A)
    assert np.shares_memory(np.from_dlpack(x), x.data)
    with pytest.raises(TypeError, match=r"^DLPack would lose the gradient"):
        np.from_dlpack(leaf())
    with pytest.raises(TypeError, match=r"^from_dlpack: list does not speak DLPack"):
        tg.from_dlpack([1.0])
    with pytest.raises(TypeError, match=r"^from_dlpack: expected float16.*got complex128"):
        tg.from_dlpack(np.ones(2, complex))


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "bool"])
def test_dlpack_with_torch_both_ways(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    x = tg.tensor(A > 0 if dtype == "bool" else A).astype(dtype)
    there = torch.from_dlpack(x)
    np.testing.assert_array_equal(there.numpy(), x.numpy())
    back = tg.from_dlpack(there)
    assert back.dtype == x.dtype
    assert np.shares_memory(back.data, x.data)
    if dtype == "float32":
        there[0, 0] = 7
        assert back[0, 0].item() == 7
