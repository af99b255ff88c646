"""Bad input to nn/, rnn/ and optim/, in one table: each is refused in one sentence that names the
layer, says what came and what was expected.
"""

# Calls that a type checker refuses too are the point of this file.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn

X = tg.ones((5, 2, 3))
H = tg.zeros((2, 2, 4))
ROW = tg.ones((2, 3))
LOGITS = tg.zeros((2, 3))


def strict(*shape: int) -> tg.Tensor:
    return tg.ones(shape, device="strict")


class Wordless(rnn.Cell):
    """A user's cell that forgets to return the state."""

    input_size = hidden_size = 3

    def step(self, x: Any, state: Any) -> Any:
        return x + state


class Unwritten(rnn.Cell):
    input_size = hidden_size = 3


def trainable() -> list[nn.Parameter]:
    return [nn.Parameter([1.0])]


CASES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    # Shapes, dtypes and devices of inputs
    (
        lambda: nn.Linear(4, 2)(X),
        ValueError,
        "Linear: inputs must have shape (..., 4), got (5, 2, 3)",
    ),
    (
        lambda: nn.Linear(4, 2)(tg.tensor(1.0)),
        ValueError,
        "Linear: inputs must have shape (..., 4), got ()",
    ),
    (
        lambda: nn.Linear(3, 2)(tg.ones((2, 3), int)),
        TypeError,
        "Linear: inputs must be float32 as its parameters are, got int64; convert one of them "
        "with .to(dtype)",
    ),
    (
        lambda: nn.Linear(3, 2)(np.ones((2, 3), np.float32)),
        TypeError,
        "Linear: inputs must be a Tensor, got ndarray",
    ),
    (
        lambda: nn.Linear(3, 2)(strict(2, 3)),
        tg.DeviceError,
        "Linear: inputs must be on cpu as its parameters are, got strict; bring them to one device "
        "with .to(device)",
    ),
    (
        lambda: nn.Linear(3, 2)(),
        TypeError,
        "Linear: forward() missing 1 required positional argument: 'x'",
    ),
    (
        lambda: rnn.LSTM(3, 4)(X, states=None),
        TypeError,
        "LSTM: forward() got an unexpected keyword argument 'states'",
    ),
    (
        lambda: nn.LayerNorm((3, 4))(X),
        ValueError,
        "LayerNorm: inputs must have shape (..., 3, 4), got (5, 2, 3)",
    ),
    (
        lambda: nn.LayerNorm((3, 4))(tg.ones(4)),
        ValueError,
        "LayerNorm: inputs must have shape (..., 3, 4), got (4,)",
    ),
    (
        lambda: nn.LayerNorm(3)(X.to(np.float64)),
        TypeError,
        "LayerNorm: inputs must be float32 as its parameters are, got float64; convert one of them "
        "with .to(dtype)",
    ),
    (
        lambda: nn.LayerNorm(3).to("strict")(X),
        tg.DeviceError,
        "LayerNorm: inputs must be on strict as its parameters are, got cpu; bring them to one "
        "device with .to(device)",
    ),
    (
        lambda: nn.Dropout()(tg.ones(3, int)),
        TypeError,
        "Dropout: inputs must be floating, got int64",
    ),
    (lambda: nn.Dropout()([1.0]), TypeError, "Dropout: inputs must be a Tensor, got list"),
    # Indices and labels
    (
        lambda: nn.Embedding(5, 3)([0, 5]),
        IndexError,
        "Embedding: index 5 is out of range for 5 entries",
    ),
    (
        lambda: nn.Embedding(5, 3)([0, -1]),
        IndexError,
        "Embedding: index -1 is out of range for 5 entries",
    ),
    (
        lambda: nn.Embedding(5, 3).to("strict")([[0, 7]]),
        IndexError,
        "Embedding: index 7 is out of range for 5 entries",
    ),
    (
        lambda: nn.Embedding(5, 3)(tg.ones(2)),
        TypeError,
        "Embedding: indices must be integers, got float32",
    ),
    (
        lambda: nn.Embedding(5, 3)(np.array([True, False])),
        TypeError,
        "Embedding: indices must be integers, got bool",
    ),
    (
        lambda: nn.Embedding(5, 3)(tg.zeros(2, int, "strict")),
        tg.DeviceError,
        "Embedding: indices must be on cpu as its parameters are, got strict; bring them to one "
        "device with .to(device)",
    ),
    (
        lambda: nn.cross_entropy(LOGITS, [0, 3]),
        IndexError,
        "cross_entropy: label 3 is out of range for 3 classes",
    ),
    (
        lambda: nn.cross_entropy(LOGITS, [0, -1]),
        IndexError,
        "cross_entropy: label -1 is out of range for 3 classes",
    ),
    (
        lambda: nn.cross_entropy(LOGITS.to("strict"), [0, -100], ignore_index=2),
        IndexError,
        "cross_entropy: label -100 is out of range for 3 classes",
    ),
    (
        lambda: nn.cross_entropy(LOGITS, [0.0, 1.0]),
        TypeError,
        "cross_entropy: labels must be integers, got float32",
    ),
    (
        lambda: nn.cross_entropy(LOGITS, [0, 1, 2]),
        ValueError,
        "cross_entropy: logits (..., C) and labels (...) do not fit: (2, 3) and (3,)",
    ),
    (
        lambda: nn.cross_entropy(tg.tensor(1.0), 0),
        ValueError,
        "cross_entropy: logits (..., C) and labels (...) do not fit: () and ()",
    ),
    (
        lambda: nn.cross_entropy(LOGITS, [0, 1], mask=[True]),
        ValueError,
        "cross_entropy: the mask must have shape (2,), got (1,)",
    ),
    (
        lambda: nn.cross_entropy(LOGITS, [0, 1], reduction="average"),
        ValueError,
        "cross_entropy: reduction must be 'mean', 'sum' or 'none', got 'average'",
    ),
    (
        lambda: nn.cross_entropy(LOGITS, tg.zeros(2, int, "strict")),
        tg.DeviceError,
        "cross_entropy: labels must be on cpu as the logits are, got strict; bring them to one "
        "device with .to(device)",
    ),
    (
        lambda: nn.cross_entropy(tg.zeros((2, 3), int), [0, 1]),
        TypeError,
        "cross_entropy: logits must be floating, got int64",
    ),
    # Losses of pairs
    (
        lambda: nn.mse_loss(tg.ones((2, 3)), tg.ones((2, 1))),
        ValueError,
        "mse_loss: predictions and targets must have one shape, got (2, 3) and (2, 1)",
    ),
    (
        lambda: nn.mse_loss(tg.ones(2, int), [0.5, 0.5]),
        TypeError,
        "mse_loss: predictions must be floating, got int64",
    ),
    (
        lambda: nn.l1_loss(np.ones(2), [0.5, 0.5]),
        TypeError,
        "l1_loss: predictions must be a Tensor, got ndarray",
    ),
    (
        lambda: nn.binary_cross_entropy_with_logits(tg.ones(2), strict(2)),
        tg.DeviceError,
        "binary_cross_entropy_with_logits: targets must be on cpu as the predictions are, got "
        "strict; bring them to one device with .to(device)",
    ),
    (
        lambda: nn.huber_loss(tg.ones(2), tg.ones(2), delta=0.0),
        ValueError,
        "huber_loss: delta must be positive, got 0.0",
    ),
    (
        lambda: nn.mse_loss(tg.ones(2), tg.ones(2), mask=tg.ones(2, bool, "strict")),
        tg.DeviceError,
        "mse_loss: the mask must be on cpu as the losses are, got strict; bring them to one device "
        "with .to(device)",
    ),
    # Inputs over time
    (
        lambda: rnn.LSTM(8, 4)(X),
        ValueError,
        "LSTM: inputs must have shape (T, B, 8), got (5, 2, 3)",
    ),
    (
        lambda: rnn.GRU(8, 4, batch_first=True)(X),
        ValueError,
        "GRU: inputs must have shape (B, T, 8), got (5, 2, 3)",
    ),
    (
        lambda: rnn.Recurrent(rnn.GRUCell(8, 4))(X),
        ValueError,
        "Recurrent(GRUCell): inputs must have shape (T, B, 8), got (5, 2, 3)",
    ),
    (
        lambda: rnn.RNNCell(8, 4)(ROW),
        ValueError,
        "RNNCell: inputs must have shape (B, 8), got (2, 3)",
    ),
    (
        lambda: rnn.LSTM(3, 4)([[[1.0, 2.0, 3.0]]]),
        TypeError,
        "LSTM: inputs must be a Tensor, got list",
    ),
    (
        lambda: rnn.RNN(3, 4)(tg.ones((0, 2, 3))),
        ValueError,
        "RNN: inputs must have at least one time step, got (0, 2, 3)",
    ),
    (
        lambda: rnn.Recurrent(rnn.LSTMCell(3, 4), batch_first=True)(tg.ones((2, 0, 3))),
        ValueError,
        "Recurrent(LSTMCell): inputs must have at least one time step, got (2, 0, 3)",
    ),
    (
        lambda: rnn.GRU(3, 4)(X.to(np.float64)),
        TypeError,
        "GRU: inputs must be float32 as its parameters are, got float64; convert one of them with "
        ".to(dtype)",
    ),
    (
        lambda: rnn.LSTM(3, 4)(tg.ones((5, 2, 3), int)),
        TypeError,
        "LSTM: inputs must be float32 as its parameters are, got int64; convert one of them with "
        ".to(dtype)",
    ),
    (
        lambda: rnn.LSTM(3, 4)(strict(5, 2, 3)),
        tg.DeviceError,
        "LSTM: inputs must be on cpu as its parameters are, got strict; bring them to one device "
        "with .to(device)",
    ),
    # States
    (
        lambda: rnn.LSTM(3, 4, 2)(X, H),
        TypeError,
        "LSTM: the state must be LSTMState(float32 (2, 2, 4), float32 (2, 2, 4)), got float32 "
        "(2, 2, 4)",
    ),
    (
        lambda: rnn.LSTM(3, 4, 2)(X, (H, H, H)),
        TypeError,
        "LSTM: the state must be LSTMState(float32 (2, 2, 4), float32 (2, 2, 4)), got "
        "tuple(float32 (2, 2, 4), float32 (2, 2, 4), float32 (2, 2, 4))",
    ),
    (
        lambda: rnn.LSTM(3, 4, 2)(X, {"c": H, "h": H}),
        TypeError,
        "LSTM: the state must be LSTMState(float32 (2, 2, 4), float32 (2, 2, 4)), got "
        "dict(c: float32 (2, 2, 4), h: float32 (2, 2, 4))",
    ),
    (
        lambda: rnn.LSTM(3, 4, 2)(X, (H, None)),
        TypeError,
        "LSTM: the state must be LSTMState(float32 (2, 2, 4), float32 (2, 2, 4)), got "
        "tuple(float32 (2, 2, 4), a NoneType)",
    ),
    (
        lambda: rnn.GRU(3, 4, 2)(X, (H, H)),
        TypeError,
        "GRU: the state must be float32 (2, 2, 4), got tuple(float32 (2, 2, 4), float32 (2, 2, 4))",
    ),
    (
        lambda: rnn.GRU(3, 4, 3)(X, H),
        ValueError,
        "GRU: the state must be float32 (3, 2, 4), got float32 (2, 2, 4)",
    ),
    (
        lambda: rnn.GRU(3, 4, 2)(tg.ones((5, 1, 3)), H),
        ValueError,
        "GRU: the state must be float32 (2, 1, 4), got float32 (2, 2, 4)",
    ),
    (
        lambda: rnn.RNN(3, 4, 2)(X, H.to(np.float64)),
        TypeError,
        "RNN: the state must be float32 (2, 2, 4), got float64 (2, 2, 4)",
    ),
    (
        lambda: rnn.RNN(3, 4, 2)(X, H.to("strict")),
        tg.DeviceError,
        "RNN: the state must be float32 (2, 2, 4), got float32 (2, 2, 4) on strict",
    ),
    (
        lambda: rnn.RNN(3, 4, 2)(X, H.numpy()),
        TypeError,
        "RNN: the state must be float32 (2, 2, 4), got a ndarray",
    ),
    (
        lambda: rnn.LSTMCell(3, 4)(ROW, tg.zeros((2, 4))),
        TypeError,
        "LSTMCell: the state must be LSTMState(float32 (2, 4), float32 (2, 4)), got float32 (2, 4)",
    ),
    (
        lambda: rnn.Recurrent(rnn.GRUCell(3, 4))(X, tg.zeros((1, 2, 4))),
        ValueError,
        "Recurrent(GRUCell): the state must be float32 (2, 4), got float32 (1, 2, 4)",
    ),
    (
        lambda: rnn.Stacked([rnn.GRU(3, 4), nn.Dropout()])(X, (None,)),
        ValueError,
        "Stacked: the state must have 2 entries, one per layer, got 1",
    ),
    (
        lambda: rnn.Stacked([rnn.GRU(3, 4), nn.Dropout()])(X, H),
        TypeError,
        "Stacked: the state must be a tuple with an entry per layer, got Tensor",
    ),
    (
        lambda: rnn.Stacked([nn.Dropout(), rnn.GRU(3, 4)])(X, (H, None)),
        TypeError,
        "Stacked: layer 0 is a Dropout, which has no state: its entry must be None, got Tensor",
    ),
    # Lengths
    (
        lambda: rnn.LSTM(3, 4)(X, lengths=[6, 1]),
        ValueError,
        "LSTM: a length must lie between 0 and T = 5, got 6",
    ),
    (
        lambda: rnn.GRU(3, 4, batch_first=True)(X, lengths=[2, 3, 2, 2, 2]),
        ValueError,
        "GRU: a length must lie between 0 and T = 2, got 3",
    ),
    (
        lambda: rnn.Recurrent(rnn.GRUCell(3, 4))(X, lengths=[2, -1]),
        ValueError,
        "Recurrent(GRUCell): a length must lie between 0 and T = 5, got -1",
    ),
    (
        lambda: rnn.RNN(3, 4)(X, lengths=[2, 3, 4]),
        ValueError,
        "RNN: lengths must have shape (2,), one per sequence, got (3,)",
    ),
    (
        lambda: rnn.RNN(3, 4)(X, lengths=[]),
        ValueError,
        "RNN: lengths must have shape (2,), one per sequence, got (0,)",
    ),
    (
        lambda: rnn.RNN(3, 4)(X, lengths=[[2], [3]]),
        ValueError,
        "RNN: lengths must have shape (2,), one per sequence, got (2, 1)",
    ),
    (
        lambda: rnn.RNN(3, 4)(X, lengths=3),
        ValueError,
        "RNN: lengths must have shape (2,), one per sequence, got ()",
    ),
    (
        lambda: rnn.RNN(3, 4)(X, lengths=[2.0, 3.0]),
        TypeError,
        "RNN: lengths must be integers, got float64",
    ),
    (
        lambda: rnn.RNN(3, 4)(X, lengths=np.array([True, False])),
        TypeError,
        "RNN: lengths must be integers, got bool",
    ),
    (
        lambda: rnn.RNN(3, 4)(X, lengths=tg.tensor([2.0, 3.0])),
        TypeError,
        "RNN: lengths must be integers, got float32",
    ),
    (
        lambda: rnn.RNN(3, 4)(X, lengths=[2, None]),
        TypeError,
        "RNN: lengths must be integers, got object",
    ),
    (
        lambda: rnn.RNN(3, 4)(X[:, 0], lengths=[2, 3]),
        ValueError,
        "RNN: lengths must have shape (1,), one per sequence, got (2,)",
    ),
    (
        lambda: rnn.Stacked([nn.Linear(3, 3), rnn.GRU(3, 4)])(X, lengths=[9, 9]),
        ValueError,
        "Stacked: a length must lie between 0 and T = 5, got 9",
    ),
    (
        lambda: rnn.Stacked([nn.Embedding(3, 3), rnn.GRU(3, 4)])([[1], [2]], lengths=[2]),
        TypeError,
        "Stacked: inputs must be a Tensor, got list",
    ),
    (
        lambda: rnn.Stacked([nn.Linear(3, 3), rnn.GRU(3, 4)])(tg.ones(3), lengths=[1]),
        ValueError,
        "Stacked: inputs must have a time axis, got shape (3,)",
    ),
    # States without a batch
    (
        lambda: rnn.GRU(3, 4, 2)(X[:, 0], H),
        ValueError,
        "GRU: the state must be float32 (2, 4), got float32 (2, 2, 4)",
    ),
    (
        lambda: rnn.GRU(3, 4, 2)(X, H[:, 0]),
        ValueError,
        "GRU: the state must be float32 (2, 2, 4), got float32 (2, 4)",
    ),
    (
        lambda: rnn.Recurrent(rnn.LSTMCell(3, 4))(X[:, 0], rnn.LSTMState(H[0], H[0])),
        ValueError,
        "Recurrent(LSTMCell): the state must be LSTMState(float32 (4,), float32 (4,)), got "
        "LSTMState(float32 (2, 4), float32 (2, 4))",
    ),
    (
        lambda: rnn.LSTM(3, 4, bidirectional=True, proj_size=2)(X, (H, H)),
        ValueError,
        "LSTM: the state must be LSTMState(float32 (2, 2, 2), float32 (2, 2, 4)), got "
        "tuple(float32 (2, 2, 4), float32 (2, 2, 4))",
    ),
    # Wrappers
    (
        lambda: rnn.Bidirectional(rnn.GRU(3, 4), nn.Linear(3, 4)),
        TypeError,
        "Bidirectional: Linear is not a recurrent layer",
    ),
    (
        lambda: rnn.Bidirectional(rnn.GRUCell(3, 4), rnn.GRUCell(3, 4)),
        TypeError,
        "Bidirectional: expected layers such as Recurrent(cell), got GRUCell",
    ),
    (
        lambda: rnn.Bidirectional(rnn.GRU(3, 4), rnn.GRU(3, 4), "add"),
        ValueError,
        "Bidirectional: merge must be one of ['concat', 'mean', 'sum'] or a function, got 'add'",
    ),
    (
        lambda: rnn.Bidirectional(rnn.GRU(3, 4), rnn.GRU(3, 4, batch_first=True)),
        ValueError,
        "Bidirectional: some layers have batch_first=True and others have not",
    ),
    (
        lambda: rnn.Stacked([rnn.GRU(3, 4, batch_first=True), nn.Dropout(), rnn.GRU(4, 4)]),
        ValueError,
        "Stacked: some layers have batch_first=True and others have not",
    ),
    (
        lambda: rnn.Bidirectional(rnn.GRU(3, 4), rnn.GRU(3, 4))(X, H),
        TypeError,
        "Bidirectional: the state must be a tuple with an entry per layer, got Tensor",
    ),
    (
        lambda: rnn.Bidirectional(rnn.GRU(3, 4), rnn.GRU(3, 4))(X, (H, H, H)),
        ValueError,
        "Bidirectional: the state must have 2 entries, one per layer, got 3",
    ),
    (
        lambda: rnn.Residual(tg.tanh),
        TypeError,
        "Residual: expected layers such as Recurrent(cell), got Primitive",
    ),
    (
        lambda: rnn.Residual(nn.Linear(3, 3)),
        TypeError,
        "Residual: Linear is not a recurrent layer",
    ),
    (
        lambda: rnn.Residual(rnn.GRU(3, 4))(X),
        ValueError,
        "Residual: outputs must have the shape of the inputs, (5, 2, 3), got (5, 2, 4)",
    ),
    # Streams
    (
        lambda: rnn.LSTM(3, 4).step(X),
        ValueError,
        "LSTM.step: inputs must have shape (B, 3), got (5, 2, 3)",
    ),
    (
        lambda: rnn.GRU(3, 4, 2, batch_first=True).step(ROW, H[0]),
        ValueError,
        "GRU: the state must be float32 (2, 2, 4), got float32 (2, 4)",
    ),
    (
        lambda: rnn.GRU(3, 4, bidirectional=True).step(ROW),
        ValueError,
        "GRU.step: a stream has no end to begin the second direction at",
    ),
    (
        lambda: rnn.Stacked([rnn.Bidirectional(rnn.GRU(3, 4), rnn.GRU(3, 4))]).step(ROW),
        ValueError,
        "Bidirectional.step: a stream has no end to begin the second direction at",
    ),
    (
        lambda: rnn.Residual(rnn.Recurrent(rnn.GRUCell(3, 3), reverse=True)).step(ROW),
        ValueError,
        "Recurrent.step: a stream has no end to begin a reversed run at",
    ),
    # Inner values
    (
        lambda: rnn.Recurrent(rnn.LSTMCell(3, 4))(X, record=["z"]),
        ValueError,
        "record: LSTMCell has no inner value 'z', only ['c', 'f', 'g', 'h', 'i', 'o']",
    ),
    (
        lambda: rnn.Stacked([rnn.LSTM(3, 4), rnn.GRU(4, 4)])(X, record=("c",)),
        ValueError,
        "record: GRUCell has no inner value 'c', only ['h', 'n', 'r', 'z']",
    ),
    (
        lambda: rnn.LSTM(3, 4)(X, record="c"),
        TypeError,
        "record: expected a list of names, got the string 'c'",
    ),
    # Batch normalisation and hooks
    (
        lambda: nn.BatchNorm1d(4)(X),
        ValueError,
        "BatchNorm1d: inputs must have shape (..., 4) with at least two axes, got (5, 2, 3)",
    ),
    (
        lambda: nn.BatchNorm1d(3)(tg.ones(3)),
        ValueError,
        "BatchNorm1d: inputs must have shape (..., 3) with at least two axes, got (3,)",
    ),
    (
        lambda: nn.BatchNorm1d(3)(tg.ones((1, 3))),
        ValueError,
        "BatchNorm1d: the statistics of a call need at least two rows, got inputs of shape (1, 3); "
        "switch to evaluation with .eval()",
    ),
    (
        lambda: nn.BatchNorm1d(3)(X.to(np.float64)),
        TypeError,
        "BatchNorm1d: inputs must be float32 as its parameters are, got float64; convert one of "
        "them with .to(dtype)",
    ),
    (
        lambda: nn.BatchNorm1d(3, affine=False, track_running_stats=False)(tg.ones((2, 3), int)),
        TypeError,
        "BatchNorm1d: inputs must be floating, got int64",
    ),
    (
        lambda: nn.BatchNorm1d(3)(X, mask=[True] * 5),
        ValueError,
        "BatchNorm1d: the mask must have shape (5, 2), got (5,)",
    ),
    (
        lambda: nn.BatchNorm1d(3)(X, mask=tg.ones((5, 2), bool, "strict")),
        tg.DeviceError,
        "BatchNorm1d: the mask must be on cpu as the inputs are, got strict; bring them to one "
        "device with .to(device)",
    ),
    (
        lambda: nn.BatchNorm1d(0),
        ValueError,
        "BatchNorm1d: num_features must be a positive integer, got 0",
    ),
    (
        lambda: nn.BatchNorm1d(3, momentum=1.1),
        ValueError,
        "BatchNorm1d: momentum must satisfy 0 <= momentum <= 1 or be None, got 1.1",
    ),
    (
        lambda: nn.Linear(2, 2).register_forward_hook(3),
        TypeError,
        "a hook must be a function, got int",
    ),
    # Projections
    *(
        (
            lambda size=size: rnn.LSTM(3, 4, proj_size=size),
            ValueError,
            "LSTMCell: proj_size must be an integer with 0 <= proj_size < hidden_size = 4, got "
            f"{size!r}",
        )
        for size in (4, -1, 1.0, True, "2")
    ),
    (
        lambda: rnn.LSTMCell(3, "4", proj_size=2),
        ValueError,
        "LSTMCell: hidden_size must be a positive integer, got '4'",
    ),
    # Cells of a user's own
    (
        lambda: rnn.Recurrent(Wordless())(X),
        TypeError,
        "Wordless.step must return (y, state), a tuple of two, got a Tensor",
    ),
    (lambda: rnn.Recurrent(Unwritten())(X), NotImplementedError, "Unwritten has no step"),
    (lambda: nn.Module()(1), NotImplementedError, "Module has no forward"),
    # Constructors
    (
        lambda: nn.Linear(0, 2),
        ValueError,
        "Linear: in_features must be a positive integer, got 0",
    ),
    (
        lambda: nn.Linear(2, 1.5),
        ValueError,
        "Linear: out_features must be a positive integer, got 1.5",
    ),
    (
        lambda: nn.Embedding(-1, 2),
        ValueError,
        "Embedding: num_embeddings must be a positive integer, got -1",
    ),
    (
        lambda: nn.LayerNorm((3, 0)),
        ValueError,
        "LayerNorm: normalized_shape must be a positive integer, got 0",
    ),
    (
        lambda: nn.LayerNorm(()),
        ValueError,
        "LayerNorm: normalized_shape must have at least one axis, got none",
    ),
    (lambda: nn.Dropout(1.0), ValueError, "Dropout: p must satisfy 0 <= p < 1, got 1.0"),
    (lambda: nn.Dropout(-0.1), ValueError, "Dropout: p must satisfy 0 <= p < 1, got -0.1"),
    (
        lambda: nn.Sequential(nn.Linear(2, 2), 3),
        TypeError,
        "Sequential: expected layers, got int",
    ),
    (
        lambda: nn.Parameter([1, 2]),
        TypeError,
        "Parameter: expected floating values, got int64",
    ),
    (
        lambda: rnn.LSTM("3", 4),
        ValueError,
        "LSTM: input_size must be a positive integer, got '3'",
    ),
    (
        lambda: rnn.GRU(3, 0),
        ValueError,
        "GRU: hidden_size must be a positive integer, got 0",
    ),
    (
        lambda: rnn.RNN(3, 4, True),
        ValueError,
        "RNN: num_layers must be a positive integer, got True",
    ),
    (
        lambda: rnn.GRUCell(3, -4),
        ValueError,
        "GRUCell: hidden_size must be a positive integer, got -4",
    ),
    (
        lambda: rnn.LSTM(3, 4, 2, dropout=1),
        ValueError,
        "LSTM: dropout must satisfy 0 <= dropout < 1, got 1",
    ),
    (
        lambda: rnn.LSTMCell(3, 4, bias=False, forget_bias=1.0),
        ValueError,
        "LSTMCell: forget_bias needs bias=True",
    ),
    (
        lambda: rnn.RNN(3, 4, nonlinearity="sigmod"),
        ValueError,
        "RNNCell: nonlinearity must be one of ['identity', 'leaky_relu', 'relu', 'sigmoid', "
        "'tanh'] or a function, got 'sigmod'",
    ),
    (
        lambda: rnn.RNNCell(3, 4, nonlinearity=2),
        ValueError,
        "RNNCell: nonlinearity must be one of ['identity', 'leaky_relu', 'relu', 'sigmoid', "
        "'tanh'] or a function, got 2",
    ),
    (
        lambda: rnn.Recurrent(rnn.LSTM(3, 4)),
        TypeError,
        "Recurrent: expected a Cell, got LSTM",
    ),
    (
        lambda: rnn.Stacked([]),
        ValueError,
        "Stacked: expected a list of at least one layer",
    ),
    (
        lambda: rnn.Stacked([rnn.LSTMCell(3, 4)]),
        TypeError,
        "Stacked: expected layers such as Recurrent(cell), got LSTMCell",
    ),
    # Moving
    (
        lambda: nn.Linear(2, 2).to(np.int32),
        TypeError,
        "Linear.to: expected a device or a floating dtype, got int32",
    ),
    (
        lambda: nn.Linear(2, 2).to("gpu"),
        tg.DeviceError,
        "device 'gpu' is unknown; use 'cpu', 'cuda' or 'cuda:<number>'",
    ),
    # Initialisers
    *(
        (
            lambda fill=fill: fill(nn.Parameter(np.zeros((2, 3, 4)))),
            ValueError,
            f"{fill.__name__}: expected a matrix, got shape (2, 3, 4)",
        )
        for fill in (
            nn.init.xavier_uniform_,
            nn.init.xavier_normal_,
            nn.init.kaiming_uniform_,
            nn.init.kaiming_normal_,
            nn.init.orthogonal_,
            nn.init.identity_,
        )
    ),
    # Optimizers
    (lambda: optim.SGD([]), ValueError, "SGD: there are no parameters"),
    (
        lambda: optim.SGD(nn.Linear(2, 2)),
        TypeError,
        "SGD: expected an iterable of Parameters such as model.parameters(), got Linear",
    ),
    (
        lambda: optim.Adam(nn.Parameter([1.0])),
        TypeError,
        "Adam: expected an iterable of Parameters such as model.parameters(), got Parameter",
    ),
    (lambda: optim.Adam([tg.ones(2)]), TypeError, "Adam: expected Parameters, got Tensor"),
    (
        lambda: optim.Adam(nn.Linear(2, 2).named_parameters()),
        TypeError,
        "Adam: expected Parameters, got tuple",
    ),
    (lambda: optim.SGD(trainable() * 2), ValueError, "SGD: a parameter is given twice"),
    (
        lambda: optim.SGD(trainable(), lr=-1),
        ValueError,
        "SGD: lr must be a finite number >= 0, got -1",
    ),
    (
        lambda: optim.SGD(trainable(), lr="0.1"),
        ValueError,
        "SGD: lr must be a finite number >= 0, got '0.1'",
    ),
    (
        lambda: optim.Adam(trainable(), lr=float("nan")),
        ValueError,
        "Adam: lr must be a finite number >= 0, got nan",
    ),
    (
        lambda: optim.SGD(trainable(), momentum=1),
        ValueError,
        "SGD: momentum must satisfy 0 <= momentum < 1, got 1",
    ),
    (
        lambda: optim.SGD(trainable(), nesterov=True),
        ValueError,
        "SGD: nesterov needs a momentum",
    ),
    (
        lambda: optim.SGD(trainable(), weight_decay=-1),
        ValueError,
        "SGD: weight_decay must be a finite number >= 0, got -1",
    ),
    (
        lambda: optim.Adam(trainable(), betas=(0.9, 1.0)),
        ValueError,
        "Adam: betas must be two numbers 0 <= beta < 1, got (0.9, 1.0)",
    ),
    (
        lambda: optim.Adam(trainable(), betas=0.9),
        ValueError,
        "Adam: betas must be two numbers 0 <= beta < 1, got 0.9",
    ),
    (
        lambda: optim.Adam(trainable(), eps=0),
        ValueError,
        "Adam: eps must be a finite number > 0, got 0",
    ),
    (
        lambda: optim.Adam(trainable(), clip=1.0),
        TypeError,
        "Adam: clip must be ClipNorm(...) or another Clip, got 1.0",
    ),
    (
        lambda: optim.Adam(trainable(), nonfinite="ignore"),
        ValueError,
        "Adam: nonfinite must be 'raise', 'skip' or 'zero', got 'ignore'",
    ),
    (
        lambda: optim.ClipNorm(0),
        ValueError,
        "ClipNorm: max_norm must be a finite number > 0, got 0",
    ),
    (
        lambda: optim.ClipValue(float("nan")),
        ValueError,
        "ClipValue: limit must be a finite number > 0, got nan",
    ),
    # Groups, clips and schedules
    (lambda: optim.SGD([{"lr": 0.1}]), ValueError, "SGD, group 0: there is no 'params' in it"),
    (lambda: optim.SGD([{"params": []}]), ValueError, "SGD, group 0: there are no parameters"),
    (
        lambda: optim.SGD([{"params": trainable(), "learning_rate": 0.1}]),
        ValueError,
        "SGD, group 0: 'learning_rate' is unknown; a group has params, lr, momentum, nesterov, "
        "weight_decay, l1",
    ),
    (
        lambda: optim.SGD([{"params": trainable()}, *trainable()]),
        TypeError,
        "SGD, group 1: expected a dict as the other groups, got Parameter",
    ),
    (
        lambda: optim.Adam([{"params": nn.Parameter([1.0])}]),
        TypeError,
        "Adam, group 0: expected an iterable of Parameters such as model.parameters(), got "
        "Parameter",
    ),
    (
        lambda: optim.Adam([{"params": p} for p in [trainable()] * 2]),
        ValueError,
        "Adam, group 1: parameter (1,) is in group 0 already",
    ),
    (
        lambda: optim.Adam({"params": trainable()}),
        TypeError,
        "Adam: expected Parameters, got str",
    ),
    (
        lambda: optim.Adam([{"params": trainable()}, {"params": trainable(), "lr": -1}]),
        ValueError,
        "Adam, group 1: lr must be a finite number >= 0, got -1",
    ),
    (
        lambda: setattr(optim.SGD(trainable()).groups[0], "rate", 1),
        AttributeError,
        "SGD: a group has no 'rate' to assign; it has lr, momentum, nesterov, weight_decay, l1, "
        "initial_lr",
    ),
    (
        lambda: optim.SGD(trainable(), l1=-1),
        ValueError,
        "SGD: l1 must be a finite number >= 0, got -1",
    ),
    (
        lambda: optim.RMSprop(trainable(), alpha=1),
        ValueError,
        "RMSprop: alpha must satisfy 0 <= alpha < 1, got 1",
    ),
    (
        lambda: optim.Adagrad(trainable(), initial_accumulator_value=-1),
        ValueError,
        "Adagrad: initial_accumulator_value must be a finite number >= 0, got -1",
    ),
    (
        lambda: optim.Adadelta(trainable(), rho=1.5),
        ValueError,
        "Adadelta: rho must satisfy 0 <= rho < 1, got 1.5",
    ),
    (
        lambda: optim.ClipPerParameter(-1),
        ValueError,
        "ClipPerParameter: max_norm must be a finite number > 0, got -1",
    ),
    (
        lambda: optim.ClipAdaptive(0.01, eps=0),
        ValueError,
        "ClipAdaptive: eps must be a finite number > 0, got 0",
    ),
    (
        lambda: optim.schedules.Step(0.1, every=0),
        ValueError,
        "Step: every must be a positive integer, got 0",
    ),
    (
        lambda: optim.schedules.Cosine(-0.1, 10),
        ValueError,
        "Cosine: lr must be a finite number >= 0, got -0.1",
    ),
    (
        lambda: optim.schedules.WarmUp("cosine", 10),
        TypeError,
        "WarmUp: expected a schedule or a function of the number of updates, got 'cosine'",
    ),
    (
        lambda: optim.schedules.Plateau(0.1, mode="least"),
        ValueError,
        "Plateau: mode must be 'min' or 'max', got 'least'",
    ),
    (
        lambda: optim.schedules.Plateau(0.1, factor=1),
        ValueError,
        "Plateau: factor must satisfy 0 <= factor < 1, got 1",
    ),
    (
        lambda: optim.schedules.Plateau(0.1).load_state_dict({"step": 1}),
        ValueError,
        "Plateau.load_state_dict: this is the state of another schedule, they differ in ['bad', "
        "'best', 'cooling', 'rate', 'step']",
    ),
    (
        lambda: optim.clip_grad_norm(nn.Parameter([1.0]), 1.0),
        TypeError,
        "clip_grad_norm: expected an iterable of Parameters such as model.parameters(), got "
        "Parameter",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), CASES, ids=[case[2] for case in CASES])
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == message


def test_a_refused_move_leaves_the_module_as_it_was() -> None:
    model = nn.Linear(2, 2)
    arrays = [p.data for p in model.parameters()]
    for target in ("gpu", np.int32, "cuda:99"):
        with pytest.raises((tg.DeviceError, TypeError)):
            model.to(target)
    assert all(p.data is a for p, a in zip(model.parameters(), arrays, strict=True))
    assert all(p.version == 1 for p in model.parameters())
