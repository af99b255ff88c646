"""Schedules: the learning rate as a function of the number of updates (or epochs) done.

``optimizer.lr = schedule(update)`` by hand, or ``Trainer(schedule=schedule)``. A schedule gives
the rate of the optimizer's first group, and ``lr`` is its value at full height; assigning
``optimizer.lr`` scales the other groups with it. t counts from 0. A function of your own is as
good as any of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tinygrad_rnn.nn import check_size
from tinygrad_rnn.optim.groups import check_number


class Schedule:
    """What the schedules here have in common."""

    def __call__(self, t: int) -> float:
        """The learning rate of the update after ``t`` updates."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def observe(self, value: float) -> None:
        """Take notice of a metric, such as the loss on held-out data. Only Plateau does."""

    def state_dict(self) -> dict[str, Any]:
        """What the rate depends on besides t; empty but for Plateau."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken.

        Raises
        ------
        ValueError
            where it is the state of another schedule.
        """
        odd = sorted(set(state) ^ set(self.state_dict()))
        if odd:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: this is the state of another schedule, "
                f"they differ in {odd}"
            )


@dataclass(frozen=True)
class Step(Schedule):
    """lr factor^(t // every). PyTorch's ``StepLR(step_size=every, gamma=factor)``."""

    lr: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _check(self, ("lr", "factor"), counts=("every",))

    def __call__(self, t: int) -> float:
        return self.lr * self.factor ** (t // self.every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """lr factor^t. PyTorch's ``ExponentialLR(gamma=factor)``."""

    lr: float
    factor: float

    def __post_init__(self) -> None:
        _check(self, ("lr", "factor"))

    def __call__(self, t: int) -> float:
        return self.lr * self.factor**t


@dataclass(frozen=True)
class Cosine(Schedule):
    """minimum + (lr - minimum) (1 + cos(pi t / updates)) / 2, and the minimum from then on.

    PyTorch's ``CosineAnnealingLR(T_max=updates, eta_min=minimum)``, which rises again after that.
    Source: Loshchilov, Hutter 2017, equation 5, without restarts.
    """

    lr: float
    updates: int
    minimum: float = 0.0

    def __post_init__(self) -> None:
        _check(self, ("lr", "minimum"), counts=("updates",))

    def __call__(self, t: int) -> float:
        done = min(t / self.updates, 1.0)
        return self.minimum + (self.lr - self.minimum) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Linear(Schedule):
    """lr (start + (end - start) t / updates), and lr end from then on.

    PyTorch's ``LinearLR(start_factor=start, end_factor=end, total_iters=updates)``.
    """

    lr: float
    updates: int
    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        _check(self, ("lr", "start", "end"), counts=("updates",))

    def __call__(self, t: int) -> float:
        done = min(t / self.updates, 1.0)
        return self.lr * (self.start + (self.end - self.start) * done)


class WarmUp(Schedule):
    """A straight line from start schedule(0) to schedule(0) in ``updates``, then the schedule.

    The schedule, another one or any function, begins at its own t = 0 then. PyTorch's
    ``SequentialLR`` of ``LinearLR(start_factor=start, total_iters=updates)`` and the schedule.
    """

    def __init__(self, schedule: Callable[[int], float], updates: int, start: float = 0.0) -> None:
        if not callable(schedule):
            raise TypeError(
                "WarmUp: expected a schedule or a function of the number of updates, got "
                f"{schedule!r}"
            )
        self.schedule, self.updates, self.start = schedule, updates, start
        _check(self, ("start",), counts=("updates",))

    def __call__(self, t: int) -> float:
        if t >= self.updates:
            return self.schedule(t - self.updates)
        return self.schedule(0) * (self.start + (1 - self.start) * t / self.updates)

    def observe(self, value: float) -> None:
        if isinstance(self.schedule, Schedule):
            self.schedule.observe(value)

    def state_dict(self) -> dict[str, Any]:
        return self.schedule.state_dict() if isinstance(self.schedule, Schedule) else {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if isinstance(self.schedule, Schedule):
            self.schedule.load_state_dict(state)
        else:
            super().load_state_dict(state)

    def __repr__(self) -> str:
        return f"WarmUp({self.schedule!r}, updates={self.updates}, start={self.start})"


class Plateau(Schedule):
    """Multiplies the rate by ``factor`` where a metric has stopped improving.

    Call ``observe(value)`` after each evaluation. Where more than ``patience`` of them in a row
    were not better than the best so far, the rate falls, no lower than ``minimum``; the next
    ``cooldown`` of them do not count. Better means below best (1 - threshold), or, with
    ``threshold_mode="abs"``, below best - threshold; with ``mode="max"`` above best
    (1 + threshold) or best + threshold. A change of less than ``eps`` is not made. A metric that is
    nan is no better. PyTorch's ``ReduceLROnPlateau(min_lr=minimum)``.
    """

    def __init__(
        self,
        lr: float,
        factor: float = 0.1,
        patience: int = 10,
        *,
        mode: Literal["min", "max"] = "min",
        threshold: float = 1e-4,
        threshold_mode: Literal["rel", "abs"] = "rel",
        cooldown: int = 0,
        minimum: float = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.lr, self.factor, self.patience, self.cooldown = lr, factor, patience, cooldown
        self.threshold, self.minimum, self.eps = threshold, minimum, eps
        self.mode, self.threshold_mode = mode, threshold_mode
        numbers = ("lr", "patience", "threshold", "cooldown", "minimum", "eps")
        _check(self, numbers)
        check_number("Plateau", "factor", factor, below=1)
        for name, words in {"mode": ("min", "max"), "threshold_mode": ("rel", "abs")}.items():
            if getattr(self, name) not in words:
                raise ValueError(
                    f"Plateau: {name} must be {words[0]!r} or {words[1]!r}, got "
                    f"{getattr(self, name)!r}"
                )
        self.rate = lr
        self.best: float | None = None
        self.bad = self.cooling = 0

    def __call__(self, t: int) -> float:
        return self.rate

    def observe(self, value: float) -> None:
        value = float(value)
        if self._better(value):
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        if self.cooling:
            self.cooling, self.bad = self.cooling - 1, 0
        if self.bad > self.patience:
            lower = max(self.rate * self.factor, self.minimum)
            if self.rate - lower > self.eps:
                self.rate = lower
            self.cooling, self.bad = self.cooldown, 0

    def _better(self, value: float) -> bool:
        if self.best is None:
            return not math.isnan(value)
        sign = -1 if self.mode == "min" else 1
        margin = self.threshold * (1 if self.threshold_mode == "abs" else self.best)
        return sign * value > sign * (self.best + sign * margin)

    def state_dict(self) -> dict[str, Any]:
        return {"rate": self.rate, "best": self.best, "bad": self.bad, "cooling": self.cooling}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        for name, value in state.items():
            kind = int if name in ("bad", "cooling") else int | float
            if isinstance(value, bool) or not (
                isinstance(value, kind) or (name == "best" and value is None)
            ):
                raise ValueError(f"Plateau.load_state_dict: {name} is no number, got {value!r:.40}")
        vars(self).update(state)

    def __repr__(self) -> str:
        return f"Plateau(lr={self.lr}, factor={self.factor}, patience={self.patience}; {self.rate})"


def _check(schedule: Any, numbers: tuple[str, ...], counts: tuple[str, ...] = ()) -> None:
    who = type(schedule).__name__
    for name in numbers:
        check_number(who, name, getattr(schedule, name))
    check_size(who, **{name: getattr(schedule, name) for name in counts})
