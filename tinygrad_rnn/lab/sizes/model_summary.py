"""A model layer by layer: ``lab.summary``."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tinygrad_rnn.lab.profiling.memory import bytes_by_layer
from tinygrad_rnn.lab.profiling.watch import Watch
from tinygrad_rnn.lab.sizes.multiply_adds import multiply_adds
from tinygrad_rnn.lab.table import aligned
from tinygrad_rnn.lab.undisturbed import undisturbed
from tinygrad_rnn.lab.written import write_csv
from tinygrad_rnn.nn import Module, Parameter, tree
from tinygrad_rnn.tape import (
    Record,
    Traced,
    current_place,
    enable_grad,
    format_bytes,
    html_paragraph,
    html_table,
    leaves,
    observe,
)

Shape = tuple[int, ...]


class LayerRow(NamedTuple):
    """One module of a model. Numbers are its own, without those of the modules in it.

    Attributes
    ----------
    name : the path of names to it, ``""`` for the model itself.
    kind : its class.
    outputs : the shapes of what its last call gave; of a cell, that of the outputs over time.
    parameters, trainable : how many elements its parameters have, and those that want a gradient;
        parameters that a row above has count there.
    tied : the names under which a row above has them.
    multiply_adds : of the products in all its calls, forward.
    nbytes : what its calls made and hold for the backward pass, in bytes.
    calls : how often it ran.
    """

    name: str
    kind: str
    outputs: tuple[Shape, ...]
    parameters: int
    trainable: int
    tied: tuple[str, ...]
    multiply_adds: int
    nbytes: int
    calls: int

    @property
    def note(self) -> str:
        """Whether it is trainable or frozen, shares parameters, or was not called."""
        notes = ["not called"] if not self.calls else []
        notes += [f"{self.calls} calls"] if self.calls > 1 else []
        if self.parameters:
            some = f"{self.trainable:,} trainable" if self.trainable else "frozen"
            notes.append("trainable" if self.trainable == self.parameters else some)
        notes += [f"tied to {', '.join(self.tied)}"] if self.tied else []
        return ", ".join(notes)


@dataclass(frozen=True)
class Summary:
    """A model layer by layer; see :func:`tinygrad_rnn.lab.summary`.

    Attributes
    ----------
    rows : a :class:`LayerRow` for each module, in the order of the tree.
    outside : bytes that the call holds and no module made, such as inputs that are copied.
    """

    rows: tuple[LayerRow, ...]
    outside: int

    @property
    def parameters(self) -> int:
        """Elements of all parameters, shared ones once."""
        return sum(row.parameters for row in self.rows)

    @property
    def trainable(self) -> int:
        """Elements of those that want a gradient."""
        return sum(row.trainable for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all products of one forward pass."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def nbytes(self) -> int:
        """Bytes that the forward pass holds for the backward pass."""
        return sum(row.nbytes for row in self.rows) + self.outside

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write a row for each module."""
        rows = [
            row._replace(outputs=_shapes(row.outputs), tied=" ".join(row.tied))  # pyright: ignore
            for row in self.rows
        ]
        return write_csv(path, LayerRow._fields, rows, "Summary.to_csv")

    def _cells(self) -> Iterator[tuple[str, ...]]:
        yield "layer", "", "output", "parameters", "multiply-adds", "held", ""
        depths: dict[str, int] = {}
        for row in self.rows:
            above = _above(row.name, depths)
            depths[row.name] = 0 if above is None else depths[above] + 1
            short = row.name[len(above) :].lstrip(".") if above else row.name
            name = "  " * depths[row.name] + (short or "(model)")
            numbers = [f"{n:,}" if n else "" for n in (row.parameters, row.multiply_adds)]
            held = format_bytes(row.nbytes) if row.nbytes else ""
            outputs = f"{_shapes(row.outputs[:1])}{' ...' * (len(row.outputs) > 1)}"
            yield name, row.kind, outputs, *numbers, held, row.note

    def _totals(self) -> str:
        frozen = self.parameters - self.trainable
        return (
            f"{self.parameters:,} parameters, {self.trainable:,} trainable and {frozen:,} frozen; "
            f"{self.multiply_adds:,} multiply-adds; {format_bytes(self.nbytes)} held for the "
            "backward pass"
        )

    def __str__(self) -> str:
        return f"{aligned([*self._cells()], left=3)}\n{self._totals()}"

    def _repr_html_(self) -> str:
        head, *rows = self._cells()
        indented = [(row[0].replace("  ", "\N{EM SPACE}"), *row[1:]) for row in rows]
        return html_table(head, indented) + html_paragraph(self._totals())


def summary(model: Module, *inputs: Any, **options: Any) -> Summary:
    """A table of a model's layers: what each gives, what it has, what it costs.

    The model is run once on the inputs, in the mode that it is in and with gradients, so that the
    bytes are those that its tape holds until the backward pass, as in training. Afterwards the
    random generator, the buffers (the running means of a batch normalisation), modes and gradients
    are as they were. Multiply-adds are those of products; a replayed loop has those of its step
    times T.

    Parameters
    ----------
    model : any module.
    inputs, options : what ``model(*inputs, **options)`` takes.

    Raises
    ------
    TypeError
        where the model is no Module.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> model = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.tanh, tg.nn.Linear(4, 2))
    >>> print(lab.summary(model, tg.ones((5, 3))))
    layer                   output  parameters  multiply-adds   held
    (model)     Sequential  (5, 2)                              80 B
      layers.0  Linear      (5, 4)          16             60   80 B  trainable
      layers.2  Linear      (5, 2)          10             40   40 B  trainable
    26 parameters, 26 trainable and 0 frozen; 100 multiply-adds; 200 B held for the backward pass
    """
    if not isinstance(model, Module):
        raise TypeError(
            f"summary: expected a Module and its inputs, got {type(model).__name__}; write "
            "lab.summary(model, x)"
        )
    counts = _Counts()
    with ExitStack() as hooks, undisturbed(model), enable_grad(), observe(counts):
        for name, module in model.named_modules():
            counts.module(name, module)
            hooks.enter_context(module.register_forward_hook(counts.called))
        held = model(*inputs, **options)
        of_layer = bytes_by_layer(counts.memory.changes)
        del held
    rows = [*_rows(model, counts, of_layer)]
    outside = sum(of_layer.values()) - sum(row.nbytes for row in rows)
    return Summary(tuple(rows), outside)


class _Counts(Watch):
    """Counts what happens in each layer."""

    def __init__(self) -> None:
        super().__init__()
        self.kinds: dict[str, str] = {}
        self.calls: dict[str, int] = {}
        self.outputs: dict[str, tuple[Shape, ...]] = {}
        self.work: dict[str, int] = {}
        self._names: dict[int, str] = {}

    def module(self, name: str, module: Module) -> None:
        """There is a module."""
        self._names[id(module)] = name
        self.kinds[name] = type(module).__name__

    def called(self, module: Module, _: Any, output: Any) -> None:
        """A module has run."""
        name = self._names[id(module)]
        self.calls[name] = self.calls.get(name, 0) + 1
        self.outputs[name] = tuple(
            tuple(x.array.shape) for x in leaves(output) if isinstance(x, Traced)
        )

    def after_forward(self, record: Record) -> None:
        super().after_forward(record)
        layer = record.origin.layer if record.origin else None
        if layer is None:
            return
        self.work[layer] = self.work.get(layer, 0) + multiply_adds(record)
        owners = current_place.get().owners
        if layer not in self.kinds and owners:
            self.kinds[layer] = type(owners[-1][0]).__name__
        if layer not in self.calls:
            self.outputs[layer] = (tuple(record.results[0].shape),)


def _rows(model: Module, counts: _Counts, nbytes: dict[str | None, int]) -> Iterator[LayerRow]:
    modules = dict(model.named_modules())
    first: dict[int, str] = {}
    for name in _in_order(counts.kinds):
        attributes = tree.attributes(modules[name]) if name in modules else ()
        own = [p for _, p in attributes if isinstance(p, Parameter)]
        new = [p for p in own if id(p) not in first]
        tied = [first[id(p)] for p in own if id(p) in first]
        first |= {id(p): name for p in new}
        yield LayerRow(
            name,
            counts.kinds[name],
            counts.outputs.get(name, ()),
            sum(p.size for p in new),
            sum(p.size for p in new if p.requires_grad),
            tuple(dict.fromkeys(tied)),
            counts.work.get(name, 0),
            nbytes.get(name, 0),
            counts.calls.get(name, int(name in counts.work)),
        )


def _in_order(names: Iterable[str]) -> list[str]:
    """Names as a tree, each below what it is a part of, in the order of their coming."""
    order: list[str] = []
    for name in names:
        above = _above(name, order)
        if above is None:
            order.append(name)
            continue
        place = order.index(above) + 1
        inside = f"{above}." if above else ""
        while place < len(order) and order[place].startswith(inside):
            place += 1
        order.insert(place, name)
    return order


def _above(name: str, names: Container[str]) -> str | None:
    """The innermost of some names that a name is a part of."""
    while name:
        name = name.rpartition(".")[0]
        if name in names:
            return name
    return None


def _shapes(shapes: Iterable[Shape]) -> str:
    return " ".join(str(shape) for shape in shapes)
