"""Regularisation within the loop: wrappers round any cell, which are cells themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, device_of, transfer
from tinygrad_rnn.nn.place import inside
from tinygrad_rnn.ops import Draw, dropout_mask, from_blocks, generator, where
from tinygrad_rnn.rnn.arguments import fields_of
from tinygrad_rnn.rnn.carried import carried, masking
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.rnn.notes import collected_notes, note
from tinygrad_rnn.tape import current_modes, leaves, rebuild, tree_map
from tinygrad_rnn.tensor import Tensor

Rate = float | Mapping[str, float]
"""One rate, or rates by the names of the state's fields."""


class WrappedCell(Cell):
    """What the wrappers round a cell share: its sizes, its first state, a rate for each Tensor of
    its state.
    """

    def __init__(self, cell: Cell, rate: Rate, chosen: str | None) -> None:
        who = type(self).__name__
        if not isinstance(cell, Cell):
            raise TypeError(f"{who}: expected a Cell, got {type(cell).__name__}")
        self.cell = cell
        named = [*fields_of(cell.initial_state(1))]
        self.fields = tuple(".".join(path) for path, _ in named)
        self.rates = _rates(f"{who}({type(cell).__name__})", named, rate, chosen)

    @property
    def input_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """I, that of the cell."""
        return self.cell.input_size

    @property
    def hidden_size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """H, that of the cell."""
        return self.cell.hidden_size

    @property
    def output_size(self) -> int:
        """The size of y, that of the cell's."""
        return self.cell.output_size

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step: that of the cell."""
        return self.cell.initial_state(batch_size)

    def within(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """A step of the cell, which is said to be what runs."""
        with inside(self.cell):
            return self.cell.step(x, state)

    def extra_repr(self) -> str:
        pairs = zip(self.fields, self.rates, strict=True)
        return ", ".join(f"{name}={rate}" for name, rate in pairs if rate)


class VariationalDropout(WrappedCell):
    """A cell with dropout whose masks stay the same over a sequence; in evaluation, the cell.

    y_t, s_t = cell(m_x * x_t, m_s * s_{t-1}) and m_y * y_t come out. The masks m_x (B, I),
    m_s (B, H) and m_y (B, Y) are drawn anew at each call of the loop, one for each row and all its
    steps: an element is 0 with probability ``rate``, else 1 / (1 - rate). What is handed on is s_t
    itself, so the masks act where the cell reads its state. All gates see the same m_x * x_t and
    m_s * s_{t-1}: the variant with "tied weights" of the paper, whose LSTM has a mask for x and one
    for h. The recurrent dropouts of Moon et al. 2015 (on c) and of Semeniuta et al. 2016 (on g) are
    others.

    A cell that hands its h on by another way than a product says so by
    :func:`tinygrad_rnn.rnn.carried`, and the mask leaves that way alone.

    One sequence is one call. A state that is carried over to the next call brings no masks along:
    the parts of a long text are read with new ones each, and a stream that is followed step by step
    draws new ones at every step.

    Parameters
    ----------
    cell : any cell.
    inputs, outputs : the rates of x and y.
    state : the rate of h, that is of a state that is one Tensor, or of each field named ``h``; or
        rates by the names of the state's fields. They are for what products read: a memory such as
        c, which is handed on, would be multiplied by its mask at every step.

    Source: Gal, Ghahramani 2016, A Theoretically Grounded Application of Dropout in Recurrent
    Neural Networks, section 4.

    >>> from tinygrad_rnn import ones, rnn
    >>> cell = rnn.VariationalDropout(rnn.LSTMCell(3, 5), inputs=0.2, state=0.3, outputs=0.2)
    >>> output, (h, c) = rnn.Recurrent(cell)(ones((7, 2, 3)))
    >>> bool(((output == 0) == (output[0] == 0)).all())
    True
    """

    pure = True

    def __init__(
        self, cell: Cell, inputs: float = 0.0, state: Rate = 0.0, outputs: float = 0.0
    ) -> None:
        super().__init__(cell, state, "h")
        self.inputs = _checked("VariationalDropout", "inputs", inputs)
        self.outputs = _checked("VariationalDropout", "outputs", outputs)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        step = self.within if current_modes.get().looking else self.cell.step
        if not self.training:
            return step(x, state)
        whole: list[Tensor] = leaves(state)
        seen = [_dropped(s, rate) for s, rate in zip(whole, self.rates, strict=True)]
        x = _dropped(x, self.inputs)
        with masking(seen, whole):
            y, after = step(x, rebuild(state, seen))
        return _dropped(y, self.outputs), after

    def extra_repr(self) -> str:
        parts = [("inputs", self.inputs), ("outputs", self.outputs)]
        found = [super().extra_repr(), *(f"{name}={rate}" for name, rate in parts if rate)]
        return ", ".join(part for part in found if part)


class Zoneout(WrappedCell):
    """A cell whose state keeps some of its elements as they were, others at each step.

    s_t = d_t * s_{t-1} + (1 - d_t) * cell(x_t, s_{t-1}), where an element of the mask d_t is 1 with
    probability ``rate``, drawn anew at each step; in evaluation d_t is the rate itself. Where an
    output y or a recorded value is a field of the state, as h is, it follows it (so round both,
    VariationalDropout stands outside: its m_y * h is no field). In an LSTM h is computed from the
    new c before any of it is put back, as in the paper. Integers in the state pass unchanged.

    Parameters
    ----------
    cell : any cell.
    rate : the rate of everything floating in the state, or rates by the names of its fields, such
        as ``{"h": 0.05, "c": 0.5}``, the paper's on text; what is not named is left alone. A state
        that is one Tensor is called ``h``.

    Source: Krueger et al. 2016, Zoneout: Regularizing RNNs by Randomly Preserving Hidden
    Activations.

    >>> from tinygrad_rnn import ones, rnn
    >>> layer = rnn.Recurrent(rnn.Zoneout(rnn.LSTMCell(3, 5), {"h": 0.05, "c": 0.5}))
    >>> output, (h, c) = layer(ones((7, 2, 3)))
    >>> layer
    Recurrent()
      (cell) Zoneout(h=0.05, c=0.5)
        (cell) LSTMCell(3, 5), 200 parameters
    """

    pure = True

    def __init__(self, cell: Cell, rate: Rate) -> None:
        super().__init__(cell, rate, None)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        step = self.within if current_modes.get().looking else self.cell.step
        with collected_notes(wanted=True) as notes:
            y, after = step(x, state)
        new: list[Tensor] = leaves(after)
        pairs = zip(leaves(state), new, self.rates, strict=True)
        mixed = [self._mixed(carried(s), n, rate) if rate else n for s, n, rate in pairs]
        same = {id(n): m for n, m in zip(new, mixed, strict=True)}
        note(**{name: same.get(id(value), value) for name, value in notes.items()})
        return tree_map(lambda value: same.get(id(value), value), y), rebuild(after, mixed)

    def _mixed(self, old: Tensor, new: Tensor, rate: float) -> Tensor:
        if not self.training:
            return rate * old + (1 - rate) * new
        return where(_kept(new, rate), old, new)


def _rates(
    who: str, named: list[tuple[tuple[str, ...], Tensor]], rate: Rate, chosen: str | None
) -> tuple[float, ...]:
    """A rate for each Tensor of a state: of the field that is nearest to it among the given."""
    known = {name for path, leaf in named if leaf.dtype.kind == "f" for name in path}
    if isinstance(rate, Mapping):
        for name in rate:
            if name not in known:
                raise ValueError(
                    f"{who}: the state has no floating field {name!r}, only {sorted(known)}"
                )
        rates = {name: _checked(who, name, value) for name, value in rate.items()}
    else:
        number = _checked(who, "the state", rate)
        if number and chosen is not None and chosen not in known:
            raise ValueError(
                f"{who}: the state has no field {chosen!r}, only {sorted(known)}: give rates by "
                "the names of its fields"
            )
        rates = dict.fromkeys(known if chosen is None else (chosen,), number)
    found: list[float] = []
    for path, leaf in named:
        nearest = (rates[name] for name in reversed(path) if name in rates)
        found.append(next(nearest, 0.0) if leaf.dtype.kind == "f" else 0.0)
    return tuple(found)


def _checked(who: str, what: str, rate: Any) -> float:
    if not isinstance(rate, int | float | np.number) or isinstance(rate, bool) or not 0 <= rate < 1:
        raise ValueError(f"{who}: the rate of {what} must satisfy 0 <= rate < 1, got {rate!r}")
    return float(rate)


def _dropped(x: Tensor, rate: float) -> Tensor:
    """X times a mask that is the same at all steps."""
    return x * dropout_mask(x, rate, once=True) if rate else x


def _kept(like: Tensor, rate: float) -> Any:
    """A mask of the shape of a Tensor, True with probability ``rate``, drawn for every step."""
    shape, device = tuple(like.shape), device_of(like.array)

    def make(lead: tuple[int, ...]) -> Array:
        draws = generator().random((*lead, *shape), dtype=np.float32)
        return transfer(np.asarray(draws < rate), device)

    return from_blocks(Draw(("kept", rate, device), shape, make))
