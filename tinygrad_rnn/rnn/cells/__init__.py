"""Cells: one time step of a recurrent network, written as its equations.

Letters: x (B, I) the input at a step, h (B, H) the hidden state, c (B, H) the cell state, y what
the step gives out; sigmoid is the logistic function, * the product of elements. Parameters have
PyTorch's names, shapes and gate order where PyTorch has the cell, and begin uniform on
+-1 / sqrt(H) as PyTorch's do, unless a cell says otherwise. ``carried(h)`` is h, and within a
variational dropout h without its mask. Read cell.py first, then lstm.py.
"""

from tinygrad_rnn.rnn.cells.cell import Cell, GatedCell
from tinygrad_rnn.rnn.cells.clockwork import ClockworkRNNCell, ClockworkState
from tinygrad_rnn.rnn.cells.elman import IRNNCell, JordanCell, RNNCell
from tinygrad_rnn.rnn.cells.gru import GRUCell, SimplifiedGRUCell
from tinygrad_rnn.rnn.cells.layer_norm import (
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormRNNCell,
)
from tinygrad_rnn.rnn.cells.lstm import (
    CoupledLSTMCell,
    LSTMCell,
    LSTMState,
    NoForgetLSTMCell,
    PeepholeLSTMCell,
)
from tinygrad_rnn.rnn.cells.scrn import SCRNCell, SCRNState

__all__ = [
    "Cell",
    "ClockworkRNNCell",
    "ClockworkState",
    "CoupledLSTMCell",
    "GRUCell",
    "GatedCell",
    "IRNNCell",
    "JordanCell",
    "LSTMCell",
    "LSTMState",
    "LayerNormGRUCell",
    "LayerNormLSTMCell",
    "LayerNormRNNCell",
    "NoForgetLSTMCell",
    "PeepholeLSTMCell",
    "RNNCell",
    "SCRNCell",
    "SCRNState",
    "SimplifiedGRUCell",
]
