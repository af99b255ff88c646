"""Gated recurrent units."""

from __future__ import annotations

from tinygrad_rnn.ops import linear, sigmoid, split, tanh
from tinygrad_rnn.rnn.carried import carried
from tinygrad_rnn.rnn.cells.cell import GatedCell, described
from tinygrad_rnn.rnn.notes import note
from tinygrad_rnn.tensor import Tensor


class GRUCell(GatedCell):
    """Gated recurrent unit.

    r, z = sigmoid(W_ih x + b_ih + W_hh h + b_hh), n = tanh(W_in x + b_in + r * (W_hn h + b_hn)),
    h = (1 - z) * n + z * h, y = h; the rows of the weights are those of r, z, n. ``record=`` knows
    r, z, n, h.
    Source: Cho et al. 2014, whose z is ours and whose reset comes before the product.

    Parameters
    ----------
    reset : ``"after"`` the product, as above and in PyTorch, or ``"before"`` it, as in the paper:
        n = tanh(W_in x + b_in + W_hn (r * h) + b_hn).
    """

    pure = True
    gates = 3

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, *, reset: str = "after"
    ) -> None:
        if reset not in ("after", "before"):
            raise ValueError(f"GRUCell: reset must be 'after' or 'before', got {reset!r}")
        super().__init__(input_size, hidden_size, bias)
        self.reset = reset

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = state
        x_r, x_z, x_n = split(linear(x, self.weight_ih, self.bias_ih), parts=3)
        if self.reset == "after":
            h_r, h_z, h_n = split(linear(h, self.weight_hh, self.bias_hh), parts=3)
            r = sigmoid(x_r + h_r)
            n = tanh(x_n + r * h_n)
        else:
            sizes = [2 * self.hidden_size, self.hidden_size]
            w, w_n = split(self.weight_hh, sizes=sizes, axis=0)
            b, b_n = (None, None) if self.bias_hh is None else split(self.bias_hh, sizes=sizes)
            h_r, h_z = split(linear(h, w, b), parts=2)
            r = sigmoid(x_r + h_r)
            n = tanh(x_n + linear(r * h, w_n, b_n))
        z = sigmoid(x_z + h_z)
        h = (1 - z) * n + z * carried(h)
        note(r=r, z=z, n=n, h=h)
        return h, h

    def extra_repr(self) -> str:
        return described(self, reset="after")


class SimplifiedGRUCell(GatedCell):
    """A gated recurrent unit with an update gate alone: r = 1.

    u = sigmoid(W_ih x + b_ih + W_hh h + b_hh), n = tanh(the same with rows of its own),
    h = u * n + (1 - u) * h, y = h; the rows of the weights are those of u, n. u takes the new
    value, where the z of a GRU keeps the old one: u = 1 - z. ``record=`` knows u, n, h.
    Source: Cho et al. 2014 without the reset gate, as it is taught in many courses.
    """

    pure = True
    gates = 2

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        h = state
        z = linear(x, self.weight_ih, self.bias_ih) + linear(h, self.weight_hh, self.bias_hh)
        u, n = split(z, parts=2)
        u, n = sigmoid(u), tanh(n)
        h = u * n + (1 - u) * carried(h)
        note(u=u, n=n, h=h)
        return h, h
