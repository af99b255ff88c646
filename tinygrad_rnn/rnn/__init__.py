"""Recurrent networks: cells (equations only), the one time loop, stacks, convenience layers.

Imports nn/ and what stands to its left. Read cells.py first.
"""

from tinygrad_rnn.rnn.cells import Cell, GRUCell, LSTMCell, LSTMState, RNNCell
from tinygrad_rnn.rnn.layers import GRU, LSTM, RNN
from tinygrad_rnn.rnn.loop import Recurrent, Stacked

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Cell",
    "GRUCell",
    "LSTMCell",
    "LSTMState",
    "RNNCell",
    "Recurrent",
    "Stacked",
]
