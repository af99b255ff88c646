"""The folder of a run: its metrics, its last checkpoints and its best one."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tinygrad_rnn.nn.disk import remove_partial
from tinygrad_rnn.training.checkpoint import Checkpoint, checkpoint_name, numbered
from tinygrad_rnn.training.lock import locked


class RunFolder:
    """``metrics.csv``, ``checkpoint-<updates>.safetensors`` and ``best.safetensors``.

    Parameters
    ----------
    path : the folder.
    keep : how many of the last checkpoints to keep.
    """

    def __init__(self, path: str | os.PathLike[str], keep: int) -> None:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"Trainer: folder must be a path, got {path!r:.80}")
        self.path, self.keep = Path(path), keep
        self.metrics = self.path / "metrics.csv"

    @contextmanager
    def claimed(self, updates: int) -> Generator[None]:
        """Make the folder and keep others out of it, or refuse to begin a run on top of another.

        What a killed run has left half-written is removed.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(
                f"Trainer: cannot make the folder {str(self.path)!r}: {error.strerror}"
            ) from error
        with locked(self.path):
            if updates == 0 and (found := numbered(self.path)):
                raise FileExistsError(
                    f"Trainer: the folder {str(self.path)!r} holds a run already, of "
                    f"{max(found):,} updates; resume it or choose another folder"
                )
            remove_partial(self.path)
            yield

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint; then remove those too old, or of a future that was given up."""
        updates = checkpoint.progress["updates"]
        path = self.path / checkpoint_name(updates)
        checkpoint.save(path)
        found = numbered(self.path)
        kept = sorted(number for number in found if number <= updates)[-self.keep :]
        for number in found.keys() - set(kept):
            found[number].unlink(missing_ok=True)
        return path

    def save_best(self, checkpoint: Checkpoint) -> Path:
        """Write the checkpoint that is the best so far."""
        path = self.path / "best.safetensors"
        checkpoint.save(path)
        return path

    def __str__(self) -> str:
        """What is there to go back to."""
        found = numbered(self.path)
        if not found:
            return "no checkpoint has been written yet"
        return f"the last checkpoint is {str(found[max(found)])!r}"
