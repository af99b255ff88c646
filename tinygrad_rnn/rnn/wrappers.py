"""Layers made of layers: stacks, both directions, residual connections.

A recurrent layer is called as ``layer(x, state=None, *, lengths=None, reverse=False)``, returns
``(output, state)`` and has an ``initial_state``. What has none, such as Dropout or Linear, is
called with x alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_rnn.nn import Module
from tinygrad_rnn.ops import concat, swapaxes
from tinygrad_rnn.rnn.arguments import keep_valid, valid_steps
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.tensor import Tensor

MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda a, b: concat([a, b], -1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: 0.5 * (a + b),
}


def check_layer(who: str, layer: Any, recurrent: bool = False) -> None:
    """Refuse what is not a layer, or has no state where one is needed."""
    if not isinstance(layer, Module) or isinstance(layer, Cell):
        raise TypeError(
            f"{who}: expected layers such as Recurrent(cell), got {type(layer).__name__}"
        )
    if recurrent and not has_state(layer):
        raise TypeError(f"{who}: {type(layer).__name__} is not a recurrent layer")


def has_state(layer: Module) -> bool:
    """Whether a layer is recurrent."""
    return hasattr(layer, "initial_state")


def _entries(who: str, state: Any, count: int) -> list[Any]:
    """The parts of a given state, None where none is given."""
    if state is None:
        return [None] * count
    if not isinstance(state, tuple | list):
        raise TypeError(
            f"{who}: the state must be a tuple with an entry per layer, got {type(state).__name__}"
        )
    if len(state) != count:
        raise ValueError(
            f"{who}: the state must have {count} entries, one per layer, got {len(state)}"
        )
    return list(state)


class Stacked(Module):
    """Layers on top of each other, of any kind: each reads the outputs of the one below.

    Layers without a state (Dropout, Linear, LayerNorm) may stand between. The state is a tuple
    with an entry per layer, None for those without one.
    """

    def __init__(self, layers: Sequence[Module]) -> None:
        if not isinstance(layers, Sequence) or not layers:
            raise ValueError("Stacked: expected a list of at least one layer")
        for layer in layers:
            check_layer("Stacked", layer)
        self.layers = list(layers)

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """The states that a call without one begins with."""
        layers: list[Any] = self.layers
        return tuple(
            layer.initial_state(batch_size) if has_state(layer) else None for layer in layers
        )

    def forward(
        self, x: Tensor, state: Any = None, *, lengths: Any = None, reverse: bool = False
    ) -> tuple[Tensor, Any]:
        """The outputs of the last layer, and the last state of each."""
        return self._through(
            x, state, lambda layer, y, s: layer(y, s, lengths=lengths, reverse=reverse)
        )

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream: inputs (B, I) to outputs (B, H) and the next state."""
        return self._through(x, state, lambda layer, y, s: layer.step(y, s))

    def _through(
        self, x: Tensor, state: Any, call: Callable[[Any, Tensor, Any], Any]
    ) -> tuple[Tensor, Any]:
        states = _entries("Stacked", state, len(self.layers))
        for k, layer in enumerate(self.layers):
            if has_state(layer):
                x, states[k] = call(layer, x, states[k])
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


class Bidirectional(Module):
    """Two layers over the same inputs, one from each end, with their outputs merged step by step.

    Parameters
    ----------
    forward, backward : any recurrent layers, each written as running forward; the second is run in
        reverse, within each sequence's own length. They may be one and the same. They are kept as
        ``forward_layer`` and ``backward_layer``.
    merge : ``"concat"`` (the default: (T, B, 2 H)), ``"sum"``, ``"mean"``, or a function of the
        two outputs. The state is a pair of theirs. Source: Schuster, Paliwal 1997.
    """

    def __init__(
        self,
        forward: Module,
        backward: Module,
        merge: str | Callable[[Tensor, Tensor], Tensor] = "concat",
    ) -> None:
        for layer in (forward, backward):
            check_layer("Bidirectional", layer, recurrent=True)
        if not callable(merge) and merge not in MERGES:
            raise ValueError(
                f"Bidirectional: merge must be one of {sorted(MERGES)} or a function, got {merge!r}"
            )
        self.forward_layer: Any = forward
        self.backward_layer: Any = backward
        self.merge = merge

    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        """The states that a call without one begins with."""
        return (
            self.forward_layer.initial_state(batch_size),
            self.backward_layer.initial_state(batch_size),
        )

    def forward(
        self, x: Tensor, state: Any = None, *, lengths: Any = None, reverse: bool = False
    ) -> tuple[Tensor, Any]:
        """The merged outputs, and the last state of each direction."""
        first, second = _entries("Bidirectional", state, 2)
        y, first = self.forward_layer(x, first, lengths=lengths, reverse=reverse)
        z, second = self.backward_layer(x, second, lengths=lengths, reverse=not reverse)
        merge = self.merge if callable(self.merge) else MERGES[self.merge]
        return merge(y, z), (first, second)

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Refused: the second direction would have to begin at the end of the stream."""
        raise ValueError("Bidirectional.step: a stream has no end to begin the second direction at")


class Residual(Module):
    """y = x + layer(x): a connection past a layer whose outputs are of the size of its inputs.

    Source: He et al. 2015; between recurrent layers: Wu et al. 2016.
    """

    def __init__(self, layer: Module) -> None:
        check_layer("Residual", layer, recurrent=True)
        self.layer: Any = layer

    def initial_state(self, batch_size: int) -> Any:
        """The state that a call without one begins with."""
        return self.layer.initial_state(batch_size)

    def forward(
        self, x: Tensor, state: Any = None, *, lengths: Any = None, reverse: bool = False
    ) -> tuple[Tensor, Any]:
        """The sum of inputs and outputs, and the layer's last state."""
        y, state = self.layer(x, state, lengths=lengths, reverse=reverse)
        if lengths is not None:
            x = self._cut(x, lengths)
        return self._add(x, y), state

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream."""
        y, state = self.layer.step(x, state)
        return self._add(x, y), state

    def _cut(self, x: Tensor, lengths: Any) -> Tensor:
        """The inputs with zeros past each sequence's end, as the layer's outputs have them."""
        turned = getattr(self.layer, "batch_first", False)
        xs = swapaxes(x, 0, 1) if turned else x
        valid = valid_steps("Residual", lengths, xs)
        xs = xs if valid is None else keep_valid(valid, xs, 0)
        return swapaxes(xs, 0, 1) if turned else xs

    @staticmethod
    def _add(x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape:
            raise ValueError(
                f"Residual: outputs must have the shape of the inputs, {x.shape}, got {y.shape}"
            )
        return x + y
