"""Callbacks that are there: early stopping."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinygrad_rnn.nn import check_size
from tinygrad_rnn.training.trainer import Callback, Trainer


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
        check_size("EarlyStopping", patience=patience)
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
