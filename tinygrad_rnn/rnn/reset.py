"""Single rows of a state begun anew, for batches whose sequences end at different times."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.ops import reshape, where
from tinygrad_rnn.rnn.arguments import HasState, on_host
from tinygrad_rnn.tape import leaves, rebuild
from tinygrad_rnn.tensor import Tensor, tensor


def reset(layer: HasState, state: Any, rows: Any) -> Any:
    """The state with the initial one of the layer in those rows of the batch that begin anew.

    The other rows stay as they are, with their gradients; to a row that begins anew none comes
    back.

    Parameters
    ----------
    layer : any cell, recurrent layer or stack of them.
    state : a state of it, as a call returned it; None, for a first call, stays None.
    rows : B bools, as a list, an array or a Tensor: True where another sequence begins.

    >>> import tinygrad_rnn as tg
    >>> layer = tg.rnn.LSTM(3, 5, num_layers=2)
    >>> output, state = layer(tg.ones((7, 4, 3)))
    >>> h, c = tg.rnn.reset(layer, state, rows=[False, True, False, False])
    >>> tg.all(h == 0, axis=(0, 2))
    tensor([False,  True, False, False], dtype=bool)
    """
    if state is None:
        return None
    try:
        chosen = np.asarray(on_host(rows))
    except ValueError:  # lists of unequal lengths
        raise ValueError(f"reset: rows must be B bools, one per sequence, got {rows!r}") from None
    if chosen.dtype != np.bool_ or chosen.ndim != 1:
        raise ValueError(
            f"reset: rows must be B bools, one per sequence, got {chosen.dtype} {chosen.shape}"
        )
    batch = len(chosen)
    old, new = leaves(state), leaves(layer.initial_state(batch))
    if _kinds(old) != _kinds(new):
        raise ValueError(
            f"reset: for {batch} rows the state of {type(layer).__name__} must hold {_kinds(new)}, "
            f"got {_kinds(old)}"
        )
    # The axis of the batch is the one that grows with it, wherever a layer has it.
    wider = leaves(layer.initial_state(batch + 1))
    return rebuild(state, [_begun(chosen, *each) for each in zip(old, new, wider, strict=True)])


def _kinds(values: list[Any]) -> list[str]:
    return [
        f"{v.dtype} {tuple(v.shape)}" if isinstance(v, Tensor) else type(v).__name__ for v in values
    ]


def _begun(rows: np.ndarray, old: Tensor, new: Tensor, wider: Tensor) -> Tensor:
    """The new values in the chosen rows, else the old ones."""
    sizes = zip(new.shape, wider.shape, strict=True)
    shape = [len(rows) if size != more else 1 for size, more in sizes]
    return where(reshape(tensor(rows, device=old.device), shape), new, old)
