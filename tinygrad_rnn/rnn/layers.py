"""RNN, LSTM and GRU as PyTorch has them: names, shapes, arguments and results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tinygrad_rnn.nn import Module, check_size
from tinygrad_rnn.ops import concat, dropout, stack, unstack
from tinygrad_rnn.replay import TracedStep
from tinygrad_rnn.rnn.arguments import Layout, check_inputs, fit_state, keep_valid, valid_steps
from tinygrad_rnn.rnn.cells import Cell, GRUCell, LSTMCell, RNNCell
from tinygrad_rnn.rnn.loop import How, check_options, explain_cell, one_step, run
from tinygrad_rnn.rnn.repeated import again, remember
from tinygrad_rnn.tape import leaves, rebuild
from tinygrad_rnn.tensor import Tensor


class StackedCells(Module):
    """``num_layers`` cells of one kind over each other, with their parameters held flat.

    The parameters are attributes of the layer under PyTorch's names (``weight_ih_l0``,
    ``weight_ih_l0_reverse``, ...); the cells refer to the same objects.
    """

    hidden = ("_cells",)

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
        check_options(who, unroll, checkpoint)
        check_size(who, input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        if not 0 <= dropout < 1:
            raise ValueError(f"{who}: dropout must satisfy 0 <= dropout < 1, got {dropout}")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.num_layers, self.bidirectional = num_layers, bool(bidirectional)
        self.batch_first = batch_first
        self.dropout = dropout
        self.unroll, self.checkpoint = unroll, checkpoint
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

    def initial_state(self, batch_size: int) -> Any:
        """Zeros: every Tensor of the state is (num_layers, B, H), twice as many both ways."""
        return self._join([cell.initial_state(batch_size) for cell in self.cells()])

    @staticmethod
    def _join(states: list[Any]) -> Any:
        """The states of all cells as one, stacked along a first axis."""
        columns = zip(*(leaves(state) for state in states), strict=True)
        return rebuild(states[0], [stack(column, 0) for column in columns])

    @staticmethod
    def _part(state: Any) -> list[Any]:
        """The state of each cell: the inverse of :meth:`_join`."""
        rows = zip(*(unstack(leaf, 0) for leaf in leaves(state)), strict=True)
        return [rebuild(state, list(row)) for row in rows]

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        *,
        lengths: Any = None,
        record: Sequence[str] = (),
        reverse: bool = False,
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
        """
        plain = lengths is None and not record and not reverse
        found = again(self, x, state, stacked=True) if plain else None
        if found is not None:
            return found
        who = type(self).__name__
        cells = self.cells()
        layout = Layout(who, x, self.input_size, self.batch_first, self)
        output = layout.enter(x)
        valid = valid_steps(who, lengths, output)
        if valid is not None:
            output = keep_valid(valid, output, 0)
        if state is None:
            states = [cell.initial_state(output.shape[1]) for cell in cells]
        else:
            states = self._part(layout.enter_state(who, state, self, 1))
        if isinstance(record, str):
            raise TypeError(f"record: expected a list of names, got the string {record!r}")
        recorded: dict[str, list[Tensor]] = {name: [] for name in record}
        ways = 2 if self.bidirectional else 1
        used: list[TracedStep | None] = []
        for k in range(0, len(cells), ways):
            output = self._dropped(k, output)
            outputs: list[Tensor] = []
            for way in range(ways):
                turned = reverse != (way == 1)
                how = How(valid, turned, tuple(record), None, self.unroll, self.checkpoint, used)
                y, states[k + way], series = run(cells[k + way], output, states[k + way], how)
                outputs.append(y)
                for name, values in series.items():
                    recorded[name].append(layout.leave(values))
            output = concat(outputs, -1) if ways == 2 else outputs[0]
        if plain and layout.is_plain and not self._drops:
            remember(self, x, state, used, len(cells), ways)
        found = (layout.leave(output), layout.leave_state(self._join(states), 1))
        if not record:
            return found
        return *found, {name: stack(values, 0) for name, values in recorded.items()}

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream: inputs (B, I) to outputs (B, H) and the next state."""
        found = again(self, x, state, single=True, stacked=True)
        if found is not None:
            return found
        who = type(self).__name__
        if self.bidirectional:
            raise ValueError(f"{who}.step: a stream has no end to begin the second direction at")
        check_inputs(f"{who}.step", x, ("B", self.input_size), self)
        cells = self.cells()
        states = self._part(fit_state(who, state, self, x.shape[0]))
        used: list[TracedStep | None] = []
        y = x
        for k, cell in enumerate(cells):
            y, states[k] = one_step(cell, self._dropped(k, y), states[k], self.unroll, used)
        if not self._drops:
            remember(self, x, state, used, len(cells), single=True)
        return y, self._join(states)

    def explain(self, batch_size: int = 8, gradients: bool = True) -> str:
        """What the replay makes of each cell; see :meth:`Recurrent.explain`."""
        ways = 2 if self.bidirectional else 1
        return "\n\n".join(
            f"{suffix[1:]}: {explain_cell(cell, batch_size, k % ways == 1, gradients)}"
            for k, (suffix, cell) in enumerate(self._cells.items())
        )

    @property
    def _drops(self) -> bool:
        return bool(self.dropout and self.training)

    def _dropped(self, k: int, x: Tensor) -> Tensor:
        """The inputs of the k-th cell after the dropout between layers."""
        return dropout(x, self.dropout) if k and self._drops else x

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
