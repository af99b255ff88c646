"""Tensor: creation and dtypes, Python's protocols, data and requires_grad, devices."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import backends

DTYPES = ["float16", "float32", "float64"]


# Creation


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.0, "float32"),
        ([1.0, 2], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        (True, "bool"),
        ([True, False], "bool"),
        ([], "float32"),
        ((1.0, (2.0)), "float32"),
        (math.inf, "float32"),
        (np.float64(1), "float64"),
        (np.float16(1), "float16"),
        (np.ones(2), "float64"),
        (np.ones(2, np.float16), "float16"),
        (np.ones(2, np.int8), "int8"),
        (np.ones(2, np.uint32), "uint32"),
        ([np.ones(2), np.ones(2)], "float64"),
        ([np.ones(2, np.float32), [1.0, 2.0]], "float32"),
        ([np.float64(1), 1.0], "float64"),
        ([tg.ones(2), tg.zeros(2)], "float32"),
        ([tg.tensor(1.0), 2.0], "float32"),
        ([tg.tensor(1), 2.0], "float32"),
        (range(3), "int64"),
        (tg.ones(2, dtype="float16"), "float16"),
    ],
)
def test_dtypes_of_data(data: Any, dtype: str) -> None:
    made = tg.tensor(data)
    assert made.dtype == np.dtype(dtype)
    assert isinstance(made.data, np.ndarray)
    assert not made.requires_grad


def test_a_dtype_may_be_asked_for() -> None:
    for dtype in ("float16", np.float16, np.dtype("float16")):
        assert tg.tensor([1, 2], dtype=dtype).dtype == np.float16
    assert tg.tensor(1, dtype=float).dtype == np.float64
    assert tg.tensor([0.0, 2.0], dtype=bool).tolist() == [False, True]


def test_data_is_copied() -> None:
    source = np.ones(3)
    made = tg.tensor(source)
    again = tg.tensor(made)
    source[0] = made.data[1] = 5
    assert made.tolist() == [1, 5, 1]
    assert again.tolist() == [1, 1, 1]


def test_nested_tensors_stand_for_their_values() -> None:
    x = tg.tensor([1.0, 2.0])
    made = tg.tensor([x, [3.0, 4.0], (x[0], 7)], requires_grad=True)
    assert made.tolist() == [[1, 2], [3, 4], [1, 7]]
    assert made.is_leaf
    assert made.requires_grad
    with pytest.raises(ValueError, match=r"^tensor: the rows have different lengths"):
        tg.tensor([x, [1.0]])


def test_fault_11l_tensors_that_want_a_gradient_are_followed() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    made = tg.tensor([x, [3.0, x[1]], (x[0], 7)])
    assert (made.dtype, made.tolist()) == ("float32", [[1, 2], [3, 2], [1, 7]])
    (made * tg.tensor([[1.0, 10.0], [0.0, 100.0], [1000.0, 0.0]])).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1001, 110]
    for follow in (tg.tensor, lambda x: tg.tensor(x, dtype="float64"), lambda x: tg.tensor([[x]])):
        assert tg.grad(lambda x, f=follow: (f(x) ** 2).sum())(x).tolist() == [2, 4]
    assert tg.tensor([x[0], 1, np.ones((), "int64")]).dtype == "float32"
    assert tg.tensor([x[0], np.float64(1)]).dtype == "float64"
    with pytest.raises(ValueError, match=r"^tensor: requires_grad=True makes a leaf, and a Tensor"):
        tg.tensor([x[0], 2.0], requires_grad=True)
    assert tg.tensor([x[0].detach(), 2.0], requires_grad=True).is_leaf


def test_fault_11l_in_a_replayed_step() -> None:
    def step(x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        pair = tg.tensor([h * x, 2.0])
        return pair, tg.tensor(pair[0])

    x = tg.tensor([2.0, 3.0], requires_grad=True)
    ys, last = tg.scan(step, x, tg.ones(()))
    assert (ys.tolist(), last.item()) == ([[2, 2], [6, 2]], 6)
    assert tg.grad(lambda x: tg.scan(step, x, tg.ones(()))[1])(x).tolist() == [3, 2]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("abc", "expected float16, float32, float64, integers or bools, got <U3"),
        (["a"], "got <U1"),
        (b"abc", r"got \|S3"),
        (1j, "got complex128"),
        (np.ones(2, np.complex64), "got complex64"),
        (None, "got object"),
        ([1, None], "got object"),
        ({1: 2}, "got object"),
        (np.array(["2020-01-01"], "datetime64[D]"), "got datetime64"),
        (np.ones(2, np.longdouble), "got float128"),
    ],
)
def test_what_cannot_be_a_tensor(data: Any, message: str) -> None:
    with pytest.raises(TypeError, match=f"^tensor: .*{message}"):
        tg.tensor(data)


@pytest.mark.parametrize("dtype", ["complex64", "bogus", "U3", object])
def test_what_cannot_be_a_dtype(dtype: Any) -> None:
    with pytest.raises(TypeError, match=r"^tensor: expected float16, .*got "):
        tg.tensor(1.0, dtype=dtype)
    with pytest.raises(TypeError, match=r"^astype: expected float16, .*got "):
        tg.tensor(1.0).astype(dtype)


def test_ragged_lists() -> None:
    with pytest.raises(ValueError, match=r"^tensor: the rows have different lengths"):
        tg.tensor([[1.0, 2.0], [3.0]])
    with pytest.raises(ValueError, match=r"^tensor: the rows have different lengths"):
        tg.tensor([tg.ones(2), tg.ones(3)])


def test_requires_grad_is_for_floats() -> None:
    assert tg.tensor(1.0, requires_grad=True).requires_grad
    for data in (1, True, [1, 2]):
        with pytest.raises(TypeError, match=r"^tensor: (int64|bool) values carry no gradient"):
            tg.tensor(data, requires_grad=True)


@pytest.mark.parametrize("misuse", [[1.0, 2.0], "x", None, (1, 2), 1.0])
def test_the_constructor_points_to_tensor(misuse: Any) -> None:
    with pytest.raises(TypeError, match=r"^Tensor: expected an array, got .*tinygrad_rnn.tensor\("):
        tg.Tensor(misuse)
    assert tg.Tensor(np.ones(2)).shape == (2,)


def test_filled() -> None:
    assert tg.zeros((2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert tg.zeros(3).dtype == np.float32
    assert tg.ones(2, dtype="int32").dtype == np.int32
    assert tg.full((2,), 7.0).dtype == np.float32
    assert tg.full((2,), 7).dtype == np.int64
    assert tg.full((), 7.0, dtype="float64", requires_grad=True).requires_grad
    like = tg.full((2, 1), 3.0, dtype="float64")
    for made in (tg.zeros_like(like), tg.ones_like(like), tg.full_like(like, 2)):
        assert made.shape == (2, 1)
        assert made.dtype == np.float64
    assert tg.zeros_like(like, dtype="int8").dtype == np.int8
    assert tg.eye(2).tolist() == [[1, 0], [0, 1]]


def test_ranges() -> None:
    assert tg.arange(3).tolist() == [0, 1, 2]
    assert tg.arange(3).dtype == np.int64
    assert tg.arange(1, 2, 0.25).tolist() == [1, 1.25, 1.5, 1.75]
    assert tg.arange(0.0, 3).dtype == np.float32
    assert tg.arange(3, dtype="float64").dtype == np.float64
    assert tg.linspace(0, 1, 3).tolist() == [0, 0.5, 1]


def test_random() -> None:
    tg.manual_seed(1)
    first = [tg.rand(2, 3), tg.randn((4,)), tg.randint(0, 5, (100,))]
    tg.manual_seed(1)
    second = [tg.rand((2, 3)), tg.randn(4), tg.randint(0, 5, 100)]
    for a, b in zip(first, second, strict=True):
        assert a.tolist() == b.tolist()
    assert first[0].dtype == np.float32
    assert first[2].dtype == np.int64
    assert set(first[2].tolist()) == {0, 1, 2, 3, 4}
    assert tg.randn(2, dtype="float64", requires_grad=True).requires_grad


# Dtypes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", [2, 2.0, True, np.float64(2), np.float32(2), np.int64(2)])
def test_numbers_never_change_a_dtype(dtype: str, number: Any) -> None:
    x = tg.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    for y in (
        x + number, number + x, x - number, number - x, x * number, number * x,
        x / number, number / x, x**number, number**x, x % number, x // number,
        tg.maximum(x, number), tg.where(x > number, x, number), x.clip(0, number),
    ):  # fmt: skip
        assert isinstance(y, tg.Tensor)
        assert y.dtype == dtype
    (number * x + x / number).sum().backward()
    assert x.grad.dtype == dtype


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_dimensional_results_stay_arrays(dtype: str) -> None:
    x = tg.tensor([1.0, 2.0], dtype=dtype, requires_grad=True)
    y = x[0]
    for value in (y, y * 2, -y, y + y, x.sum(), tg.exp(y), y > 1, y.T, x.max(), x.mean(), y**2):
        assert isinstance(value.data, np.ndarray)
        assert value.shape == ()
    assert (y * 2.0).dtype == dtype
    (y * y).backward()
    assert isinstance(x.grad.data, np.ndarray)


def test_astype_and_to() -> None:
    x = tg.tensor([1.5, 2.5], requires_grad=True)
    assert x.astype("float32") is x
    assert x.to(np.float32) is x
    assert x.to("cpu") is x
    y = x.to("float64")
    assert y.dtype == np.float64
    y.sum().backward()
    assert x.grad.dtype == np.float32
    assert x.to(int).tolist() == [1, 2]
    assert not x.astype(int).requires_grad
    for nothing in (None, "complex64"):
        with pytest.raises(TypeError, match=r"^astype: expected float16"):
            x.to(nothing)


# Devices


def test_unknown_devices() -> None:
    x = tg.ones(2)
    for device in ("gpu", "cpu:0", "mps", "cpu:1"):
        for ask in (x.to, lambda d: tg.ones(2, device=d), lambda d: tg.tensor(1.0, device=d)):
            with pytest.raises(tg.DeviceError, match=f"device '{device}' is unknown; use 'cpu'"):
                ask(device)
    with pytest.raises(TypeError, match=r"^device must be a name such as 'cpu' or 'cuda', got 0"):
        tg.ones(2, device=0)


@pytest.mark.skipif(importlib.util.find_spec("cupy") is not None, reason="CuPy is installed")
def test_cuda_without_cupy_names_the_extras() -> None:
    for ask in (tg.ones(2).to, lambda device: tg.zeros(2, device=device)):
        for device in ("cuda", "cuda:1"):
            with pytest.raises(tg.DeviceError) as caught:
                ask(device)
            assert "tinygrad_rnn[cuda12]" in str(caught.value)
            assert "tinygrad_rnn[cuda13]" in str(caught.value)
    assert not any(device.startswith("cuda") for device in tg.devices())


def test_devices_and_gradients_between_them() -> None:
    assert tg.devices()[0] == "cpu"
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = x.to("strict")
    assert y.device == "strict"
    (y * y).sum().backward()
    assert x.grad.device == "cpu"
    assert x.grad.tolist() == [2, 4]
    with pytest.raises(tg.DeviceError, match=r"^add: operands on (cpu|strict) and (cpu|strict)"):
        x + y
    with pytest.raises(tg.DeviceError, match=r"^add: operands on strict and cpu"):
        y + np.ones(2, np.float32)
    with pytest.raises(tg.DeviceError, match=r"^backward: the value is on strict, the gradient on"):
        x.to("strict").backward(tg.ones(2))


# Python's protocols


def test_bool_float_int_index() -> None:
    assert tg.tensor([[2.0]])
    assert not tg.tensor(0)
    assert float(tg.tensor([2.5], requires_grad=True)) == 2.5
    assert int(tg.tensor(2.9)) == 2
    assert [5, 6, 7][tg.tensor(1)] == 6
    assert list(range(tg.tensor(3))) == [0, 1, 2]
    assert tg.tensor(3.0).item() == 3
    assert math.sqrt(tg.tensor(4.0)) == 2
    for misuse in (bool, float, int):
        with pytest.raises(ValueError, match=r"\(2,\)"):
            misuse(tg.ones(2))
    with pytest.raises(ValueError, match=r"^the truth of a Tensor of shape \(0,\) is ambiguous"):
        bool(tg.ones(0))
    with pytest.raises(TypeError, match=r"^only an integer Tensor can be an index, got float32"):
        [1, 2][tg.tensor(1.0)]
    with pytest.raises(TypeError, match="got bool"):
        [1, 2][tg.tensor(True)]


def test_len_and_iteration() -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert len(x) == 2
    rows = list(x)
    assert [row.tolist() for row in rows] == [[1, 2], [3, 4]]
    (a, b), (c, d) = x
    (a * d - b * c).backward()
    assert x.grad.tolist() == [[4, -3], [-2, 1]]
    assert list(tg.ones((0, 2))) == []
    for misuse in (len, iter, list):
        with pytest.raises(TypeError, match="0-d Tensor"):
            misuse(tg.tensor(1.0))


def test_contains() -> None:
    x = tg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert 3 in x
    assert 5.0 not in x
    assert tg.tensor([1.0, 7.0]) in x
    with pytest.raises(TypeError, match=r"^equal: expected a Tensor"):
        assert None in x


def test_formatting() -> None:
    x = tg.tensor(2.0, requires_grad=True)
    assert f"{x:.3f}" == "2.000"
    assert f"{x}" == str(x) == repr(x) == "tensor(2., dtype=float32, requires_grad=True)"
    assert repr(tg.arange(3)) == "tensor([0, 1, 2], dtype=int64)"
    assert "..." in repr(tg.zeros(1000))
    assert "device='strict'" in repr(tg.ones(1).to("strict"))
    with pytest.raises(ValueError, match=r"^item: expected one element"):
        f"{tg.ones(2):.3f}"


def test_equality_and_hash() -> None:
    x, y = tg.ones(2), tg.ones(2)
    assert (x == y).tolist() == [True, True]
    assert (x != 1.0).tolist() == [False, False]
    assert (x == None) is False  # noqa: E711
    assert (x != None) is True  # noqa: E711
    assert (x == "cpu") is False
    assert x != "cpu"
    assert len({x, y, x}) == 2
    assert {x: 1}[x] == 1
    assert x in [y, x][1:]
    with pytest.raises(TypeError, match=r"^equal: expected a Tensor"):
        x == [1, 1]  # noqa: B015


def test_operators_are_numpys() -> None:
    a, b = np.array([5, -3, 2]), np.array([2, 2, -3])
    x, y = tg.tensor(a), tg.tensor(b)
    for name in ("__add__", "__sub__", "__mul__", "__floordiv__", "__mod__", "__and__", "__or__",
                 "__xor__", "__lt__", "__le__", "__gt__", "__ge__", "__truediv__"):  # fmt: skip
        expected = getattr(a, name)(b)
        if expected.dtype == np.float64:  # a quotient of integers has the default dtype here
            expected = expected.astype(np.float32)
        found = getattr(x, name)(y)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.numpy(), expected)
    assert (~(x > 0)).tolist() == [False, True, False]
    assert abs(x).tolist() == [5, 3, 2]
    assert (+x) is x
    assert (x @ y).item() == 10 - 6 - 6
    assert (7 // x).tolist() == [1, -3, 3]
    assert (7 % x).tolist() == [2, -2, 1]
    x += 1
    assert x.tolist() == [6, -2, 3]
    assert a.tolist() == [5, -3, 2]


def test_methods_are_the_functions() -> None:
    x = tg.tensor(np.random.default_rng(0).random((2, 3, 4)))
    a = x.numpy()
    for name in ("sum", "mean", "var", "std", "max", "min", "prod"):
        for options in ({}, {"axis": 1}, {"axis": (0, -1), "keepdims": True}):
            np.testing.assert_allclose(
                getattr(x, name)(**options).numpy(), getattr(a, name)(**options), rtol=1e-12
            )
    assert x.reshape(6, 4).shape == x.reshape((6, -1)).shape == (6, 4)
    assert x.transpose(2, 0, 1).shape == x.transpose((2, 0, 1)).shape == (4, 2, 3)
    assert x.T.shape == (4, 3, 2)
    assert x.flatten().shape == (24,)
    assert x.swapaxes(0, 1).shape == (3, 2, 4)
    assert [part.shape for part in x.split(parts=2)] == [(2, 3, 2)] * 2
    assert x[:1].squeeze(0).shape == (3, 4)
    assert (x.argmax(), x.argmin(axis=0).shape) == (a.argmax(), (3, 4))
    np.testing.assert_allclose(x.cumsum(1).numpy(), a.cumsum(1))
    assert (x.size, x.ndim, x.nbytes) == (24, 3, 192)
    assert bool((x < 1).all())
    assert not bool((x > 1).any())


def test_item_assignment_names_the_alternative() -> None:
    x = tg.ones(3)
    with pytest.raises(TypeError, match=r"x = x\.at\[index\]\.set\(values\)") as caught:
        x[0] = 1.0
    assert "\n" not in str(caught.value)
    assert x.at[0].set(5.0).tolist() == [5, 1, 1]
    assert x.tolist() == [1, 1, 1]


# Data, requires_grad, copies


def test_assigning_data() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    x.data = [3, 4]
    assert x.tolist() == [3, 4]
    x.data = tg.tensor([5.0, 6.0])
    assert x.dtype == np.float32
    assert x.version == 2
    scalar = tg.tensor(1.0)
    for value in (2.0, np.float32(2)):
        scalar.data = value
        assert isinstance(scalar.data, np.ndarray)
    for wrong in (np.ones(2, np.int64), np.ones(3, np.float32), [1.0, 2.0, 3.0], 1.0):
        with pytest.raises(ValueError, match=r"^data: expected float32 \(2,\), got "):
            x.data = wrong
    with pytest.raises(tg.DeviceError, match=r"^data: expected an array on cpu, got one on strict"):
        x.data = tg.ones(2).to("strict")
    assert x.tolist() == [5, 6]
    assert x.version == 2


def test_requires_grad_can_be_switched_on_leaves_only() -> None:
    x = tg.ones(2)
    assert not (x * 2).requires_grad
    x.requires_grad = True
    y = x * 2
    assert y.requires_grad
    assert not y.is_leaf
    with pytest.raises(RuntimeError, match=r"^requires_grad: only a leaf can change it"):
        y.requires_grad = False
    with pytest.raises(TypeError, match=r"^requires_grad: int64 values carry no gradient"):
        tg.arange(3).requires_grad = True
    x.requires_grad = False
    y.sum().backward()
    assert x.grad is None


def test_detach_shares_and_copy_does_not() -> None:
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    y = (x * 2).detach()
    assert y.is_leaf
    assert not y.requires_grad
    assert x.detach().data is x.data
    copied = x.copy()
    assert copied.requires_grad
    assert not np.shares_memory(copied.data, x.data)
    copied.sum().backward()
    assert x.grad.tolist() == [1, 1]
    for plain in (tg.arange(3), tg.tensor([True]), x.detach()):
        assert plain.copy().dtype == plain.dtype
        assert not np.shares_memory(plain.copy().data, plain.data)


def test_strict_backend_is_registered() -> None:
    assert backends.device_of(tg.ones(1).to("strict").data) == "strict"
