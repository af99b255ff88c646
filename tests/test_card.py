"""What only a GPU can show, or the stand-in for one: its memory, a second device, its sums."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from conftest import usable
from networks import close, draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import backends, lab, nn, ops, optim, rnn

pytestmark = pytest.mark.gpu
MiB = 1 << 20


@pytest.fixture
def cuda() -> str:
    return usable("cuda")


@pytest.fixture
def second(cuda: str) -> str:
    """A device that is not the current one."""
    if len(backends.backend_for("cuda").devices()) < 2:
        pytest.skip("there is one GPU only")
    return cuda


# Memory


@pytest.fixture
def little(cuda: str) -> Iterator[Any]:
    """A function that leaves so many bytes; everything is free again behind the test."""
    import cupy

    pool = cupy.get_default_memory_pool()
    with cupy.cuda.Device(int(cuda.partition(":")[2])):

        def leave(size: int) -> None:
            pool.free_all_blocks()
            pool.set_limit(size=pool.total_bytes() + size)

        yield leave
        pool.set_limit(size=0)


def parts(layer: nn.Module, x: tg.Tensor, optimizer: optim.Optimizer) -> Any:
    """A training step in three parts."""
    return (
        lambda: tg.sum(tg.square(layer(x)[0])),
        lambda loss: loss.backward(),
        lambda: optimizer.step(),
    )


@pytest.mark.parametrize("fails", ["forward", "backward", "step"])
def test_work_goes_on_after_there_was_no_memory(cuda: str, little: Any, fails: str) -> None:
    layers = [randomise(rnn.LSTM(32, 64)).to(cuda) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    losses: list[list[float]] = []
    for layer in layers:
        x = tg.tensor(np.random.default_rng(0).standard_normal((10, 8, 32)), device=cuda)
        forward, backward, step = parts(layer, x, optim.Adam(layer.parameters(), 1e-3))
        losses.append([])
        for k in range(3):
            layer.zero_grad()
            broken = fails if layer is layers[1] and k == 1 else ""
            if broken == "forward":
                little(1 << 15)
                with pytest.raises(tg.OutOfMemoryError, match="out of memory on cuda") as caught:
                    forward()
                assert "\n" not in str(caught.value)
                del caught
                little(1 << 34)
            loss = forward()
            if broken == "backward":
                little(1 << 15)
                with pytest.raises(tg.OutOfMemoryError, match="out of memory on cuda"):
                    backward(loss)
                little(1 << 34)
                assert all(p.grad is None for p in layer.parameters())
                loss = forward()
            backward(loss)
            if broken == "step":
                little(0)
                with pytest.raises(tg.OutOfMemoryError, match="out of memory on cuda"):
                    step()
                little(1 << 34)
            step()
            losses[-1].append(loss.item())
            del loss
    assert losses[0] == losses[1]
    for a, b in zip(*(layer.parameters() for layer in layers), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


def test_whoever_looks_for_an_error_of_pythons_or_cupys_finds_it(cuda: str, little: Any) -> None:
    import cupy

    little(0)
    for kind in (MemoryError, tg.DeviceError, cupy.cuda.memory.OutOfMemoryError):
        with pytest.raises(kind, match=r"16,384 KiB more are wanted"):
            tg.zeros((4, MiB), device=cuda)


# A second device


def test_a_training_step_leaves_the_current_device_alone(second: str) -> None:
    import cupy

    layer = randomise(rnn.GRU(3, 4, bidirectional=True)).to(second)
    optimizer = optim.AdamW(layer.parameters(), clip=optim.ClipNorm(1.0))
    for _ in range(2):
        y, state = layer(draw(5, 2, 3, device=second))
        tg.sum(tg.square(y)).backward()
        optimizer.step()
        assert cupy.cuda.Device().id == 0
        layer.zero_grad()
        places = [y, state, *layer.parameters()]
        assert {x.device for x in places} == {second}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_gradients_are_clipped_where_they_are(second: str, dtype: Any) -> None:
    layer = nn.Linear(3, 2).to(second)
    layer.to(dtype)
    tg.sum(layer(tg.ones((4, 3), dtype, second))).backward()
    assert optim.clip_grad_norm(layer.parameters(), 0.5) > 0.5
    grads = [p.grad for p in layer.parameters()]
    assert {(g.device, g.dtype) for g in grads} == {(second, np.dtype(dtype))}
    assert optim.global_norm([g.array for g in grads]) == pytest.approx(0.5, rel=1e-2)


def test_anomalies_are_found_where_they_are(second: str) -> None:
    with lab.detect_anomaly():
        tg.sum(rnn.GRU(3, 4).to(second)(tg.ones((5, 2, 3), device=second))[0]).backward()
    x, h = tg.ones(5, device=second), tg.tensor(8.0, device=second)
    where = "log in a replayed loop, time step 2"
    with pytest.raises(lab.AnomalyError, match=where), lab.detect_anomaly():
        tg.scan(lambda x, h: (h, tg.log(h - 1.0)), x, h)
    x = tg.zeros(5, device=second, requires_grad=True)
    y, _ = tg.scan(lambda x, h: (tg.sqrt(x) + h, h), x, h)
    total, where = y.sum(), "sqrt in a replayed loop, backwards"
    with pytest.raises(lab.AnomalyError, match=where), lab.detect_anomaly():
        total.backward()


def test_gradients_travel_between_devices(second: str) -> None:
    """Whatever a value is used for on either of them, and in any order."""
    import cupy

    x = draw(3, 4, device="cuda:0", requires_grad=True)
    there = (x * x).to(second)
    (tg.sum(there * 2) + tg.sum(x * 3).to(second) + tg.sum(there)).to("cpu").backward()
    close(x.grad, 6 * x.numpy() + 3, 1e-12)
    assert cupy.cuda.Device().id == 0
    assert x.grad.device == "cuda:0"


def test_operands_on_two_devices_are_refused(second: str) -> None:
    a, b = tg.ones(3, device="cuda:0"), tg.ones(3, device=second)
    message = f"^add: operands on cuda:0 and {second}; bring them to one device with"
    for call in (lambda: a + b, lambda: ops.add(a.array, b.array)):
        with pytest.raises(tg.DeviceError, match=message):
            call()
    with pytest.raises(tg.DeviceError, match="on cuda:0"):
        b.data = a


# Sums of rows


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int64])
@pytest.mark.parametrize("shape", [(7,), (7, 5), (7, 2, 3), (1, 4), (0, 4), (7, 0)])
def test_rows_are_added_where_they_belong(cuda: str, dtype: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    backend = backends.backend_for("cuda")
    index = rng.integers(-shape[0], max(shape[0], 1), 200 if shape[0] else 0)
    index[: len(index) // 2] = 0  # most are one row
    target = rng.integers(-4, 5, shape).astype(dtype)
    values = rng.integers(-4, 5, (*index.shape, *shape[1:])).astype(dtype)
    wanted = target.copy()
    np.add.at(wanted, index, values)

    def added(target: np.ndarray) -> np.ndarray:
        here = backend.from_host(target, cuda)
        arrays = here, backend.from_host(index, cuda), backend.from_host(values, cuda)
        backend.there(here, backend.scatter_add)(*arrays)
        return backend.to_host(here)

    np.testing.assert_array_equal(added(target), wanted)
    np.testing.assert_array_equal(added(np.asfortranarray(target)), wanted)


def test_a_long_sum_in_float16_and_two_runs(cuda: str) -> None:
    """4,096 halves of a thousandth: in float16 a sum would stop growing at 1."""
    backend = backends.backend_for("cuda")
    values = np.full((4096, 3), 5e-4, np.float16)
    found = []
    for _ in range(2):
        target = backend.from_host(np.zeros((2, 3), np.float16), cuda)
        index = backend.from_host(np.zeros(4096, np.int64), cuda)
        given = backend.from_host(values, cuda)
        backend.there(target, backend.scatter_add)(target, index, given)
        found.append(backend.to_host(target))
    close(found[0][0], [2.048] * 3, 1e-3)
    assert found[0].tobytes() == found[1].tobytes()
