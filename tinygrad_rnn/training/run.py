"""A run: what is trained, where it stands, one update and one evaluation of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.nn import Module
from tinygrad_rnn.optim import NonFiniteGradientError, Optimizer, StepReport
from tinygrad_rnn.optim.mean import BatchMean
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.training.again import Again, Repeat
from tinygrad_rnn.training.arguments import check_counts, loss_state_count, metrics_by_name
from tinygrad_rnn.training.causes import nonfinite_part
from tinygrad_rnn.training.epochs import Epochs
from tinygrad_rnn.training.evaluation import evaluation
from tinygrad_rnn.training.folder import RunFolder

ADVICE = "; lower the learning rate or clip the gradient"


class NonFiniteLossError(FloatingPointError):
    """The loss, a metric or a parameter has become inf or nan."""


class Run:
    """What is trained, and where it stands: all that the next update depends on.

    A :class:`Trainer` is a run with the loop around it, and says what is given to one.
    """

    model: Module
    optimizer: Optimizer
    loss: Callable[[Any, Any], tuple[Tensor, Any]]
    epochs: Epochs
    folder: RunFolder
    schedule: Callable[[int], float] | None
    describe: Callable[[float], Mapping[str, float]]
    tokens: Callable[[Any], int] | None
    settings: dict[str, Any]
    repeat: Repeat | None

    updates = 0
    seconds = 0.0
    best: float | None = None
    state: Any = None
    report: StepReport | None = None
    _again: Again | None = None  # the update that is under way, if it may be asked for once more
    _broken_off = ""  # what may be half done
    _best_is_due = False  # whether this is the best so far, and not written yet

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.epochs.epoch

    @property
    def batch(self) -> int:
        """The number of the next batch."""
        return self.epochs.batch

    def _update(self) -> dict[str, float]:
        """One update of the parameters, and its row of metrics."""
        began = time.perf_counter()
        self._broken_off = f"update {self.updates + 1:,}"
        if self.schedule is not None:
            self.optimizer.lr = self.schedule(self.updates)
        self.optimizer.zero_grad()
        batches, state, mean = self.epochs.following(), self.state, BatchMean(self.optimizer.scaled)
        counts: list[float | None] = []
        self._again = None if self.repeat is None else Again(self.model, self.optimizer)
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
        self._broken_off, self._again = "", None
        return row

    def _loss(self, batch: Any, before: Any) -> tuple[Tensor, Any, float | None]:
        """The loss of a batch, a finite number, the state after it, detached, and its count."""
        if self._again is not None:
            self._again.keep(batch, before)
        loss, state, count = loss_state_count(self.loss(batch, before))
        if not math.isfinite(loss.item()):
            said, advice = f"the loss is {loss.item()}", ADVICE
            of_batch, of_state = nonfinite_part("batch", batch), nonfinite_part("state", before)
            of_model = nonfinite_part("model", self.model.state_dict())
            cause = of_batch or of_state or of_model  # statistics may be made of the others
            if of_batch or (of_model and not self.updates):  # which no update has made
                advice = ""
            why = f"; {cause}" * bool(cause) + advice
            more, found = self._once_more(only_last=True)
            raise self._nonfinite(said, self.updates + 1, why, more) from found
        return loss, state, count

    def _step(self, batches: Sequence[Any]) -> float:
        """The optimizer's step; says what the norm of the gradient was."""
        try:
            self.report = self.optimizer.step()
            return self.report.norm
        except NonFiniteGradientError as error:
            cause = nonfinite_part("batch", batches[0] if len(batches) == 1 else batches)
            more, found = self._once_more(only_last=False)
            said = f"{error}; {cause}" if cause else str(error)
            raise NonFiniteGradientError(said + more) from (found or error)

    def _once_more(self, only_last: bool) -> tuple[str, BaseException | None]:
        """What ``repeat`` finds out about the update, as further lines and as an exception."""
        if self.repeat is None or self._again is None:
            return "", None
        try:
            k, found = self._again.ask(self.repeat, self.loss, only_last)
        except Exception as error:
            return f"\nrepeat failed: {type(error).__name__}: {error}", error
        if found is None:
            return "\nrun again: nothing is found; is the loss the same each time?", None
        batch = f"batch {self.batch + k:,}, counted from 0, of epoch {self.epoch + 1:,}"
        more = f"\n{batch}, run again: {found}"
        return more, found if isinstance(found, BaseException) else None

    def _evaluate(self, evaluate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """The metrics now. Training is not touched: neither its modes nor its random numbers."""
        with evaluation(self.model):
            metrics = metrics_by_name(evaluate())
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise self._nonfinite(f"{name} is {value}", self.updates)
        first = next(iter(metrics.values()))
        if self.best is None or first < self.best:
            self.best, self._best_is_due = first, True
        observe = getattr(self.schedule, "observe", None)
        if observe is not None:  # a schedule that waits for a plateau
            observe(first)
        return metrics

    def _check_finite(self, model: Mapping[str, np.ndarray]) -> None:
        """Refuse to keep a model with inf or nan in it."""
        for name, values in model.items():
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                raise self._nonfinite(f"{name} holds inf or nan", self.updates)

    def _nonfinite(
        self, what: str, update: int, why: str = ADVICE, more: str = ""
    ) -> NonFiniteLossError:
        return NonFiniteLossError(f"Trainer: {what} at update {update:,}{why}; {self.folder}{more}")
