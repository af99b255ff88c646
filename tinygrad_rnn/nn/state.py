"""The state of a module taken from elsewhere: arrays by name, checked against what it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, transfer
from tinygrad_rnn.nn.files import Stored
from tinygrad_rnn.tensor import Tensor


def fitted(
    who: str, own: Mapping[str, Tensor], state: Mapping[str, Any], strict: bool
) -> list[tuple[Tensor, Array]]:
    """What each Tensor, ``own`` by name, takes from a state; see :meth:`Module.load_state_dict`."""
    missing = [name for name in own if name not in state]
    unknown = [name for name in state if name not in own]
    if strict and (missing or unknown):
        parts = [f"missing {_some_of(missing)}"] * bool(missing)
        parts += [f"unknown {_some_of(unknown)}"] * bool(unknown)
        raise KeyError(f"{who}: names do not match: {'; '.join(parts)}")
    found: dict[int, tuple[str, Tensor, np.ndarray | Stored]] = {}
    for name, target in own.items():
        if name not in state:
            continue
        given = state[name]
        given = given.numpy() if isinstance(given, Tensor) else given
        # What lies in a file stays there until everything is known to fit.
        values = given if isinstance(given, Stored) else np.asarray(given)
        if values.shape != tuple(target.shape):
            raise ValueError(
                f"{who}: {name} has shape {tuple(target.shape)}, the given values have "
                f"{values.shape}"
            )
        if values.dtype.kind not in "fiub" or (values.dtype.kind == "f") != (
            target.dtype.kind == "f"
        ):
            raise ValueError(
                f"{who}: {name} is {target.dtype}, the given values are {values.dtype}"
            )
        first, _, before = found.setdefault(id(target), (name, target, values))
        if before is not values and not np.array_equal(before, values, equal_nan=True):
            raise ValueError(f"{who}: {first} and {name} are tied, the given values differ")
    return [
        (target, transfer(np.array(values, target.dtype), target.device))
        for _, target, values in found.values()
    ]


def _some_of(names: list[str]) -> str:
    """The first of these names, each cut to a length that can be read, and how many follow."""
    shown = ", ".join(f"{name!r:.80}" for name in names[:8])
    more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
    return f"[{shown}]{more}"
