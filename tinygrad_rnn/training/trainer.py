"""Trainer: the loop over batches, and what keeps it from losing anything."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from tinygrad_rnn.nn import Module
from tinygrad_rnn.optim import NonFiniteGradientError, Optimizer
from tinygrad_rnn.optim.mean import BatchMean
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.training.arguments import (
    check_counts,
    check_functions,
    check_numbers,
    check_parts,
    loss_state_count,
    metrics_by_name,
)
from tinygrad_rnn.training.callbacks import Callback, announced
from tinygrad_rnn.training.causes import nonfinite_part
from tinygrad_rnn.training.checkpoint import Checkpoint
from tinygrad_rnn.training.epochs import Batches, Epochs
from tinygrad_rnn.training.evaluation import evaluation
from tinygrad_rnn.training.folder import RunFolder
from tinygrad_rnn.training.interruption import interruption
from tinygrad_rnn.training.metrics import MetricsFile, shown
from tinygrad_rnn.training.snapshot import restore, take

Ending = Literal["finished", "interrupted", "time limit", "stopped"]
ADVICE = "; lower the learning rate or clip the gradient"


class NonFiniteLossError(FloatingPointError):
    """The loss, a metric or a parameter has become inf or nan."""


class Trainer:
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
    progress : whether to show a progress bar.

    Attributes
    ----------
    updates, epoch, batch : updates done, epochs completed, and the number of the next batch.
    seconds : training time, over all runs that this one continues.
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
        progress: bool = True,
    ) -> None:
        check_parts(model, optimizer, callbacks)
        optional = {"schedule": schedule, "evaluate": evaluate, "tokens": tokens}
        given = {name: function for name, function in optional.items() if function is not None}
        check_functions(loss=loss, describe=describe, **given)
        check_numbers("Trainer", 1, accumulate=accumulate, evaluate_every=evaluate_every)
        check_numbers("Trainer", 1, checkpoint_every=checkpoint_every, keep=keep)
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.epochs = Epochs(batches, int(accumulate))
        self.folder = RunFolder(folder, keep)
        self.schedule, self.evaluate, self.callbacks = schedule, evaluate, list(callbacks)
        self.evaluate_every, self.checkpoint_every = evaluate_every, checkpoint_every
        try:
            self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings or {})))
        except TypeError as error:
            raise TypeError(
                f"Trainer: settings must be strings, numbers, lists and dicts ({error})"
            ) from None
        self.describe, self.tokens, self.progress = describe, tokens, progress
        self.updates, self.seconds = 0, 0.0
        self.best: float | None = None
        self.state: Any = None
        self._saved = 0
        self._unwritten: dict[str, float] | None = None  # the last row, until it is in the file
        self._best_is_due = False
        self._stopping = False
        self._broken_off = ""

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.epochs.epoch

    @property
    def batch(self) -> int:
        """The number of the next batch."""
        return self.epochs.batch

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
        if epochs is None and updates is None and minutes is None:
            raise ValueError("Trainer.fit: expected epochs, updates or minutes, got none of them")
        check_numbers("Trainer.fit", 0, epochs=epochs, updates=updates)
        if minutes is not None and not (isinstance(minutes, int | float) and minutes >= 0):
            raise ValueError(f"Trainer.fit: minutes must be a number >= 0, got {minutes!r}")
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
        goals = [math.inf if updates is None else updates]
        if epochs is not None:
            goals.append(self.updates + self.epochs.updates_until(epochs))
        with (
            self.folder.claimed(self.updates),
            closing(MetricsFile(self.folder.metrics, self._recorded())) as metrics,
            tqdm(
                total=None if math.isinf(min(goals)) else int(min(goals)),
                initial=self.updates,
                disable=not self.progress,
                dynamic_ncols=True,
                bar_format="|{bar:6}| {n_fmt}/{total_fmt} {remaining}{postfix}",
            ) as bar,
            interruption() as interrupted,
            announced(self) as ending,
        ):
            start, before = time.monotonic(), self.seconds
            self._keep(metrics)  # where the last call failed to
            while True:
                late = minutes is not None and self.seconds - before >= minutes * 60
                reason = self._reason(epochs, updates, interrupted(), late)
                if reason is not None:
                    break
                try:
                    row = self._unwritten = self._update()
                    self.seconds = before + time.monotonic() - start
                    row["seconds"] = self.seconds
                    for callback in self.callbacks:
                        callback.on_update(self, row)
                    if self.evaluate is not None and self._due(self.evaluate_every):
                        row |= self._evaluate(self.evaluate)
                    self._keep(metrics)
                except KeyboardInterrupt:  # the second one: who knows how far it came
                    self._broken_off = self._broken_off or f"update {self.updates:,}"
                    raise
                bar.set_postfix_str(shown(row), refresh=False)
                bar.update()
                if self._due(self.checkpoint_every or self.evaluate_every):
                    self._save()
            if self._saved < self.updates:
                self._save()
            ending.append(reason)
            return reason

    def stop(self) -> None:
        """End ``fit`` after the update that is under way, with a checkpoint: for callbacks."""
        self._stopping = True

    def checkpoint(self) -> Checkpoint:
        """All that the rest of the run depends on, copied."""
        return take(self)

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
            restore(self, checkpoint, name, may_differ)
        except Exception:  # it has changed nothing
            self._broken_off = before
            raise
        self._saved, self._broken_off = self.updates, ""
        self._unwritten, self._best_is_due = None, False

    def _update(self) -> dict[str, float]:
        """One update of the parameters, and its row of metrics."""
        began = time.perf_counter()
        self._broken_off = f"update {self.updates + 1:,}"
        if self.schedule is not None:
            self.optimizer.lr = self.schedule(self.updates)
        self.optimizer.zero_grad()
        batches, state, mean = self.epochs.following(), self.state, BatchMean()
        counts: list[float | None] = []
        for batch in batches:
            loss, state, count = self._loss(batch, state)
            mean.add(loss, 1.0 if count is None else count)
            counts.append(count)
        check_counts(batches, counts)
        value = mean.finish(self.optimizer.parameters)
        norm = self._step(batches)
        row: dict[str, float] = {
            "update": self.updates + 1,
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.lr,
            **self.describe(value),
            "gradient_norm": norm,
        }
        if self.tokens is not None:
            tokens = sum(self.tokens(batch) for batch in batches)
            row["tokens_per_second"] = tokens / (time.perf_counter() - began)
        self.updates += 1
        self.state = None if self.epochs.advance() else state
        self._broken_off = ""
        return row

    def _loss(self, batch: Any, before: Any) -> tuple[Tensor, Any, float | None]:
        """The loss of a batch, a finite number, the state after it, detached, and its count."""
        loss, state, count = loss_state_count(self.loss(batch, before))
        if not math.isfinite(loss.item()):
            said, advice = f"the loss is {loss.item()}", ADVICE
            of_batch = nonfinite_part("batch", batch)
            of_model = nonfinite_part("model", self.model.state_dict())
            cause = of_batch or of_model or nonfinite_part("state", before)
            if of_batch or (of_model and not self.updates):  # which no update has made
                advice = ""
            raise self._nonfinite(said, self.updates + 1, f"; {cause}" * bool(cause) + advice)
        return loss, state, count

    def _step(self, batches: Sequence[Any]) -> float:
        """The optimizer's step; says what the norm of the gradient was."""
        try:
            return self.optimizer.step().norm
        except NonFiniteGradientError as error:
            cause = nonfinite_part("batch", batches[0] if len(batches) == 1 else batches)
            raise NonFiniteGradientError(f"{error}; {cause}" if cause else str(error)) from error

    def _evaluate(self, evaluate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """The metrics now. Training is not touched: neither its modes nor its random numbers."""
        with evaluation(self.model):
            metrics = metrics_by_name(evaluate())
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._nonfinite(f"{name} is {value}", self.updates)
        first = next(iter(metrics.values()))
        better = self.best is None or first < self.best
        if better:
            self.best, self._best_is_due = first, True
        observe = getattr(self.schedule, "observe", None)
        if observe is not None:  # a schedule that waits for a plateau
            observe(first)
        for callback in self.callbacks:
            callback.on_evaluation(self, metrics)
        return metrics

    def _recorded(self) -> int:
        """The updates whose rows are in the file of metrics."""
        return self.updates - (self._unwritten is not None)

    def _keep(self, metrics: MetricsFile) -> None:
        """Write the row of the last update and, where it is the best, its checkpoint."""
        if self._unwritten is not None:
            metrics.append(self._unwritten)
            self._unwritten = None
        if self._best_is_due:
            path = self.folder.save_best(self._sound())
            self._best_is_due = False
            self._tell(path)

    def _save(self) -> None:
        path = self.folder.save(self._sound())
        self._saved = self.updates
        self._tell(path)

    def _tell(self, path: Path) -> None:
        for callback in self.callbacks:
            callback.on_checkpoint(self, path)

    def _sound(self) -> Checkpoint:
        """A checkpoint that is worth keeping: a model with inf or nan in it is none."""
        checkpoint = self.checkpoint()
        for name, values in checkpoint.model.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise self._nonfinite(f"{name} holds inf or nan", self.updates)
        return checkpoint

    def _due(self, every: int | None) -> bool:
        """Whether something happens now, after ``every`` so many updates or after each epoch."""
        return self.batch == 0 if every is None else self.updates % every == 0

    def _reason(
        self, epochs: int | None, updates: int | None, interrupted: bool, late: bool
    ) -> Ending | None:
        """Why training is to end now, if it is."""
        if epochs is not None and self.epoch >= epochs:
            return "finished"
        if updates is not None and self.updates >= updates:
            return "finished"
        if interrupted:
            return "interrupted"
        if late:
            return "time limit"
        return "stopped" if self._stopping else None

    def _nonfinite(self, what: str, update: int, why: str = ADVICE) -> NonFiniteLossError:
        return NonFiniteLossError(f"Trainer: {what} at update {update:,}{why}; {self.folder}")
