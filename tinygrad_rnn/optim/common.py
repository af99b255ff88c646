"""The arguments that every optimizer takes besides its hyperparameters, and their checks."""

from __future__ import annotations

from typing import Any, TypedDict

from tinygrad_rnn.optim.clipping import Clip
from tinygrad_rnn.optim.groups import check_number
from tinygrad_rnn.optim.loss_scale import LossScale

POLICIES = ("raise", "skip", "zero")


class Common(TypedDict, total=False):
    """The arguments that every optimizer takes besides its hyperparameters."""

    clip: Clip | None
    nonfinite: str
    max_skips: int
    loss_scale: LossScale | None


def check_common(who: str, clip: Any, nonfinite: Any, max_skips: Any, loss_scale: Any) -> None:
    """Refuse what is none of these, and what does not go together."""
    check_number(who, "max_skips", max_skips)
    if clip is not None and not isinstance(clip, Clip):
        raise TypeError(f"{who}: clip must be ClipNorm(...) or another Clip, got {clip!r}")
    if nonfinite not in POLICIES:
        raise ValueError(f"{who}: nonfinite must be 'raise', 'skip' or 'zero', got {nonfinite!r}")
    if loss_scale is None:
        return
    if not isinstance(loss_scale, LossScale):
        raise TypeError(f"{who}: loss_scale must be LossScale(...), got {loss_scale!r}")
    if nonfinite != "skip":
        raise ValueError(
            f"{who}: a loss scale skips the updates that overflow, so it needs nonfinite='skip', "
            f"got {nonfinite!r}"
        )
