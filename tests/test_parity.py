"""The layers, losses and optimizers against PyTorch's: values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import close, randomise
from parity import torch

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn

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


def packed_run(theirs: Any, x: Any, state: Any, lengths: list[int]) -> list[Any]:
    """PyTorch's results on packed sequences. It takes no row of length 0: such a row gives zeros
    and its initial state, which is the rule here.
    """
    steps = x.shape[1 if theirs.batch_first else 0]
    batch = 0 if theirs.batch_first else 1
    rows = torch.tensor([k for k, n in enumerate(lengths) if n > 0], dtype=torch.long)
    states = [*state] if isinstance(state, tuple | list) else [state]
    size = theirs.num_layers * (2 if theirs.bidirectional else 1)
    for k, width in enumerate((theirs.proj_size or theirs.hidden_size, theirs.hidden_size)):
        if k < len(states) and states[k] is None:
            states[k] = torch.zeros(size, len(lengths), width, dtype=x.dtype)
    if len(rows) == 0:
        ways = 2 if theirs.bidirectional else 1
        width = ways * (theirs.proj_size or theirs.hidden_size)
        return [torch.zeros(*x.shape[:2], width, dtype=x.dtype, requires_grad=True), *states]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x.index_select(batch, rows),
        torch.tensor([lengths[k] for k in rows]),
        theirs.batch_first,
        enforce_sorted=False,
    )
    chosen = [s.index_select(1, rows) for s in states]
    y, last = theirs(packed, tuple(chosen) if len(chosen) == 2 else chosen[0])
    y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, theirs.batch_first, total_length=steps)
    shape = [*x.shape[:2], y.shape[2]]
    output = torch.zeros(shape, dtype=x.dtype).index_copy(batch, rows, y)
    lasts = last if isinstance(last, tuple) else (last,)
    return [output, *(s.index_copy(1, rows, t) for s, t in zip(states, lasts, strict=True))]


@pytest.mark.parametrize("kind", KINDS)
@given(
    layers=st.integers(1, 3),
    sizes=st.permutations([2, 3, 4]),
    steps=st.sampled_from([1, 2, 5]),
    bias=st.booleans(),
    layout=st.sampled_from(["time first", "batch first", "no batch"]),
    bidirectional=st.booleans(),
    projected=st.booleans(),
    lengths=st.none() | st.lists(st.integers(0, 5), min_size=4, max_size=4),
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
    layout: str,
    bidirectional: bool,
    projected: bool,
    lengths: list[int] | None,
    given_state: bool,
    used: str,
    seed: int,
) -> None:
    our_kind, their_kind, options = KINDS[kind]
    inputs, hidden, batch = sizes
    batch_first = layout == "batch first"
    options = {
        "num_layers": layers,
        "bias": bias,
        "batch_first": batch_first,
        "bidirectional": bidirectional,
        **options,
    }
    width = hidden
    if projected and kind == "lstm":
        width = options["proj_size"] = hidden - 1
    ours = randomise(our_kind(inputs, hidden, **options), seed)
    theirs = load(their_kind(inputs, hidden, **options, dtype=torch.float64), ours)
    rng = np.random.default_rng(seed)
    rows = () if layout == "no batch" else (batch,)
    shape = (*rows, steps, inputs) if batch_first else (steps, *rows, inputs)
    x, x_t = both(rng.standard_normal(shape))
    ways = layers * (2 if bidirectional else 1)
    pairs = [both(rng.standard_normal((ways, *rows, size))) for size in (width, hidden)]
    state = state_t = [None, None] if kind == "lstm" else None
    if given_state:
        state, state_t = zip(*pairs, strict=True) if kind == "lstm" else pairs[0]
    our_state = state if given_state else None

    if lengths is None or layout == "no batch":
        parts = flat(*ours(x, our_state))
        parts_t = flat(*theirs(x_t, state_t if given_state else None))
    else:
        lengths = [n % (steps + 1) for n in lengths[:batch]]
        parts = flat(*ours(x, our_state, lengths=lengths))
        parts_t = packed_run(theirs, x_t, state_t, lengths)
    for part, part_t in zip(parts, parts_t, strict=True):
        close(part, part_t.detach().numpy())
    ours_used = weighted(parts, used, seed, batch_first)
    theirs_used = weighted(parts_t, used, seed, batch_first)
    ours_used.backward()
    if theirs_used.requires_grad:
        theirs_used.backward()
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


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("kind", [*KINDS, "projected"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_weights_travel_both_ways(kind: str, bidirectional: bool) -> None:
    our_kind, their_kind, options = KINDS.get(kind, KINDS["lstm"])
    options = {"num_layers": 2, "bidirectional": bidirectional, **options}
    if kind == "projected":
        options["proj_size"] = 2
    first, second = (their_kind(3, 5, **options) for _ in range(2))
    ours = our_kind(3, 5, **options)
    given_state = {name: value.numpy() for name, value in first.state_dict().items()}
    assert [(k, v.shape) for k, v in ours.state_dict().items()] == [
        (k, v.shape) for k, v in given_state.items()
    ]
    ours.load_state_dict(first.state_dict())
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


@pytest.mark.parametrize("momentum", [0.1, 0.7, 0.0, None])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tracking", [True, False])
@pytest.mark.parametrize("shape", [(6, 3), (2, 3), (5, 4, 3)])
def test_batch_norm(
    momentum: float | None, affine: bool, tracking: bool, shape: tuple[int, ...]
) -> None:
    """Also a sequence (T, B, C), which equals the rows (T * B, C)."""
    options: dict[str, Any] = {"momentum": momentum, "affine": affine}
    options["track_running_stats"] = tracking
    ours = randomise(nn.BatchNorm1d(3, 0.01, **options))
    theirs = load(torch.nn.BatchNorm1d(3, 0.01, **options, dtype=torch.float64), ours)
    rng = np.random.default_rng(0)
    for k in range(5):
        if k == 3:
            ours.eval()
            theirs.eval()
        x, x_t = both(2 * rng.standard_normal(shape) + 1)
        ours.zero_grad()
        theirs.zero_grad()
        y, y_t = ours(x), theirs(x_t.reshape(-1, 3)).reshape(shape)
        close(y, y_t.detach().numpy())
        weighted([y], "all", k, False).backward()
        weighted([y_t], "all", k, False).backward()
        compare_gradients(x, x_t)
        compare_modules(ours, theirs)
        have = ours.state_dict()
        assert set(have) == set(theirs.state_dict())
        for name, value in theirs.state_dict().items():
            assert str(have[name].dtype) == str(value.dtype).removeprefix("torch.")
            close(have[name], value.numpy())
    ours.load_state_dict(theirs.state_dict())


def test_batch_norm_with_a_mask() -> None:
    """The padded steps left out, as if the others were the rows of PyTorch's batch."""
    ours = randomise(nn.BatchNorm1d(3))
    theirs = load(torch.nn.BatchNorm1d(3, dtype=torch.float64), ours)
    rng = np.random.default_rng(0)
    for _ in range(3):
        mask = rng.random((5, 4)) < 0.6
        values = rng.standard_normal((5, 4, 3))
        x, x_t = both(np.where(mask[..., None], values, np.nan))[0], both(values[mask])[1]
        ours.zero_grad()
        theirs.zero_grad()
        y, y_t = ours(x, mask=mask), theirs(x_t)
        close(y.numpy()[mask], y_t.detach().numpy())
        assert np.all(y.numpy()[~mask] == 0)
        w = rng.standard_normal((5, 4, 3))
        (y * w).sum().backward()
        (y_t * torch.from_numpy(w[mask])).sum().backward()
        close(x.grad.numpy()[mask], x_t.grad.numpy())
        assert np.all(x.grad.numpy()[~mask] == 0)
        compare_modules(ours, theirs)
        for name, value in theirs.state_dict().items():
            close(ours.state_dict()[name], value.numpy())


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
    ours = nn.CrossEntropyLoss(ignore_index=ignore, reduction=reduction)(x, labels)
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
        (nn.HuberLoss(delta=2.5, **r), torch.nn.HuberLoss(delta=2.5, **r), targets),
    ]:
        x, x_t = both(values)
        target, target_t = both(t)
        compare_losses(ours(x, target), theirs(x_t, target_t), x, x_t)
        compare_gradients(target, target_t)
