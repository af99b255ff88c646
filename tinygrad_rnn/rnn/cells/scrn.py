"""The structurally constrained network: a slow context beside a fast hidden state."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tinygrad_rnn.nn import Parameter, check_size
from tinygrad_rnn.nn.parameter import drawn
from tinygrad_rnn.ops import concat, linear, sigmoid
from tinygrad_rnn.rnn.cells.cell import Cell, check_number, described
from tinygrad_rnn.tensor import Tensor


class SCRNState(NamedTuple):
    """Hidden state h (B, H) and context k (B, K)."""

    h: Tensor
    k: Tensor


class SCRNCell(Cell):
    """A structurally constrained recurrent network.

    k = (1 - a) * W_ik x + a * k, h = sigmoid(W_kh k + W_ih x + W_hh h) with the new k, y = [h, k]:
    a linear layer on y is the paper's U h + V k. The paper's letters are B = W_ik (K, I),
    P = W_kh (H, K), A = W_ih (H, I), R = W_hh (H, H); it has no biases. ``record=`` knows h, k.
    Source: Mikolov, Joulin, Chopra, Mathieu, Ranzato 2014, Learning Longer Memory in Recurrent
    Neural Networks.

    Parameters
    ----------
    context_size : K.
    decay : a, from 0 to 1; with ``learned``, where it begins, between 0 and 1.
    learned : a is one number per unit of k, and a = sigmoid(``decay_logit``), a Parameter (K,).
    """

    pure = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        context_size: int,
        decay: float = 0.95,
        learned: bool = False,
    ) -> None:
        who = "SCRNCell"
        check_size(who, input_size=input_size, hidden_size=hidden_size, context_size=context_size)
        check_number(who, "decay", decay, 0, 1)
        if learned and decay in (0, 1):
            raise ValueError(f"{who}: a learned decay must satisfy 0 < decay < 1, got {decay}")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.context_size = context_size
        self.decay = decay
        self.weight_ik = drawn(hidden_size, context_size, input_size)
        self.weight_kh = drawn(hidden_size, hidden_size, context_size)
        self.weight_ih = drawn(hidden_size, hidden_size, input_size)
        self.weight_hh = drawn(hidden_size, hidden_size, hidden_size)
        self.decay_logit = None
        if learned:
            logit = math.log(decay / (1 - decay))
            self.decay_logit = Parameter(np.full(context_size, logit, np.float32))

    @property
    def output_size(self) -> int:
        """The size of y: H + K."""
        return self.hidden_size + self.context_size

    def initial_state(self, batch_size: int) -> SCRNState:
        """The state before the first step: h = k = 0."""
        return SCRNState(
            self.zeros(batch_size, self.hidden_size), self.zeros(batch_size, self.context_size)
        )

    def step(self, x: Tensor, state: SCRNState) -> tuple[Tensor, SCRNState]:
        a = self.decay if self.decay_logit is None else sigmoid(self.decay_logit)
        h, k = state
        k = (1 - a) * linear(x, self.weight_ik) + a * k
        h = sigmoid(
            linear(k, self.weight_kh) + linear(x, self.weight_ih) + linear(h, self.weight_hh)
        )
        return concat([h, k], axis=1), SCRNState(h, k)

    def extra_repr(self) -> str:
        learned = self.decay_logit is not None
        return described(self, context_size=None, decay=None) + ", learned=True" * learned
