"""A cell over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.rnn.cell_layer import CellLayer
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.rnn.loop import explain_cell
from tinygrad_rnn.tensor import Tensor


class Recurrent(CellLayer):
    """A cell run over time: inputs (T, B, I) to outputs (T, B, H) and the last state.

    Parameters
    ----------
    cell : its equations.
    reverse : run from the last step to the first; outputs stay at their steps.
    batch_first : inputs and outputs are (B, T, I) and (B, T, H); states are as ever.
    unroll : write every operation of every step on the tape, to be studied, instead of replaying
        the tape of one step. Slower, with the same results.
    checkpoint : hold the states before every k-th step only and compute the rest again in the
        backward pass, or ``"sqrt"``: see :func:`tinygrad_rnn.scan`.
    """

    def __init__(
        self,
        cell: Cell,
        reverse: bool = False,
        batch_first: bool = False,
        unroll: bool = False,
        checkpoint: int | str | None = None,
    ) -> None:
        if not isinstance(cell, Cell):
            raise TypeError(f"Recurrent: expected a Cell, got {type(cell).__name__}")
        for name in ("input_size", "hidden_size"):
            if not hasattr(cell, name):
                raise TypeError(
                    f"Recurrent: the cell {type(cell).__name__} must have the attribute {name}, "
                    "an integer"
                )
        self.cell = cell
        self.reverse = reverse
        self.batch_first = batch_first
        self.unroll, self.checkpoint = unroll, checkpoint
        self._check_options()

    def cells(self) -> list[Cell]:
        """The one cell."""
        return [self.cell]

    def _called(self) -> str:
        return f"Recurrent({type(self.cell).__name__})"

    def initial_state(self, batch_size: int) -> Any:
        """The state that a call without one begins with."""
        return self.cell.initial_state(batch_size)

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
        """``(output, state)``: the outputs at every step and the last state.

        Parameters
        ----------
        x : (T, B, I), or (T, I) without a batch: then nothing that comes back has one either.
        state : where to begin, for instance the state of an earlier call.
        lengths : how many steps of each sequence count, in any order and down to 0, as a list or
            an array of B integers. Outputs past a sequence's end are 0, its last state is that of
            its last step that counts, and nothing past its end is read, be it nan. A reversed run
            begins at each sequence's own end.
        record : names of inner values (gates, fields of the state) that shall come back over time:
            then the result is ``(output, state, {name: (T, B, ...)})``.
        reverse : turn the direction of this call round.
        probe : Tensors in the containers of the layer's state, each with the time in front of the
            state's axes, (T, B, ...), which are added to the state after each step. The gradient
            of zeros is the total gradient of the state as every step hands it on: through the
            steps that follow, the last state, and the output of the step where that is a field of
            the state, as h is. Every layer takes it, stacks and wrappers in the containers of
            their own states, with None for a layer that is not probed.
        """
        return self._forward(x, state, lengths, record, reverse != self.reverse, probe)

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream: inputs (B, I) to outputs (B, H) and the next state."""
        if self.reverse:
            raise ValueError("Recurrent.step: a stream has no end to begin a reversed run at")
        return super().step(x, state)

    def explain(self, batch_size: int = 8, gradients: bool = True) -> str:
        """What the replay makes of the cell: its program, the parts in which it is run, the
        products and kernels of the loop, the memory per step, and why anything is left slow.

        Parameters
        ----------
        batch_size : B of the shapes and bytes that are shown.
        gradients : as in training, with gradients of all parameters, the inputs and the first
            state; else as under ``no_grad``.
        """
        return explain_cell(self.cell, batch_size, self.reverse, gradients)

    def extra_repr(self) -> str:
        flags = ("reverse", "batch_first", "unroll")
        return ", ".join(name for name in flags if getattr(self, name))
