"""The layers, losses and optimizers against PyTorch's: values and gradients."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import close, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn

if os.environ.get("CI"):
    import torch
else:
    torch = pytest.importorskip("torch", reason="the comparison needs PyTorch 2.13.0")

pytestmark = pytest.mark.parity

F = torch.nn.functional
KINDS = {
    "tanh": (rnn.RNN, torch.nn.RNN, {"nonlinearity": "tanh"}),
    "relu": (rnn.RNN, torch.nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (rnn.LSTM, torch.nn.LSTM, {}),
    "gru": (rnn.GRU, torch.nn.GRU, {}),
}
CELLS = {
    "tanh": (rnn.RNNCell, torch.nn.RNNCell, {"nonlinearity": "tanh"}),
    "relu": (rnn.RNNCell, torch.nn.RNNCell, {"nonlinearity": "relu"}),
    "lstm": (rnn.LSTMCell, torch.nn.LSTMCell, {}),
    "gru": (rnn.GRUCell, torch.nn.GRUCell, {}),
}


def load(theirs: Any, ours: nn.Module) -> Any:
    """PyTorch's module with our weights."""
    state = {name: torch.from_numpy(array) for name, array in ours.state_dict().items()}
    theirs.load_state_dict(state)
    return theirs


def both(values: np.ndarray) -> tuple[tg.Tensor, Any]:
    return tg.tensor(values, requires_grad=True), torch.tensor(values, requires_grad=True)


def compare_gradients(ours: Any, theirs: Any, rtol: float = 1e-10) -> None:
    """Two values' gradients; one that nothing depends on is as good as zero."""
    shape = tuple(theirs.shape)
    have = np.zeros(shape) if ours.grad is None else ours.grad
    close(have, np.zeros(shape) if theirs.grad is None else theirs.grad.numpy(), rtol)


def compare_modules(ours: nn.Module, theirs: Any, rtol: float = 1e-10) -> None:
    named = dict(theirs.named_parameters())
    assert list(named) == [name for name, _ in ours.named_parameters()]
    for name, parameter in ours.named_parameters():
        compare_gradients(parameter, named[name], rtol)


def flat(output: Any, state: Any) -> list[Any]:
    return [output, *(state if isinstance(state, tuple) else [state])]


def weighted(parts: list[Any], used: str, seed: int, batch_first: bool) -> Any:
    """A scalar of the parts that are used: all, the last y, or one of the last states."""
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal(tuple(part.shape)) for part in parts]
    if used == "last y":
        index = np.s_[:, -1] if batch_first else np.s_[-1]
        parts, weights = [parts[0][index]], [weights[0][index]]
    elif used in ("h_n", "c_n"):
        k = min(len(parts) - 1, 1 if used == "h_n" else 2)
        parts, weights = [parts[k]], [weights[k]]
    total: Any = 0
    for part, w in zip(parts, weights, strict=True):
        total = total + (part * (w if isinstance(part, tg.Tensor) else torch.from_numpy(w))).sum()
    return total


@pytest.mark.parametrize("kind", KINDS)
@given(
    layers=st.integers(1, 3),
    sizes=st.permutations([2, 3, 4]),
    steps=st.sampled_from([1, 2, 5]),
    bias=st.booleans(),
    batch_first=st.booleans(),
    given_state=st.booleans(),
    used=st.sampled_from(["all", "last y", "h_n", "c_n"]),
    seed=st.integers(0, 99),
)
def test_layers(
    kind: str,
    layers: int,
    sizes: list[int],
    steps: int,
    bias: bool,
    batch_first: bool,
    given_state: bool,
    used: str,
    seed: int,
) -> None:
    our_kind, their_kind, options = KINDS[kind]
    inputs, hidden, batch = sizes
    options = {"num_layers": layers, "bias": bias, "batch_first": batch_first, **options}
    ours = randomise(our_kind(inputs, hidden, **options), seed)
    theirs = load(their_kind(inputs, hidden, **options, dtype=torch.float64), ours)
    rng = np.random.default_rng(seed)
    x, x_t = both(
        rng.standard_normal((batch, steps, inputs) if batch_first else (steps, batch, inputs))
    )
    pairs = [both(rng.standard_normal((layers, batch, hidden))) for _ in range(2)]
    state = state_t = None
    if given_state:
        state, state_t = zip(*pairs, strict=True) if kind == "lstm" else pairs[0]

    parts = flat(*ours(x, state))
    parts_t = flat(*theirs(x_t, state_t))
    for part, part_t in zip(parts, parts_t, strict=True):
        close(part, part_t.detach().numpy())
    weighted(parts, used, seed, batch_first).backward()
    weighted(parts_t, used, seed, batch_first).backward()
    compare_gradients(x, x_t)
    compare_modules(ours, theirs)
    if given_state:
        for h, h_t in pairs if kind == "lstm" else pairs[:1]:
            compare_gradients(h, h_t)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_in_float32(kind: str) -> None:
    our_kind, their_kind, options = KINDS[kind]
    steps = 30
    ours = our_kind(5, 7, 2, **options)
    theirs = load(their_kind(5, 7, 2, **options), ours)
    x, x_t = both(np.random.default_rng(3).standard_normal((steps, 4, 5)).astype(np.float32))
    parts, parts_t = flat(*ours(x)), flat(*theirs(x_t))
    for part, part_t in zip(parts, parts_t, strict=True):
        assert part.dtype == np.float32
        close(part, part_t.detach().numpy(), 1e-5 * steps)
    weighted(parts, "all", 1, False).backward()
    weighted(parts_t, "all", 1, False).backward()
    compare_gradients(x, x_t, 1e-5 * steps)
    compare_modules(ours, theirs, 1e-5 * steps)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", CELLS)
def test_cells(kind: str, bias: bool) -> None:
    our_kind, their_kind, options = CELLS[kind]
    ours = randomise(our_kind(3, 4, bias=bias, **options))
    theirs = load(their_kind(3, 4, bias=bias, **options, dtype=torch.float64), ours)
    rng = np.random.default_rng(0)
    x, x_t = both(rng.standard_normal((2, 3)))
    pairs = [both(rng.standard_normal((2, 4))) for _ in range(2)]
    state, state_t = zip(*pairs, strict=True) if kind == "lstm" else pairs[0]
    y, found = ours(x, state)
    found_t = theirs(x_t, state_t)
    parts = [*found] if kind == "lstm" else [found]
    parts_t = [*found_t] if kind == "lstm" else [found_t]
    close(y, parts_t[0].detach().numpy())
    weighted(parts, "all", 5, False).backward()
    weighted(parts_t, "all", 5, False).backward()
    for part, part_t in zip(parts, parts_t, strict=True):
        close(part, part_t.detach().numpy())
    compare_gradients(x, x_t)
    compare_modules(ours, theirs)
    for h, h_t in pairs if kind == "lstm" else pairs[:1]:
        compare_gradients(h, h_t)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_travel_both_ways(kind: str) -> None:
    our_kind, their_kind, options = KINDS[kind]
    first, second = (their_kind(3, 5, num_layers=2, **options) for _ in range(2))
    ours = our_kind(3, 5, num_layers=2, **options)
    given_state = {name: value.numpy() for name, value in first.state_dict().items()}
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in given_state.items()
    }
    ours.load_state_dict(given_state)
    load(second, ours)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    close(ours(tg.tensor(x))[0], first(torch.from_numpy(x))[0].detach().numpy(), 1e-5)


# Layers without time


def test_linear_and_layer_norm() -> None:
    rng = np.random.default_rng(0)
    cases = [
        (nn.Linear(3, 4), torch.nn.Linear(3, 4, dtype=torch.float64), (5, 2, 3)),
        (nn.Linear(3, 4, False), torch.nn.Linear(3, 4, False, dtype=torch.float64), (2, 3)),
        (nn.LayerNorm(4), torch.nn.LayerNorm(4, dtype=torch.float64), (2, 3, 4)),
        (
            nn.LayerNorm((3, 4), 0.1),
            torch.nn.LayerNorm([3, 4], 0.1, dtype=torch.float64),
            (2, 3, 4),
        ),
        (
            nn.LayerNorm(4, bias=False),
            torch.nn.LayerNorm(4, bias=False, dtype=torch.float64),
            (3, 4),
        ),
    ]
    for ours, theirs, shape in cases:
        load(theirs, randomise(ours))
        x, x_t = both(rng.standard_normal(shape))
        y, y_t = ours(x), theirs(x_t)
        close(y, y_t.detach().numpy())
        weighted([y], "all", 1, False).backward()
        weighted([y_t], "all", 1, False).backward()
        compare_gradients(x, x_t)
        compare_modules(ours, theirs)


def test_embedding() -> None:
    ours = randomise(nn.Embedding(6, 3))
    theirs = load(torch.nn.Embedding(6, 3, dtype=torch.float64), ours)
    indices = np.array([[1, 5, 1], [0, 1, 5]])
    y, y_t = ours(tg.tensor(indices)), theirs(torch.from_numpy(indices))
    close(y, y_t.detach().numpy())
    weighted([y], "all", 1, False).backward()
    weighted([y_t], "all", 1, False).backward()
    compare_modules(ours, theirs)


REDUCTIONS = ["mean", "sum", "none"]


def compare_losses(ours: Any, theirs: Any, x: tg.Tensor, x_t: Any) -> None:
    close(ours, theirs.detach().numpy())
    weighted([ours], "all", 1, False).backward()
    weighted([theirs], "all", 1, False).backward()
    compare_gradients(x, x_t)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignore", [-100, 2])
def test_cross_entropy(reduction: str, ignore: int) -> None:
    rng = np.random.default_rng(0)
    x, x_t = both(3 * rng.standard_normal((4, 3, 5)))
    labels = rng.integers(0, 5, (4, 3))
    labels[0, 1] = labels[3, 2] = ignore
    ours = nn.CrossEntropyLoss(ignore, reduction)(x, labels)
    theirs = F.cross_entropy(
        x_t.reshape(-1, 5),
        torch.from_numpy(labels).reshape(-1),
        ignore_index=ignore,
        reduction=reduction,
    )
    compare_losses(ours, theirs.reshape(4, 3) if reduction == "none" else theirs, x, x_t)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_losses_of_pairs(reduction: str) -> None:
    rng = np.random.default_rng(0)
    values, targets = 3 * rng.standard_normal((2, 4, 3))
    likely = rng.random((4, 3))
    r: Any = {"reduction": reduction}
    for ours, theirs, t in [
        (nn.BCEWithLogitsLoss(**r), torch.nn.BCEWithLogitsLoss(**r), likely),
        (nn.MSELoss(**r), torch.nn.MSELoss(**r), targets),
        (nn.L1Loss(**r), torch.nn.L1Loss(**r), targets),
        (nn.HuberLoss(**r), torch.nn.HuberLoss(**r), targets),
        (nn.HuberLoss(2.5, **r), torch.nn.HuberLoss(delta=2.5, **r), targets),
    ]:
        x, x_t = both(values)
        target, target_t = both(t)
        compare_losses(ours(x, target), theirs(x_t, target_t), x, x_t)
        compare_gradients(target, target_t)


# Optimizers


class OurModel(nn.Module):
    def __init__(self) -> None:
        self.embedding = nn.Embedding(7, 5)
        self.lstm = rnn.LSTM(5, 6)
        self.head = nn.Linear(6, 7)

    def forward(self, tokens: Any) -> Any:
        return self.head(self.lstm(self.embedding(tokens))[0])


class TheirModel(torch.nn.Module):  # pyright: ignore[reportGeneralTypeIssues]
    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(7, 5)
        self.lstm = torch.nn.LSTM(5, 6)
        self.head = torch.nn.Linear(6, 7)

    def forward(self, tokens: Any) -> Any:
        return self.head(self.lstm(self.embedding(tokens))[0])


OPTIMIZERS = {
    "sgd": (optim.SGD, torch.optim.SGD, {"lr": 0.5}),
    "momentum": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "nesterov": (
        optim.SGD,
        torch.optim.SGD,
        {"lr": 0.1, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01},
    ),
    "adam": (optim.Adam, torch.optim.Adam, {"lr": 0.02}),
    "adam decaying": (
        optim.Adam,
        torch.optim.Adam,
        {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.02},
    ),
}


@pytest.mark.parametrize("clip", [None, "norm", "value"])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_200_steps_of_one_model(kind: str, clip: str | None) -> None:
    our_kind, their_kind, options = OPTIMIZERS[kind]
    ours = randomise(OurModel())
    theirs = load(TheirModel().double(), ours)
    limit = {None: None, "norm": optim.ClipNorm(0.3), "value": optim.ClipValue(0.02)}[clip]
    optimizer = our_kind(ours.parameters(), **options, clip=limit)
    optimizer_t = their_kind(theirs.parameters(), **options)
    batches = np.random.default_rng(0).integers(0, 7, (3, 4, 2))
    clipped = 0
    for k in range(200):
        tokens = batches[k % 3]
        ours.zero_grad()
        loss = nn.cross_entropy(ours(tokens[:-1]), tokens[1:])
        loss.backward()
        report = optimizer.step()

        theirs.zero_grad()
        tokens_t = torch.from_numpy(tokens)
        logits = theirs(tokens_t[:-1]).reshape(-1, 7)
        loss_t = F.cross_entropy(logits, tokens_t[1:].reshape(-1))
        loss_t.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in theirs.parameters()])
        if clip == "norm":
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 0.3)
        elif clip == "value":
            torch.nn.utils.clip_grad_value_(theirs.parameters(), 0.02)
        optimizer_t.step()
        assert loss.item() == pytest.approx(loss_t.item(), rel=1e-6, abs=1e-6)
        assert report.norm == pytest.approx(norm.item(), rel=1e-6, abs=1e-6)
        clipped += report.clipped
    assert bool(clipped) == (clip is not None)


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
        compare_gradients(p, p_t)
    assert ours[2].grad is None
