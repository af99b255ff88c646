"""Loss scaling: gradients that float16 would lose are carried through it multiplied by a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from tinygrad_rnn.backends import Array, backend_of, device_of, transfer
from tinygrad_rnn.optim.groups import check_number
from tinygrad_rnn.optim.norms import working_dtype
from tinygrad_rnn.tensor import Tensor


class SavedScale(TypedDict):
    """A scale and the updates since it changed, as JSON."""

    scale: float
    good: int


class LossScale:
    """The number that a loss is multiplied by before backward, found while training goes on.

    An update whose gradients are not finite is skipped and makes scale = backoff scale. After
    ``every`` updates that were not, in a row, scale = growth scale, if that is a float32. It is
    given to an optimizer, as ``loss_scale=`` with ``nonfinite="skip"``, whose
    :meth:`Optimizer.scaled` multiplies the loss and whose ``step`` divides the gradients by it
    before all else: clipping and reports are those of the true gradients. ``.grad`` itself
    stays multiplied. :class:`tinygrad_rnn.training.Trainer` does all this by itself.

    The scale lives on the device and changes there: nothing waits for a GPU. The state of the
    optimizer holds it.

    Parameters
    ----------
    start : the scale at first.
    growth : by what it is multiplied, more than 1.
    backoff : by what it is multiplied after an overflow, less than 1.
    every : updates from one growth to the next.

    Raises
    ------
    ValueError
        where one of these makes no sense.

    Source: Micikevicius et al. 2018, Mixed Precision Training, section 3.2, with the names, values
    and rule of PyTorch's GradScaler.

    >>> from tinygrad_rnn import nn
    >>> from tinygrad_rnn.optim import SGD
    >>> p = nn.Parameter([2.0])
    >>> sgd = SGD([p], lr=0.1, nonfinite="skip", loss_scale=LossScale(start=8.0))
    >>> sgd.scaled((p * 3).sum()).backward()
    >>> p.grad, sgd.step().norm, p
    (tensor([24.], dtype=float32), 3.0, tensor([1.7], dtype=float32, requires_grad=True))
    """

    def __init__(
        self,
        start: float = 2.0**16,
        growth: float = 2.0,
        backoff: float = 0.5,
        every: int = 2000,
    ) -> None:
        check_number("LossScale", "growth", growth, above=1)
        check_number("LossScale", "backoff", backoff, above=0, below=1)
        if type(every) is not int or every < 1:
            raise ValueError(f"LossScale: every must be an integer >= 1, got {every!r}")
        self.growth, self.backoff, self.every = float(growth), float(backoff), every
        self.load("LossScale", {"scale": start, "good": 0})

    @property
    def value(self) -> float:
        """The scale now. On a GPU this waits for the device."""
        return float(np.asarray(transfer(self._scale, "cpu")))

    def __repr__(self) -> str:
        return f"LossScale({self.value})"

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss times the scale. Where that is more than its dtype holds, it is inf."""
        if not isinstance(loss, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"scaled: expected the loss, a Tensor, got {type(loss).__name__}")
        self._move(loss.device)
        with np.errstate(over="ignore"):
            return loss * self._scale

    def unscaled(self, gradients: Sequence[Array]) -> list[Array]:
        """The gradients of the loss from those of the scaled loss, on the device of these."""
        self._move(device_of(gradients[0]))
        return [g.astype(working_dtype(g.dtype), copy=False) / self._scale for g in gradients]

    def update(self, sound: Array) -> None:
        """Change the scale after an update; ``sound``, a 0-d bool, says that it was not skipped."""
        xp = backend_of(self._scale).xp
        with np.errstate(over="ignore"):
            grown = self._scale * self.growth
        none = xp.zeros_like(self._good)
        good = xp.where(sound, self._good + 1, none)
        due = good >= self.every
        kept = xp.where(due & xp.isfinite(grown), grown, self._scale)
        self._scale = xp.where(sound, kept, self._scale * self.backoff)
        self._good = xp.where(due, none, good)

    def saved(self) -> SavedScale:
        """What the next updates depend on, as JSON."""
        return {"scale": self.value, "good": int(np.asarray(transfer(self._good, "cpu")))}

    def load(self, who: str, state: Any) -> None:
        """Go on from what was saved; errors call it ``who``."""
        scale, good = checked_scale(who, state)
        self._scale: Array = np.array(scale, np.float32)
        self._good: Array = np.array(good, np.int32)

    def _move(self, device: str) -> None:
        self._scale, self._good = transfer(self._scale, device), transfer(self._good, device)


def checked_scale(who: str, state: Any) -> tuple[float, int]:
    """A scale and the updates since it changed, if that is what was saved."""
    if not isinstance(state, Mapping) or state.keys() != SavedScale.__annotations__.keys():
        raise ValueError(f"{who}: expected the scale and good of a loss scale, got {state!r:.60}")
    scale, good, limits = state["scale"], state["good"], np.finfo(np.float32)
    check_number(who, "the loss scale", scale, float(limits.tiny), float(limits.max))
    if type(good) is not int or not 0 <= good < 1 << 31:
        raise ValueError(f"{who}: the updates since the loss scale changed are {good!r:.40}")
    return float(scale), good
