"""What the tests of equations share: a cell beside NumPy, and beside another cell."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from networks import close, close_leaves, draw, leaves, random_state, rebuilt

from tinygrad_rnn import nn, rnn

FUNCTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda z: z,
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "relu": lambda z: np.maximum(z, 0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
}
sigmoid = FUNCTIONS["sigmoid"]


def values(cell: nn.Module) -> SimpleNamespace:
    """The parameters as NumPy arrays, dots in their names as underscores."""
    return SimpleNamespace(**{k.replace(".", "_"): v for k, v in cell.state_dict().items()})


def by_hand(cell: Any, step: Callable[[np.ndarray, Any], tuple[np.ndarray, Any]]) -> None:
    """Four replayed steps from a drawn state equal those of a function of arrays."""
    xs, start = draw(4, 2, cell.input_size), random_state(cell.initial_state(2))
    y, last = rnn.Recurrent(cell)(xs, start)
    state = tuple(s.numpy() for s in leaves(start))
    outputs = []
    for x in xs.numpy():
        out, state = step(x, state)
        outputs.append(out)
    close(y, np.stack(outputs), 1e-12)
    close_leaves(last, tuple(state))


def copied(cell: Any, **arrays: np.ndarray) -> Any:
    """The cell in float64 with these parameters."""
    cell.to(np.float64)
    cell.load_state_dict(arrays)
    return cell


def same_over_time(one: Any, other: Any, rtol: float = 1e-12) -> None:
    """Two cells give the same outputs and states from a drawn state."""
    x, state = draw(5, 2, one.input_size), random_state(one.initial_state(2))
    y, last = rnn.Recurrent(one)(x, state)
    z, expected = rnn.Recurrent(other)(x, rebuilt(other.initial_state(2), leaves(state)))
    close(y, z, rtol)
    close_leaves(last, expected, rtol)
