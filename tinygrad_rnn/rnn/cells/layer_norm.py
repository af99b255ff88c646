"""Cells with layer normalisation: Elman's network, LSTM and GRU.

LN(v) = gain * (v - mean) / sqrt(var + 1e-5) + bias, over the elements of v, with a gain and a bias
of their own at each place. What x and what h contribute is normalised apart, and the biases of the
two norms are all there are.
"""

from __future__ import annotations

from tinygrad_rnn.nn import LayerNorm
from tinygrad_rnn.ops import linear, sigmoid, split, tanh
from tinygrad_rnn.rnn.carried import carried
from tinygrad_rnn.rnn.cells.cell import (
    GatedCell,
    Nonlinearity,
    check_nonlinearity,
    described,
    function_of,
    set_bias,
)
from tinygrad_rnn.rnn.cells.lstm import LSTMBlock, LSTMState
from tinygrad_rnn.rnn.notes import note
from tinygrad_rnn.tensor import Tensor


class LayerNormRNNCell(GatedCell):
    """Elman's network, normalised: h = f(LN(W_ih x) + LN(W_hh h)), y = h.

    The norms are ``norm_ih`` and ``norm_hh``, over H elements each. ``nonlinearity`` f is as for
    :class:`RNNCell`, ``bias`` says whether the norms have one. ``record=`` knows h.
    Source: Ba, Kiros, Hinton 2016, Layer Normalization, in the way of its LSTM and GRU; its
    equation 4 normalises the sum W_ih x + W_hh h instead.
    """

    pure = True
    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: Nonlinearity = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size, bias=False)
        check_nonlinearity("LayerNormRNNCell", "nonlinearity", nonlinearity)
        self.nonlinearity = nonlinearity
        self.norm_ih = LayerNorm(hidden_size, bias=bias)
        self.norm_hh = LayerNorm(hidden_size, bias=bias)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        f, h = function_of(self.nonlinearity), state
        h = f(self.norm_ih(linear(x, self.weight_ih)) + self.norm_hh(linear(h, self.weight_hh)))
        note(h=h)
        return h, h

    def extra_repr(self) -> str:
        return described(self, nonlinearity="tanh")


class LayerNormLSTMCell(LSTMBlock):
    """An LSTM, normalised.

    i, f, o = sigmoid(LN(W_ih x) + LN(W_hh h)), g = tanh(the same with rows of its own),
    c = f * c + i * g, h = o * tanh(LN(c)), y = h; the rows of the weights are those of i, f, g, o.
    ``norm_ih`` and ``norm_hh`` each go over all four gates at once (4 H elements), ``norm_c`` over
    c on its way to h; c itself is handed on as it is. ``bias`` says whether the norms have one.
    ``record=`` knows i, f, g, o, h, c.
    Source: Ba, Kiros, Hinton 2016, Layer Normalization; the bias b that it adds to those of the
    norms is left out, since it could not be told from them.

    Parameters
    ----------
    forget_bias : what the two norms' biases of the forget gate add up to at the start (that of
        ``norm_ih`` holds it, that of ``norm_hh`` is 0); by default 0, as all biases of norms.
    """

    pure = True
    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        forget_bias: float | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias=False)
        self.norm_ih = LayerNorm(4 * hidden_size, bias=bias)
        self.norm_hh = LayerNorm(4 * hidden_size, bias=bias)
        self.norm_c = LayerNorm(hidden_size, bias=bias)
        if forget_bias is not None:
            set_bias(self, 1, forget_bias, self.norm_ih.bias, self.norm_hh.bias)

    def step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, c = state
        z = self.norm_ih(linear(x, self.weight_ih)) + self.norm_hh(linear(h, self.weight_hh))
        i, f, g, o = split(z, parts=4)
        i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * tanh(self.norm_c(c))
        note(i=i, f=f, g=g, o=o)
        return h, LSTMState(h, c)


class LayerNormGRUCell(GatedCell):
    """A gated recurrent unit, normalised, with the reset gate after the product.

    r, z = sigmoid(LN(W_ih x) + LN(W_hh h)), n = tanh(LN(W_in x) + r * LN(W_hn h)),
    h = (1 - z) * n + z * h, y = h; the rows of the weights are those of r, z, n. ``norm_ih`` and
    ``norm_hh`` go over r and z together (2 H elements), ``norm_in`` and ``norm_hn`` over n.
    ``bias`` says whether the norms have one. ``record=`` knows r, z, n, h.
    Source: Ba, Kiros, Hinton 2016, Layer Normalization, whose z is 1 - z here.
    """

    pure = True
    gates = 3

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        super().__init__(input_size, hidden_size, bias=False)
        self.norm_ih = LayerNorm(2 * hidden_size, bias=bias)
        self.norm_hh = LayerNorm(2 * hidden_size, bias=bias)
        self.norm_in = LayerNorm(hidden_size, bias=bias)
        self.norm_hn = LayerNorm(hidden_size, bias=bias)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = state
        gates = [2 * self.hidden_size, self.hidden_size]
        x_rz, x_n = split(linear(x, self.weight_ih), sizes=gates)
        h_rz, h_n = split(linear(h, self.weight_hh), sizes=gates)
        r, z = split(sigmoid(self.norm_ih(x_rz) + self.norm_hh(h_rz)), parts=2)
        n = tanh(self.norm_in(x_n) + r * self.norm_hn(h_n))
        h = (1 - z) * n + z * carried(h)
        note(r=r, z=z, n=n, h=h)
        return h, h
