"""Optimizers: everything is checked before anything changes, squares stay finite, and a report is
plain data once it is known.
"""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
from networks import close
from optimizers import OPTIMIZERS, assert_same_state, give, parameter
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.backends.kernels import PREAMBLE, update_source
from tinygrad_rnn.optim.rules import completed, largest_to_square, rmsprop

SQUARING = [name for name in OPTIMIZERS if not name.startswith(("sgd", "momentum", "nesterov"))]


def three() -> list[nn.Parameter]:
    """Three parameters with gradients; the second is the one that tests spoil."""
    return [parameter([1.0, 2.0, 3.0], 0.5, name) for name in ("first", "second", "third")]


def put(p: nn.Parameter, gradient: tg.Tensor) -> None:
    """Whatever is given as the gradient, past what may be checked where it is assigned."""
    give(p, 0.0)
    p.grad.array = gradient.array


# Gradients that are not what their parameters are


WRONG: dict[str, tuple[Any, type[Exception], str]] = {
    "one for all": (tg.ones(1, np.float64), ValueError, r"float64 \(3,\) .*, got float64 \(1,\)"),
    "a number": (tg.tensor(np.float64(2)), ValueError, r"float64 \(3,\) .*, got float64 \(\)"),
    "a column": (
        tg.ones((3, 1), np.float64),
        ValueError,
        r"float64 \(3,\) as .*, got float64 \(3, 1\)",
    ),
    "a row": (
        tg.ones((1, 3), np.float64),
        ValueError,
        r"float64 \(3,\) as .*, got float64 \(1, 3\)",
    ),
    "too long": (tg.ones(4, np.float64), ValueError, r"float64 \(3,\) as .*, got float64 \(4,\)"),
    "float32": (tg.ones(3), TypeError, r"float64 \(3,\) as .*, got float32 \(3,\)"),
    "integers": (tg.tensor([1, 2, 3]), TypeError, r"float64 \(3,\) as .*, got int64 \(3,\)"),
    "elsewhere": (
        tg.ones(3, np.float64, device="strict"),
        tg.DeviceError,
        r"on cpu as its values are, got strict",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adagrad"])
def test_fault_10_a_gradient_of_another_kind_changes_nothing(name: str, wrong: str) -> None:
    gradient, error, message = WRONG[wrong]
    parameters = three()
    optimizer = OPTIMIZERS[name](parameters, clip=optim.ClipNorm(1.0))
    optimizer.step()
    values, state = [p.tolist() for p in parameters], optimizer.state_dict()
    versions = [p.version for p in parameters]
    put(parameters[1], gradient)
    kind = type(optimizer).__name__
    with pytest.raises(error, match=f"^{kind}: the gradient of parameter second must be {message}"):
        optimizer.step()
    assert [p.tolist() for p in parameters] == values
    assert [p.version for p in parameters] == versions
    assert_same_state(optimizer.state_dict(), state)
    give(parameters[1], 0.5)
    optimizer.step()
    assert parameters[0].tolist() == parameters[1].tolist()


@pytest.mark.parametrize("wrong", WRONG)
def test_fault_10_clipping_alone_refuses_them_too(wrong: str) -> None:
    gradient, error, message = WRONG[wrong]
    parameters = three()
    put(parameters[1], gradient)
    before = gradient.tolist()
    with pytest.raises(
        error, match=f"^clip_grad_norm: the gradient of parameter second must be {message}"
    ):
        optim.clip_grad_norm(parameters, 1e-3)
    assert parameters[0].grad.tolist() == parameters[2].grad.tolist() == [0.5] * 3
    assert gradient.tolist() == before


def test_fault_10_parameters_without_a_name_and_on_two_devices() -> None:
    parameters = [parameter([1.0, 2.0], 1.0), parameter([1.0, 2.0])]
    put(parameters[1], tg.ones((2, 2), np.float64))
    with pytest.raises(ValueError, match=r"^SGD: the gradient of parameter number 1 must be"):
        optim.SGD(parameters).step()
    far = nn.Parameter(tg.ones(2, np.float64, device="strict"))
    give(far, 1.0)
    give(parameters[1], 1.0)
    with pytest.raises(tg.DeviceError, match=r"^clip_grad_norm: parameters must be on"):
        optim.clip_grad_norm([*parameters, far], 1.0)


# Memory that cannot be written


def read_only(values: Any) -> np.ndarray:
    array = np.array(values, np.float64)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(
    "memory", [read_only([1, 2, 3]), np.frombuffer(bytes(24)), np.broadcast_to(np.ones(1), 3)]
)
def test_fault_29_read_only_memory_changes_nothing(name: str, memory: np.ndarray) -> None:
    parameters = three()
    parameters[2].array = memory
    optimizer = OPTIMIZERS[name](parameters)
    before = [p.tolist() for p in parameters]
    with pytest.raises(
        ValueError,
        match=rf"^{type(optimizer).__name__}: the values of parameter third \(3,\) are in "
        r"read-only memory, where no update can change them; make a Parameter of "
        r"a copy, nn.Parameter\(array.copy\(\)\)$",
    ):
        optimizer.step()
    assert [p.tolist() for p in parameters] == before
    assert optimizer.updates == 0
    parameters[2].array = memory.copy()
    optimizer.step()
    assert all(p.tolist() != values for p, values in zip(parameters, before, strict=True))


def test_fault_29_a_parameter_made_of_a_read_only_array_is_a_copy() -> None:
    values = read_only([1, 2, 3])
    made = nn.Parameter(tg.from_numpy(values))
    give(made, 1.0)
    optim.SGD([made], lr=1.0).step()
    assert made.tolist() == [0, 1, 2]
    assert values.tolist() == [1, 2, 3]


def test_fault_29_hyperparameters_that_fail_change_nothing() -> None:
    """Numbers are computed for all parameters before the first one changes."""
    parameters = three()
    optimizer = optim.Adam([{"params": parameters[:1]}, {"params": parameters[1:]}])
    before = [p.tolist() for p in parameters]
    optimizer.groups[1].betas = ("high", 0.9)
    with pytest.raises(TypeError):
        optimizer.step()
    assert [p.tolist() for p in parameters] == before


# Gradients whose squares are beyond the largest number


@pytest.mark.parametrize("name", SQUARING)
@pytest.mark.parametrize(("dtype", "spike"), [(np.float32, 1e30), (np.float64, 1e200)])
@pytest.mark.parametrize("sign", [1, -1])
def test_fault_60_what_is_kept_stays_finite(
    name: str, dtype: Any, spike: float, sign: int, device: str
) -> None:
    """Many spikes in a row; the same on every device; and the report says so."""
    p = nn.Parameter(tg.tensor(np.array([1.0, 2.0], dtype), device=device))
    p.name = "p"
    optimizer = OPTIMIZERS[name]([p])
    for k in range(50):
        give(p, np.array([sign * spike, 1.0]))
        report = optimizer.step()
        assert report.clipped_parameters == ("p",)
        assert not report.skipped
        assert report.norm == pytest.approx(spike, rel=1e-6)
        for slot, values in optimizer.state_dict()["arrays"].items():
            assert np.isfinite(values).all(), (slot, k)
        assert np.isfinite(p.numpy()).all()


@pytest.mark.parametrize("name", SQUARING)
def test_fault_60_the_update_is_that_of_exact_arithmetic(name: str) -> None:
    """float64 can square 1e30: float32 takes the same step, and moves on as that does."""
    narrow, wide = (nn.Parameter(np.array([1.0, 2.0], d)) for d in (np.float32, np.float64))
    optimizers = [OPTIMIZERS[name]([p]) for p in (narrow, wide)]
    for _ in range(4):
        for p, optimizer in zip((narrow, wide), optimizers, strict=True):
            give(p, [1e30, 1.0])
            optimizer.step()
    close(narrow, wide, 1e-5)


def test_fault_60_an_element_moves_again() -> None:
    """After one spike a running mean of squares forgets it, where inf would stay inf."""
    p = nn.Parameter(np.zeros(1, np.float32))
    optimizer = optim.RMSprop([p], lr=0.01, alpha=0.5)
    for k in range(300):
        give(p, 1e30 if k == 0 else 1.0)
        optimizer.step()
    before = p.item()
    give(p, 1.0)
    optimizer.step()
    assert before - p.item() == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fault_60_below_the_limit_nothing_changes(name: str, dtype: Any, device: str) -> None:
    """Up to it a gradient is taken as it is; that of float16 never comes near it."""
    top = 6e4 if dtype == np.float16 else largest_to_square(np.dtype(dtype)) / 2
    p = nn.Parameter(tg.tensor(np.ones(1, dtype), device=device))
    optimizer = OPTIMIZERS[name]([p])
    give(p, top)
    assert not optimizer.step().clipped
    assert np.isfinite(p.numpy()).all()
    for values in optimizer.state_dict()["arrays"].values():
        assert np.isfinite(values).all()


def test_fault_60_clipping_comes_first() -> None:
    """The direction of a huge gradient is kept by ClipNorm, and no limit changes it."""
    p = nn.Parameter(np.zeros(2, np.float32))
    give(p, [3e30, 4e30])
    optim.Adagrad([p], lr=1.0, initial_accumulator_value=1.0, clip=optim.ClipNorm(1.0)).step()
    close(p, [-0.6 / math.sqrt(1.36), -0.8 / math.sqrt(1.64)], 1e-6)


@pytest.mark.parametrize("decoupled", [False, True])
def test_fault_60_the_limit_is_part_of_a_kernel_only_where_it_is_given(decoupled: bool) -> None:
    names = ["lr", "alpha", "eps"]
    fixed = {"momentum": 0.0, "centered": False, "weight_decay": 0.0, "l1": 0.0}
    rule, present = completed(rmsprop, decoupled), [True, True, False, False]
    free = update_source(rule, np.dtype("f"), present, fixed | {"largest": 0.0}, names)
    limited = update_source(rule, np.dtype("f"), present, fixed, [*names, "largest"])
    assert "rule_minimum" not in free
    assert limited.count("rule_minimum") == limited.count("rule_maximum") == 1
    assert "T rule_minimum(T x, T y)" in PREAMBLE


# Reports


def report_of(policy: str = "raise", gradient: Any = 3.0, device: str = "cpu") -> Any:
    p = nn.Parameter(tg.zeros(1, device=device))
    p.name = "p"
    give(p, gradient)
    return optim.SGD([p], clip=optim.ClipNorm(1.0), nonfinite=policy).step()


COPIES = [
    copy.copy,
    copy.deepcopy,
    *(lambda r, k=k: pickle.loads(pickle.dumps(r, k)) for k in range(pickle.HIGHEST_PROTOCOL + 1)),
]


@pytest.mark.parametrize("make", COPIES)
@pytest.mark.parametrize("options", [{}, {"policy": "skip", "gradient": math.nan}])
def test_fault_36_a_report_is_copied_and_compared(make: Any, options: Any, device: str) -> None:
    report = report_of(device=device, **options)
    twin = make(report)
    assert twin == report == report_of(device=device, **options)
    assert hash(twin) == hash(report)
    assert (twin.clipped, twin.skipped) == (report.clipped, report.skipped)
    assert twin.clipped_parameters == (() if options else ("p",))
    assert twin.nonfinite_parameters == (("p",) if options else ())
    assert repr(twin) == repr(report)
    assert report != report_of(gradient=4.0)
    assert report != "StepReport"
    assert optim.SGD([parameter([1.0])]).step() == make(optim.SGD([parameter([2.0])]).step())


def test_fault_36_reports_hold_no_optimizer_once_they_are_known() -> None:
    """A list of them is plain data; one that is not known yet waits, once."""
    assert len(pickle.dumps([report_of()] * 3)) < 1000
    report = report_of(device="strict")
    with STRICT.counting() as count:
        first = pickle.dumps(report)
        second = pickle.dumps(report)
    assert first == second
    assert (count.host_reads, count.waits) == (0, 1)
    failed = report_of(gradient=math.inf, device="strict")
    with pytest.raises(optim.NonFiniteGradientError, match="the gradient of parameter p"):
        pickle.dumps(failed)
