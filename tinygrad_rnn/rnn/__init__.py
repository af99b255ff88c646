"""Recurrent networks: cells (equations only), the one time loop, stacks, convenience layers.

Imports nn/ and what stands to its left. Read cells/ first.
"""

from tinygrad_rnn.rnn.arguments import detach
from tinygrad_rnn.rnn.carried import carried
from tinygrad_rnn.rnn.cells import (
    Cell,
    ClockworkRNNCell,
    ClockworkState,
    CoupledLSTMCell,
    GRUCell,
    IRNNCell,
    JordanCell,
    LayerNormGRUCell,
    LayerNormLSTMCell,
    LayerNormRNNCell,
    LSTMCell,
    LSTMState,
    NoForgetLSTMCell,
    PeepholeLSTMCell,
    RNNCell,
    SCRNCell,
    SCRNState,
    SimplifiedGRUCell,
)
from tinygrad_rnn.rnn.check_cell import CellError, check_cell
from tinygrad_rnn.rnn.layers import GRU, LSTM, RNN
from tinygrad_rnn.rnn.notes import note
from tinygrad_rnn.rnn.recurrent import Recurrent
from tinygrad_rnn.rnn.regularized import VariationalDropout, Zoneout
from tinygrad_rnn.rnn.reset import reset
from tinygrad_rnn.rnn.wrappers import Bidirectional, Residual, Stacked

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bidirectional",
    "Cell",
    "CellError",
    "ClockworkRNNCell",
    "ClockworkState",
    "CoupledLSTMCell",
    "GRUCell",
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
    "Recurrent",
    "Residual",
    "SCRNCell",
    "SCRNState",
    "SimplifiedGRUCell",
    "Stacked",
    "VariationalDropout",
    "Zoneout",
    "carried",
    "check_cell",
    "detach",
    "note",
    "reset",
]
