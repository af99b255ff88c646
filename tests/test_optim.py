"""Optimizers: what they report, clip, refuse, keep and continue."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from networks import close
from optimizers import KINDS, OPTIMIZERS, give, parameter, told

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.backends.cpu import BLOCK

# The update rules


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("size", [0, 1, 7, BLOCK, 2 * BLOCK + 5])
def test_updates_by_hand(name: str, size: int) -> None:
    rng = np.random.default_rng(0)
    p = parameter(rng.standard_normal(size))
    expected = p.numpy().copy()
    state: dict[str, Any] = {}
    optimizer = OPTIMIZERS[name]([p])
    for t in range(1, 4):
        g = rng.standard_normal(size)
        give(p, g)
        optimizer.step()
        expected = by_hand(*KINDS[name], expected, g, t, state)
        close(p, expected, 1e-12)


def by_hand(kind: Any, given: dict[str, Any], p: Any, g: Any, t: int, s: dict[str, Any]) -> Any:
    """One update of one parameter, written out of place from the papers."""
    o = optim_defaults(kind) | given
    lr = o["lr"]
    pull = o["weight_decay"] * p + o["l1"] * np.sign(p)
    if kind is optim.AdamW:
        p = p - lr * pull
    else:
        g = g + pull
    if kind is optim.SGD:
        v = s["v"] = o["momentum"] * s.get("v", 0) + g
        return p - lr * (g + o["momentum"] * v if o["nesterov"] else v)
    if kind in (optim.Adam, optim.AdamW):
        m = s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
        v = s["v"] = 0.999 * s.get("v", 0) + 0.001 * g**2
        return p - lr * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    if kind is optim.RMSprop:
        v = s["v"] = 0.99 * s.get("v", 0) + 0.01 * g**2
        mean = s["mean"] = 0.99 * s.get("mean", 0) + 0.01 * g
        step = g / (np.sqrt(v - mean**2 if o["centered"] else v) + 1e-8)
        b = s["b"] = o["momentum"] * s.get("b", 0) + step
        return p - lr * b
    if kind is optim.Adagrad:
        v = s["v"] = s.get("v", o["initial_accumulator_value"]) + g**2
        return p - lr / (1 + (t - 1) * o["lr_decay"]) * g / (np.sqrt(v) + o["eps"])
    v = s["v"] = o["rho"] * s.get("v", 0) + (1 - o["rho"]) * g**2
    step = np.sqrt(s.get("u", 0) + o["eps"]) / np.sqrt(v + o["eps"]) * g
    s["u"] = o["rho"] * s.get("u", 0) + (1 - o["rho"]) * step**2
    return p - lr * step


def optim_defaults(kind: Any) -> dict[str, Any]:
    parameters = inspect.signature(kind).parameters.values()
    return {p.name: p.default for p in parameters}


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
    assert there.device == device
    close(there, here, 1e-6)


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
    assert told(optimizer.step()) == (0, False, False)
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


def test_gradients_of_several_passes_add_up_to_those_of_one_batch() -> None:
    x = tg.randn(12, 3)
    results = []
    for parts in (1, 4):
        tg.manual_seed(0)
        model = nn.Linear(3, 2)
        optimizer = optim.Adam(model.parameters(), lr=0.1, clip=optim.ClipNorm(0.1))
        for _ in range(3):
            optimizer.zero_grad()
            for k in range(parts):
                part = x[k * 12 // parts : (k + 1) * 12 // parts]
                ((model(part) ** 2).sum() / 24).backward()
            optimizer.step()
        results.append(model.weight)
    close(*results, 1e-5)


@pytest.mark.parametrize("kind", [optim.SGD, optim.AdamW, optim.RMSprop])
def test_weight_decay_bounds_the_weights_of_a_run_that_explodes(kind: Any) -> None:
    """A gradient that always points the same way: without decay the weights grow with time."""

    def norms(weight_decay: float) -> list[float]:
        p = parameter(np.zeros(4))
        optimizer = kind([p], lr=0.1, weight_decay=weight_decay)
        found = []
        for _ in range(400):
            give(p, -1.0)
            optimizer.step()
            found.append(float(np.linalg.norm(p.numpy())))
        return found

    free, bounded = norms(0.0), norms(0.5)
    assert free[-1] > 1.5 * free[199] > 10
    assert max(bounded) < 5  # |g| / weight_decay = 4, but for the first steps


def test_l1_makes_weights_vanish() -> None:
    p = parameter([0.5, -0.5, 3.0])
    optimizer = optim.SGD([p], lr=0.01, l1=1.0)
    for _ in range(60):
        give(p, [0.0, 0.0, -2.0])
        optimizer.step()
    close(p.numpy()[:2], [0, 0], 0.011)
    assert p.numpy()[2] > 3


def test_an_optimizer_of_ones_own() -> None:
    class SignDescent(optim.Optimizer):
        slots = ("m",)

        def __init__(self, params: Any, lr: float, beta: float = 0.9, **common: Any) -> None:
            options = {"lr": lr, "beta": beta, "weight_decay": 0.0, "l1": 0.0}
            super().__init__(params, options, **common)

        @staticmethod
        def rule(xp: Any, g: Any, p: Any, m: Any, *, lr: float, beta: float) -> None:
            m *= beta
            m += (1 - beta) * g
            p -= lr * xp.sign(m)

        def numbers(self, o: Any, t: int) -> dict[str, float]:
            return {"lr": o["lr"], "beta": o["beta"]}

    p = parameter([1.0, -1.0], [0.3, -7.0])
    optimizer = SignDescent([{"params": [p], "beta": 0.5}], lr=0.1, clip=optim.ClipNorm(1.0))
    optimizer.step()
    assert p.tolist() == [0.9, -0.9]
    assert list(optimizer.state_dict()["arrays"]) == ["0.m"]
