"""All randomness comes from one NumPy generator on the host.

Its state fits in a checkpoint, and a model draws the same numbers on every device.

A process that is forked, such as a worker of ``multiprocessing``, goes on with a generator of its
own, made from the state of its parent's and from how many were forked before it, as NumPy's
``SeedSequence`` spawns: workers draw different numbers, the same again after the same seed, and the
parent's numbers do not depend on them. A process that is started anew (``spawn``, ``forkserver``)
begins without a seed: call :func:`manual_seed` there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinygrad_rnn.backends import Array, Switch, backend_of, device_of, transfer
from tinygrad_rnn.ops.arrays import A, AnyArray, is_integer, raw
from tinygrad_rnn.ops.promotion import as_float

_generator = np.random.default_rng()

Shape = tuple[int, ...]


class Draw(NamedTuple):
    """Random numbers that are asked for.

    Attributes
    ----------
    kind : what is drawn, and with which numbers; draws of one kind and shape are alike.
    shape : that of one draw.
    make : ``make(lead)`` draws an array of shape ``(*lead, *shape)``.
    """

    kind: tuple[Hashable, ...]
    shape: Shape
    make: Callable[[Shape], Array]

    def is_like(self, other: Draw) -> bool:
        """Whether one may stand for the other."""
        return self[:2] == other[:2]


class Blocks(Protocol):
    """Where a time step finds its random numbers: a block for all steps is drawn at once."""

    def read(self, draw: Draw) -> Any:
        """The part of this step."""
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

    def read(self, draw: Draw) -> Any:
        """What was drawn in this place before, or else what the loop around gives."""
        if self.count == len(self.drawn) and self.source is not None:
            self.drawn.append(self.source.read(draw))
        self.count += 1
        return self.drawn[self.count - 1]

    def again(self) -> AbstractContextManager[Any]:
        """Draw from the first number on within the block; outside a loop this changes nothing."""
        self.count = 0
        return nullcontext() if self.source is None else blocks_of_steps(self)


def from_blocks(draw: Draw) -> Any:
    """Random numbers: those of the current time step, or outside one a draw of their own."""
    blocks = _blocks.get()
    return draw.make(()) if blocks is None else blocks.read(draw)


def manual_seed(seed: int) -> None:
    """Start the generator anew: runs with one seed are bit-equal."""
    if not is_integer(seed) or seed < 0:
        raise ValueError(f"manual_seed: the seed must be an integer >= 0, got {seed!r}")
    set_generator_state(dict(np.random.default_rng(int(seed)).bit_generator.state))


def generator() -> np.random.Generator:
    """The one generator."""
    return _generator


def generator_state() -> dict[str, Any]:
    """The state of the generator, as plain numbers and strings."""
    return {**_generator.bit_generator.state, "forks": _forks}


def set_generator_state(state: dict[str, Any]) -> None:
    """Continue where :func:`generator_state` was read."""
    global _forks
    _generator.bit_generator.state = state
    _forks = int(state.get("forks", 0))


_forks = 0
"""How many processes were forked since the generator was seeded."""


def _before_fork() -> None:
    """Nobody draws while the process is copied: the child could never draw again."""
    global _forks
    _generator.bit_generator.lock.acquire()
    _forks += 1


def _after_fork() -> None:
    _generator.bit_generator.lock.release()


def _after_fork_in_child() -> None:
    _after_fork()
    state = _generator.bit_generator.state["state"]
    entropy = [state["state"], state["inc"], _forks]
    set_generator_state(dict(np.random.default_rng(entropy).bit_generator.state))


if hasattr(os, "register_at_fork"):  # where processes can be forked
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork,
        after_in_child=_after_fork_in_child,
    )


def dropout_mask(like: AnyArray, rate: float, once: bool = False) -> Array:
    """0 with probability ``rate``, else 1 / (1 - rate), as an array like ``like``.

    Within a loop over time a mask is drawn for each step, or ``once`` for all of them.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: the rate must satisfy 0 <= rate < 1, got {rate}")
    array = raw(like)
    shape, dtype, device = tuple(array.shape), array.dtype, device_of(array)
    xp = backend_of(array).xp

    def make(lead: Shape) -> Array:
        each = (*lead[:-1], 1) if once and lead else lead
        draws = _generator.random((*each, *shape), dtype=np.float32)
        values = np.asarray((draws >= rate).astype(dtype) / dtype.type(1 - rate))
        mask = transfer(values, device)
        return xp.broadcast_to(mask, (*lead, *shape)) if once else mask

    return from_blocks(Draw(("dropout", rate, once, dtype.str), shape, make))


def dropout(x: A, rate: float) -> A:
    """X with each element zeroed with probability ``rate``, the others scaled by 1 / (1 - rate).

    Source: Srivastava et al. 2014, in its inverted form: the expectation is x.
    """
    x = as_float(x)
    return x * dropout_mask(x, rate)
