"""All randomness comes from one NumPy generator on the host.

Its state fits in a checkpoint, and a model draws the same numbers on every device.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any, Protocol

import numpy as np

from tinygrad_rnn.backends import Array, Backend, Switch, backend_of
from tinygrad_rnn.tape import Traced

_generator = np.random.default_rng()

Shape = tuple[int, ...]


class Blocks(Protocol):
    """Where a time step finds its random numbers: a block for all steps is drawn at once."""

    def read(self, shape: Shape, draw: Callable[[Shape], Array]) -> Any:
        """The part of this step; ``draw(lead)`` gives an array of shape ``(*lead, *shape)``."""
        ...


_blocks: ContextVar[Blocks | None] = ContextVar("tinygrad_rnn_blocks", default=None)


def blocks_of_steps(blocks: Blocks) -> Switch[Blocks | None, Blocks | None]:
    """Let random numbers within the block come from ``blocks``; gives those of the loop around."""
    return Switch("blocks_of_steps", _blocks, lambda _: blocks, lambda around: around)


class Remembered:
    """Random numbers of a step that is run twice, such as to recompute it: the same both times."""

    def __init__(self) -> None:
        self.source = _blocks.get()
        self.drawn: list[Any] = []
        self.count = 0

    def read(self, shape: Shape, draw: Callable[[Shape], Array]) -> Any:
        """What was drawn in this place before, or else what the loop around gives."""
        if self.count == len(self.drawn) and self.source is not None:
            self.drawn.append(self.source.read(shape, draw))
        self.count += 1
        return self.drawn[self.count - 1]

    def again(self) -> AbstractContextManager[Any]:
        """Draw from the first number on within the block; outside a loop this changes nothing."""
        self.count = 0
        return nullcontext() if self.source is None else blocks_of_steps(self)


def from_blocks(shape: Shape, draw: Callable[[Shape], Array]) -> Any:
    """Random numbers of ``shape``: those of the current time step, or ``draw(())`` outside one."""
    blocks = _blocks.get()
    return draw(()) if blocks is None else blocks.read(shape, draw)


def manual_seed(seed: int) -> None:
    """Start the generator anew: runs with one seed are bit-equal."""
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"manual_seed: the seed must be an integer >= 0, got {seed!r}")
    _generator.bit_generator.state = np.random.default_rng(int(seed)).bit_generator.state


def generator() -> np.random.Generator:
    """The one generator."""
    return _generator


def generator_state() -> dict[str, Any]:
    """The state of the generator, as plain numbers and strings."""
    return dict(_generator.bit_generator.state)


def set_generator_state(state: dict[str, Any]) -> None:
    """Continue where :func:`generator_state` was read."""
    _generator.bit_generator.state = state


def dropout_mask(like: Array, rate: float, shape: tuple[int, ...] | None = None) -> Array:
    """0 with probability ``rate``, else 1 / (1 - rate); device and dtype are those of ``like``."""
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: the rate must satisfy 0 <= rate < 1, got {rate}")
    array = like.array if isinstance(like, Traced) else like
    size = tuple(array.shape if shape is None else shape)
    backend = backend_of(array)
    return from_blocks(
        size, partial(_draw_mask, rate, size, array.dtype, backend, backend.device_of(array))
    )


def _draw_mask(
    rate: float, shape: Shape, dtype: np.dtype[Any], backend: Backend, device: str, lead: Shape
) -> Array:
    draws = _generator.random((*lead, *shape), dtype=np.float32)
    mask = (draws >= rate).astype(dtype) / dtype.type(1 - rate)
    return backend.from_host(np.asarray(mask), device)


def dropout(x: Array, rate: float) -> Array:
    """X with each element zeroed with probability ``rate``, the others scaled by 1 / (1 - rate).

    Source: Srivastava et al. 2014, in its inverted form: the expectation is x.
    """
    return x * dropout_mask(x, rate)
