"""The one time loop, and stacks of layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.nn import Module
from tinygrad_rnn.ops import stack, swapaxes, unstack
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.rnn.state import check_inputs, fit_state
from tinygrad_rnn.tensor import Tensor


class Recurrent(Module):
    """A cell run over time: inputs (T, B, I) to outputs (T, B, H) and the last state.

    Parameters
    ----------
    cell : its equations.
    batch_first : inputs and outputs are (B, T, I) and (B, T, H); states are as ever.
    """

    def __init__(self, cell: Cell, batch_first: bool = False) -> None:
        if not isinstance(cell, Cell):
            raise TypeError(f"Recurrent: expected a Cell, got {type(cell).__name__}")
        self.cell = cell
        self.batch_first = batch_first

    def initial_state(self, batch_size: int) -> Any:
        """The state that a call without one begins with."""
        return self.cell.initial_state(batch_size)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The outputs at every step and the last state. ``state`` may be one returned before."""
        who = f"Recurrent({type(self.cell).__name__})"
        layout = ("B", "T") if self.batch_first else ("T", "B")
        check_inputs(who, x, (*layout, self.cell.input_size), self.cell)
        xs = swapaxes(x, 0, 1) if self.batch_first else x
        if xs.shape[0] == 0:
            raise ValueError(f"{who}: inputs must have at least one time step, got {x.shape}")
        state = fit_state(who, state, self.cell.initial_state(xs.shape[1]))
        output, state = run(self.cell, xs, state)
        return (swapaxes(output, 0, 1) if self.batch_first else output), state


def run(cell: Cell, xs: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Every step of a cell on the tape: outputs (T, B, ...) and the last state."""
    outputs: list[Tensor] = []
    for x in unstack(xs, 0):
        found = cell.step(x, state)
        if type(found) is not tuple or len(found) != 2:
            raise TypeError(
                f"{type(cell).__name__}: step must return (y, state), got {type(found).__name__}"
            )
        y, state = found
        outputs.append(y)
    return stack(outputs, 0), state


class Stacked(Module):
    """Layers on top of each other, of any kind: each reads the outputs of the one below.

    Layers without a state (Dropout, Linear, LayerNorm) may stand between. The state is a tuple
    with an entry per layer, None for those without one.
    """

    def __init__(self, layers: Sequence[Module]) -> None:
        if not isinstance(layers, Sequence) or not layers:
            raise ValueError("Stacked: expected a list of at least one layer")
        for layer in layers:
            if not isinstance(layer, Module) or isinstance(layer, Cell):
                raise TypeError(
                    f"Stacked: expected layers such as Recurrent(cell), got {type(layer).__name__}"
                )
        self.layers = list(layers)

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """The states that a call without one begins with."""
        layers: list[Any] = self.layers
        return tuple(
            layer.initial_state(batch_size) if _has_state(layer) else None for layer in layers
        )

    def forward(self, x: Tensor, state: Sequence[Any] | None = None) -> tuple[Tensor, Any]:
        """The outputs of the last layer, and the last state of each."""
        if state is not None and not isinstance(state, tuple | list):
            raise TypeError(
                f"Stacked: the state must be a tuple with an entry per layer, got "
                f"{type(state).__name__}"
            )
        states = [None] * len(self.layers) if state is None else list(state)
        if len(states) != len(self.layers):
            raise ValueError(
                f"Stacked: the state must have {len(self.layers)} entries, one per layer, got "
                f"{len(states)}"
            )
        for k, layer in enumerate(self.layers):
            if _has_state(layer):
                x, states[k] = layer(x, states[k])
            elif states[k] is None:
                x = layer(x)
            else:
                raise TypeError(
                    f"Stacked: layer {k} is a {type(layer).__name__}, which has no state: its "
                    f"entry must be None, got {type(states[k]).__name__}"
                )
        return x, tuple(states)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, k: int) -> Module:
        return self.layers[k]


def _has_state(layer: Module) -> bool:
    return hasattr(layer, "initial_state")
