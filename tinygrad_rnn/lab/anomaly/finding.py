"""What anomaly detection finds, as data and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tinygrad_rnn.lab.anomaly.ranges import Range
from tinygrad_rnn.tape import Origin


@dataclass(frozen=True)
class Finding:
    """Where a nan or an infinity begins.

    Attributes
    ----------
    verdict : what is wrong, in half a sentence.
    operation : the operation that made it; of what came in from outside, the first that reads it.
    value : ``nan``, ``inf`` or ``-inf``.
    where : the operation at its time step, and in parentheses layer, direction and line.
    origin : the same as data.
    backward : whether the backward pass made it.
    came_in : what holds it where no operation made it: a parameter, a buffer, an argument.
    parameter : the name of the parameter that holds it or that the operation reads, or None.
    ranges : what the operands hold; in the backward pass, the gradient that arrives is the last.
    result, made : what the result or the gradient holds that was made, or what came in; and which
        of them it is.
    index : the place of the first element that is not finite.
    notes, hint : further sentences; what to do about it, where that is known.
    """

    verdict: str
    operation: str
    value: str
    where: str
    origin: Origin = field(default_factory=Origin)
    backward: bool = False
    came_in: str | None = None
    parameter: str | None = None
    ranges: tuple[Range, ...] = ()
    result: Range | None = None
    made: str = "result"
    index: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    hint: str | None = None

    def __str__(self) -> str:
        """The verdict on the first line, then the operands, the result, and what to do."""
        if self.came_in:
            lines = [f"{self.came_in} {self.verdict}"]
            lines[0] += f": {self.result}{self._first()}" if self.result else ""
            lines += [f"  read first by {self.where}"]
        else:
            head, _, place = self.where.partition(" (")
            lines = [f"{head}: {self.verdict}" + (place and f" ({place}")]
            if self.result is not None:
                lines += [f"  {self.made}: {self.result}{self._first()}"]
        if self.ranges:
            lines += [f"  operands: {'; '.join(map(str, self.ranges))}"]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines + [f"  hint: {self.hint}"] * bool(self.hint))

    def _first(self) -> str:
        return f"; the first at {list(self.index)}" if self.index else ""


def at_place(operation: str, origin: Origin, replayed: bool = False, backward: bool = False) -> str:
    """``log in a replayed loop, time step 1 (cell, reversed, model.py:12)``."""
    times = " within time step ".join(map(str, reversed(origin.steps)))
    loop = " in a replayed loop" if replayed else ""
    way = ", backwards" if backward else ""
    where = f"{operation}{loop}{way}" + (times and f", time step {times}")
    turned = "reversed" if origin.reverse else ""
    place = ", ".join(filter(None, (origin.layer, turned, origin.equation, origin.line)))
    return where + (place and f" ({place})")


class AnomalyError(ArithmeticError):
    """A nan or an infinity has come up where none should be; the message says where it begins.

    Attributes
    ----------
    finding : all that is known, a :class:`Finding`. Its ``operation``, ``value``, ``origin``,
        ``parameter``, ``ranges``, ``result``, ``index``, ``backward``, ``came_in`` and ``hint``
        are attributes of the error, too, and so are those of the origin.
    layer, step, reverse, line : where the operation stands; None where that is not known.
    """

    layer: str | None
    step: int | None
    reverse: bool
    line: str | None

    def __init__(self, finding: Finding) -> None:
        super().__init__(str(finding))
        self.finding = finding

    def __getattr__(self, name: str) -> Any:
        finding = self.__dict__.get("finding")
        for holder in (finding, finding and finding.origin):
            if name in getattr(holder, "__dataclass_fields__", getattr(holder, "_fields", ())):
                return getattr(holder, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> Any:
        return AnomalyError, (self.finding,)
