"""What else is to happen in training: callbacks, and early stopping as one of them."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinygrad_rnn.training.trainer import Trainer


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


class EarlyStopping(Callback):
    """Stops training when a metric has not become smaller for ``patience`` evaluations in a row.

    A run that is resumed where it had stopped stops at once, unless it is given more patience.

    Parameters
    ----------
    patience : how many evaluations without progress are one too many.
    metric : the name of the metric, by default the first one. Give the negative of one that is
        to grow.
    min_delta : by how much it must become smaller to count.
    """

    def __init__(self, patience: int, metric: str | None = None, min_delta: float = 0.0) -> None:
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 1:
            raise ValueError(
                f"EarlyStopping: patience must be a positive integer, got {patience!r}"
            )
        if not isinstance(min_delta, int | float) or not min_delta >= 0:
            raise ValueError(f"EarlyStopping: min_delta must be a number >= 0, got {min_delta!r}")
        self.patience, self.metric, self.min_delta = patience, metric, min_delta
        self.best: float | None = None
        self.waited = 0

    def on_start(self, trainer: Trainer) -> None:
        """Refuse a run without evaluation, and stop one that has waited long enough already."""
        if trainer.evaluate is None:
            raise ValueError("EarlyStopping: it needs a Trainer with evaluate=, this one has none")
        self._judge(trainer)

    def on_evaluation(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Compare with the best so far."""
        name = next(iter(metrics)) if self.metric is None else self.metric
        if name not in metrics:
            raise ValueError(
                f"EarlyStopping: evaluate() gives no metric {name!r}, but {list(metrics)}"
            )
        value = metrics[name]
        if self.best is None or value < self.best - self.min_delta:
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        self._judge(trainer)

    def _judge(self, trainer: Trainer) -> None:
        if self.waited >= self.patience:
            trainer.stop()

    def state_dict(self) -> dict[str, Any]:
        """The best value, and how many evaluations have been waited since."""
        return {"best": self.best, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken."""
        best, waited = state["best"], state["waited"]
        if not (best is None or type(best) in (int, float)) or type(waited) is not int:
            raise ValueError(
                f"EarlyStopping.load_state_dict: best must be a number or None and waited an "
                f"integer, got {best!r:.40} and {waited!r:.40}"
            )
        self.best, self.waited = best, waited


@contextmanager
def announced(trainer: Trainer) -> Generator[list[str]]:
    """A trainer's callbacks hear of the start and, in whichever way it comes, of the end.

    The block puts into the list how it has ended.
    """
    ending: list[str] = []
    with ExitStack() as stack:
        for callback in trainer.callbacks:
            callback.on_start(trainer)
            stack.callback(lambda one=callback: one.on_end(trainer, (ending or ["failed"])[0]))
        yield ending
