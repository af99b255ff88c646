"""The tape as an object: the records between inputs and outputs, to be read and differentiated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tinygrad_rnn.tape.clock import next_position
from tinygrad_rnn.tape.folding import Group, folded
from tinygrad_rnn.tape.listing import COLUMNS, Arrived, Listing
from tinygrad_rnn.tape.modes import look, observe
from tinygrad_rnn.tape.names import Names
from tinygrad_rnn.tape.order import between, collect
from tinygrad_rnn.tape.record import Record, Traced, key_of
from tinygrad_rnn.tape.seed import seed
from tinygrad_rnn.tape.statistics import Arriving, Statistics
from tinygrad_rnn.tape.walk import differentiate


class Tape:
    """The records that lead to ``outputs``, in the order in which they were made.

    Where ``inputs`` are given, only what depends on them is kept, and everything else that the
    records read counts as a constant. With ``since``, only records from that position on are.
    ``forward`` is the tape of which this one is the backward pass.

    >>> import tinygrad_rnn as tg
    >>> x = tg.tensor([1.0, 2.0], requires_grad=True)
    >>> y = (tg.tanh(x) * 3.0).sum()
    >>> print(tg.Tape.of(y))
    tape of 3 records, 20 B of results
      %0: float32 (2,)             8 B   leaf
      %1: float32 (2,)             8 B   tanh(%0)
      %2: float32 (2,)             8 B   multiply(%1, 3.0)
      %3: float32 ()               4 B   sum(%2, axis=(0,), keepdims=False)
    result: %3
    """

    def __init__(
        self,
        outputs: Sequence[Traced],
        inputs: Sequence[Traced] | None = None,
        since: int = 0,
        forward: Tape | None = None,
    ) -> None:
        self.outputs = tuple(outputs)
        self._forward = forward
        records = collect(outputs, since)
        self.records = tuple(records if inputs is None else between(inputs, records))

    @classmethod
    def of(cls, *outputs: Traced, inputs: Sequence[Traced] | None = None) -> Tape:
        """The tape of one or more values."""
        for output in outputs:
            if not isinstance(output, Traced):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(f"Tape.of: expected Tensors, got {type(output).__name__}")
        return cls(outputs, inputs)

    @property
    def inputs(self) -> tuple[Traced, ...]:
        """The values that the records read and do not compute, in the order of first use."""
        computed = set(self.records)
        read = {
            key_of(value): value
            for record in self.records
            for value in record.inputs
            if isinstance(value, Traced) and value.record not in computed
        }
        return tuple(read.values())

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __reduce__(self) -> Any:
        raise TypeError("a Tape cannot be copied or pickled: it belongs to the values it leads to")

    def __repr__(self) -> str:
        return f"<tape of {len(self)} records>"

    def __str__(self) -> str:
        return self._listing().text()

    def _repr_html_(self) -> str:
        return self._listing().html()

    def listing(
        self, unfold: str | bool = False, columns: str | Sequence[str] = ("kind", "bytes")
    ) -> str:
        """The tape as text: every value, or, of a long tape, what repeats once.

        Within :func:`tinygrad_rnn.lab.look` the records of a long tape are grouped by layer and
        time step, and equal time steps shown once; without it by what repeats. ``previous %7``
        is the ``%7`` of the repetition before, and ``...`` stands after what is another one in each
        repetition. A replayed loop is one line.

        Parameters
        ----------
        unfold : True for every value of the tape and what replayed loops run at each step, or the
            layer of which this is to be shown.
        columns : what to say of each value. "kind": dtype and shape. "bytes": of one repetition.
            "values": the least, the mean and the greatest of the finite elements, the share of
            zeros, and how many are odd, that is nan or infinite; of all repetitions together.
            "gradient": the same of the gradient of the output (of one element) with respect to the
            value, for which a backward pass is made that leaves no gradient anywhere. "line": the
            user's, or that of the equation in a cell of this package.

        Raises
        ------
        ValueError
            where a column or a layer is none.
        RuntimeError
            where the gradient is asked for and the tape is freed, or leads to several elements.

        >>> import tinygrad_rnn as tg
        >>> x = tg.tensor([0.0, 2.0, 4.0], requires_grad=True)
        >>> print(tg.Tape.of((x * x).sum()).listing(columns=["values", "gradient"]))
        tape of 2 records, 16 B of results
              min mean max zeros g min g mean g max g zeros
          %0:   0    2   4   33%     0      4     8     33%   leaf
          %1:   0 6.67  16   33%     1      1     1      0%   multiply(%0, %0)
          %2:  20   20  20    0%     1      1     1      0%   sum(%1, axis=(0,), keepdims=False)
        result: %2
        """
        columns = (columns,) if isinstance(columns, str) else columns
        for column in columns:
            if column not in COLUMNS:
                raise ValueError(
                    f"Tape.listing: there is no column {column!r}, only {', '.join(COLUMNS)}"
                )
        if isinstance(unfold, str):
            known = {
                record.origin.layer for record in self if record.origin and record.origin.layer
            }
            if not any(f"{layer}.".startswith(f"{unfold}.") for layer in known):
                raise ValueError(
                    f"Tape.listing: there is no layer {unfold!r}, only "
                    f"{', '.join(sorted(known)) or 'records without one: look() tells layers'}"
                )
        arrived = self._arrived() if "gradient" in columns else None
        return self._listing(unfold, columns, arrived).text()

    def _listing(self, *options: Any) -> Listing:
        return Listing(self.records, self.outputs, self._names_before(), self.folded, *options)

    def folded(self) -> Group:
        """The records by layer and time step, what repeats once: to be shown, and opened."""
        return folded(self.records)

    def _names_before(self) -> dict[int, str]:
        """What the printed forward tape calls its records."""
        tape = self._forward
        if tape is None:
            return {}
        names = Names(tape.records, tape.outputs)
        return {r.position: names.results(k, r)[0] for k, r in enumerate(tape.records)}

    def _arrived(self) -> Arrived:
        """What arrives in a backward pass that leaves no gradient anywhere."""
        seeds = [seed(output, None, "Tape.listing") for output in self.outputs]
        leaves = [value for value in self.inputs if value.needs_grad]
        arriving = Arriving()
        with observe(arriving):
            found = differentiate(self.outputs, seeds, leaves, retain_graph=True)
        pairs = zip(leaves, found, strict=True)
        return Arrived(arriving.at, {x: Statistics.of(g) for x, g in pairs if g is not None})

    def backward(self, *gradients: Any) -> Tape:
        """The tape of the backward pass: what it computes from the gradients of the outputs.

        The result computes the gradient of every leaf of this tape that wants one, in the order
        of :attr:`inputs`, and is a tape like any other. Where every output has one element, the
        gradients may be left out. Each of its records knows by ``origin.forward`` the position of
        the record of this tape that it belongs to; printed, it says what that is called here.
        """
        given = gradients or (None,) * len(self.outputs)
        if len(given) != len(self.outputs):
            raise ValueError(
                f"Tape.backward: expected {len(self.outputs)} gradients, one per output, got "
                f"{len(given)}"
            )
        seeds: list[Traced] = []
        for output, gradient in zip(self.outputs, given, strict=True):
            values = seed(output, gradient, "Tape.backward").array
            seeds.append(output.output_type(values, needs_grad=True))
        targets = [value for value in self.inputs if value.needs_grad]
        start = next_position()
        with look():
            found = differentiate(self.outputs, seeds, targets, create_graph=True)
        return Tape([g for g in found if g is not None], since=start, forward=self)
