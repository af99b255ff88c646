"""The state as it was handed over, for a cell within a wrapper that masks what the cell reads."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

from tinygrad_rnn.backends import Switch
from tinygrad_rnn.tensor import Tensor

_unmasked: ContextVar[dict[int, Tensor] | None] = ContextVar("tinygrad_rnn_carried", default=None)


def carried(state: Tensor) -> Tensor:
    """A field of the state as the step before left it, without the mask of a variational dropout.

    A cell that hands a part of its state on, as a GRU does with z * h, reads it there by
    ``carried(h)``, and everywhere else as it is given. Without that the mask and its factor
    1 / (1 - rate) act on the memory at every step, and it grows or is lost. Outside of
    VariationalDropout, ``carried(h)`` is h.
    """
    whole = _unmasked.get() or {}
    while id(state) in whole:
        state = whole[id(state)]
    return state


def masking(
    masked: Sequence[Tensor], whole: Sequence[Tensor]
) -> Switch[dict[int, Tensor] | None, None]:
    """Within the block, :func:`carried` of a masked Tensor is the whole one."""
    pairs = {id(m): w for m, w in zip(masked, whole, strict=True) if m is not w}
    return Switch("masking", _unmasked, lambda around: (around or {}) | pairs)
