"""The observer that follows what is not finite, forward and backward."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import numpy as np

from tinygrad_rnn.lab.anomaly import gradients
from tinygrad_rnn.lab.anomaly.finding import AnomalyError, Finding
from tinygrad_rnn.lab.anomaly.ranges import (
    all_finite,
    array_of,
    bad_elements,
    has_part,
    host,
    is_finite,
    range_of,
)
from tinygrad_rnn.lab.anomaly.sources import (
    CAME_IN,
    MOVING,
    PICKING,
    Book,
    Source,
    Spread,
    at_elements,
    handed_in,
    made_by,
    place_of,
    spread_by,
    together,
)
from tinygrad_rnn.replay import is_replayed, rerun
from tinygrad_rnn.tape import Observer, Record, Tape, Traced, observe, unseen


class Detector(Observer):
    """Follows every value that is not finite, and raises where it does harm.

    That is where it is differentiated, where a gradient becomes nan or infinite, or at the end
    of the block, where nothing has read it. What an operation turns into finite numbers, such
    as a mask of -inf in a softmax, does none.

    ``around`` and ``loop`` are, within a replayed loop that is run again, the detector that
    has come to it, and its record.
    """

    def __init__(self, around: Detector | None = None, loop: Record | None = None) -> None:
        self.around, self.loop = around, loop
        self.entered: BaseException | None = None
        self._forget()

    def _forget(self) -> None:
        self.book = Book()
        self.passed: list[tuple[Any, ...]] = []  # the gradients that arrived, of rules within rules
        self.last = -1  # the position of the record that the backward pass has come to
        self.awaited: set[int] = set()  # the positions of those that it will come to
        self.suspects: dict[int, Finding] = {}  # who gave inf to the results of records
        self.unread: dict[int, str] = {}  # who does not read the results of records, by position
        self.uses: dict[int, tuple[Any, Finding]] = {}  # the leaves that were given gradients

    def _raise(self, finding: Finding) -> NoReturn:
        self._forget()
        raise AnomalyError(finding)

    # Forward

    def after_forward(self, record: Record) -> None:
        """Know where the results come from that are not finite."""
        arrived = [*filter(None, map(self.book.read, record.inputs))]
        if all_finite(record.results):
            for k, x in enumerate(record.inputs):
                if isinstance(x, Traced) and x.record is None and self.book.find(x) is None:
                    arrived += [one] if (one := self._spread_of(record, k)) else []
            if record.primitive.name not in PICKING:
                self._readers(record, arrived)
            if any(y.dtype.kind == "f" for y in record.results):
                self._dropped(record, together(arrived))
            return
        new: list[tuple[int, Any]] = []
        for k, y in enumerate(record.results):
            if not is_finite(y):
                known = self.book.find(y)
                if known is None:
                    new.append((k, y))
                else:  # the operand itself, or what a checkpoint has computed
                    self.book.write(y, known)
        if new:
            arrived = [
                *filter(None, (self._spread_of(record, k) for k in range(len(record.inputs))))
            ]
        self._readers(record, arrived)
        spreads = self._inside(record) if new and is_replayed(record) else {}
        for k, y in new:
            spread = spreads.get(k)
            if spread is None or not (spread.nan or spread.inf):
                spread = spread_by(record, y, arrived, self.loop is not None)
            self.book.write(y, spread)

    def _readers(self, record: Record, spreads: Sequence[Spread]) -> None:
        """Remember who computes first with what came in."""
        if spreads and not is_replayed(record) and record.primitive.name not in MOVING:
            for source in {*together(spreads).nan, *together(spreads).inf}:
                source.read_by(record, self.loop is not None)

    def _dropped(self, record: Record, spread: Spread) -> None:
        name = record.primitive.name
        for source in (*spread.nan, *spread.inf):
            if source.dropped is None or (name == "where" != source.dropped[0]):
                source.dropped = name, place_of(record, self.loop is not None)

    def _spread_of(self, record: Record, k: int) -> Spread | None:
        """The sources of an operand; None where it is finite."""
        value = record.inputs[k]
        if is_finite(value):  # also where it is another one by now
            return None
        known = self.book.read(value)
        if known is not None:
            return known
        found = self._in_loop(record, value)
        if found is None:
            source = handed_in(value, record, self.loop is not None)
            held = range_of(value)
            found = Spread((source,) * bool(held.nan), (source,) * bool(held.inf + held.minus_inf))
        array = array_of(value)
        if hasattr(array, "dtype"):
            self.book.write(array, found, read=True)
        return found

    # Within replayed loops

    def _inside(self, record: Record) -> dict[int, Spread]:
        """The sources of the results of a replayed loop, which is run again step by step."""
        inner = Detector(self, record)
        with unseen(), observe(inner):
            outputs, state = rerun(record)
        values = [*outputs, *([s] for s in state)]
        return {k: together(inner.spreads(series)) for k, series in enumerate(values)}

    def spreads(self, values: Sequence[Any]) -> Iterator[Spread]:
        """The sources of those that are not finite."""
        for value in values:
            if not is_finite(value):
                yield self.book.find(value) or self._in_loop(None, value) or Spread()

    def _in_loop(self, record: Record | None, value: Any) -> Spread | None:
        """The sources of what a loop that is run again was given."""
        if self.around is None or self.loop is None or not hasattr(array_of(value), "dtype"):
            return None
        t = record.origin.step if record is not None and record.origin else None
        for k, given in enumerate(self.loop.inputs):
            if has_part(array_of(given), value, t):
                return self.around._spread_of(self.loop, k)
        return None

    # Backward

    def before_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        """Refuse to differentiate what is not finite, and see what arrives."""
        begins = not self.passed and record.position > self.last
        if begins and self.loop is None:
            self.unread.clear()
            self.awaited.clear()
            self.uses = {k: use for k, use in self.uses.items() if use[0]() is not None}
        if not self.passed and record.position not in self.awaited and self.loop is None:
            for k, (y, g) in enumerate(zip(record.results, cotangents, strict=True)):
                if g is not None and not is_finite(y):
                    self._raise(self._of_result(record, k))
        if not all_finite(cotangents) and record.position not in self.suspects:
            self._raise(gradients.arrived(record, cotangents, begins, self.loop is not None))
        self.last = record.position
        self.awaited.discard(record.position)
        self.passed.append(cotangents)
        behind = self._behind(record)
        if record.primitive.name in gradients.CHOOSING:
            behind = place_of(record, self.loop is not None)
        for x in record.inputs if behind else ():
            if isinstance(x, Traced) and x.record is not None:
                self.unread.setdefault(x.record.position, behind)

    def _behind(self, record: Record) -> str:
        """Who does not read all of the results of a record, as far as that is known."""
        found = self.unread.get(record.position, "")
        if found or self.around is None or self.loop is None:
            return found
        return self.around._behind(self.loop)

    def after_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        """Follow what a gradient rule gives that is not finite.

        Harm is done where that is nan, or comes to a leaf: an infinity may yet be dropped, as
        ``maximum`` drops the gradient of what it does not take.
        """
        arrived = self.passed.pop() if self.passed else ()
        known = self.suspects.pop(record.position, None)
        given = [gradients.whole(g, x) for g, x in zip(cotangents, record.inputs, strict=True)]
        bad = [k for k, g in enumerate(given) if g is not None and not is_finite(g)]
        if bad:
            finding = None if all_finite(arrived) else known
            finding = finding or self._blame(record, arrived, bad[0], given[bad[0]])
            for k in bad:
                x, before = record.inputs[k], record.inputs[k].record
                kept = x.watch is not None and x.watch.keeps_grad
                if before is None or kept or range_of(given[k]).nan:
                    self._raise(finding)
                self.suspects.setdefault(before.position, finding)
        for x, g in zip(record.inputs, given, strict=True):
            if g is not None and x.record is None:
                self.uses[id(x)] = weakref.ref(x), gradients.use(record)
            elif g is not None:
                self.awaited.add(x.record.position)

    def _blame(self, record: Record, arrived: Sequence[Any], k: int, made: Any) -> Finding:
        """What is to be said of the gradient of the operand k."""
        if is_replayed(record):
            for unread in (False, True):
                try:
                    with unseen(), observe(Detector(self, record)):
                        rerun(record, arrived, unread)
                except AnomalyError as error:
                    return error.finding
        source = self._spoilt(record, made)
        inside = self.loop is not None
        if (
            source is not None
            and source.rank <= CAME_IN
            and not gradients.is_fault_of_rule(record, arrived, made)
        ):
            return gradients.of_source(source, record, made, inside)
        if is_replayed(record):
            return gradients.of_steps(record, arrived, k, made)
        return gradients.of_rule(record, arrived, k, made, inside, self._behind(record))

    def _spoilt(self, record: Record, made: Any) -> Source | None:
        """What is most to blame where an operand or a result of a record is not finite."""
        self._learn(record)
        seen = [self._spread_of(record, j) for j in range(len(record.inputs))]
        seen += [self.book.find(y) for y in record.results]
        found = together(filter(None, seen))
        there = at_elements(record, bad_elements(made), (*record.inputs, *record.results))
        if found.inf and not any(np.isnan(one).any() for one in there):
            found = Spread((), found.inf)  # the nan is at other elements
        return found.worst()

    # What was made before anybody looked, and the end

    def _learn(self, record: Record) -> None:
        """Find out how a record came to what is not finite, where that was before the block."""
        values = [*record.inputs, *record.results]
        if all(is_finite(v) or self.book.find(v) is not None for v in values):
            return
        make: Any = next(x for x in record.inputs if isinstance(x, Traced)).output_type
        for one in Tape.of(make(record.results[0], True, record, 0)):
            if not one.freed:
                self.after_forward(one)

    def _of_result(self, record: Record, k: int) -> Finding:
        """What is to be said of the result of a forward pass."""
        result = record.results[k]
        if self.book.find(result) is None:
            self._learn(record)
        source = (self.book.find(result) or Spread()).worst()
        if source is None:
            bad = ~np.isfinite(host(result))
            source = made_by(record, result, bad, "gives {value}", self.loop is not None)
        return source.told()

    def finish(self, _: None) -> None:
        """At the end of the block, raise for what has not been raised."""
        error = sys.exc_info()[1]
        error, self.entered = None if error is self.entered else error, None
        if isinstance(error, AnomalyError):
            return
        source = self.book.end(isinstance(error, ArithmeticError))
        finding = source.told() if source is not None else self._of_gradients()
        self._forget()
        if finding is None:
            return
        if error is None:
            raise AnomalyError(finding)
        if isinstance(error, ArithmeticError):
            raise AnomalyError(finding) from error
        if isinstance(error, Exception):
            error.add_note(f"detect_anomaly: {finding}")

    def _of_gradients(self) -> Finding | None:
        """What is to be said of gradients that became infinite where they were added up, or that
        were asked for and are infinite.
        """
        for reference, use in self.uses.values():
            x = reference()
            if x is not None and x.grad is not None and not is_finite(x.grad):
                return gradients.of_sum(x, use)
        return next(iter(self.suspects.values()), None)
