"""Groups of parameters, and what of an optimizer is saved and loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import close
from optimizers import OPTIMIZERS, assert_same_state, give, parameter

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.optim import schedules

# State


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
        (
            lambda s: s.pop("groups"),
            KeyError,
            r"Adam.load_state_dict: the state has no \['groups'\]",
        ),
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


# Groups


def test_groups_are_visible_and_changed_one_by_one() -> None:
    first, second, third = (parameter([0.0], 1.0) for _ in range(3))
    groups = [{"params": [first, second], "lr": 0.1}, {"params": iter([third]), "momentum": 0.5}]
    optimizer = optim.SGD(groups, lr=0.4)
    assert optimizer.parameters == [first, second, third]
    assert [group.params for group in optimizer.groups] == [(first, second), (third,)]
    assert [group.momentum for group in optimizer.groups] == [0, 0.5]
    optimizer.step()
    assert [p.item() for p in optimizer.parameters] == [-0.1, -0.1, -0.4]
    optimizer.groups[1].lr = 0.2
    optimizer.step()
    assert [p.item() for p in optimizer.parameters] == [-0.2, -0.2, pytest.approx(-0.7)]
    assert "lr=0.2" in repr(optimizer.groups[1])
    for name in ("learning_rate", "params", "_owner"):
        with pytest.raises(AttributeError, match=f"SGD: a group has no '{name}' to assign; it has"):
            setattr(optimizer.groups[1], name, 1)


def test_the_learning_rate_of_several_groups() -> None:
    first, second = parameter([0.0]), parameter([0.0])
    optimizer = optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.3}], lr=0.1)
    for lr, other in ((0.05, 0.15), (0, 0), (0.1, 0.3)):
        optimizer.lr = lr
        assert optimizer.lr == optimizer.groups[0].lr == lr
        assert optimizer.groups[1].lr == pytest.approx(other, abs=0)
    still = optim.SGD([{"params": [first], "lr": 0}, {"params": [second]}], lr=0.1)
    with pytest.raises(ValueError, match=r"SGD: lr of the first group was 0 .* assign groups\[k\]"):
        still.lr = 0.1
    alone = optim.SGD([{"params": [first], "lr": 0.7}])
    alone.lr = 0.1
    assert alone.groups[0].lr == 0.1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_state_of_groups_is_json_and_arrays(name: str) -> None:
    def optimizer() -> optim.Optimizer:
        ps = [parameter([1.0, 2.0], 0.5), parameter([3.0], -1.0)]
        groups = [{"params": ps[:1]}, {"params": ps[1:], "lr": 0.01, "weight_decay": 0.3}]
        return OPTIMIZERS[name](groups)

    one, two = optimizer(), optimizer()
    one.lr = np.float64(0.05)
    one.groups[1].l1 = 0.25
    one.step()
    state = one.state_dict()
    arrays = state.pop("arrays")
    state = json.loads(json.dumps(state))
    two.load_state_dict(state | {"arrays": arrays})
    assert [g.options for g in two.groups] == [g.options for g in one.groups]
    for p, q in zip(one.parameters, two.parameters, strict=True):
        q.data = p.numpy().copy()
    one.lr = two.lr = 0.02
    one.step()
    two.step()
    assert_same_state(two.state_dict(), one.state_dict())
    assert [p.tolist() for p in one.parameters] == [p.tolist() for p in two.parameters]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["groups"][0].update(params=2), r"have \[2\] parameters, not \[1\]"),
        (lambda s: s["groups"].append({"params": 1}), r"have \[1, 1\] parameters, not \[1\]"),
        (lambda s: s["groups"][0].update(rate=2), r"group 0 .* differ in \['rate'\]"),
        (lambda s: s["groups"][0].pop("eps"), r"group 0 .* differ in \['eps'\]"),
        (lambda s: s["groups"][0].update(lr=-1), "group 0: lr must be a finite number >= 0"),
        (lambda s: s["groups"][0].update(betas=[2, 0]), "group 0: betas must be two numbers"),
    ],
)
def test_groups_that_do_not_fit_change_nothing(change: Any, message: str) -> None:
    optimizer = optim.Adam([parameter([1.0], 1.0)])
    optimizer.step()
    before, state = optimizer.state_dict(), optimizer.state_dict()
    change(state)
    with pytest.raises(ValueError, match=r"^Adam\.load_state_dict.*" + message):
        optimizer.load_state_dict(state)
    assert_same_state(optimizer.state_dict(), before)


# Schedules

SCHEDULES: dict[str, Callable[[], schedules.Schedule]] = {
    "step": lambda: schedules.Step(0.1, 2),
    "exponential": lambda: schedules.Exponential(0.1, 0.9),
    "cosine": lambda: schedules.Cosine(0.1, 8),
    "linear": lambda: schedules.Linear(0.1, 8),
    "warm-up": lambda: schedules.WarmUp(schedules.Linear(0.1, 8), 3),
    "plateau": lambda: schedules.Plateau(0.1, 0.5, patience=1),
    "plateau after warm-up": lambda: schedules.WarmUp(schedules.Plateau(0.1, 0.5, 0), 3),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_scheduled_run_resumes_bit_for_bit(name: str) -> None:
    def run(p: Any, optimizer: Any, schedule: Any, start: int, stop: int) -> None:
        for t in range(start, stop):
            optimizer.lr = schedule(t)
            give(p, np.cos(t))
            optimizer.step()
            schedule.observe(1.0 if t % 3 else 0.5)

    p, schedule = parameter([1.0]), SCHEDULES[name]()
    optimizer = optim.Adam([p])
    run(p, optimizer, schedule, 0, 6)
    value, state, kept = p.numpy().copy(), optimizer.state_dict(), schedule.state_dict()
    assert bool(kept) == ("plateau" in name)
    run(p, optimizer, schedule, 6, 12)

    q, again = parameter(value), SCHEDULES[name]()
    again.load_state_dict(json.loads(json.dumps(kept)))
    resumed = optim.Adam([q])
    resumed.load_state_dict(state)
    run(q, resumed, again, 6, 12)
    assert p.tolist() == q.tolist()
    assert schedule.state_dict() == again.state_dict()
    assert [schedule(t) for t in range(20)] == [again(t) for t in range(20)]
    assert repr(schedule) == repr(again)


def test_schedules_stay_where_they_end() -> None:
    assert schedules.Cosine(0.3, 10, minimum=0.1)(1000) == pytest.approx(0.1)
    assert schedules.Linear(0.3, 10)(1000) == 0
    assert schedules.WarmUp(lambda t: 7.0 + t, 4)(6) == 9


def test_a_metric_that_is_nan_is_no_better() -> None:
    plateau = schedules.Plateau(0.1, 0.5, patience=1)
    for value in (np.nan, np.nan, 2.0, np.nan, 1.0):
        plateau.observe(value)
    assert plateau.state_dict() == {"rate": 0.05, "best": 1.0, "bad": 0, "cooling": 0}


def test_a_plateau_cools_down() -> None:
    plateau = schedules.Plateau(1.0, 0.5, patience=0, cooldown=2)
    rates = []
    for _ in range(5):
        plateau.observe(1.0)
        rates.append(plateau(0))
    assert rates == [1, 0.5, 0.5, 0.5, 0.25]
