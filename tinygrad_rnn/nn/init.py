"""Initialisers: each fills a Parameter in place from the seeded generator, and returns it.

``fan_in`` and ``fan_out`` of a matrix (O, I) are I and O.
"""

from __future__ import annotations

import math

import numpy as np

from tinygrad_rnn import backends, ops
from tinygrad_rnn.tensor import Tensor


def _fill(parameter: Tensor, values: np.ndarray) -> Tensor:
    parameter.data = backends.transfer(
        np.broadcast_to(values, parameter.shape).astype(parameter.dtype), parameter.device
    )
    return parameter


def _fans(parameter: Tensor, who: str) -> tuple[int, int]:
    if parameter.ndim != 2:
        raise ValueError(f"{who}: expected a matrix, got shape {parameter.shape}")
    return parameter.shape[1], parameter.shape[0]


def constant_(parameter: Tensor, value: float) -> Tensor:
    """One value everywhere."""
    return _fill(parameter, np.asarray(value))


def zeros_(parameter: Tensor) -> Tensor:
    """Zeros."""
    return constant_(parameter, 0.0)


def ones_(parameter: Tensor) -> Tensor:
    """Ones."""
    return constant_(parameter, 1.0)


def uniform_(parameter: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform on [low, high)."""
    return _fill(parameter, ops.generator().uniform(low, high, parameter.shape))


def normal_(parameter: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return _fill(parameter, ops.generator().normal(mean, std, parameter.shape))


def xavier_uniform_(parameter: Tensor, gain: float = 1.0) -> Tensor:
    """Uniform with variance gain^2 * 2 / (fan_in + fan_out). Source: Glorot, Bengio 2010."""
    bound = gain * math.sqrt(6 / sum(_fans(parameter, "xavier_uniform_")))
    return uniform_(parameter, -bound, bound)


def xavier_normal_(parameter: Tensor, gain: float = 1.0) -> Tensor:
    """Normal with variance gain^2 * 2 / (fan_in + fan_out). Source: Glorot, Bengio 2010."""
    return normal_(parameter, 0, gain * math.sqrt(2 / sum(_fans(parameter, "xavier_normal_"))))


def kaiming_uniform_(parameter: Tensor, *, gain: float = math.sqrt(2)) -> Tensor:
    """Uniform with variance gain^2 / fan_in; the gain is that of relu. Source: He et al. 2015."""
    bound = gain * math.sqrt(3 / _fans(parameter, "kaiming_uniform_")[0])
    return uniform_(parameter, -bound, bound)


def kaiming_normal_(parameter: Tensor, *, gain: float = math.sqrt(2)) -> Tensor:
    """Normal with variance gain^2 / fan_in; the gain is that of relu. Source: He et al. 2015."""
    return normal_(parameter, 0, gain / math.sqrt(_fans(parameter, "kaiming_normal_")[0]))


def orthogonal_(parameter: Tensor, gain: float = 1.0) -> Tensor:
    """A matrix with orthonormal rows or columns, whichever are fewer, times gain.

    Source: Saxe, McClelland, Ganguli 2013.
    """
    columns, rows = _fans(parameter, "orthogonal_")
    draws = ops.generator().standard_normal((max(rows, columns), min(rows, columns)))
    q, r = np.linalg.qr(draws)
    q *= np.sign(np.diag(r))
    return _fill(parameter, gain * (q if rows >= columns else q.T))


def identity_(parameter: Tensor, gain: float = 1.0) -> Tensor:
    """The identity (ones on the diagonal of a matrix that is not square) times gain.

    Source: Le, Jaitly, Hinton 2015, for recurrent weights.
    """
    columns, rows = _fans(parameter, "identity_")
    return _fill(parameter, gain * np.eye(rows, columns))
