"""Clipping by norm, by value, per parameter and per unit; norms that do not overflow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import close
from optimizers import each_clip, give, parameter, told

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim

# Clipping and the report


def test_the_report_of_clipping_by_norm() -> None:
    first, second = parameter([0.0, 0.0], [3.0, 0.0]), parameter([0.0], [-4.0])
    optimizer = optim.SGD([first, second], lr=1, clip=optim.ClipNorm(2.5))
    assert told(optimizer.step()) == (5, True, False)
    close(first, [-1.5, 0], 1e-6)
    close(second, [2], 1e-6)
    optimizer.clip = optim.ClipNorm(5.1)
    assert told(optimizer.step()) == (5, False, False)


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
    (scaled,), (clipped,) = optim.ClipNorm(limit).apply([g], [g], np.array([norm]))
    assert np.linalg.norm(scaled) <= limit
    assert clipped == (not np.array_equal(scaled, g)) or norm == pytest.approx(limit, abs=1e-5)
    assert np.all(np.sign(scaled) == np.sign(g))
    (limited,), (clipped,) = optim.ClipValue(limit).apply([g], [g], np.array([norm]))
    assert np.array_equal(limited, np.clip(g, -limit, limit))
    assert clipped == (not np.array_equal(limited, g))


def test_the_report_of_clipping_each_parameter() -> None:
    first, second = parameter([0.0, 0.0], [3.0, -4.0], "first"), parameter([0.0], [1.0], "second")
    optimizer = optim.SGD([first, second], lr=1, clip=optim.ClipPerParameter(2.5))
    report = optimizer.step()
    assert told(report) == (pytest.approx(math.sqrt(26)), True, False)
    assert report.clipped_parameters == ("first",)
    close(first, [-1.5, 2], 1e-6)
    assert second.tolist() == [-1]


def test_the_report_of_adaptive_clipping() -> None:
    """Units are rows; a vector is one; one that is almost 0 counts as eps; 0 is left alone."""
    weight = parameter([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]], [[0.3, 0.4], [5.0, 0.0], [0.0, 0.0]])
    bias = parameter([0.0, 2.0], [0.0, 0.1])
    same = parameter([[1.0]], [[0.01]])
    number = parameter(2.0, 30.0)
    for p, name in ((weight, "weight"), (bias, "bias"), (same, "same"), (number, "number")):
        p.name = name
    before = weight.numpy().copy()
    clip = optim.ClipAdaptive(0.05, eps=0.1)
    optimizer = optim.SGD([weight, bias, same, number], lr=1, clip=clip)
    report = optimizer.step()
    assert report.clipped_parameters == ("weight", "number")
    close(before - weight.numpy(), [[0.15, 0.2], [0.005, 0], [0, 0]], 1e-15)
    close(bias, [0, 1.9], 1e-15)
    close(number, 1.9, 1e-15)


@each_clip
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_clips_on_devices_agree_and_change_no_gradient(clip: Any, dtype: Any, device: str) -> None:
    rng = np.random.default_rng(0)
    values = [rng.standard_normal(shape).astype(dtype) for shape in [(3, 4), (5,), (), (2, 0)]]
    here = [nn.Parameter(v) for v in values]
    there = [nn.Parameter(tg.tensor(v, device=device)) for v in values]
    a, b = (optim.SGD(ps, lr=0.1, clip=clip) for ps in (here, there))
    for scale in (0.01, 1.0, 100.0):
        gradients = [(scale * rng.standard_normal(v.shape)).astype(dtype) for v in values]
        for p, q, g in zip(here, there, gradients, strict=True):
            give(p, g)
            give(q, g)
        one, two = a.step(), b.step()
        assert one.norm == pytest.approx(two.norm, rel=1e-6)
        assert one.clipped_parameters == two.clipped_parameters
        for p, q, g in zip(here, there, gradients, strict=True):
            close(q, p, 2e-3 if dtype == np.float16 else 1e-6)
            assert q.grad.dtype == dtype
            assert np.array_equal(q.grad.numpy(), g)


@pytest.mark.parametrize("limit", [1e-7, 1e6])
def test_clipping_in_float16_has_the_range_of_float32(limit: float, device: str) -> None:
    """A factor of 1e-7 / 6e4 is 0 in float16, and 1e6 is inf."""
    for clip in (optim.ClipNorm(limit), optim.ClipValue(limit), optim.ClipPerParameter(limit)):
        p = nn.Parameter(tg.tensor(np.zeros(1, np.float16), device=device))
        give(p, 6e4)
        optim.SGD([p], lr=1 / min(limit, 6e4), clip=clip).step()
        assert p.tolist() == [pytest.approx(-1, rel=1e-2)]


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
    if device != "cpu" and exact < float(np.finfo(np.float32).tiny):
        exact = 0.0  # CuPy compiles with -ftz=true
    assert optim.global_norm(gradients) == pytest.approx(exact, rel=1e-6, abs=0)


@pytest.mark.parametrize("top", [6e-8, 1e-4, 1.0, 300.0, 6e4])
def test_norms_in_float16_neither_overflow_nor_vanish(top: float, device: str) -> None:
    array = np.full(1000, top, np.float16)
    exact = math.sqrt(1000) * float(array[0])
    assert optim.global_norm([tg.tensor(array, device=device).array]) == pytest.approx(
        exact, rel=1e-5, abs=0
    )


@pytest.mark.parametrize("top", [1e-300, 1e-160, 1e160, 1e300])
def test_norms_in_float64_neither_overflow_nor_vanish(top: float) -> None:
    assert optim.global_norm([top * np.array([3.0, 4.0])]) == pytest.approx(
        5 * top, rel=1e-12, abs=0
    )


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_norms_say_what_is_not_finite(bad: float, device: str) -> None:
    arrays = [np.array([1.0, bad]), np.array([2.0])]
    norm = optim.global_norm([tg.tensor(a, device=device).array for a in arrays])
    assert math.isnan(norm) if math.isnan(bad) else norm == math.inf


def test_the_norm_of_nothing() -> None:
    assert optim.global_norm([]) == 0
    assert optim.global_norm([np.zeros(0)]) == 0
    assert optim.global_norm([np.zeros(3)]) == 0
