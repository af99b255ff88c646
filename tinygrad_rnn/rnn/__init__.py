"""Recurrent networks: cells (equations only), the one time loop, stacks, convenience layers.

Imports nn/ and what stands to its left. Read cells.py first.
"""

from tinygrad_rnn.rnn.arguments import detach
from tinygrad_rnn.rnn.cells import Cell, GRUCell, LSTMCell, LSTMState, RNNCell
from tinygrad_rnn.rnn.layers import GRU, LSTM, RNN
from tinygrad_rnn.rnn.loop import Recurrent
from tinygrad_rnn.rnn.notes import note
from tinygrad_rnn.rnn.wrappers import Bidirectional, Residual, Stacked

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Bidirectional",
    "Cell",
    "GRUCell",
    "LSTMCell",
    "LSTMState",
    "RNNCell",
    "Recurrent",
    "Residual",
    "Stacked",
    "detach",
    "note",
]
