"""What an update did, found out when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


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

    def _facts(self) -> tuple[Any, ...]:
        """What is compared; the norm as text, so that nan is what it is."""
        found = self._look()
        return repr(found.norm), found.clipped_parameters, found.nonfinite_parameters, found.skipped

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, StepReport):
            return NotImplemented
        return self._facts() == other._facts()

    def __hash__(self) -> int:
        return hash(self._facts())

    def __reduce__(self) -> Any:
        return StepReport, (self._look(),)

    def __repr__(self) -> str:
        return f"StepReport(norm={self.norm}, clipped={self.clipped}, skipped={self.skipped})"
