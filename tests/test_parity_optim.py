"""Optimizers, clipping and schedules against PyTorch's, step by step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from networks import close, randomise
from parity import torch

from tinygrad_rnn import nn, optim, rnn
from tinygrad_rnn.optim import schedules

pytestmark = pytest.mark.parity

F = torch.nn.functional
O = torch.optim


class OurModel(nn.Module):
    def __init__(self, layer: str) -> None:
        self.embedding = nn.Embedding(7, 5)
        self.layer = getattr(rnn, layer)(5, 6)
        self.head = nn.Linear(6, 7)

    def forward(self, tokens: Any) -> Any:
        return self.head(self.layer(self.embedding(tokens))[0])


class TheirModel(torch.nn.Module):  # pyright: ignore[reportGeneralTypeIssues]
    def __init__(self, layer: str) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 5)
        self.layer = getattr(torch.nn, layer)(5, 6)
        self.head = torch.nn.Linear(6, 7)

    def forward(self, tokens: Any) -> Any:
        return self.head(self.layer(self.embedding(tokens))[0])


OPTIMIZERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "sgd": (optim.SGD, O.SGD, {"lr": 0.5}),
    "momentum": (optim.SGD, O.SGD, {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (
        optim.SGD,
        O.SGD,
        {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ),
    "adam": (optim.Adam, O.Adam, {"lr": 0.02}),
    "adam decaying": (
        optim.Adam,
        O.Adam,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.02},
    ),
    "adamw": (optim.AdamW, O.AdamW, {"lr": 0.02}),
    "adamw decaying": (optim.AdamW, O.AdamW, {"lr": 0.02, "weight_decay": 0.5}),
    "rmsprop": (optim.RMSprop, O.RMSprop, {"weight_decay": 0.01}),
    "rmsprop momentum": (
        optim.RMSprop,
        O.RMSprop,
        {"lr": 0.003, "alpha": 0.9, "momentum": 0.7, "weight_decay": 0.01},
    ),
    "rmsprop centered": (
        optim.RMSprop,
        O.RMSprop,
        {"lr": 0.003, "eps": 1e-3, "momentum": 0.7, "centered": True, "weight_decay": 0.01},
    ),
    "adagrad": (optim.Adagrad, O.Adagrad, {"lr": 0.1}),
    "adagrad decaying": (
        optim.Adagrad,
        O.Adagrad,
        {"lr": 0.2, "lr_decay": 0.05, "initial_accumulator_value": 0.1, "weight_decay": 0.02},
    ),
    "adadelta": (optim.Adadelta, O.Adadelta, {}),
    "adadelta decaying": (
        optim.Adadelta,
        O.Adadelta,
        {"lr": 2.0, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.01},
    ),
}
CLIPS = {"norm": optim.ClipNorm(0.3), "value": optim.ClipValue(0.02)}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model is slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def load(theirs: Any, ours: nn.Module) -> Any:
    """PyTorch's module with our weights."""
    theirs.load_state_dict({n: torch.from_numpy(a) for n, a in ours.state_dict().items()})
    return theirs


def losses(ours: Any, theirs: Any, tokens: np.ndarray) -> tuple[Any, Any]:
    """Both losses, with gradients left behind."""
    loss = nn.cross_entropy(ours(tokens[:-1]), tokens[1:], axis=-1)
    loss.backward()
    tokens_t = torch.from_numpy(tokens)
    loss_t = F.cross_entropy(theirs(tokens_t[:-1]).reshape(-1, 7), tokens_t[1:].reshape(-1))
    loss_t.backward()
    return loss, loss_t


def clip_theirs(theirs: Any, clip: str | None) -> float:
    """Clip as PyTorch does; the norm before."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in theirs.parameters()]).item()
    if clip == "norm":
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.3)
    elif clip == "value":
        torch.nn.utils.clip_grad_value_(theirs.parameters(), 0.02)
    return norm


CASES = [
    (kind, clip) for kind, row in OPTIMIZERS.items() if "weight_decay" in row[2] for clip in CLIPS
]
CASES += [("sgd", "norm"), ("momentum", "value"), ("adam", None), ("adamw", None)]


@pytest.mark.parametrize(("kind", "clip"), CASES)
def test_200_steps_of_one_model(kind: str, clip: str | None) -> None:
    our_kind, their_kind, options = OPTIMIZERS[kind]
    layer = "LSTM" if "adam" in kind else "RNN"
    ours = randomise(OurModel(layer))
    theirs = load(TheirModel(layer).double(), ours)
    optimizer = our_kind(ours.parameters(), **options, clip=CLIPS[clip] if clip else None)
    optimizer_t = their_kind(theirs.parameters(), **options)
    batches = np.random.default_rng(0).integers(0, 7, (3, 3, 2))
    clipped = 0
    for k in range(200):
        optimizer.zero_grad()
        optimizer_t.zero_grad()
        loss, loss_t = losses(ours, theirs, batches[k % 3])
        norm = clip_theirs(theirs, clip)
        report = optimizer.step()
        optimizer_t.step()
        assert loss.item() == pytest.approx(loss_t.item(), rel=1e-6, abs=1e-6)
        assert report.norm == pytest.approx(norm, rel=1e-6, abs=1e-6)
        clipped += report.clipped
    assert bool(clipped) == (clip is not None)


def test_groups_with_their_own_hyperparameters() -> None:
    ours = randomise(OurModel("RNN"))
    theirs = load(TheirModel("RNN").double(), ours)
    own = [{"lr": 0.05}, {"weight_decay": 0.3}, {"betas": (0.5, 0.9), "eps": 1e-3, "lr": 0.001}]

    def groups(model: Any) -> list[dict[str, Any]]:
        parts = (model.embedding, model.layer, model.head)
        return [{"params": p.parameters(), **o} for p, o in zip(parts, own, strict=True)]

    optimizer = optim.AdamW(groups(ours), lr=0.02, clip=CLIPS["norm"])
    optimizer_t = O.AdamW(groups(theirs), lr=0.02)
    schedule = schedules.WarmUp(schedules.Step(optimizer.lr, 10, 0.5), 4, start=0.25)
    schedule_t = O.lr_scheduler.LambdaLR(
        optimizer_t, lambda t: 0.25 + 0.75 * t / 4 if t < 4 else 0.5 ** ((t - 4) // 10)
    )
    batches = np.random.default_rng(0).integers(0, 7, (3, 3, 2))
    for k in range(30):
        optimizer.lr = schedule(k)
        rates = [group.lr for group in optimizer.groups]
        assert rates == pytest.approx([group["lr"] for group in optimizer_t.param_groups])
        optimizer.zero_grad()
        optimizer_t.zero_grad()
        loss, loss_t = losses(ours, theirs, batches[k % 3])
        clip_theirs(theirs, "norm")
        optimizer.step()
        optimizer_t.step()
        schedule_t.step()
        assert loss.item() == pytest.approx(loss_t.item(), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_parameters_that_have_no_gradient_at_some_steps(kind: str) -> None:
    our_kind, their_kind, options = OPTIMIZERS[kind]
    rng = np.random.default_rng(0)
    values = rng.standard_normal((2, 3))
    ours = [nn.Parameter(v) for v in values]
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values]
    optimizer, optimizer_t = our_kind(ours, **options), their_kind(theirs, **options)
    for k in range(12):
        optimizer.zero_grad()
        optimizer_t.zero_grad()
        for j in range(2):
            if k % (j + 2) == j:
                g = rng.standard_normal(3)
                (ours[j] * g).sum().backward()
                (theirs[j] * torch.from_numpy(g)).sum().backward()
        optimizer.step()
        optimizer_t.step()
        for p, p_t in zip(ours, theirs, strict=True):
            close(p, p_t.detach().numpy())


@pytest.mark.parametrize("max_norm", [0.1, 2.0, 1e6])
def test_clip_grad_norm(max_norm: float) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((3, 4)), rng.standard_normal(5), rng.standard_normal(2)]
    ours = [nn.Parameter(a) for a in arrays]
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    for p, p_t, a in list(zip(ours, theirs, arrays, strict=True))[:2]:
        (p * (2 * a)).sum().backward()
        (p_t * torch.from_numpy(2 * a)).sum().backward()
    norm = optim.clip_grad_norm(ours, max_norm)
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, max_norm).item(), rel=1e-12)
    for p, p_t in zip(ours, theirs, strict=True):
        close(
            p.grad if p.grad is not None else 0.0, p_t.grad.numpy() if p_t.grad is not None else 0.0
        )
    assert ours[2].grad is None


# Schedules


def rates_of(make: Any, steps: int, lr: float = 0.3) -> list[float]:
    """The rates that a scheduler of PyTorch's gives."""
    optimizer = O.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = make(optimizer)
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


L = O.lr_scheduler
SCHEDULES = {
    "step": (schedules.Step(0.3, 7), lambda o: L.StepLR(o, 7), 40),
    "step by half": (schedules.Step(0.3, 3, 0.5), lambda o: L.StepLR(o, 3, 0.5), 40),
    "exponential": (schedules.Exponential(0.3, 0.9), lambda o: L.ExponentialLR(o, 0.9), 40),
    "cosine": (
        schedules.Cosine(0.3, 39, minimum=0.02),
        lambda o: L.CosineAnnealingLR(o, 39, eta_min=0.02),
        40,
    ),
    "linear": (
        schedules.Linear(0.3, 20, start=0.5, end=0.1),
        lambda o: L.LinearLR(o, 0.5, 0.1, 20),
        40,
    ),
    "warm-up": (
        schedules.WarmUp(schedules.Cosine(0.3, 30), 8, start=0.1),
        lambda o: L.SequentialLR(
            o, [L.LinearLR(o, 0.1, 1.0, 8), L.CosineAnnealingLR(o, 30)], milestones=[8]
        ),
        38,
    ),
    "warm-up from 0": (
        schedules.WarmUp(schedules.Exponential(0.3, 0.8), 5),
        lambda o: L.LambdaLR(o, lambda t: t / 5 if t < 5 else 0.8 ** (t - 5)),
        30,
    ),
}


@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step():UserWarning")
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    ours, theirs, steps = SCHEDULES[name]
    assert [ours(t) for t in range(steps)] == pytest.approx(rates_of(theirs, steps), rel=1e-12)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("threshold_mode", ["rel", "abs"])
@pytest.mark.parametrize("patience", [0, 2])
@pytest.mark.parametrize("cooldown", [0, 3])
@pytest.mark.parametrize("scale", [1.0, -1.0])
def test_plateau(
    mode: Any, threshold_mode: Any, patience: int, cooldown: int, scale: float
) -> None:
    rng = np.random.default_rng(0)
    values = scale * (2 + np.abs(rng.standard_normal(60)) + 3 / (1 + np.arange(60)))
    values[30] = np.nan
    ours = schedules.Plateau(
        0.3,
        0.5,
        patience,
        mode=mode,
        threshold=0.05,
        threshold_mode=threshold_mode,
        cooldown=cooldown,
        minimum=0.001,
        eps=1e-3,
    )
    optimizer = O.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = L.ReduceLROnPlateau(
        optimizer, mode, 0.5, patience, 0.05, threshold_mode, cooldown, min_lr=0.001, eps=1e-3
    )
    for t, value in enumerate(values):
        assert ours(t) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        ours.observe(value)
        theirs.step(value)
    assert ours(60) < 0.3
