"""All randomness comes from one NumPy generator on the host.

Its state fits in a checkpoint, and a model draws the same numbers on every device.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, backend_of
from tinygrad_rnn.tape import Traced

_generator = np.random.default_rng()


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
    draws = _generator.random(size, dtype=np.float32)
    mask = (draws >= rate).astype(array.dtype) / array.dtype.type(1 - rate)
    backend = backend_of(array)
    return backend.from_host(np.asarray(mask), backend.device_of(array))


def dropout(x: Array, rate: float) -> Array:
    """X with each element zeroed with probability ``rate``, the others scaled by 1 / (1 - rate).

    Source: Srivastava et al. 2014, in its inverted form: the expectation is x.
    """
    return x * dropout_mask(x, rate)
