"""The Clockwork network: modules that tick at periods of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.nn import Buffer, check_size
from tinygrad_rnn.nn.parameter import drawn
from tinygrad_rnn.ops import concat, linear, pad, where
from tinygrad_rnn.ops.arrays import is_integer
from tinygrad_rnn.rnn.carried import carried
from tinygrad_rnn.rnn.cells.cell import (
    Cell,
    Nonlinearity,
    check_nonlinearity,
    described,
    function_of,
)
from tinygrad_rnn.rnn.notes import note
from tinygrad_rnn.tensor import Tensor, zeros


class ClockworkState(NamedTuple):
    """Hidden state h (B, H), and how many steps each row has seen, t (B, 1), an integer."""

    h: Tensor
    t: Tensor


class ClockworkRNNCell(Cell):
    """An Elman network in modules, of which the k-th is updated at every T_k-th step only.

    a = f(W_ih x + b_ih + W_hh h + b_hh); h = a in the modules with t mod T_k = 0, elsewhere h stays
    as it is; t = t + 1; y = h. t counts from 0 at the start of each row, so all modules tick first.
    The K modules, of H / K units each, stand in the order of their periods, fast before slow. A
    module reads from modules of its own or a slower period only: the other blocks of W_hh do not
    exist, not as parameters either. With all periods 1 this is Elman's network.

    ``weight_hh`` is a tuple of K blocks, one for the rows of each module: (H / K, R) for the R
    units that it reads from, which are the last R. ``period`` (H,), a buffer, is the period of each
    unit. ``record=`` knows h, and a, of which the modules between their ticks take no notice.
    Source: Koutnik, Greff, Gomez, Schmidhuber 2014, A Clockwork RNN.

    Parameters
    ----------
    periods : K integers in ascending order; K must divide H.
    nonlinearity : f, as for :class:`RNNCell`.
    """

    pure = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        periods: Sequence[int] = (1, 2, 4, 8),
        bias: bool = True,
        nonlinearity: Nonlinearity = "tanh",
    ) -> None:
        who = type(self).__name__
        check_size(who, input_size=input_size, hidden_size=hidden_size)
        check_nonlinearity(who, "nonlinearity", nonlinearity)
        whole = isinstance(periods, Sequence) and all(map(is_integer, periods))
        known = whole and len(periods) and list(periods) == sorted(periods)
        if not known or periods[0] < 1 or periods[-1] > np.iinfo(np.int64).max:
            raise ValueError(
                f"{who}: periods must be a list or tuple of positive integers in ascending order, "
                f"got {periods!r}"
            )
        if hidden_size % len(periods):
            raise ValueError(
                f"{who}: hidden_size must be a multiple of the number of periods, {len(periods)}, "
                f"got {hidden_size}"
            )
        self.input_size, self.hidden_size = input_size, hidden_size
        self.nonlinearity = nonlinearity
        size = hidden_size // len(periods)
        self.period = Buffer(np.repeat(np.asarray(periods, np.int64), size))
        first = [list(periods).index(period) for period in periods]
        self.weight_ih = drawn(hidden_size, hidden_size, input_size)
        self.weight_hh = tuple(drawn(hidden_size, size, hidden_size - k * size) for k in first)
        self.bias_ih = drawn(hidden_size, hidden_size) if bias else None
        self.bias_hh = drawn(hidden_size, hidden_size) if bias else None

    def initial_state(self, batch_size: int) -> ClockworkState:
        """The state before the first step: h = 0, t = 0."""
        h = self.zeros(batch_size, self.hidden_size)
        return ClockworkState(h, zeros((batch_size, 1), np.int64, h.device))

    def step(self, x: Tensor, state: ClockworkState) -> tuple[Tensor, ClockworkState]:
        f = function_of(self.nonlinearity)
        h, t = state
        weight_hh = concat(  # (H, H), with zeros for the blocks that do not exist
            [pad(w, [(0, 0), (self.hidden_size - w.shape[1], 0)]) for w in self.weight_hh]
        )
        a = f(linear(x, self.weight_ih, self.bias_ih) + linear(h, weight_hh, self.bias_hh))
        h = where(t % self.period == 0, a, carried(h))
        note(a=a)
        return h, ClockworkState(h, t + 1)

    @property
    def periods(self) -> tuple[int, ...]:
        """The period of each module."""
        return tuple(self.period.numpy()[:: self.hidden_size // len(self.weight_hh)].tolist())

    def extra_repr(self) -> str:
        return described(self, periods=None, nonlinearity="tanh")
