"""Trainer: the loop over updates, what is told of it, and what keeps it from losing anything."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Literal

from tinygrad_rnn.nn import Module
from tinygrad_rnn.optim import Optimizer
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.training.again import Repeat
from tinygrad_rnn.training.arguments import (
    check_functions,
    check_numbers,
    check_parts,
    limits,
    plain_settings,
)
from tinygrad_rnn.training.epochs import Batches, Epochs
from tinygrad_rnn.training.folder import RunFolder
from tinygrad_rnn.training.interruption import interruption
from tinygrad_rnn.training.metrics import MetricsFile
from tinygrad_rnn.training.progress import ProgressBar
from tinygrad_rnn.training.saved_run import SavedRun

Ending = Literal["finished", "interrupted", "time limit", "stopped"]


class Callback:
    """Called by a Trainer at its moments. Write those that you need; the others do nothing.

    An error that a callback raises ends training and is passed on as it is. One that decides
    anything about training offers ``state_dict()`` and ``load_state_dict(state)`` (of strings,
    numbers, lists and dicts), which makes it part of the checkpoint.
    """

    def on_start(self, trainer: Trainer) -> None:
        """``fit`` begins."""

    def on_update(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """An update is done; ``row`` holds what metrics.csv is going to say about it."""

    def on_evaluation(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """``evaluate`` has returned these metrics."""

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        """A checkpoint has been written there, the best one included."""

    def on_end(self, trainer: Trainer, ending: str) -> None:
        """``fit`` ends: with what it returns, or with ``"failed"`` where an error ends it."""


class Trainer(SavedRun):
    """Trains a model of any kind: recurrent with a state from batch to batch, or without.

    One update is: loss, backward, optimizer step, a row in ``metrics.csv``; at times an
    evaluation and a checkpoint. What happens depends on the number of updates alone, never on the
    clock, so that a run that was stopped and resumed computes the same bits as one that was not.

    Parameters
    ----------
    model, optimizer : what is trained, and by what.
    loss : ``loss(batch, state) -> (loss, state)``, a Tensor of one element and the recurrent
        state after the batch. It is given the state that it returned for the batch before,
        detached, and None at the start of an epoch. Without recurrence, return None as state.
        With ``accumulate`` it may return ``(loss, state, count)``, a mean and the number of
        elements that it is over.
    batches : one epoch, as a sequence; or a function from the number of an epoch (0, 1, ...) to
        its sequence, say in another order, that depends on that number alone.
    folder : where ``metrics.csv`` and the checkpoints go.
    accumulate : how many batches make one update. Its loss is sum(count loss) / sum(count) over
        them, and its gradient that of this number, which is then clipped: where the losses are
        means over so many elements, all is as if the batches were one big one. Without counts
        every batch counts alike, which comes to the same for batches of one size; where they
        differ in shape, there is a warning. The last update of an epoch takes the batches that are
        left.
    schedule : the learning rate as a function of the number of updates done; by default it stays.
        One that offers ``state_dict`` and ``load_state_dict`` is part of the checkpoint; one that
        offers ``observe`` is told the first metric of every evaluation.
    evaluate : returns metrics by name. It runs with all of the model in evaluation mode, no tape,
        and a generator of which training does not notice; then every module is put back in the
        mode in which it was. The smallest value so far of the first one makes
        ``best.safetensors``.
    evaluate_every, checkpoint_every : a number of updates; by default at the end of each epoch. A
        checkpoint is written whenever training stops, too.
    callbacks : what else is to happen, such as EarlyStopping.
    keep : how many of the last checkpoints to keep.
    settings : what the run depends on beyond its arguments, such as sizes and the fingerprint of a
        text: part of the checkpoint, and compared before one is resumed.
    describe : the loss of a batch as what is shown and recorded, such as bits per character.
    tokens : the number of tokens in a batch, to show and record tokens per second.
    repeat : called where a loss, or a gradient that the optimizer refuses, is not finite, with a
        function that makes that batch's loss and gradient once more, all else being as it was. What
        it returns, an exception, a text or None, is added to the error; ``repeat=lab.explain``.
    progress : whether to show a progress bar.

    Attributes
    ----------
    updates, epoch, batch : updates done, epochs completed, and the number of the next batch.
    seconds : training time, over all runs that this one continues.
    report : what the optimizer says of the last update, None before the first.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loss: Callable[[Any, Any], tuple[Tensor, Any]],
        batches: Batches,
        *,
        folder: str | os.PathLike[str],
        accumulate: int = 1,
        schedule: Callable[[int], float] | None = None,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        evaluate_every: int | None = None,
        checkpoint_every: int | None = None,
        callbacks: Sequence[Callback] = (),
        keep: int = 3,
        settings: Mapping[str, Any] | None = None,
        describe: Callable[[float], Mapping[str, float]] = lambda loss: {"loss": loss},
        tokens: Callable[[Any], int] | None = None,
        repeat: Repeat | None = None,
        progress: bool = True,
    ) -> None:
        check_parts(model, optimizer, callbacks, Callback)
        check_functions(loss=loss, describe=describe)
        check_functions(True, schedule=schedule, evaluate=evaluate, tokens=tokens, repeat=repeat)
        check_numbers("Trainer", 1, accumulate=accumulate, evaluate_every=evaluate_every)
        check_numbers("Trainer", 1, checkpoint_every=checkpoint_every, keep=keep)
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.epochs = Epochs(batches, int(accumulate))
        self.folder = RunFolder(folder, keep)
        self.schedule, self.evaluate, self.callbacks = schedule, evaluate, list(callbacks)
        self.evaluate_every, self.checkpoint_every = evaluate_every, checkpoint_every
        self.describe, self.tokens, self.repeat, self.progress = describe, tokens, repeat, progress
        self.settings = plain_settings(settings or {})
        self._stopping = False

    def fit(
        self,
        *,
        epochs: int | None = None,
        updates: int | None = None,
        minutes: float | None = None,
    ) -> Ending:
        """Train until that many epochs or updates are done, from the very beginning of the run.

        ``minutes`` of this call only stop it, as does Ctrl-C: after the update that is under way,
        and with a checkpoint. A second Ctrl-C aborts at once. Says how training ended: "finished",
        "interrupted", "time limit", or "stopped" by a callback.

        Modes are the user's: a module that is in evaluation mode stays so, such as a part that is
        not to be trained. If it is the whole model, there is a warning.

        Raises
        ------
        NonFiniteLossError
            where the loss is inf or nan, naming the update, and what else holds inf or nan: the
            batch, the state or the model. The last checkpoint is left as it is.
        RuntimeError
            where an update was broken off, by a second Ctrl-C or an error, and may be half done:
            :meth:`resume` makes good for it.
        OSError, CheckpointError
            where the folder is in use, holds another run, or cannot be written.
        ValueError
            where the ``metrics.csv`` of the run that goes on is damaged, naming the line.
        """
        max_epochs, max_updates, max_seconds = limits(epochs, updates, minutes)
        if self._broken_off:
            raise RuntimeError(
                f"Trainer.fit: {self._broken_off} was broken off and may be half done; go on from "
                f"a checkpoint with resume(); {self.folder}"
            )
        if not self.model.training:
            warnings.warn(
                "Trainer.fit: the model is in evaluation mode and stays so, without dropout; call "
                "model.train() before",
                stacklevel=2,
            )
        self._stopping = False
        total = max_updates
        if epochs is not None:
            total = min(total, self.updates + self.epochs.updates_until(epochs))
        recorded = self.updates - (self._unwritten is not None)
        ending = "failed"
        with (
            self.folder.claimed(self.updates),
            closing(MetricsFile(self.folder.metrics, recorded)) as metrics,
            ProgressBar(total, self.updates, self.progress) as bar,
            interruption() as interrupted,
            ExitStack() as started,
        ):
            for callback in self.callbacks:
                callback.on_start(self)
                started.callback(lambda one=callback: one.on_end(self, ending))
            start, before = time.monotonic(), self.seconds
            latest = before + max_seconds
            self._keep(metrics)  # where the last call failed to
            while (reason := self._reason(max_epochs, max_updates, latest, interrupted())) is None:
                try:
                    row = self._unwritten = self._update()
                    self.seconds = before + time.monotonic() - start
                    row["seconds"] = self.seconds
                    for callback in self.callbacks:
                        callback.on_update(self, row)
                    if self.evaluate is not None and self._due(self.evaluate_every):
                        found = self._evaluate(self.evaluate)
                        for callback in self.callbacks:
                            callback.on_evaluation(self, found)
                        row |= found
                    self._keep(metrics)
                except KeyboardInterrupt:  # the second one: who knows how far it came
                    self._broken_off = self._broken_off or f"update {self.updates:,}"
                    raise
                bar.show(row)
                if self._due(self.checkpoint_every or self.evaluate_every):
                    self._save()
            if self._saved < self.updates:
                self._save()
            ending = reason
            return reason

    def stop(self) -> None:
        """End ``fit`` after the update that is under way, with a checkpoint: for callbacks."""
        self._stopping = True

    def _reason(
        self, epochs: float, updates: float, seconds: float, interrupted: bool
    ) -> Ending | None:
        """Why training is to end now, if it is."""
        if self.epoch >= epochs or self.updates >= updates:
            return "finished"
        if interrupted:
            return "interrupted"
        if self.seconds >= seconds:
            return "time limit"
        return "stopped" if self._stopping else None

    def _due(self, every: int | None) -> bool:
        """Whether something happens now, after ``every`` so many updates or after each epoch."""
        return self.batch == 0 if every is None else self.updates % every == 0
