"""Trainer: the loop over batches, and what keeps it from losing anything."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from tinygrad_rnn.nn import Module
from tinygrad_rnn.ops import generator_state, set_generator_state
from tinygrad_rnn.optim import Optimizer
from tinygrad_rnn.tape import no_grad, tree_map
from tinygrad_rnn.tensor import Tensor, tensor
from tinygrad_rnn.training.checkpoint import Checkpoint, CheckpointError
from tinygrad_rnn.training.folder import RunFolder
from tinygrad_rnn.training.interruption import interruption
from tinygrad_rnn.training.metrics import MetricsFile, shown

Batches = Sequence[Any] | Callable[[int], Sequence[Any]]
Ending = Literal["finished", "interrupted", "time limit"]


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
    batches : one epoch, as a sequence; or a function from the number of an epoch (0, 1, ...) to
        its sequence, say in another order, that depends on that number alone.
    folder : where ``metrics.csv`` and the checkpoints go.
    schedule : the learning rate as a function of the number of updates done; by default it stays.
    evaluate : returns metrics by name. It runs with dropout off, no tape, and a generator of which
        training does not notice. The smallest value so far of the first one makes
        ``best.safetensors``.
    evaluate_every, checkpoint_every : a number of updates; by default at the end of each epoch. A
        checkpoint is written whenever training stops, too.
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
        schedule: Callable[[int], float] | None = None,
        evaluate: Callable[[], Mapping[str, float]] | None = None,
        evaluate_every: int | None = None,
        checkpoint_every: int | None = None,
        keep: int = 3,
        settings: Mapping[str, Any] | None = None,
        describe: Callable[[float], Mapping[str, float]] = lambda loss: {"loss": loss},
        tokens: Callable[[Any], int] | None = None,
        progress: bool = True,
    ) -> None:
        numbers = {
            "evaluate_every": evaluate_every,
            "checkpoint_every": checkpoint_every,
            "keep": keep,
        }
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise ValueError(f"Trainer: {name} must be a positive integer, got {number}")
        self.model, self.optimizer, self.loss, self.batches = model, optimizer, loss, batches
        self.folder = RunFolder(folder, keep)
        self.schedule, self.evaluate = schedule, evaluate
        self.evaluate_every, self.checkpoint_every = evaluate_every, checkpoint_every
        try:
            self.settings: dict[str, Any] = json.loads(json.dumps(dict(settings or {})))
        except TypeError as error:
            raise TypeError(
                f"Trainer: settings must be strings, numbers, lists and dicts ({error})"
            ) from None
        self.describe, self.tokens, self.progress = describe, tokens, progress
        self.updates = self.epoch = self.batch = 0
        self.seconds = 0.0
        self.best: float | None = None
        self.state: Any = None
        self._sequence: Sequence[Any] | None = None

    def fit(
        self,
        *,
        epochs: int | None = None,
        updates: int | None = None,
        minutes: float | None = None,
    ) -> Ending:
        """Train until that many epochs or updates are done, from the very beginning of the run.

        ``minutes`` of this call only stop it, as does Ctrl-C: after the update that is under way,
        and with a checkpoint. A second Ctrl-C aborts at once. Says how training ended.

        Raises
        ------
        NonFiniteLossError
            where the loss is inf or nan, naming the update. The last checkpoint is left as it is.
        """
        if epochs is None and updates is None and minutes is None:
            raise ValueError("Trainer.fit: expected epochs, updates or minutes, got none of them")
        self.folder.claim(self.updates)
        goals = [math.inf if updates is None else updates]
        if epochs is not None:
            left = (epochs - self.epoch) * len(self._epoch()) - self.batch
            goals.append(self.updates + max(left, 0))
        total = None if math.isinf(min(goals)) else int(min(goals))
        start, before, saved = time.monotonic(), self.seconds, self.updates
        ending: Ending = "finished"
        with (
            closing(MetricsFile(self.folder.metrics, self.updates)) as metrics,
            tqdm(
                total=total,
                initial=self.updates,
                disable=not self.progress,
                dynamic_ncols=True,
                bar_format="|{bar:6}| {n_fmt}/{total_fmt} {remaining}{postfix}",
            ) as bar,
            interruption() as interrupted,
        ):
            self.model.train()
            while not self._reached(epochs, updates):
                if interrupted() or (minutes is not None and self.seconds - before >= minutes * 60):
                    ending = "interrupted" if interrupted() else "time limit"
                    break
                row = self._update()
                if self.evaluate is not None and self._due(self.evaluate_every):
                    row |= self._evaluate(self.evaluate)
                self.seconds = before + time.monotonic() - start
                metrics.append(row | {"seconds": self.seconds})
                bar.set_postfix_str(shown(row), refresh=False)
                bar.update()
                if self._due(self.checkpoint_every or self.evaluate_every):
                    self.folder.save(self._sound())
                    saved = self.updates
            if saved < self.updates:
                self.folder.save(self._sound())
        return ending

    def checkpoint(self) -> Checkpoint:
        """All that the rest of the run depends on, copied."""
        progress = {
            "updates": self.updates,
            "epoch": self.epoch,
            "batch": self.batch,
            "batches": len(self._epoch()),
            "seconds": self.seconds,
            "best": self.best,
        }
        return Checkpoint(
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            generator=generator_state(),
            state=tree_map(lambda leaf: np.array(leaf.numpy()), self.state),
            progress=progress,
            settings=self.settings,
        )

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
        there, here = checkpoint.settings, self.settings
        for key in dict.fromkeys([*there, *here]):
            if key not in may_differ and there.get(key) != here.get(key):
                made, wanted = (f"{side.get(key)!r:.80}" for side in (there, here))
                raise CheckpointError(f"{name} was made with {key} {made}, this run has {wanted}")
        place = checkpoint.progress
        sequence = self.batches(place["epoch"]) if callable(self.batches) else self.batches
        if len(sequence) != place["batches"]:
            raise CheckpointError(
                f"{name} was made with {place['batches']} batches in an epoch, this run has "
                f"{len(sequence)}"
            )
        before = self.checkpoint()
        try:
            self._load(checkpoint)
        except (KeyError, TypeError, ValueError) as error:
            self._load(before)
            raise CheckpointError(f"{name} does not fit: {error.args[0]}") from error
        self._sequence = sequence

    def _load(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        set_generator_state(dict(checkpoint.generator))
        device = next((p.device for p in self.model.parameters()), None)
        self.state = tree_map(lambda array: tensor(array, device=device), checkpoint.state)
        place = checkpoint.progress
        self.updates, self.epoch, self.batch = place["updates"], place["epoch"], place["batch"]
        self.seconds, self.best = place["seconds"], place["best"]

    def _epoch(self) -> Sequence[Any]:
        """The batches of the present epoch."""
        if self._sequence is None:
            self._sequence = self.batches(self.epoch) if callable(self.batches) else self.batches
            if not len(self._sequence):
                raise ValueError("Trainer: an epoch has no batches")
        return self._sequence

    def _update(self) -> dict[str, float]:
        """One update of the parameters, and its row of metrics."""
        began = time.perf_counter()
        if self.schedule is not None:
            self.optimizer.lr = self.schedule(self.updates)
        batch = self._epoch()[self.batch]
        answer = self.loss(batch, self.state)
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], Tensor)):
            raise TypeError(
                "Trainer: loss(batch, state) must return (loss, state), with None as state where "
                f"there is none, got {type(answer).__name__}"
            )
        loss, state = answer[0], tree_map(_detached, answer[1])
        value = float(loss.item())
        if not math.isfinite(value):
            raise self._nonfinite(f"the loss is {value}", self.updates + 1)
        self.optimizer.zero_grad()
        loss.backward()
        report = self.optimizer.step()
        row = {
            "update": self.updates + 1,
            "epoch": self.epoch + 1,
            "learning_rate": self.optimizer.lr,
            **self.describe(value),
            "gradient_norm": report.norm,
        }
        self.state, self.updates, self.batch = state, self.updates + 1, self.batch + 1
        if self.batch == len(self._epoch()):
            self.epoch, self.batch, self.state, self._sequence = self.epoch + 1, 0, None, None
        if self.tokens is not None:
            row["tokens_per_second"] = self.tokens(batch) / (time.perf_counter() - began)
        return row

    def _evaluate(self, evaluate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """The metrics now. Training is not touched: neither its mode nor its random numbers."""
        generator = generator_state()
        self.model.eval()
        try:
            with no_grad():
                metrics = {name: float(value) for name, value in evaluate().items()}
        finally:
            self.model.train()
            set_generator_state(generator)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._nonfinite(f"{name} is {value}", self.updates)
        first = next(iter(metrics.values()), None)
        if first is not None and (self.best is None or first < self.best):
            self.best = first
            self.folder.save_best(self._sound())
        return metrics

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

    def _reached(self, epochs: int | None, updates: int | None) -> bool:
        return (epochs is not None and self.epoch >= epochs) or (
            updates is not None and self.updates >= updates
        )

    def _nonfinite(self, what: str, update: int) -> NonFiniteLossError:
        return NonFiniteLossError(
            f"Trainer: {what} at update {update:,}; lower the learning rate or clip the "
            f"gradient; {self.folder}"
        )


def _detached(leaf: Any) -> Tensor:
    if not isinstance(leaf, Tensor):
        raise TypeError(f"Trainer: a state is made of Tensors, got {type(leaf).__name__}")
    return leaf.detach()
