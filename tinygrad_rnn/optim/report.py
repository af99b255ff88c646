"""What an update did, found out when somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


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
    would have raised on the CPU, and the next ``step()`` does so if nobody has looked.
    """

    def __init__(self, find: Callable[[], Outcome]) -> None:
        self._find = find

    @property
    def norm(self) -> float:
        """The global norm of the gradients before clipping."""
        return self._find().norm

    @property
    def clipped(self) -> bool:
        """Whether clipping changed a gradient."""
        return bool(self._find().clipped_parameters)

    @property
    def clipped_parameters(self) -> tuple[str, ...]:
        """The names of the parameters whose gradients clipping changed."""
        return self._find().clipped_parameters

    @property
    def nonfinite_parameters(self) -> tuple[str, ...]:
        """The names of the parameters whose gradients held inf or nan."""
        return self._find().nonfinite_parameters

    @property
    def skipped(self) -> bool:
        """Whether the update was left out because a gradient was not finite."""
        return self._find().skipped

    def __repr__(self) -> str:
        return f"StepReport(norm={self.norm}, clipped={self.clipped}, skipped={self.skipped})"
