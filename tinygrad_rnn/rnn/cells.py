"""Cells: one time step of a recurrent network, written as its equations.

Letters: x (B, I) the input at a step, h (B, H) the hidden state, c (B, H) the cell state, y what
the step gives out; sigmoid is the logistic function, * the product of elements. Parameters have
PyTorch's names, shapes and gate order, and begin uniform on +-1 / sqrt(H) as PyTorch's do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.nn import Module, Parameter, check_size, init
from tinygrad_rnn.ops import linear, relu, sigmoid, split, tanh
from tinygrad_rnn.rnn.arguments import check_inputs, fit_state
from tinygrad_rnn.rnn.notes import note
from tinygrad_rnn.tensor import Tensor, zeros

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {"tanh": tanh, "relu": relu}


class LSTMState(NamedTuple):
    """The state of an LSTM: hidden state h and cell state c, each (B, H)."""

    h: Tensor
    c: Tensor


class Cell(Module):
    """The equations of one time step. A cell of your own defines ``step`` and ``initial_state``.

    ``step(x, state)`` returns ``(y, state)``. A state is a Tensor or a NamedTuple of them, with
    the batch as first axis; nothing outside the cell looks into it. ``input_size`` and
    ``hidden_size`` are attributes.

    >>> import tinygrad_rnn as tg
    >>> class Leaky(tg.rnn.Cell):
    ...     def __init__(self, input_size, hidden_size):
    ...         self.input_size, self.hidden_size = input_size, hidden_size
    ...         self.weight = tg.nn.Parameter(tg.zeros((hidden_size, input_size)))
    ...     def step(self, x, h):
    ...         h = 0.9 * h + tg.tanh(tg.linear(x, self.weight))
    ...         return h, h
    >>> output, h = tg.rnn.Recurrent(Leaky(3, 5))(tg.ones((7, 2, 3)))
    >>> output.shape, h.shape
    ((7, 2, 5), (2, 5))
    """

    input_size: int
    hidden_size: int

    @property
    def output_size(self) -> int:
        """The size of y: by default that of the hidden state."""
        return self.hidden_size

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """(y_t, state_t) from x_t and state_{t-1}."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step: by default h = 0, of shape (B, H)."""
        return self.zeros(batch_size, self.hidden_size)

    def zeros(self, *shape: int) -> Tensor:
        """Zeros in the dtype and on the device of the cell's parameters."""
        like = self.some_tensor()
        return zeros(shape) if like is None else zeros(shape, like.dtype, like.device)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step from inputs (B, I) and a state (by default the initial one)."""
        who = type(self).__name__
        check_inputs(who, x, ("B", self.input_size), self)
        return self.step(x, fit_state(who, state, self, x.shape[0]))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class GatedCell(Cell):
    """What cells share whose gates are one product of x and one of h, each with a bias.

    weight_ih (G H, I), weight_hh (G H, Y), bias_ih and bias_hh (G H,), for G gates and outputs of
    size Y, which is H unless the cell projects them.
    """

    gates: int

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        check_size(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self.gates * hidden_size
        self.weight_ih = Parameter(np.zeros((rows, input_size), np.float32))
        self.weight_hh = Parameter(np.zeros((rows, self.output_size), np.float32))
        self.bias_ih = Parameter(np.zeros(rows, np.float32)) if bias else None
        self.bias_hh = Parameter(np.zeros(rows, np.float32)) if bias else None
        bound = 1 / math.sqrt(hidden_size)
        for parameter in (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh):
            if parameter is not None:
                init.uniform_(parameter, -bound, bound)


class RNNCell(GatedCell):
    """Elman's network: h = f(W_ih x + b_ih + W_hh h + b_hh), y = h.

    ``nonlinearity`` f is ``"tanh"``, ``"relu"`` or any function of a Tensor. ``record=`` knows h.
    Source: Elman 1990, Finding Structure in Time.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str | Callable[[Tensor], Tensor] = "tanh",
    ) -> None:
        super().__init__(input_size, hidden_size, bias)
        if not callable(nonlinearity) and nonlinearity not in NONLINEARITIES:
            raise ValueError(
                f"RNNCell: nonlinearity must be one of {sorted(NONLINEARITIES)} or a function, got "
                f"{nonlinearity!r}"
            )
        self.nonlinearity = nonlinearity

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        f = self.nonlinearity
        f = NONLINEARITIES[f] if isinstance(f, str) else f
        h = f(linear(x, self.weight_ih, self.bias_ih) + linear(state, self.weight_hh, self.bias_hh))
        note(h=h)
        return h, h


class LSTMCell(GatedCell):
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
    """

    gates = 4

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        proj_size: int = 0,
        forget_bias: float | None = None,
    ) -> None:
        check_size("LSTMCell", input_size=input_size, hidden_size=hidden_size)
        whole = isinstance(proj_size, int | np.integer) and not isinstance(proj_size, bool)
        if not whole or not 0 <= proj_size < hidden_size:
            raise ValueError(
                "LSTMCell: proj_size must be an integer with 0 <= proj_size < hidden_size = "
                f"{hidden_size}, got {proj_size!r}"
            )
        self.proj_size = proj_size
        super().__init__(input_size, hidden_size, bias)
        if proj_size:
            bound = 1 / math.sqrt(hidden_size)
            self.weight_hr = Parameter(np.zeros((proj_size, hidden_size), np.float32))
            init.uniform_(self.weight_hr, -bound, bound)
        if forget_bias is not None:
            if self.bias_ih is None or self.bias_hh is None:
                raise ValueError("LSTMCell: forget_bias needs bias=True")
            forget = slice(hidden_size, 2 * hidden_size)
            for parameter, value in ((self.bias_ih, forget_bias), (self.bias_hh, 0.0)):
                parameter.data = parameter.detach().at[forget].set(value)

    def initial_state(self, batch_size: int) -> LSTMState:
        """The state before the first step: h = c = 0."""
        return LSTMState(
            self.zeros(batch_size, self.output_size), self.zeros(batch_size, self.hidden_size)
        )

    @property
    def output_size(self) -> int:
        """The size of h: P with a projection, else H."""
        return self.proj_size or self.hidden_size

    def step(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        h, c = state
        z = linear(x, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        i, f, g, o = split(z, 4)
        i, f, g, o = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)
        c = f * c + i * g
        h = o * tanh(c)
        if self.proj_size:
            h = linear(h, self.weight_hr)
        note(i=i, f=f, g=g, o=o)
        return h, LSTMState(h, c)


class GRUCell(GatedCell):
    """Gated recurrent unit, with the reset gate after the product.

    r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh), n = tanh(W_in x + b_in + r * (W_hn h + b_hn)),
    h = (1 - z) * n + z * h, y = h; the rows of the weights are those of r, z, n. ``record=`` knows
    r, z, n, h.
    Source: Cho et al. 2014, whose z is ours and whose reset comes before the product.
    """

    gates = 3

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = state
        x_r, x_z, x_n = split(linear(x, self.weight_ih, self.bias_ih), 3)
        h_r, h_z, h_n = split(linear(h, self.weight_hh, self.bias_hh), 3)
        r = sigmoid(x_r + h_r)
        z = sigmoid(x_z + h_z)
        n = tanh(x_n + r * h_n)
        h = (1 - z) * n + z * h
        note(r=r, z=z, n=n, h=h)
        return h, h
