"""RNN, LSTM and GRU as PyTorch has them: names, shapes, arguments and results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinygrad_rnn.nn import Module, check_size
from tinygrad_rnn.ops import dropout, stack, swapaxes, unstack
from tinygrad_rnn.rnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.rnn.loop import run
from tinygrad_rnn.rnn.state import check_inputs, fit_state
from tinygrad_rnn.tape import leaves, rebuild
from tinygrad_rnn.tensor import Tensor


class StackedCells(Module):
    """``num_layers`` cells of one kind over each other, with their parameters held flat.

    The parameters are attributes of the layer under PyTorch's names (``weight_ih_l0``, ...); the
    cells refer to the same objects.
    """

    def __init__(self, cells: list[Cell], batch_first: bool, dropout: float) -> None:
        if not 0 <= dropout < 1:
            raise ValueError(
                f"{type(self).__name__}: dropout must satisfy 0 <= dropout < 1, got {dropout}"
            )
        self.input_size, self.hidden_size = cells[0].input_size, cells[0].hidden_size
        self.num_layers = len(cells)
        self.batch_first = batch_first
        self.dropout = dropout
        self._cells = cells
        for k, cell in enumerate(cells):
            for name, parameter in vars(cell).items():
                if isinstance(parameter, Tensor):
                    setattr(self, f"{name}_l{k}", parameter)

    def cells(self) -> list[Cell]:
        """The cell of each layer, from below, holding the present parameters of this layer."""
        for k, cell in enumerate(self._cells):
            for name, parameter in vars(cell).items():
                if isinstance(parameter, Tensor):
                    setattr(cell, name, getattr(self, f"{name}_l{k}"))
        return self._cells

    def initial_state(self, batch_size: int) -> Any:
        """Zeros: every Tensor of the state is (num_layers, B, H)."""
        return self._join([cell.initial_state(batch_size) for cell in self.cells()])

    @staticmethod
    def _join(states: list[Any]) -> Any:
        """The states of all layers as one, stacked along a first axis."""
        columns = zip(*(leaves(state) for state in states), strict=True)
        return rebuild(states[0], [stack(column, 0) for column in columns])

    def _part(self, state: Any) -> list[Any]:
        """The state of each layer: the inverse of :meth:`_join`."""
        rows = zip(*(unstack(leaf, 0) for leaf in leaves(state)), strict=True)
        return [rebuild(state, list(row)) for row in rows]

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Outputs (T, B, H) of the last layer, and the last state of every layer."""
        who = type(self).__name__
        cells = self.cells()
        layout = ("B", "T") if self.batch_first else ("T", "B")
        check_inputs(who, x, (*layout, self.input_size), self)
        output = swapaxes(x, 0, 1) if self.batch_first else x
        if output.shape[0] == 0:
            raise ValueError(f"{who}: inputs must have at least one time step, got {x.shape}")
        states = self._part(fit_state(who, state, self.initial_state(output.shape[1])))
        for k, cell in enumerate(cells):
            if k > 0 and self.dropout and self.training:
                output = dropout(output, self.dropout)
            output, states[k] = run(cell, output, states[k])
        return (swapaxes(output, 0, 1) if self.batch_first else output), self._join(states)

    def extra_repr(self) -> str:
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, "
            f"batch_first={self.batch_first}, dropout={self.dropout}"
        )


def _cells(
    kind: Callable[..., Cell],
    who: str,
    input_size: int,
    hidden_size: int,
    num_layers: int,
    **options: Any,
) -> list[Cell]:
    check_size(who, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
    sizes = [input_size] + [hidden_size] * (num_layers - 1)
    return [kind(size, hidden_size, **options) for size in sizes]


class RNN(StackedCells):
    """Elman networks over time, stacked: ``output, h = layer(x, h_0=None)``; see RNNCell.

    x (T, B, I) to output (T, B, H) and h (num_layers, B, H). ``dropout`` acts in training on the
    outputs of each layer but the last.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str | Callable[[Tensor], Tensor] = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
    ) -> None:
        cells = _cells(
            RNNCell, "RNN", input_size, hidden_size, num_layers,
            bias=bias, nonlinearity=nonlinearity,
        )  # fmt: skip
        super().__init__(cells, batch_first, dropout)


class LSTM(StackedCells):
    """LSTMs over time, stacked: ``output, (h, c) = layer(x, (h_0, c_0)=None)``; see LSTMCell.

    x (T, B, I) to output (T, B, H), h and c (num_layers, B, H). ``dropout`` acts in training on
    the outputs of each layer but the last.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        forget_bias: float | None = None,
    ) -> None:
        cells = _cells(
            LSTMCell, "LSTM", input_size, hidden_size, num_layers,
            bias=bias, forget_bias=forget_bias,
        )  # fmt: skip
        super().__init__(cells, batch_first, dropout)


class GRU(StackedCells):
    """GRUs over time, stacked: ``output, h = layer(x, h_0=None)``; see GRUCell.

    x (T, B, I) to output (T, B, H) and h (num_layers, B, H). ``dropout`` acts in training on the
    outputs of each layer but the last.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
    ) -> None:
        cells = _cells(GRUCell, "GRU", input_size, hidden_size, num_layers, bias=bias)
        super().__init__(cells, batch_first, dropout)
