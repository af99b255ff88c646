"""Bad input to rnn/, in one table: each is refused in one sentence that names the layer, says
what came and what was expected.
"""

# Calls that a type checker refuses too are the point of this file.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from refusals import Refusal, assert_refused, each

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn

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


CASES: list[Refusal] = [
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
]


@each(CASES)
def test_bad_input(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    assert_refused(call, error, message)
