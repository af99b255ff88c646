"""Optimizers: what they report, clip, refuse, keep and continue."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import close
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.optim.optimizer import BLOCK

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda ps, **o: optim.SGD(ps, lr=0.1, **o),
    "momentum": lambda ps, **o: optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.01, **o),
    "nesterov": lambda ps, **o: optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=True, **o),
    "adam": lambda ps, **o: optim.Adam(ps, lr=0.1, **o),
    "adam decaying": lambda ps, **o: optim.Adam(ps, lr=0.1, weight_decay=0.01, **o),
}


def parameter(values: Any, gradient: Any = None, name: str | None = None) -> nn.Parameter:
    """A float64 parameter with a gradient already there."""
    made = nn.Parameter(np.asarray(values, np.float64))
    made.name = name
    if gradient is not None:
        give(made, gradient)
    return made


def give(p: nn.Parameter, gradient: Any) -> None:
    """Leave a gradient as a backward pass does."""
    p.grad = tg.tensor(np.broadcast_to(np.asarray(gradient, p.dtype), p.shape), device=p.device)


# The update rules


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("size", [0, 1, 7, BLOCK, 2 * BLOCK + 5])
def test_updates_by_hand(name: str, size: int) -> None:
    rng = np.random.default_rng(0)
    p = parameter(rng.standard_normal(size))
    expected = p.numpy().copy()
    m, v = np.zeros(size), np.zeros(size)
    optimizer = OPTIMIZERS[name]([p])
    for t in range(1, 4):
        g = rng.standard_normal(size)
        give(p, g)
        optimizer.step()
        g = g + {"momentum": 0.01, "adam decaying": 0.01}.get(name, 0) * expected
        if name.startswith("adam"):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            step = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        else:
            m = 0.9 * m + g
            step = {"sgd": g, "momentum": m, "nesterov": g + 0.9 * m}[name]
        expected = expected - 0.1 * step
        close(p, expected, 1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_devices_agree_and_keep_the_dtype(name: str, dtype: Any, device: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 4)).astype(dtype)
    gradients = rng.standard_normal((4, 3, 4)).astype(dtype)
    here, there = nn.Parameter(values), nn.Parameter(tg.tensor(values, device=device))
    limit = optim.ClipNorm(1.5)
    a, b = OPTIMIZERS[name]([here], clip=limit), OPTIMIZERS[name]([there], clip=limit)
    for g in gradients:
        give(here, g)
        give(there, g)
        assert a.step().norm == pytest.approx(b.step().norm, rel=1e-6)
    assert there.dtype == dtype
    assert there.device.startswith(device)
    close(there, here, 1e-6)


def test_a_step_reads_only_the_norm_on_the_host() -> None:
    p = nn.Parameter(tg.ones((3, 4), device="strict"))
    give(p, 2.0)
    for optimizer in (optim.SGD([p], clip=optim.ClipNorm(1)), optim.Adam([p])):
        with STRICT.counting() as count:
            optimizer.step()
        assert count.host_reads == 1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_parameters_without_a_gradient_are_left_alone(name: str) -> None:
    first, second = parameter([1.0, 2.0], 1.0), parameter([3.0])
    optimizer = OPTIMIZERS[name]([first, second])
    optimizer.step()
    assert second.tolist() == [3]
    assert second.version == 0
    assert first.tolist() != [1, 2]
    optimizer.zero_grad()
    before = first.tolist()
    assert optimizer.step() == optim.StepReport(0.0, clipped=False, skipped=False)
    assert first.tolist() == before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_are_left_as_they_are(name: str) -> None:
    p = parameter([1.0, 2.0], [3.0, -4.0])
    optimizer = OPTIMIZERS[name]([p], clip=optim.ClipNorm(1))
    optimizer.step()
    assert p.grad.tolist() == [3, -4]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_data_that_is_not_contiguous(name: str) -> None:
    values = np.arange(24.0).reshape(4, 6)
    p, q = parameter(values.T), parameter(values.T)
    p.data = np.asfortranarray(p.numpy())
    assert not p.data.flags.c_contiguous
    a, b = OPTIMIZERS[name]([p]), OPTIMIZERS[name]([q])
    for k in range(3):
        for one in (p, q):
            give(one, np.cos(values.T + k))
            one.grad.array = np.asfortranarray(one.grad.array) if one is p else one.grad.array
        a.step()
        b.step()
    close(p, q, 0)
    assert not np.array_equal(p.numpy(), values.T)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_parameter_that_is_cast_or_moved_takes_its_state_along(name: str) -> None:
    model, still = nn.Linear(3, 2), nn.Linear(3, 2)
    still.load_state_dict(model.state_dict())
    optimizers = [OPTIMIZERS[name](m.parameters()) for m in (model, still)]
    for target in (np.float32, np.float64, "strict"):
        model.to(target)
        for module, optimizer in zip((model, still), optimizers, strict=True):
            for p in module.parameters():
                give(p, np.arange(p.size).reshape(p.shape))
            optimizer.step()
    close(model.weight, still.weight, 1e-5)
    assert (model.weight.device, model.weight.dtype) == ("strict", np.float64)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_float16_is_updated_in_float32(name: str, device: str) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(5).astype(np.float16)
    half, wide = nn.Parameter(tg.tensor(values, device=device)), nn.Parameter(values.astype("f"))
    a, b = OPTIMIZERS[name]([half]), OPTIMIZERS[name]([wide])
    for _ in range(4):
        g = rng.standard_normal(5).astype(np.float16) * np.float16(1e-3)
        g[2] = 0
        give(half, g)
        give(wide, g)
        a.step()
        b.step()
        a.load_state_dict(a.state_dict())
    assert half.dtype == np.float16
    close(half, wide, 2e-3)


def test_the_learning_rate_may_be_changed() -> None:
    p = parameter([0.0], 1.0)
    optimizer = optim.SGD([p], lr=0.5)
    optimizer.step()
    optimizer.lr = 0.25
    optimizer.step()
    optimizer.lr = 0
    optimizer.step()
    assert p.tolist() == [-0.75]


def test_training_fits_a_line() -> None:
    tg.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = optim.Adam(model.parameters(), lr=0.1)
    x = tg.randn(50, 2)
    for _ in range(300):
        optimizer.zero_grad()
        nn.mse_loss(model(x), x @ tg.tensor([[2.0], [-3.0]]) + 0.5).backward()
        optimizer.step()
    close(model.weight, [[2, -3]], 1e-3)
    close(model.bias, [0.5], 1e-3)


# Backward and the step


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_between_forward_and_backward_is_noticed(name: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    optimizer = OPTIMIZERS[name](model.parameters())
    x = tg.ones((1, 3))
    loss = model(x).sum()
    again = model(x).sum()
    loss.backward()
    gradients = [p.grad.numpy().copy() for p in model.parameters()]
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"parameter 'layers\.[01]\.weight'.* overwritten"):
        again.backward()
    for p, g in zip(model.parameters(), gradients, strict=True):
        assert np.array_equal(p.grad.numpy(), g)


# Clipping and the report


def test_the_report_of_clipping_by_norm() -> None:
    first, second = parameter([0.0, 0.0], [3.0, 0.0]), parameter([0.0], [-4.0])
    optimizer = optim.SGD([first, second], lr=1, clip=optim.ClipNorm(2.5))
    assert optimizer.step() == optim.StepReport(5.0, clipped=True, skipped=False)
    close(first, [-1.5, 0], 1e-6)
    close(second, [2], 1e-6)
    optimizer.clip = optim.ClipNorm(5.1)
    assert optimizer.step() == optim.StepReport(5.0, clipped=False, skipped=False)


def test_the_report_of_clipping_by_value() -> None:
    p = parameter([0.0, 0.0, 0.0], [3.0, -4.0, 1.0])
    optimizer = optim.SGD([p], lr=1, clip=optim.ClipValue(2))
    report = optimizer.step()
    assert report.norm == pytest.approx(math.sqrt(26))
    assert report.clipped
    assert p.tolist() == [-2, 2, -1]
    for limit in (4, 5, 100):
        optimizer.clip = optim.ClipValue(limit)
        assert not optimizer.step().clipped


@given(values=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=6), limit=st.floats(1e-3, 1e3))
def test_the_bounds_of_clipping(values: list[float], limit: float) -> None:
    g = np.array(values)
    norm = optim.global_norm([g])
    assert norm == pytest.approx(np.sqrt(np.sum(g * g)), rel=1e-12)
    (scaled,), clipped = optim.ClipNorm(limit).apply([g], norm)
    assert np.linalg.norm(scaled) <= limit
    assert clipped == (not np.array_equal(scaled, g)) or norm == pytest.approx(limit, abs=1e-5)
    assert np.all(np.sign(scaled) == np.sign(g))
    (limited,), clipped = optim.ClipValue(limit).apply([g], norm)
    assert np.array_equal(limited, np.clip(g, -limit, limit))
    assert clipped == (not np.array_equal(limited, g))


def test_clip_grad_norm_alone() -> None:
    first, second = parameter([0.0, 0.0], [3.0, 0.0]), parameter([0.0], [4.0])
    idle = parameter([0.0])
    held = first.grad
    assert optim.clip_grad_norm([first, idle, second], 1.0) == 5
    close(first.grad, [0.6, 0], 1e-6)
    close(second.grad, [0.8], 1e-6)
    assert first.grad is held
    assert optim.clip_grad_norm(iter([first, second]), 1.0) == pytest.approx(1, rel=1e-6)
    assert optim.clip_grad_norm([], 1.0) == 0
    give(first, [math.inf, 1.0])
    assert optim.clip_grad_norm([first, second], 1.0) == math.inf
    assert first.grad.tolist() == [math.inf, 1]
    close(second.grad, [0.8], 1e-6)


# Norms


@pytest.mark.parametrize("top", [1e-44, 1e-30, 1e-20, 1e-5, 1.0, 1e15, 1e30, 3e38])
def test_norms_in_float32_neither_overflow_nor_vanish(top: float, device: str) -> None:
    arrays = [np.array([3, 0], np.float32), np.array([[-4]], np.float32), np.zeros(0, np.float32)]
    arrays = [(a * np.float32(top / 4)) for a in arrays]
    exact = math.sqrt(sum(float(v) ** 2 for a in arrays for v in a.ravel()))
    gradients = [tg.tensor(a, device=device).array for a in arrays]
    assert optim.global_norm(gradients) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("top", [6e-8, 1e-4, 1.0, 300.0, 6e4])
def test_norms_in_float16_neither_overflow_nor_vanish(top: float, device: str) -> None:
    array = np.full(1000, top, np.float16)
    exact = math.sqrt(1000) * float(array[0])
    assert optim.global_norm([tg.tensor(array, device=device).array]) == pytest.approx(
        exact, rel=1e-5
    )


@pytest.mark.parametrize("top", [1e-300, 1e-160, 1e160, 1e300])
def test_norms_in_float64_neither_overflow_nor_vanish(top: float) -> None:
    assert optim.global_norm([top * np.array([3.0, 4.0])]) == pytest.approx(5 * top, rel=1e-12)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_norms_say_what_is_not_finite(bad: float, device: str) -> None:
    arrays = [np.array([1.0, bad]), np.array([2.0])]
    norm = optim.global_norm([tg.tensor(a, device=device).array for a in arrays])
    assert math.isnan(norm) if math.isnan(bad) else norm == math.inf


def test_the_norm_of_nothing() -> None:
    assert optim.global_norm([]) == 0
    assert optim.global_norm([np.zeros(0)]) == 0
    assert optim.global_norm([np.zeros(3)]) == 0


# Gradients that are not finite


def pair(device: str = "cpu") -> list[nn.Parameter]:
    first, second = nn.Parameter(np.array([1.0, 2.0])), nn.Parameter(np.array([3.0, 4.0]))
    for p, name in ((first, "good"), (second, "bad")):
        p.array = tg.tensor(p.numpy(), device=device).array
        p.name = name
        give(p, 1.0)
    return [first, second]


@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_raise_names_the_parameter_and_changes_nothing(name: str, bad: float, device: str) -> None:
    parameters = pair(device)
    optimizer = OPTIMIZERS[name](parameters)
    optimizer.step()
    values, state = [p.tolist() for p in parameters], optimizer.state_dict()
    give(parameters[1], [1.0, bad])
    kind = type(optimizer).__name__
    with pytest.raises(
        optim.NonFiniteGradientError,
        match=rf"{kind}: the gradient of parameter bad \(2,\) holds inf or nan at update 2; lower",
    ):
        optimizer.step()
    assert [p.tolist() for p in parameters] == values
    assert_same_state(optimizer.state_dict(), state)


def test_a_parameter_without_a_name_is_numbered() -> None:
    parameters = pair()
    parameters[1].name = None
    give(parameters[1], math.nan)
    with pytest.raises(optim.NonFiniteGradientError, match="parameter number 1"):
        optim.SGD(parameters).step()


def test_skip_counts_and_gives_up() -> None:
    parameters = pair()
    optimizer = optim.Adam(parameters, nonfinite="skip", max_skips=2)
    for _ in range(3):
        optimizer.step()
        before = [p.tolist() for p in parameters], optimizer.updates
        give(parameters[1], math.nan)
        for k in range(2):
            report = optimizer.step()
            assert report.skipped
            assert not report.clipped
            assert math.isnan(report.norm)
            assert optimizer.consecutive_skips == k + 1
        assert ([p.tolist() for p in parameters], optimizer.updates) == before
        give(parameters[1], 1.0)
    optimizer.step()
    assert optimizer.consecutive_skips == 0
    give(parameters[1], math.nan)
    optimizer.step()
    optimizer.step()
    for _ in range(2):
        with pytest.raises(
            optim.NonFiniteGradientError, match=r"parameter bad .* after 2 skipped updates in a row"
        ):
            optimizer.step()


@pytest.mark.parametrize("clip", [None, optim.ClipNorm(0.5), optim.ClipValue(0.25)])
def test_zero_replaces_the_elements_that_are_not_finite(clip: Any, device: str) -> None:
    parameters, clean = pair(device), pair(device)
    give(parameters[1], [math.inf, 1.0])
    give(clean[1], [0.0, 1.0])
    a = optim.SGD(parameters, lr=0.1, clip=clip, nonfinite="zero")
    b = optim.SGD(clean, lr=0.1, clip=clip)
    report, expected = a.step(), b.step()
    assert report.norm == math.inf
    assert not report.skipped
    assert report.clipped == expected.clipped == (clip is not None)
    for p, q in zip(parameters, clean, strict=True):
        close(p, q, 0)


# State


def assert_same_state(a: dict[str, Any], b: dict[str, Any]) -> None:
    a, b = dict(a), dict(b)
    one, other = a.pop("arrays"), b.pop("arrays")
    assert a == b
    assert list(one) == list(other)
    for name in one:
        assert np.array_equal(one[name], other[name])


def train(model: nn.Module, optimizer: optim.Optimizer, start: int, stop: int) -> None:
    for k in range(start, stop):
        optimizer.zero_grad()
        x = tg.tensor(np.random.default_rng(k).standard_normal((4, 3)).astype(np.float32))
        (model(x) ** 2).mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_run_resumes_bit_for_bit(name: str) -> None:
    def model() -> nn.Module:
        tg.manual_seed(0)
        return nn.Linear(3, 2)

    whole = model()
    optimizer = OPTIMIZERS[name](whole.parameters(), clip=optim.ClipNorm(0.5))
    train(whole, optimizer, 0, 7)
    saved = {k: v.copy() for k, v in whole.state_dict().items()}, optimizer.state_dict()
    train(whole, optimizer, 7, 12)

    tg.manual_seed(1)
    resumed = nn.Linear(3, 2)
    resumed.load_state_dict(saved[0])
    again = OPTIMIZERS[name](resumed.parameters(), clip=optim.ClipNorm(0.5))
    again.load_state_dict(saved[1])
    assert_same_state(again.state_dict(), saved[1])
    train(resumed, again, 7, 12)
    for p, q in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert np.array_equal(p.numpy(), q.numpy())
    assert_same_state(again.state_dict(), optimizer.state_dict())


def test_a_state_is_a_copy_both_ways() -> None:
    p = parameter([1.0], 1.0)
    optimizer = optim.Adam([p])
    optimizer.step()
    state = optimizer.state_dict()
    kept = optimizer.state_dict()
    optimizer.step()
    assert_same_state(state, kept)
    optimizer.load_state_dict(state)
    optimizer.step()
    assert_same_state(state, kept)


def test_a_state_loads_on_another_device() -> None:
    p = parameter([1.0, 2.0], 1.0)
    optimizer = optim.Adam([p])
    optimizer.step()
    far = nn.Parameter(tg.tensor(p.numpy(), device="strict"))
    other = optim.Adam([far])
    other.load_state_dict(optimizer.state_dict())
    give(far, 1.0)
    other.step()
    optimizer.step()
    close(far, p, 0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s.pop("lr"), KeyError, r"Adam.load_state_dict: the state has no \['lr'\]"),
        (
            lambda s: s.update(kind="SGD"),
            ValueError,
            "Adam.load_state_dict: the state is that of 'SGD'",
        ),
        (
            lambda s: s.update(counts=[1, 1]),
            ValueError,
            "Adam.load_state_dict: the state is that of 2 parameters, there are 1",
        ),
        (
            lambda s: s["arrays"].pop("0.v"),
            ValueError,
            "Adam.load_state_dict: the state has no array '0.v'",
        ),
        (
            lambda s: s["arrays"].update({"0.v": np.zeros(3)}),
            ValueError,
            r"Adam.load_state_dict: 0.v should be float64 \(2,\) to fit its parameter, got float64 "
            r"\(3,\)",
        ),
        (
            lambda s: s["arrays"].update({"1.m": np.zeros(3)}),
            ValueError,
            r"Adam.load_state_dict: there is no parameter for \['1.m'\]",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    change: Any, error: type[Exception], message: str
) -> None:
    p = parameter([1.0, 2.0], 1.0)
    optimizer = optim.Adam([p])
    optimizer.step()
    state = optimizer.state_dict()
    optimizer.step()
    before = optimizer.state_dict()
    change(state)
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(state)
    assert_same_state(optimizer.state_dict(), before)
