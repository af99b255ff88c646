"""Gradients that are not finite under each policy, and reports that do not wait for a device."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from networks import close
from optimizers import OPTIMIZERS, assert_same_state, each_clip, give
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim

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
        _ = optimizer.step().norm
    assert [p.tolist() for p in parameters] == values
    assert_same_state(optimizer.state_dict(), state | {"nonfinite_steps": 1})


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


# What does not wait for the device


@each_clip
@pytest.mark.parametrize("policy", ["raise", "skip", "zero"])
@pytest.mark.parametrize("name", ["nesterov", "adamw", "rmsprop centered"])
def test_a_step_reads_nothing_until_the_report_is_read(name: str, policy: str, clip: Any) -> None:
    parameters = pair("strict")
    optimizer = OPTIMIZERS[name](parameters, clip=clip, nonfinite=policy)
    with STRICT.counting() as first:
        optimizer.step()
    assert (first.host_reads, first.waits) == (0, 0)
    with STRICT.counting() as second:
        report = optimizer.step()  # has a look at the first one, long since copied
    assert (second.host_reads, second.waits) == (0, 1)
    with STRICT.counting() as reading:
        assert report.norm == 2
        assert report.clipped == (clip is not None)
        assert optimizer.updates == 2
    assert (reading.host_reads, reading.waits) == (0, 1)


@each_clip
@pytest.mark.parametrize("policy", ["raise", "skip", "zero"])
@pytest.mark.parametrize("name", ["momentum", "adam", "adagrad"])
def test_a_device_comes_to_the_same_end(name: str, policy: str, clip: Any) -> None:
    """Late or not: the same parameters, slots, counts and errors as on the CPU."""

    def run(device: str) -> tuple[Any, ...]:
        parameters = pair(device)
        optimizer = OPTIMIZERS[name](parameters, clip=clip, nonfinite=policy, max_skips=2)
        rng = np.random.default_rng(0)
        said: list[str] = []
        for k in range(12):
            for p in parameters:
                give(p, rng.standard_normal(2))
            if k in (0, 3, 6, 7, 8):
                give(parameters[k % 2], [1.0, math.inf if k == 3 else math.nan])
            try:
                report = optimizer.step()
                said.append(f"{report.norm:.10g} {report.skipped}")
                said.append(f"{report.clipped_parameters} {report.nonfinite_parameters}")
            except optim.NonFiniteGradientError as error:
                said.append(str(error))
        state = optimizer.state_dict()
        arrays = state.pop("arrays")
        return (said, state, list(arrays)), [*arrays.values(), *parameters]

    (there, theirs), (here, ours) = run("strict"), run("cpu")
    assert there == here
    for a, b in zip(theirs, ours, strict=True):
        close(a, b, 1e-14)


def failed(policy: str = "raise") -> tuple[list[nn.Parameter], optim.Optimizer, optim.StepReport]:
    parameters = pair("strict")
    optimizer = optim.Adam(parameters, nonfinite=policy, max_skips=0)
    give(parameters[1], math.nan)
    report = optimizer.step()
    assert [p.tolist() for p in parameters] == [[1, 2], [3, 4]]
    give(parameters[1], 1.0)
    return parameters, optimizer, report


@pytest.mark.parametrize("policy", ["raise", "skip"])
def test_the_next_step_raises_once_and_changes_nothing(policy: str) -> None:
    parameters, optimizer, report = failed(policy)
    assert optimizer.state_dict()["updates"] == 0
    with pytest.raises(optim.NonFiniteGradientError, match=r"parameter bad .* at update 1"):
        optimizer.step()
    assert [p.tolist() for p in parameters] == [[1, 2], [3, 4]]
    for _ in range(2):
        with pytest.raises(optim.NonFiniteGradientError, match=r"parameter bad .* at update 1"):
            _ = report.norm
    assert not optimizer.step().skipped
    assert (optimizer.updates, optimizer.nonfinite_steps) == (1, 1)


def test_what_the_report_raised_the_next_step_does_not() -> None:
    _, optimizer, report = failed()
    with pytest.raises(optim.NonFiniteGradientError, match=r"parameter bad .* at update 1"):
        _ = report.skipped
    assert optimizer.step().norm == 2
    assert optimizer.updates == 1


def test_steps_that_were_not_finite_are_counted() -> None:
    parameters = pair()
    for policy, updates in (("zero", 4), ("skip", 2)):
        optimizer = optim.SGD(parameters, nonfinite=policy)
        for bad in (1.0, math.inf, math.nan, 1.0):
            give(parameters[0], bad)
            report = optimizer.step()
            assert report.nonfinite_parameters == (() if bad == 1 else ("good",))
        assert (optimizer.nonfinite_steps, optimizer.updates) == (2, updates)


def test_parameters_on_two_devices() -> None:
    parameters = [*pair(), *pair("strict")]
    with pytest.raises(tg.DeviceError, match="SGD: parameters must be on one device, got cpu and"):
        optim.SGD(parameters).step()
