"""What an update did, found out when somebody asks; and what all of them did."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.nn import Parameter
from tinygrad_rnn.optim.checks import called

COUNTERS = ("updates", "consecutive_skips", "nonfinite_steps")
"""What an optimizer counts besides the updates of each parameter."""


class NonFiniteGradientError(FloatingPointError):
    """A gradient holds inf or nan, and the policy is to raise."""


@dataclass(frozen=True)
class Outcome:
    """The values behind a :class:`StepReport`, on the host."""

    norm: float
    clipped_parameters: tuple[str, ...]
    nonfinite_parameters: tuple[str, ...]
    skipped: bool
    error: NonFiniteGradientError | None = None


class StepReport:
    """What one update did.

    On the CPU all is known when ``step()`` returns. On a GPU the first look at a field waits for
    the update; if a gradient was not finite and the policy says so, it raises what ``step()``
    would have raised on the CPU, and the next ``step()`` does so if nobody has looked. To copy,
    pickle, print or compare a report is to look. Reports of the same facts are equal.
    """

    def __init__(self, outcome: Outcome | Callable[[], Outcome]) -> None:
        self._outcome = outcome

    def _look(self) -> Outcome:
        return self._outcome if isinstance(self._outcome, Outcome) else self._outcome()

    @property
    def norm(self) -> float:
        """The global norm of the gradients before clipping."""
        return self._look().norm

    @property
    def clipped(self) -> bool:
        """Whether clipping changed a gradient."""
        return bool(self._look().clipped_parameters)

    @property
    def clipped_parameters(self) -> tuple[str, ...]:
        """The names of the parameters whose gradients clipping changed."""
        return self._look().clipped_parameters

    @property
    def nonfinite_parameters(self) -> tuple[str, ...]:
        """The names of the parameters whose gradients held inf or nan."""
        return self._look().nonfinite_parameters

    @property
    def skipped(self) -> bool:
        """Whether the update was left out because a gradient was not finite."""
        return self._look().skipped

    def __eq__(self, other: object) -> bool:  # as text, in which nan is what it is
        return isinstance(other, StepReport) and repr(self._look()) == repr(other._look())

    def __hash__(self) -> int:
        return hash(repr(self._look()))

    def __reduce__(self) -> Any:
        return StepReport, (self._look(),)

    def __repr__(self) -> str:
        return f"StepReport(norm={self.norm}, clipped={self.clipped}, skipped={self.skipped})"


class History:
    """What became of an optimizer's steps, known at once on the CPU and later on a GPU.

    Attributes
    ----------
    counts : the updates of each parameter.
    """

    def __init__(self, who: str, parameters: Sequence[Parameter]) -> None:
        self.who, self.parameters = who, parameters
        self.counts = [0] * len(parameters)
        self._counters: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self._pending: Callable[[], Outcome] | None = None
        self._unseen: NonFiniteGradientError | None = None

    @property
    def counters(self) -> dict[str, int]:
        """The counters, with the last step in them."""
        if self._pending is not None:
            self._pending()
        return self._counters

    def load(self, counters: dict[str, int], counts: list[int]) -> None:
        """Go on from there."""
        self._counters, self.counts, self._unseen = counters, counts, None

    def settle(self) -> None:
        """Find out about the last step, and raise its error if nobody has seen it."""
        if self._pending is not None:
            self._pending()
        error, self._unseen = self._unseen, None
        if error is not None:
            raise error

    def add(
        self,
        active: Sequence[int],
        facts: Callable[[], np.ndarray],
        policy: str,
        max_skips: int,
        later: bool = False,
    ) -> StepReport:
        """Report on a step that changed the ``active`` parameters, or is to be found to have not.

        ``facts`` waits for the norm of each gradient, and for whether it was clipped.
        """
        find = functools.partial(self._settle, active, facts, policy, max_skips)
        if later:
            self._pending = functools.cache(find)
            return StepReport(functools.partial(self._look, self._pending))
        outcome = find()
        self.settle()
        return StepReport(outcome)

    def _settle(
        self,
        active: Sequence[int],
        facts: Callable[[], np.ndarray],
        policy: str,
        max_skips: int,
    ) -> Outcome:
        """Count what a step did; called once for each."""
        self._pending = None
        sizes, clips = facts()
        names = [called(self.parameters[k], k) for k in active]
        clipped = tuple(name for name, clip in zip(names, clips, strict=True) if clip)
        bad = [k for k, size in enumerate(sizes.tolist()) if not math.isfinite(size)]
        norm, nonfinite = math.hypot(*sizes.tolist()), tuple(names[k] for k in bad)
        counters = self._counters
        counters["nonfinite_steps"] += bool(bad)
        if not bad or policy == "zero":
            counters["updates"] += 1
            counters["consecutive_skips"] = 0
            for k in active:
                self.counts[k] += 1
            return Outcome(norm, clipped, nonfinite, skipped=False)
        if policy == "skip" and counters["consecutive_skips"] < max_skips:
            counters["consecutive_skips"] += 1
            return Outcome(norm, (), nonfinite, skipped=True)
        advice = (
            f" after {max_skips} skipped updates in a row; lower the learning rate"
            if policy == "skip"
            else "; lower the learning rate, clip, or choose nonfinite='skip'"
        )
        self._unseen = NonFiniteGradientError(
            f"{self.who}: the gradient of parameter {nonfinite[0]} "
            f"{self.parameters[active[bad[0]]].shape} holds inf or nan at update "
            f"{counters['updates'] + 1}{advice}"
        )
        return Outcome(norm, (), nonfinite, skipped=True, error=self._unseen)

    def _look(self, find: Callable[[], Outcome]) -> Outcome:
        """What a report says. An error that was seen in it is not raised by the next step."""
        outcome = find()
        if outcome.error is not None:
            if self._unseen is outcome.error:
                self._unseen = None
            raise outcome.error
        return outcome
