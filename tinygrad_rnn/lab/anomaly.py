"""Finding the operation that made the first nan or infinity."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinygrad_rnn.backends import Array, Switch, backend_of, there
from tinygrad_rnn.ops.arrays import raw
from tinygrad_rnn.replay import is_replayed, rerun
from tinygrad_rnn.tape import Modes, Observer, Origin, Record, Traced, observe


class AnomalyError(ArithmeticError):
    """An operation gave a nan or an infinity from finite operands."""


class _Anomaly(Observer):
    """Raises at the first record whose results are not finite while its operands are."""

    def __init__(self, inside: str = "") -> None:
        self.inside = inside
        self.waiting = False
        self.arrived: tuple[Any, ...] = ()

    def after_forward(self, record: Record) -> None:
        if self.waiting or _is_finite(record.results) or not _is_finite(record.inputs):
            return
        if is_replayed(record):
            self._look_inside(record, None, " in a replayed loop")
        raise AnomalyError(self._message(record, "the result has a nan or an infinity"))

    def before_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        self.arrived = cotangents

    def after_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        if self.waiting or _is_finite(cotangents) or not _is_finite(self.arrived):
            return
        if is_replayed(record):
            self._look_inside(record, self.arrived, " in a replayed loop, backwards")
        what = "its gradient rule gives a nan or an infinity"
        raise AnomalyError(self._message(record, what))

    def _look_inside(self, record: Record, cotangents: Any, inside: str) -> None:
        """Run a replayed loop again step by step under an observer of its own."""
        inner = _Anomaly(inside)
        self.waiting = True
        try:
            with observe(inner):
                rerun(record, cotangents)
        finally:
            self.waiting = False

    def _message(self, record: Record, what: str) -> str:
        origin = record.origin or Origin()
        times = " within time step ".join(map(str, reversed(origin.steps)))
        where = self.inside + (times and f", time step {times}")
        way = "reversed" if origin.reverse else ""
        source = ", ".join(filter(None, (origin.layer, way, origin.equation, origin.line)))
        kinds = ", ".join(
            f"{x.dtype} {tuple(x.shape)}" if hasattr(x, "shape") else repr(x)
            for x in map(raw, record.inputs)
        )
        source = source and f" ({source})"
        return f"{record.primitive.name}{where}: {what} of finite operands ({kinds}){source}"


@there
def _all_finite(array: Array) -> bool:
    backend = backend_of(array)
    return bool(backend.to_host(backend.xp.all(backend.xp.isfinite(array))))


def _is_finite(values: Iterable[Any]) -> bool:
    for value in values:
        array = value.array if isinstance(value, Traced) else getattr(value, "parts", value)
        if isinstance(array, tuple):
            if not _is_finite(array):
                return False
        elif hasattr(array, "dtype") and array.dtype.kind == "f" and not _all_finite(array):
            return False
    return True


def detect_anomaly() -> Switch[Modes, None]:
    """Within the block, raise where a nan or an infinity first appears, forward or backward.

    The error names the operation, its time step, and in parentheses the layer, the direction where
    that is reversed, and the line of code: those of the cell's equation inside a replayed loop,
    which is run again step by step. Every result is looked at, so it is
    slow, and on a GPU waits for the device: a tool for finding a fault.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> with lab.detect_anomaly():
    ...     tg.scan(lambda x, h: (h, tg.log(h - 1.0)), tg.ones(5), tg.tensor(8.0))
    Traceback (most recent call last):
    tinygrad_rnn.lab.anomaly.AnomalyError: log in a replayed loop, time step 2: ...
    """
    return observe(_Anomaly())
