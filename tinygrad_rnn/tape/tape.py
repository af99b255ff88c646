"""The tape as an object: the records between inputs and outputs, to be read and differentiated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tinygrad_rnn.tape.clock import next_position
from tinygrad_rnn.tape.folding import Group, folded
from tinygrad_rnn.tape.listing import names_of, program, table
from tinygrad_rnn.tape.modes import look
from tinygrad_rnn.tape.order import between, collect
from tinygrad_rnn.tape.record import Record, Traced, key_of
from tinygrad_rnn.tape.seed import seed
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
        return program(self.records, self.outputs, self._names_before())

    def _repr_html_(self) -> str:
        return table(self.records, self.outputs, self._names_before())

    def folded(self) -> Group:
        """The records by layer and time step, what repeats once: to be shown, and opened."""
        return folded(self.records)

    def _names_before(self) -> dict[int, str]:
        """What the printed forward tape calls its records."""
        tape = self._forward
        return {} if tape is None else names_of(tape.records, tape.outputs)

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
