"""Simple networks: Elman's, Jordan's, and Elman's that begins as the identity."""

from __future__ import annotations

from tinygrad_rnn.nn import check_size, init
from tinygrad_rnn.nn.parameter import drawn
from tinygrad_rnn.ops import linear, relu, split
from tinygrad_rnn.rnn.carried import carried
from tinygrad_rnn.rnn.cells.cell import (
    Cell,
    GatedCell,
    Nonlinearity,
    check_nonlinearity,
    check_number,
    described,
    function_of,
)
from tinygrad_rnn.rnn.notes import note
from tinygrad_rnn.tensor import Tensor


class RNNCell(GatedCell):
    """Elman's network: h = f(W_ih x + b_ih + W_hh h + b_hh), y = h.

    ``nonlinearity`` f is ``"tanh"``, ``"relu"``, ``"leaky_relu"`` (slope 0.01), ``"sigmoid"``,
    ``"identity"`` or any function of a Tensor. ``record=`` knows h.
    Source: Elman 1990, Finding Structure in Time.
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
        super().__init__(input_size, hidden_size, bias)
        check_nonlinearity("RNNCell", "nonlinearity", nonlinearity)
        self.nonlinearity = nonlinearity

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        f = function_of(self.nonlinearity)
        h = f(linear(x, self.weight_ih, self.bias_ih) + linear(state, self.weight_hh, self.bias_hh))
        note(h=h)
        return h, h

    def extra_repr(self) -> str:
        return described(self, nonlinearity="tanh")


class IRNNCell(GatedCell):
    """Elman's network that begins as the identity: h = relu(W_ih x + b_ih + W_hh h + b_hh), y = h.

    At the start W_hh = gain * identity, W_ih is normal with standard deviation ``std``, the biases
    are 0. ``record=`` knows h.
    Source: Le, Jaitly, Hinton 2015, A Simple Way to Initialize Recurrent Networks of Rectified
    Linear Units.
    """

    pure = True
    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        gain: float = 1.0,
        std: float = 0.001,
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        check_number("IRNNCell", "gain", gain)
        check_number("IRNNCell", "std", std, 0)
        init.normal_(self.weight_ih, std=std)
        init.identity_(self.weight_hh, gain)
        for parameter in (self.bias_ih, self.bias_hh):
            if parameter is not None:
                init.zeros_(parameter)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = relu(
            linear(x, self.weight_ih, self.bias_ih) + linear(state, self.weight_hh, self.bias_hh)
        )
        note(h=h)
        return h, h


class JordanCell(Cell):
    """Jordan's network, whose outputs come back: h = f(W_ih x + W_sh s + b_h), y = g(W_hy h + b_y).

    The state is s (B, Y), what came out before: s = decay * s + y, so with ``decay`` 0 it is the
    last output alone. ``record=`` knows h, and a = W_hy h + b_y: where g is a softmax, that is what
    a cross entropy takes.
    Source: Jordan 1986, Serial Order: A Parallel Distributed Processing Approach.

    Parameters
    ----------
    output_size : Y, the size of y and of s.
    nonlinearity, output : f and g, as for :class:`RNNCell`.
    decay : how much of the state units stays at each step, from 0 to 1.
    teacher_forcing : the inputs are (B, I + Y), x beside the target y* of the same step, and it is
        y* that comes back: s = decay * s + y*. May be set or unset at any time; unset, the cell
        takes x alone and is fed its own outputs.
    """

    pure = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        bias: bool = True,
        nonlinearity: Nonlinearity = "tanh",
        output: Nonlinearity = "identity",
        decay: float = 0.0,
        teacher_forcing: bool = False,
    ) -> None:
        who = "JordanCell"
        check_size(who, input_size=input_size, hidden_size=hidden_size, output_size=output_size)
        check_nonlinearity(who, "nonlinearity", nonlinearity)
        check_nonlinearity(who, "output", output)
        check_number(who, "decay", decay, 0, 1)
        self.hidden_size = hidden_size
        self.nonlinearity, self.output = nonlinearity, output
        self.decay = decay
        self.teacher_forcing = teacher_forcing
        self.weight_ih = drawn(hidden_size, hidden_size, input_size)
        self.weight_sh = drawn(hidden_size, hidden_size, output_size)
        self.bias_h = drawn(hidden_size, hidden_size) if bias else None
        self.weight_hy = drawn(hidden_size, output_size, hidden_size)
        self.bias_y = drawn(hidden_size, output_size) if bias else None

    @property
    def input_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """I, and with teacher forcing I + Y."""
        size = self.weight_ih.shape[1]
        return size + self.output_size if self.teacher_forcing else size

    @property
    def output_size(self) -> int:
        """The size of y: Y."""
        return self.weight_hy.shape[0]

    def initial_state(self, batch_size: int) -> Tensor:
        """The state before the first step: s = 0."""
        return self.zeros(batch_size, self.output_size)

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        f, g, s = function_of(self.nonlinearity), function_of(self.output), state
        target = None
        if self.teacher_forcing:
            x, target = split(x, sizes=[self.weight_ih.shape[1], self.output_size])
        h = f(linear(x, self.weight_ih, self.bias_h) + linear(s, self.weight_sh))
        a = linear(h, self.weight_hy, self.bias_y)
        y = g(a)
        back = y if target is None else target
        s = self.decay * carried(s) + back if self.decay else back
        note(h=h, a=a)
        return y, s

    def extra_repr(self) -> str:
        options = {"nonlinearity": "tanh", "output": "identity", "decay": 0}
        return described(self, output_size=None, **options, teacher_forcing=False)
