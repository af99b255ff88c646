"""A run that is kept in a folder: its checkpoints, going on from one, its rows of metrics."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tinygrad_rnn.training.checkpoint import Checkpoint
from tinygrad_rnn.training.metrics import MetricsFile
from tinygrad_rnn.training.run import Run
from tinygrad_rnn.training.snapshot import named_parts, restore, take


class SavedRun(Run):
    """A run with a folder, and with callbacks that may have a state of their own."""

    callbacks: list[Any]

    _saved = 0  # updates in the last checkpoint
    _unwritten: dict[str, float] | None = None  # the last row, until it is in the file

    def checkpoint(self) -> Checkpoint:
        """All that the rest of the run depends on, copied."""
        return take(self, self._parts())

    def resume(
        self, checkpoint: Checkpoint | str | os.PathLike[str], may_differ: Sequence[str] = ()
    ) -> None:
        """Continue where a checkpoint was made: the next ``fit`` goes on from there.

        Raises
        ------
        CheckpointError
            where it is damaged, or of a run with another model, optimizer, text or other setting
            than this one, those in ``may_differ`` excepted. Nothing has been changed then.
        """
        name = "the checkpoint"
        if not isinstance(checkpoint, Checkpoint):
            name, checkpoint = f"the checkpoint {str(checkpoint)!r}", Checkpoint.load(checkpoint)
        before, self._broken_off = self._broken_off, "resume()"
        try:
            restore(self, self._parts(), checkpoint, name, may_differ)
        except Exception:  # it has changed nothing
            self._broken_off = before
            raise
        self._saved, self._broken_off = self.updates, ""
        self._unwritten, self._best_is_due = None, False

    def _parts(self) -> dict[str, Any]:
        return named_parts(self.schedule, *self.callbacks)

    def _keep(self, metrics: MetricsFile) -> None:
        """Write the row of the last update and, where it is the best, its checkpoint."""
        if self._unwritten is not None:
            metrics.append(self._unwritten)
            self._unwritten = None
        if self._best_is_due:
            self._save(best=True)

    def _save(self, best: bool = False) -> None:
        """Write a checkpoint, unless it is not worth keeping."""
        checkpoint = self.checkpoint()
        self._check_finite(checkpoint.model)
        if best:
            path = self.folder.save_best(checkpoint)
            self._best_is_due = False
        else:
            path = self.folder.save(checkpoint)
            self._saved = self.updates
        for callback in self.callbacks:
            callback.on_checkpoint(self, path)
