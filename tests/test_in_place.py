"""New values in the memory of a Tensor: .data, arithmetic in place, and its gradient."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim


def parameter(*values: float) -> nn.Parameter:
    return nn.Parameter(np.array(values, np.float32))


# Assignment to .data


def test_fault_5_what_is_assigned_is_copied() -> None:
    p, q, given = parameter(0, 0), parameter(0, 0), np.array([1, 2], np.float32)
    array = p.data
    p.data = q.data = given
    for one in (p, q):
        one.grad = tg.ones(2)
    optim.SGD([p], lr=1.0).step()
    assert given.tolist() == q.tolist() == [1, 2]
    assert array.tolist() == p.tolist() == [0, 1]
    assert array is p.data


def test_fault_29_read_only_values_are_taken() -> None:
    p, given = parameter(0, 0), np.array([1, 2], np.float32)
    given.flags.writeable = False
    p.data = given
    p.grad = tg.ones(2)
    optim.Adam([p]).step()
    assert given.tolist() == [1, 2]
    layer = nn.Linear(2, 2)
    layer.load_state_dict(
        {name: np.broadcast_to(7.0, v.shape) for name, v in layer.state_dict().items()}
    )
    layer(tg.ones((1, 2))).sum().backward()
    optim.SGD(layer.parameters(), lr=1.0).step()


@pytest.mark.parametrize("device", ["cpu", "strict"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_cast(dtype: str, device: str) -> None:
    x = tg.zeros(2, dtype=dtype).to(device)
    for given in (
        [1, 2],
        [1.0, 2.0],
        (True, 2),
        tg.tensor([1.0, 2.0], dtype="float64", device=device),
    ):
        x.data = given
        assert x.dtype == dtype
        assert x.tolist() == [1, 2]
        x.data = x * 0
    y = tg.tensor([1.0, 2.0]).to(device)
    y.data = y.data[::-1]
    assert y.tolist() == [2, 1]


FLOATS, INTEGERS, FLAGS = tg.zeros(2), tg.zeros(2, dtype="int32"), tg.zeros(2, dtype="bool")


@pytest.mark.parametrize(
    ("x", "value", "message"),
    [
        (FLOATS, np.ones(3, "f4"), r"^data: expected float32 \(2,\), got float32 \(3,\)$"),
        (FLOATS, 1.0, r"^data: expected float32 \(2,\), got float32 \(\)$"),
        (FLOATS, np.ones(2, "i4"), r"^data: expected float32 \(2,\), got int32 \(2,\)$"),
        (FLOATS, tg.ones(2, dtype="bool"), r"got bool \(2,\)$"),
        (FLOATS, ["a", "b"], r"^data: expected float32 \(2,\), got <U1 \(2,\)$"),
        (FLOATS, [[1.0], [1.0, 2.0]], "^data: the rows have different lengths"),
        (FLOATS, None, r"^data: expected float32 \(2,\), got object \(\)$"),
        (INTEGERS, [1.5, 2.0], r"^data: expected int32 \(2,\), got float64 \(2,\)$"),
        (INTEGERS, np.ones(2, "f4"), r"^data: expected int32 \(2,\), got float32 \(2,\)$"),
        (INTEGERS, np.ones(2, "i8"), r"^data: expected int32 \(2,\), got int64 \(2,\)$"),
        (FLAGS, [1, 0], r"^data: expected bool \(2,\), got int64 \(2,\)$"),
    ],
)
def test_what_does_not_fit_is_refused(x: tg.Tensor, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        x.data = value
    assert x.tolist() == [0, 0]
    assert x.version == 0


def test_smaller_integers_and_plain_numbers_fit() -> None:
    x = tg.zeros(2, dtype="int64")
    for given in ([3, 4], np.array([3, 4], "i2"), (True, False)):
        x.data = given
        assert x.tolist() == list(map(int, given))


def test_memory_that_cannot_be_written() -> None:
    values = np.ones(2, np.float32)
    values.flags.writeable = False
    x = tg.from_numpy(values)
    with pytest.raises(ValueError, match=r"^data: the memory of this Tensor is read-only; make"):
        x.data = [3, 4]
    with tg.no_grad(), pytest.raises(ValueError, match=r"^\+=: the memory of this Tensor is read-"):
        x += 1
    with pytest.raises(tg.DeviceError, match=r"^data: expected an array on strict, got one on cpu"):
        tg.ones(2).to("strict").data = values


def test_a_numpy_view_sees_what_is_assigned() -> None:
    p = parameter(1, 2)
    view, detached = p.numpy()[1:], p.detach()
    p.data = [5, 6]
    assert view.tolist() == [6]
    assert detached.tolist() == [5, 6]


# Arithmetic in place

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+=": operator.iadd,
    "-=": operator.isub,
    "*=": operator.imul,
    "/=": operator.itruediv,
    "//=": operator.ifloordiv,
    "%=": operator.imod,
    "**=": operator.ipow,
}


@pytest.mark.parametrize("name", OPERATORS)
def test_fault_19_a_leaf_changes_in_place_under_no_grad(name: str) -> None:
    apply = OPERATORS[name]
    for other in (2, 0.5, np.full(2, 3.0), tg.tensor([2.0, 3.0]), tg.tensor([2.0])):
        p = parameter(1, 5)
        array, view = p.data, p.detach()
        expected = apply(p.numpy().copy(), np.asarray(getattr(other, "array", other), "f4"))
        with tg.no_grad():
            changed = apply(p, other)
        assert changed is p
        assert p.data is array
        assert isinstance(p, nn.Parameter)
        assert p.requires_grad
        assert p.dtype == np.float32
        assert p.version == view.version == 1
        np.testing.assert_allclose(p.numpy(), expected, rtol=1e-6)
        assert view.tolist() == p.tolist()


def test_fault_19_a_descent_by_hand() -> None:
    class Gain(nn.Module):
        def __init__(self) -> None:
            self.gain = parameter(1, 1)

        def forward(self, x: tg.Tensor) -> tg.Tensor:
            return self.gain * self.gain * x

    net = Gain()
    for _ in range(3):
        net(tg.ones(2)).sum().backward()
        with tg.no_grad():
            net.gain -= 0.1 * net.gain.grad
            net.gain += 0
        net.zero_grad()
    assert [name for name, _ in net.named_parameters()] == ["gain"]
    np.testing.assert_allclose(net.gain.numpy(), [0.8**3] * 2, rtol=1e-6)
    loss = net(tg.ones(2)).sum()
    with tg.no_grad():
        net.gain *= 2
    with pytest.raises(RuntimeError, match="parameter 'gain' used by 'multiply' has been overwrit"):
        loss.backward()


@pytest.mark.parametrize("name", OPERATORS)
def test_fault_19_a_leaf_that_the_tape_follows_is_not_lost(name: str) -> None:
    p = parameter(1, 2)
    with pytest.raises(RuntimeError) as caught:
        OPERATORS[name](p, 2)
    sign = name[:-1]
    assert str(caught.value) == (
        f"{name}: a leaf that requires a gradient changes in place only within no_grad() (or by "
        f"x.data {name} ...); for a new value that the tape follows, write x = x {sign} ..."
    )
    assert p.tolist() == [1, 2]


@pytest.mark.parametrize("name", OPERATORS)
def test_other_values_are_new_ones(name: str) -> None:
    x, y = tg.ones(2), tg.ones(2, requires_grad=True) * 1.0
    for value in (x, y):
        changed = OPERATORS[name](value, 3.0)
        assert changed is not value
        assert value.tolist() == [1, 1]
        assert value.version == 0
    with tg.no_grad():
        assert OPERATORS[name](y, 3.0) is not y


def test_what_keeps_neither_shape_nor_dtype() -> None:
    x, i, w = tg.ones(2), tg.ones(2, dtype="int64"), tg.ones((2, 3))
    with tg.no_grad():
        with pytest.raises(
            ValueError, match=r"^\+=: expected float32 \(2,\), got float32 \(3, 2\)"
        ):
            x += tg.ones((3, 2))
        with pytest.raises(ValueError, match=r"^/=: expected int64 \(2,\), got float"):
            i /= 2
        with pytest.raises(ValueError, match=r"^\*=: expected int64 \(2,\), got float"):
            i *= 1.5
        with pytest.raises(
            ValueError, match=r"^@=: expected float32 \(2, 3\), got float32 \(2, 2\)"
        ):
            w @= tg.ones((3, 2))
        i += 2
        i &= 1
        i |= 4
        i ^= 1
        w @= 2 * tg.eye(3)
        x += np.ones(2)
    assert i.tolist() == [4, 4]
    assert w.tolist() == [[2] * 3] * 2
    assert x.dtype == np.float32
    assert (x.version, w.version, i.version) == (1, 1, 4)


@pytest.mark.parametrize("unroll", [False, True])
def test_in_a_step(unroll: bool) -> None:
    def step(x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        h *= 0.5
        h += x
        return h, h

    xs = tg.ones(3)
    ys, last = tg.scan(step, xs, tg.zeros(()), unroll=unroll)
    assert ys.tolist() == [1, 1.5, last.item()] == [1, 1.5, 1.75]
    assert xs.tolist() == [1, 1, 1]


def test_a_step_that_is_traced_changes_no_parameter() -> None:
    p = parameter(1)

    def step(x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        nonlocal p
        with tg.no_grad():
            p += 1
        return h, h + x * p

    with pytest.raises(RuntimeError, match=r"^\+=: a step that is traced .* unroll=True$"):
        tg.scan(step, tg.ones((3, 1)), tg.zeros(1))
    assert p.tolist() == [1]
    _, last = tg.scan(step, tg.ones((3, 1)), tg.zeros(1), unroll=True)
    assert (p.tolist(), last.tolist()) == ([4], [2 + 3 + 4])


# backward within a step


def test_fault_28_backward_within_a_step() -> None:
    def step(x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        (h * h).sum().backward()
        return h, h + x

    with pytest.raises(RuntimeError) as caught:
        tg.scan(step, tg.ones((3, 2)), tg.ones(2, requires_grad=True))
    assert str(caught.value) == (
        "backward: a step that is traced once for all time steps cannot call backward; run it step "
        "by step with unroll=True, or take the gradient by tinygrad_rnn.grad(...)"
    )


def test_fault_28_backward_from_a_detached_state() -> None:
    def step(x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        z = h.detach()
        z.requires_grad = True
        (z * z).sum().backward()
        return z.grad, h + x

    with pytest.raises(RuntimeError) as caught:
        tg.scan(step, tg.ones((3, 2)), tg.ones(2))
    assert str(caught.value) == (
        "requires_grad: a step that is traced once for all time steps cannot change it; run it "
        "step by step with unroll=True, or take the gradient by tinygrad_rnn.grad(...)"
    )
    ys, _ = tg.scan(step, tg.ones((3, 2)), tg.ones(2), unroll=True)
    assert ys.tolist() == [[2, 2], [4, 4], [6, 6]]


@pytest.mark.parametrize("unroll", [False, True])
def test_a_gradient_within_a_step(unroll: bool) -> None:
    def step(x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:

        slope = tg.grad(lambda v: (tg.sin(v) * x).sum())(h)
        return slope, h + slope

    ys, _ = tg.scan(step, tg.ones((3, 1)), tg.tensor([0.5]), unroll=unroll)
    h = 0.5
    for t in range(3):
        assert ys[t].item() == pytest.approx(np.cos(h), rel=1e-5)
        h += np.cos(h)


@pytest.mark.parametrize("unroll", [False, True])
def test_a_jacobian_within_a_step(unroll: bool) -> None:
    def step(x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        new = tg.sin(h) + x
        return tg.jacobian(new, h), new

    start = tg.tensor([0.5], requires_grad=True)
    ys, _ = tg.scan(step, tg.ones((3, 1)), start, unroll=unroll)
    h = 0.5
    for t in range(3):
        assert ys[t].item() == pytest.approx(np.cos(h), rel=1e-5)
        h = np.sin(h) + 1


# What may be a gradient


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (
            tg.ones(1),
            ValueError,
            r"expected float32 \(3,\) on cpu as the value is, got float32 \(1",
        ),
        (tg.ones(3, dtype="float64"), ValueError, r"got float64 \(3,\) on cpu$"),
        (tg.ones(3).to("strict"), ValueError, r"got float32 \(3,\) on strict$"),
        (np.ones(3, np.float32), TypeError, "expected a Tensor or None, got ndarray$"),
        (0.0, TypeError, "expected a Tensor or None, got float$"),
    ],
)
def test_fault_10_a_gradient_that_does_not_fit(value: Any, error: Any, message: str) -> None:
    p = parameter(1, 2, 3)
    with pytest.raises(error, match=f"^grad: {message}" if message[0] == "e" else message):
        p.grad = value
    assert p.grad is None
    p.grad = tg.ones(3)
    optim.clip_grad_norm([p], 1.0)
    assert p.grad.shape == (3,)
    p.grad = None
