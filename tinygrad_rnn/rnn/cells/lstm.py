"""Long short-term memory, and its relatives side by side."""

from __future__ import annotations

from typing import NamedTuple

from tinygrad_rnn.nn import check_size
from tinygrad_rnn.nn.parameter import drawn
from tinygrad_rnn.ops import linear, sigmoid, split, tanh
from tinygrad_rnn.ops.arrays import is_integer
from tinygrad_rnn.rnn.cells.cell import (
    GatedCell,
    Nonlinearity,
    check_nonlinearity,
    check_number,
    described,
    function_of,
    set_bias,
)
from tinygrad_rnn.rnn.notes import note
from tinygrad_rnn.tensor import Tensor


class LSTMState(NamedTuple):
    """The state of an LSTM: hidden state h and cell state c, each (B, H)."""

    h: Tensor
    c: Tensor


class LSTMBlock(GatedCell):
    """What LSTMs share: gate blocks and a first state h = c = 0."""

    def initial_state(self, batch_size: int) -> LSTMState:
        """The state before the first step: h = c = 0."""
        return LSTMState(
            self.zeros(batch_size, self.output_size), self.zeros(batch_size, self.hidden_size)
        )


class LSTMCell(LSTMBlock):
    """Long short-term memory with a forget gate.

    i, f, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh), g = tanh(the same with rows of its own),
    c = f * c + i * g, h = o * tanh(c), y = h; the rows of the weights are those of i, f, g, o. With
    ``proj_size`` P, h = W_hr (o * tanh(c)) is (B, P), where W_hr is (P, H) (Sak et al. 2014).
    ``record=`` knows i, f, g, o, h, c.
    Source: Hochreiter, Schmidhuber 1997; Gers, Schmidhuber, Cummins 2000.

    Parameters
    ----------
    proj_size : the size of h where it is projected, less than H; 0 for no projection.
    forget_bias : what the forget gate's two biases add up to at the start (bias_ih holds it,
        bias_hh 0); by default they are drawn as the others are.
    activation, output_activation : what stands in for tanh in g, and in h; names or functions as
        for :class:`RNNCell`.
    """

    pure = True
    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        *,
        proj_size: int = 0,
        forget_bias: float | None = None,
        activation: Nonlinearity = "tanh",
        output_activation: Nonlinearity = "tanh",
    ) -> None:
        check_size("LSTMCell", input_size=input_size, hidden_size=hidden_size)
        if not is_integer(proj_size) or not 0 <= proj_size < hidden_size:
            raise ValueError(
                "LSTMCell: proj_size must be an integer with 0 <= proj_size < hidden_size = "
                f"{hidden_size}, got {proj_size!r}"
            )
        check_nonlinearity("LSTMCell", "activation", activation)
        check_nonlinearity("LSTMCell", "output_activation", output_activation)
        self.proj_size = proj_size
        self.activation, self.output_activation = activation, output_activation
        super().__init__(input_size, hidden_size, bias)
        if proj_size:
            self.weight_hr = drawn(hidden_size, proj_size, hidden_size)
        if forget_bias is not None:
            set_bias(self, 1, forget_bias, self.bias_ih, self.bias_hh)

    @property
    def output_size(self) -> int:
        """The size of h: P with a projection, else H."""
        return self.proj_size or self.hidden_size

    def step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        act, out = function_of(self.activation), function_of(self.output_activation)
        h, c = state
        z = linear(x, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = split(z, parts=4)
        i, f, g, o = sigmoid(i), sigmoid(f), act(g), sigmoid(o)
        c = f * c + i * g
        h = o * out(c)
        if self.proj_size:
            h = linear(h, self.weight_hr)
        note(i=i, f=f, g=g, o=o)
        return h, LSTMState(h, c)

    def extra_repr(self) -> str:
        return described(self, proj_size=0, activation="tanh", output_activation="tanh")


class NoForgetLSTMCell(LSTMBlock):
    """The first LSTM, which forgets nothing: f = 1.

    i, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh), g = tanh(the same with rows of its own),
    c = c + i * g, h = o * tanh(c), y = h; the rows of the weights are those of i, g, o.
    ``record=`` knows i, g, o, h, c.
    Source: Hochreiter, Schmidhuber 1997, whose g and tanh(c) are scaled sigmoids.
    """

    pure = True
    gates = 3

    def step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, c = state
        z = linear(x, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        i, g, o = split(z, parts=3)
        i, g, o = sigmoid(i), tanh(g), sigmoid(o)
        c = c + i * g
        h = o * tanh(c)
        note(i=i, g=g, o=o)
        return h, LSTMState(h, c)


class CoupledLSTMCell(LSTMBlock):
    """An LSTM that forgets as much as it takes in: f = 1 - i.

    i, o = sigmoid(W_ih x + b_ih + W_hh h + b_hh), g = tanh(the same with rows of its own),
    c = (1 - i) * c + i * g, h = o * tanh(c), y = h; the rows of the weights are those of i, g, o.
    ``record=`` knows i, f, g, o, h, c.
    Source: Greff et al. 2015, LSTM: A Search Space Odyssey, without their peepholes.

    Parameters
    ----------
    forget_bias : f = sigmoid(forget_bias) where all else is 0: at the start the input gate's two
        biases add up to -forget_bias; by default they are drawn as the others are.
    """

    pure = True
    gates = 3

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        forget_bias: float | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        if forget_bias is not None:
            check_number("CoupledLSTMCell", "forget_bias", forget_bias)
            set_bias(self, 0, -forget_bias, self.bias_ih, self.bias_hh)

    def step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, c = state
        z = linear(x, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        i, g, o = split(z, parts=3)
        i, g, o = sigmoid(i), tanh(g), sigmoid(o)
        f = 1 - i
        c = f * c + i * g
        h = o * tanh(c)
        note(i=i, f=f, g=g, o=o)
        return h, LSTMState(h, c)


class PeepholeLSTMCell(LSTMBlock):
    """An LSTM whose gates see the cell state.

    With z = W_ih x + b_ih + W_hh h + b_hh, whose rows are those of i, f, g, o:
    i = sigmoid(z_i + P_i c), f = sigmoid(z_f + P_f c), g = tanh(z_g), c = f * c + i * g,
    o = sigmoid(z_o + P_o c) with the new c, h = o * tanh(c), y = h. Each P is diagonal and held as
    a vector (H,): ``weight_ci``, ``weight_cf``, ``weight_co``. ONNX's P is these in the order i, o,
    f, one after the other. ``record=`` knows i, f, g, o, h, c.
    Source: Gers, Schmidhuber 2000, Recurrent Nets that Time and Count.

    Parameters
    ----------
    forget_bias : as for :class:`LSTMCell`.
    full : each P is a full matrix (H, H), so that a gate is one matrix over [x, h, c].
    candidate : the candidate sees the old c too: g = tanh(z_g + P_g c), ``weight_cg``.
    output_sees : which c the output gate sees, ``"new"`` or ``"old"``.
    """

    pure = True
    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        forget_bias: float | None = None,
        full: bool = False,
        candidate: bool = False,
        output_sees: str = "new",
    ) -> None:
        if output_sees not in ("new", "old"):
            raise ValueError(
                f"PeepholeLSTMCell: output_sees must be 'new' or 'old', got {output_sees!r}"
            )
        super().__init__(input_size, hidden_size, bias)
        self.full, self.candidate, self.output_sees = full, candidate, output_sees
        shape = (hidden_size, hidden_size) if full else (hidden_size,)
        self.weight_ci = drawn(hidden_size, *shape)
        self.weight_cf = drawn(hidden_size, *shape)
        self.weight_co = drawn(hidden_size, *shape)
        self.weight_cg = drawn(hidden_size, *shape) if candidate else None
        if forget_bias is not None:
            set_bias(self, 1, forget_bias, self.bias_ih, self.bias_hh)

    def step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, old = state
        z = linear(x, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = split(z, parts=4)
        i = sigmoid(i + self.seen(old, self.weight_ci))
        f = sigmoid(f + self.seen(old, self.weight_cf))
        g = tanh(g if self.weight_cg is None else g + self.seen(old, self.weight_cg))
        c = f * old + i * g
        o = sigmoid(o + self.seen(c if self.output_sees == "new" else old, self.weight_co))
        h = o * tanh(c)
        note(i=i, f=f, g=g, o=o)
        return h, LSTMState(h, c)

    def seen(self, c: Tensor, weight: Tensor) -> Tensor:
        """What a gate sees of c: P c."""
        return linear(c, weight) if self.full else weight * c

    def extra_repr(self) -> str:
        return described(self, full=False, candidate=False, output_sees="new")
