"""Bad input to nn/, in one table: each is refused in one sentence that names the layer, says
what came and what was expected.
"""

# Calls that a type checker refuses too are the point of this file.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from refusals import Refusal, assert_refused, each

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn

X = tg.ones((5, 2, 3))
H = tg.zeros((2, 2, 4))
LOGITS = tg.zeros((2, 3))


def strict(*shape: int) -> tg.Tensor:
    return tg.ones(shape, device="strict")


CASES: list[Refusal] = [
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
        lambda: rnn.LSTM(3, 4)(X, hidden=None),
        TypeError,
        "LSTM: forward() got an unexpected keyword argument 'hidden'",
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
]


@each(CASES)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    assert_refused(call, error, message)


def test_a_refused_move_leaves_the_module_as_it_was() -> None:
    model = nn.Linear(2, 2)
    arrays = [p.data for p in model.parameters()]
    for target in ("gpu", np.int32, "cuda:99"):
        with pytest.raises((tg.DeviceError, TypeError)):
            model.to(target)
    assert all(p.data is a for p, a in zip(model.parameters(), arrays, strict=True))
    assert all(p.version == 1 for p in model.parameters())
