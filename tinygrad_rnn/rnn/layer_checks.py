"""What layers made of layers ask of those that they are made of, and of their arguments."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinygrad_rnn.nn import Module
from tinygrad_rnn.rnn.arguments import valid_steps
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.tensor import Tensor


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


def common_layout(who: str, layers: Iterable[Module]) -> bool:
    """The ``batch_first`` of all recurrent layers among these."""
    found = {bool(getattr(layer, "batch_first", False)) for layer in layers if has_state(layer)}
    if len(found) > 1:
        raise ValueError(f"{who}: some layers have batch_first=True and others have not")
    return True in found


def check_stream(who: str, layer: Any) -> None:
    """Refuse to follow a stream with a layer that has no step."""
    if not hasattr(layer, "step"):
        raise TypeError(f"{who}.step: {type(layer).__name__} has no step")


def mask_of(who: str, x: Any, lengths: Any, batch_first: bool) -> Tensor | None:
    """The steps that count, laid out as x is: (T, B, I), or (T, B) of integers, or unbatched."""
    if lengths is None:
        return None
    if not isinstance(x, Tensor):
        raise TypeError(f"{who}: inputs must be a Tensor, got {type(x).__name__}")
    features = 1 if x.dtype.kind == "f" else 0
    if x.ndim <= features:
        raise ValueError(f"{who}: inputs must have a time axis, got shape {x.shape}")
    return valid_steps(who, lengths, x, batch_first, batched=x.ndim > 1 + features)


def entries(who: str, state: Any, count: int, what: str = "the state") -> list[Any]:
    """The parts of a given state, or of ``what`` has its form, None where none is given."""
    if state is None:
        return [None] * count
    if not isinstance(state, tuple | list):
        raise TypeError(
            f"{who}: {what} must be a tuple with an entry per layer, got {type(state).__name__}"
        )
    if len(state) != count:
        raise ValueError(
            f"{who}: {what} must have {count} entries, one per layer, got {len(state)}"
        )
    return list(state)
