"""The folder of a run: its metrics, its last checkpoints and its best one."""

from __future__ import annotations

import os
from pathlib import Path

from tinygrad_rnn.training.checkpoint import Checkpoint, numbered


class RunFolder:
    """``metrics.csv``, ``checkpoint-<updates>.safetensors`` and ``best.safetensors``.

    Parameters
    ----------
    path : the folder.
    keep : how many of the last checkpoints to keep.
    """

    def __init__(self, path: str | os.PathLike[str], keep: int) -> None:
        self.path, self.keep = Path(path), keep
        self.metrics = self.path / "metrics.csv"

    def claim(self, updates: int) -> None:
        """Make the folder, or refuse to begin a run on top of another."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"Trainer: cannot make the folder {str(self.path)!r}: {error.strerror}"
            ) from error
        if updates == 0 and (found := numbered(self.path)):
            raise FileExistsError(
                f"Trainer: the folder {str(self.path)!r} holds a run already, of "
                f"{max(found):,} updates; resume it or choose another folder"
            )

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint; then remove those too old, or of a future that was given up."""
        updates = checkpoint.progress["updates"]
        checkpoint.save(self.path / f"checkpoint-{updates:08d}.safetensors")
        found = numbered(self.path)
        kept = sorted(number for number in found if number <= updates)[-self.keep :]
        for number in found.keys() - set(kept):
            found[number].unlink()

    def save_best(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint that is the best so far."""
        checkpoint.save(self.path / "best.safetensors")

    def __str__(self) -> str:
        """What is there to go back to."""
        found = numbered(self.path)
        if not found:
            return "no checkpoint has been written yet"
        return f"the last checkpoint is {str(found[max(found)])!r}"
