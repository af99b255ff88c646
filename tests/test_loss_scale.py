"""Loss scaling: what float16 would lose arrives, overflows are skipped, nothing waits for a GPU."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import close
from optimizers import OPTIMIZERS, assert_same_state, give
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn, training

TINY = 1e-7
"""A factor of the loss, under which gradients are below what float16 holds."""


class Network(nn.Module):
    """The last output of an LSTM, with weights small enough for gradients to vanish in float16."""

    def __init__(self, device: str = "cpu") -> None:
        tg.manual_seed(0)
        self.layer, self.out = rnn.LSTM(3, 8), nn.Linear(8, 1)
        self.to(device)

    def forward(self, x: Any) -> Any:
        with tg.matmul_precision("float16"):
            return self.out(self.layer(x)[0])


def inputs(device: str = "cpu") -> tuple[tg.Tensor, tg.Tensor]:
    values = np.random.default_rng(0).standard_normal((6, 4, 3)).astype(np.float32)
    x = tg.tensor(values, device=device)
    return x, tg.sum(x, 2, keepdims=True)


def loss_of(model: Network, x: Any, target: Any) -> tg.Tensor:
    return tg.mean((model(x) - target) ** 2) * TINY


def scaled_adam(model: nn.Module, start: float = 2.0**24, **options: Any) -> optim.Optimizer:
    scale = optim.LossScale(start, **options)
    return optim.Adam(model.parameters(), lr=0.02, eps=1e-16, nonfinite="skip", loss_scale=scale)


def test_gradients_that_vanish_without_a_scale_arrive_with_one(device: str) -> None:
    model, (x, target) = Network(device), inputs(device)
    loss_of(model, x, target).backward()
    assert not np.any(model.layer.weight_hh_l0.grad.numpy())
    found = [Network(device), Network(device)]
    losses: list[list[float]] = [[], []]
    for k, (one, start) in enumerate(zip(found, (1.0, 2.0**24), strict=True)):
        optimizer = scaled_adam(one, start)
        for _ in range(40):
            optimizer.zero_grad()
            loss = loss_of(one, x, target)
            optimizer.scaled(loss).backward()
            optimizer.step()
            losses[k].append(loss.item())
    recurrent = [model.layer.weight_hh_l0 for model in (Network(device), *found)]
    assert np.array_equal(recurrent[0].numpy(), recurrent[1].numpy())  # it never moved
    assert losses[1][-1] < 0.1 * losses[1][0]


def parameter(values: np.ndarray, device: str) -> nn.Parameter:
    made = nn.Parameter(values)
    made.array = tg.tensor(values, device=device).array
    return made


def test_steps_are_those_of_the_true_gradients(device: str) -> None:
    """Clipping, norms and every rule see the gradient as it would be without a scale."""
    for name, make in OPTIMIZERS.items():
        for clip in (None, optim.ClipNorm(0.5), optim.ClipValue(0.25), optim.ClipAdaptive(0.1)):
            found: list[list[Any]] = []
            for scale in (None, optim.LossScale(1024.0)):
                p = parameter(np.linspace(-1, 2, 6).reshape(2, 3), device)
                optimizer = make([p], clip=clip, nonfinite="skip", loss_scale=scale)
                reports = []
                for k in range(3):
                    p.grad = None
                    optimizer.scaled((p * p * (k + 1)).sum()).backward()
                    reports.append(optimizer.step())
                found.append([p.numpy(), *((r.norm, r.clipped, r.skipped) for r in reports)])
            close(found[0][0], found[1][0], 1e-14)
            assert found[0][1:] == found[1][1:], name


def scales(optimizer: optim.Optimizer) -> tuple[float, int]:
    assert optimizer.loss_scale is not None
    return tuple(optimizer.loss_scale.saved().values())  # type: ignore[return-value]


def test_an_overflow_is_skipped_and_the_scale_falls_and_grows_again(device: str) -> None:
    p = parameter(np.ones(2, np.float32), device)
    scale = optim.LossScale(64.0, growth=4.0, backoff=0.25, every=3)
    optimizer = optim.SGD([p], lr=0.5, nonfinite="skip", loss_scale=scale)
    told: list[Any] = []
    for g in (math.inf, 1.0, 1.0, math.nan, 1.0, 1.0, 1.0, 1.0):
        give(p, g * scale.value)
        report = optimizer.step()
        told.append((report.skipped, *scales(optimizer), p.tolist()[0]))
    assert told == [
        (True, 16, 0, 1.0),
        (False, 16, 1, 0.5),
        (False, 16, 2, 0.0),
        (True, 4, 0, 0.0),
        (False, 4, 1, -0.5),
        (False, 4, 2, -1.0),
        (False, 16, 0, -1.5),
        (False, 16, 1, -2.0),
    ]
    assert (optimizer.updates, optimizer.nonfinite_steps) == (6, 2)


def test_the_scale_stays_a_float32() -> None:
    p = nn.Parameter(np.ones(1, np.float32))
    optimizer = optim.SGD([p], nonfinite="skip", loss_scale=optim.LossScale(2.0**127, every=1))
    give(p, 1.0)
    optimizer.step()
    assert scales(optimizer) == (2.0**127, 0)


def test_the_scale_moves_as_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Parameter(torch.ones(1))
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)
    sgd = torch.optim.SGD([theirs], lr=0.1)
    ours = nn.Parameter(np.ones(1, np.float32))
    scale = optim.LossScale(8.0, every=3)
    optimizer = optim.SGD([ours], lr=0.1, nonfinite="skip", loss_scale=scale)
    for factor in (1, 1, 1, math.inf, 2, 2, 2, 2, math.nan, 3, 3, 3):
        sgd.zero_grad()
        optimizer.zero_grad()
        scaler.scale((theirs * factor).sum()).backward()
        optimizer.scaled((ours * factor).sum()).backward()
        scaler.step(sgd)
        scaler.update()
        optimizer.step()
        assert scale.value == scaler.get_scale()
        close(ours, theirs.detach().numpy(), 1e-6)


def test_an_overflow_in_float16_is_found() -> None:
    """Cotangents beyond 65504 become inf: updates are skipped until the scale is low enough."""
    model, (x, target) = Network(), inputs()
    optimizer = scaled_adam(model, 2.0**56)
    optimizer.max_skips = 40
    before = model.layer.weight_hh_l0.numpy().copy()
    while optimizer.updates < 3:
        optimizer.zero_grad()
        optimizer.scaled(loss_of(model, x, target)).backward()
        if optimizer.step().skipped:
            assert np.array_equal(model.layer.weight_hh_l0.numpy(), before)
    assert optimizer.nonfinite_steps > 3
    assert scales(optimizer)[0] == 2.0 ** (56 - optimizer.nonfinite_steps)
    assert not np.array_equal(model.layer.weight_hh_l0.numpy(), before)


def test_nothing_waits_for_the_device() -> None:
    model, (x, target) = Network("strict"), inputs("strict")
    reads = []
    for scale in (None, optim.LossScale(2.0**10, every=2)):
        optimizer = optim.Adam(
            [{"params": model.layer.parameters(), "lr": 0.1}, {"params": model.out.parameters()}],
            clip=optim.ClipNorm(1.0),
            nonfinite="skip",
            loss_scale=scale,
        )
        for _ in range(3):
            optimizer.zero_grad()
            loss = loss_of(model, x, target)
            STRICT.host_reads = STRICT.waits = 0
            optimizer.scaled(loss).backward()
            optimizer.step()
            reads.append((STRICT.host_reads, STRICT.waits))
    assert reads[:3] == reads[3:]
    assert {host for host, _ in reads} == {0}


def trained(model: Network, optimizer: optim.Optimizer, updates: int) -> None:
    x, target = inputs()
    for _ in range(updates):
        optimizer.zero_grad()
        optimizer.scaled(loss_of(model, x, target)).backward()
        optimizer.step()


def test_a_run_resumes_bit_for_bit() -> None:
    model = Network()
    optimizer = scaled_adam(model, every=4)
    trained(model, optimizer, 6)
    saved = {k: v.copy() for k, v in model.state_dict().items()}, optimizer.state_dict()
    assert json.loads(json.dumps(saved[1]["loss_scale"])) == {"scale": 2.0**25, "good": 2}
    trained(model, optimizer, 5)
    again = Network()
    again.load_state_dict(saved[0])
    resumed = scaled_adam(again, 1.0, every=4)
    resumed.load_state_dict(saved[1])
    trained(again, resumed, 5)
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert np.array_equal(p.numpy(), q.numpy())
    assert_same_state(resumed.state_dict(), optimizer.state_dict())


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    p = nn.Parameter(np.ones(2, np.float32))
    plain = optim.SGD([p])
    optimizer = optim.SGD([p], nonfinite="skip", loss_scale=optim.LossScale(4.0))
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="has a loss scale, and the optimizer was given none"):
        plain.load_state_dict(state)
    with pytest.raises(KeyError, match="loss_scale"):
        optimizer.load_state_dict(plain.state_dict())
    for scale in (0.0, 1e-60, math.inf, math.nan, "2"):
        wrong = {"scale": scale, "good": 1}
        with pytest.raises(ValueError, match=r"SGD\.load_state_dict: the loss scale must"):
            optimizer.load_state_dict({**state, "loss_scale": wrong, "updates": 9})
    for good in (-1, 2**40, 1.0):
        wrong = {"scale": 2.0, "good": good}
        with pytest.raises(
            ValueError, match=f"the updates since the loss scale changed are {good}"
        ):
            optimizer.load_state_dict({**state, "loss_scale": wrong})
    for wrong in (None, 4.0, {}, {"scale": 2.0}):
        with pytest.raises(ValueError, match=r"^SGD\.load_state_dict: expected the scale and good"):
            optimizer.load_state_dict({**state, "loss_scale": wrong})
    assert optimizer.updates == 0
    assert scales(optimizer) == (4.0, 0)


def test_a_loss_that_is_no_tensor_is_refused_and_one_too_large_is_inf() -> None:
    scale = optim.LossScale()
    sgd = optim.SGD([nn.Parameter([1.0])], lr=0.1, nonfinite="skip", loss_scale=scale)
    with pytest.raises(TypeError, match=r"^scaled: expected the loss, a Tensor, got float$"):
        sgd.scaled(3.0)  # pyright: ignore[reportArgumentType]
    assert sgd.scaled(tg.tensor(1e38)).item() == math.inf  # without a warning


def test_what_makes_no_sense_is_refused() -> None:
    p = [nn.Parameter(np.ones(2, np.float32))]
    for wrong in ({"start": 0.0}, {"growth": 1.0}, {"backoff": 1.0}, {"every": 0}, {"every": 2.0}):
        with pytest.raises(ValueError, match="LossScale: "):
            optim.LossScale(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="backoff must satisfy 0 < backoff < 1, got 0"):
        optim.LossScale(backoff=0)
    for policy in ("raise", "zero"):
        with pytest.raises(ValueError, match=rf"so it needs nonfinite='skip', got '{policy}'"):
            optim.SGD(p, nonfinite=policy, loss_scale=optim.LossScale())
    with pytest.raises(TypeError, match="loss_scale must be LossScale"):
        optim.SGD(p, nonfinite="skip", loss_scale=1024.0)  # type: ignore[arg-type]


# In a Trainer


def fitted(folder: Path, scale: float | None, batches: int, accumulate: int = 1) -> Any:
    """A trained network, and the rows of its metrics."""
    model = Network()
    if scale is None:
        optimizer = optim.Adam(model.parameters(), lr=0.02, nonfinite="skip")
    else:
        optimizer = scaled_adam(model, scale)

    def loss(batch: Any, state: Any) -> Any:
        count = batch[0].shape[1]
        value = loss_of(model, *batch) / (TINY if scale is None else 1)
        return (value, None, count) if accumulate > 1 else (value, None)

    x, target = inputs()
    size = 4 // batches
    parts = [(x[:, k : k + size], target[:, k : k + size]) for k in range(0, 4, size)]
    trainer = training.Trainer(
        model, optimizer, loss, parts, folder=folder, accumulate=accumulate, progress=False
    )
    trainer.fit(updates=3)
    lines = (folder / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, map(float, line.split(",")), strict=True)) for line in lines[1:]]
    return model, rows, trainer


def test_a_trainer_multiplies_and_reports_the_true_loss(tmp_path: Path) -> None:
    model, rows, _ = fitted(tmp_path / "scaled", 2.0**24, 1)
    other, plain, _ = fitted(tmp_path / "plain", None, 1)
    for row, told in zip(rows, plain, strict=True):
        assert row["loss"] == pytest.approx(told["loss"] * TINY, rel=1e-2)
        assert row["gradient_norm"] == pytest.approx(told["gradient_norm"] * TINY, rel=1e-2)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        close(p, q.numpy(), 1e-2)


def test_accumulated_batches_share_one_scale(tmp_path: Path) -> None:
    whole, rows, _ = fitted(tmp_path / "whole", 2.0**24, 1)
    parts, same, _ = fitted(tmp_path / "parts", 2.0**24, 2, accumulate=2)
    for row, told in zip(rows, same, strict=True):
        assert row["loss"] == pytest.approx(told["loss"], rel=1e-3)
        assert row["gradient_norm"] == pytest.approx(told["gradient_norm"], rel=1e-2)
    for p, q in zip(whole.parameters(), parts.parameters(), strict=True):
        close(p, q.numpy(), 1e-2)


def test_a_trainer_goes_on_from_a_checkpoint_with_its_scale(tmp_path: Path) -> None:
    model, _, trainer = fitted(tmp_path / "whole", 2.0**24, 1)
    checkpoint = trainer.checkpoint()
    trainer.fit(updates=5)
    again, _, other = fitted(tmp_path / "again", 2.0**20, 1)
    other.resume(checkpoint)
    assert other.optimizer.loss_scale.value == 2.0**24
    other.fit(updates=5)
    for p, q in zip(model.parameters(), again.parameters(), strict=True):
        assert np.array_equal(p.numpy(), q.numpy())
