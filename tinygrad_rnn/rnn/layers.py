"""RNN, LSTM and GRU as PyTorch has them: names, shapes, arguments and results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tinygrad_rnn.backends import backend_of
from tinygrad_rnn.nn import check_size
from tinygrad_rnn.ops import dropout, stack, unstack
from tinygrad_rnn.rnn.arguments import with_axis, without_axis
from tinygrad_rnn.rnn.cell_layer import CellLayer
from tinygrad_rnn.rnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.rnn.loop import explain_cell
from tinygrad_rnn.tape import leaves, rebuild
from tinygrad_rnn.tensor import Tensor


class StackedCells(CellLayer):
    """``num_layers`` cells of one kind over each other, with their parameters held flat.

    The parameters are attributes of the layer under PyTorch's names (``weight_ih_l0``,
    ``weight_ih_l0_reverse``, ...); the cells refer to the same objects.
    """

    hidden = ("_cells",)
    _batch_axis = 1

    def __init__(
        self,
        make: Callable[[int, int], Cell],
        input_size: int,
        hidden_size: int,
        num_layers: int,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        unroll: bool,
        checkpoint: int | str | None,
    ) -> None:
        who = type(self).__name__
        self.unroll, self.checkpoint = unroll, checkpoint
        self._check_options()
        check_size(who, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= dropout < 1:
            raise ValueError(f"{who}: dropout must satisfy 0 <= dropout < 1, got {dropout}")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers, self.bidirectional = num_layers, bool(bidirectional)
        self.batch_first = batch_first
        self.dropout = dropout
        self._cells: dict[str, Cell] = {}
        size = input_size
        for k in range(num_layers):
            cells = [make(size, hidden_size) for _ in range(2 if bidirectional else 1)]
            for cell, suffix in zip(cells, (f"_l{k}", f"_l{k}_reverse"), strict=False):
                self._cells[suffix] = cell
                for name, parameter in vars(cell).items():
                    if isinstance(parameter, Tensor):
                        setattr(self, f"{name}{suffix}", parameter)
            size = len(cells) * cells[0].output_size

    def cells(self) -> list[Cell]:
        """The cells from below, in each layer that of the forward direction first.

        They hold the present parameters of this layer.
        """
        for suffix, cell in self._cells.items():
            for name, parameter in vars(cell).items():
                if isinstance(parameter, Tensor):
                    present = getattr(self, f"{name}{suffix}")
                    if present is not parameter:
                        vars(cell)[name] = present
        return list(self._cells.values())

    def _name_of(self, k: int) -> str:
        return [*self._cells][k][1:]

    @property
    def _ways(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Two where each layer is run from both ends."""
        return 2 if self.bidirectional else 1

    def initial_state(self, batch_size: int) -> Any:
        """Zeros: every Tensor of the state is (num_layers, B, H), twice as many both ways."""
        states = [cell.initial_state(batch_size) for cell in self.cells()]
        return rebuild(states[0], self._joined([leaves(state) for state in states]))

    def _parted(self, values: Sequence[Any], lead: int = 0) -> Sequence[Sequence[Any]]:
        """The parts of each value along the axis of the cells, which is the first of a state."""
        if len(self._cells) == 1:
            return [[without_axis(v, lead) for v in values]]
        if not all(isinstance(v, Tensor) for v in values):
            before = (slice(None),) * lead
            return [[v[*before, k] for v in values] for k in range(len(self._cells))]
        return [*zip(*[unstack(v, lead) for v in values], strict=True)]

    def _joined(self, of_cells: Sequence[Sequence[Any]]) -> Sequence[Any]:
        """The values of all cells along a first axis."""
        if len(of_cells) == 1:
            return [with_axis(v, 0) for v in of_cells[0]]
        first = of_cells[0][0]
        put: Any = stack
        if not isinstance(first, Tensor):
            backend = backend_of(first)
            put = backend.there(first, backend.xp.stack)
        return [put(values) for values in zip(*of_cells, strict=True)]

    def _between(self, k: int, x: Any) -> Any:
        """In training, dropout of the outputs between two layers."""
        return dropout(x, self.dropout) if k and self.dropout and self.training else x

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        *,
        lengths: Any = None,
        record: Sequence[str] = (),
        reverse: bool = False,
        probe: Any = None,
    ) -> tuple[Any, ...]:
        """Outputs (T, B, D H) of the last layer, and the last state of every layer.

        D is 2 with ``bidirectional``, else 1: the outputs of both directions side by side. The
        state is (D num_layers, B, H), in each layer forward before backward.

        Parameters
        ----------
        x : (T, B, I), or (T, I) without a batch: then nothing that comes back has one either.
        state : where to begin, for instance the state of an earlier call.
        lengths : how many steps of each sequence count; see :meth:`Recurrent.forward`.
        record : names of inner values that shall come back over time: then the result is
            ``(output, state, {name: values})``, each (D num_layers, T, B, ...) and thus of the
            state's order, with the time laid out as in the outputs.
        reverse : turn every direction of this call round.
        probe : Tensors (T, D num_layers, B, ...) in the containers of the state, added to it after
            each step; see :meth:`Recurrent.forward`.
        """
        return self._forward(x, state, lengths, record, reverse, probe)

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream: inputs (B, I) to outputs (B, H) and the next state."""
        if self.bidirectional:
            who = type(self).__name__
            raise ValueError(f"{who}.step: a stream has no end to begin the second direction at")
        return super().step(x, state)

    def explain(self, batch_size: int = 8, gradients: bool = True) -> str:
        """What the replay makes of each cell; see :meth:`Recurrent.explain`."""
        return "\n\n".join(
            f"{suffix[1:]}: {explain_cell(cell, batch_size, k % self._ways == 1, gradients)}"
            for k, (suffix, cell) in enumerate(self._cells.items())
        )

    def extra_repr(self) -> str:
        parts = [f"{self.input_size}, {self.hidden_size}"]
        defaults = {
            "num_layers": 1,
            "batch_first": False,
            "dropout": 0.0,
            "bidirectional": False,
            "proj_size": 0,
            "unroll": False,
            "checkpoint": None,
        }
        parts += [
            f"{name}={getattr(self, name)}"
            for name, default in defaults.items()
            if getattr(self, name, default) != default
        ]
        return ", ".join(parts)


class RNN(StackedCells):
    """Elman networks over time, stacked: ``output, h = layer(x, h_0=None)``; see RNNCell.

    x (T, B, I) to output (T, B, H) and h (num_layers, B, H). ``dropout`` acts in training on the
    outputs of each layer but the last; ``bidirectional`` runs each layer from both ends.
    ``unroll`` and ``checkpoint`` are those of :class:`Recurrent`.
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
        bidirectional: bool = False,
        *,
        unroll: bool = False,
        checkpoint: int | str | None = None,
    ) -> None:
        make = partial(RNNCell, bias=bias, nonlinearity=nonlinearity)
        super().__init__(
            make, input_size, hidden_size, num_layers, batch_first, dropout, bidirectional, unroll,
            checkpoint,
        )  # fmt: skip


class LSTM(StackedCells):
    """LSTMs over time, stacked: ``output, (h, c) = layer(x, (h_0, c_0)=None)``; see LSTMCell.

    x (T, B, I) to output (T, B, H), h and c (num_layers, B, H). ``dropout`` acts in training on
    the outputs of each layer but the last; ``bidirectional`` runs each layer from both ends. With
    ``proj_size`` P the outputs and h are P wide. ``forget_bias`` is that of :class:`LSTMCell`,
    ``unroll`` and ``checkpoint`` are those of :class:`Recurrent`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        forget_bias: float | None = None,
        unroll: bool = False,
        checkpoint: int | str | None = None,
    ) -> None:
        self.proj_size = proj_size
        make = partial(LSTMCell, bias=bias, proj_size=proj_size, forget_bias=forget_bias)
        super().__init__(
            make, input_size, hidden_size, num_layers, batch_first, dropout, bidirectional, unroll,
            checkpoint,
        )  # fmt: skip


class GRU(StackedCells):
    """GRUs over time, stacked: ``output, h = layer(x, h_0=None)``; see GRUCell.

    x (T, B, I) to output (T, B, H) and h (num_layers, B, H). ``dropout`` acts in training on the
    outputs of each layer but the last; ``bidirectional`` runs each layer from both ends.
    ``unroll`` and ``checkpoint`` are those of :class:`Recurrent`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        unroll: bool = False,
        checkpoint: int | str | None = None,
    ) -> None:
        super().__init__(
            partial(GRUCell, bias=bias),
            input_size, hidden_size, num_layers, batch_first, dropout, bidirectional, unroll,
            checkpoint,
        )  # fmt: skip
