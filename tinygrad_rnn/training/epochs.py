"""Where a run stands in its data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

Batches = Sequence[Any] | Callable[[int], Sequence[Any]]


class Epochs:
    """Epoch after epoch of batches, ``accumulate`` of them for one update.

    Parameters
    ----------
    batches : one epoch, as a sequence; or a function from the number of an epoch to its sequence.
    accumulate : how many batches make an update. The last one of an epoch takes those left.

    Attributes
    ----------
    epoch, batch : epochs completed, and the number of the next batch in the present one.
    """

    def __init__(self, batches: Batches, accumulate: int) -> None:
        if not callable(batches) and not hasattr(batches, "__getitem__"):
            raise TypeError(
                "Trainer: batches must be a sequence, or a function from the number of an epoch to "
                f"one, got {type(batches).__name__}"
            )
        self.batches, self.accumulate = batches, accumulate
        self.epoch = self.batch = 0
        self._sequence: Sequence[Any] | None = None

    def sequence(self, epoch: int) -> Sequence[Any]:
        """The batches of an epoch."""
        sequence = self.batches(epoch) if callable(self.batches) else self.batches
        if not hasattr(sequence, "__getitem__") or not hasattr(sequence, "__len__"):
            raise TypeError(
                f"Trainer: the function batches must give a sequence, got {type(sequence).__name__}"
            )
        if not len(sequence):
            raise ValueError("Trainer: an epoch has no batches")
        return sequence

    def present(self) -> Sequence[Any]:
        """The batches of the present epoch."""
        if self._sequence is None:
            self._sequence = self.sequence(self.epoch)
        return self._sequence

    def following(self) -> list[Any]:
        """The batches of the next update."""
        present = self.present()
        stop = min(self.batch + self.accumulate, len(present))
        return [present[k] for k in range(self.batch, stop)]

    def advance(self) -> bool:
        """Go on past them; says whether the epoch has ended with them."""
        self.batch += self.accumulate
        if self.batch < len(self.present()):
            return False
        self.go_to(self.epoch + 1, 0)
        return True

    def go_to(self, epoch: int, batch: int) -> None:
        """Stand at that batch."""
        self.epoch, self.batch, self._sequence = epoch, batch, None

    def updates_until(self, epochs: int) -> int:
        """Updates from here until so many epochs are done, if all are as long as this one."""
        in_epoch = -(-len(self.present()) // self.accumulate)
        return max((epochs - self.epoch) * in_epoch - self.batch // self.accumulate, 0)
