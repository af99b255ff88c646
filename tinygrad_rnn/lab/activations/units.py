"""What the units and gates of a recurrent network do over a sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.lab.activations.inner import Inner, inner_values
from tinygrad_rnn.lab.activations.strip import Strip, name_ticks
from tinygrad_rnn.lab.activations.telling import Telling, Unit, most_telling
from tinygrad_rnn.lab.picture import COLOURS, Panel, Picture
from tinygrad_rnn.lab.undisturbed import undisturbed
from tinygrad_rnn.nn import Module, check_size
from tinygrad_rnn.tape import no_grad
from tinygrad_rnn.tensor import Tensor

LINES = (("blue", "-"), ("vermilion", "--"), ("green", "-."), ("purple", ":"),
         ("orange", "-"), ("black", "--"), ("sky", "-."), ("grey", ":"))  # fmt: skip


@dataclass(frozen=True)
class Units:
    """What :func:`units` found.

    Attributes
    ----------
    layers : by the path of names to it, what every recurrent layer computed: its ``values`` are
        arrays (T, B, H) by name, gates and states in the unit of the layer. A layer that runs in
        both directions, or with several batches, is there again, as ``name reversed`` or
        ``name (2)``.
    tokens : for each of the B sequences its T tokens, of the first layer. Where another one has
        other steps, as a decoder may, these are numbered.
    """

    layers: Mapping[str, Inner]
    tokens: tuple[tuple[str, ...], ...]

    def array(self, value: str, layer: str | None = None) -> np.ndarray:
        """A gate or a state of a layer over time, (T, B, H), by default of the last that has it."""
        return self._layer(value, layer).values[value]

    def telling(self, labels: Any, steps: slice = slice(None), count: int = 5) -> Telling:
        """The units that tell most about a label, of all gates and states of all layers that have
        as many steps and sequences as the first one that the labels fit.

        A unit tells by a threshold: above it the label is True, below it False, or the other way.
        The threshold is that of the highest accuracy on one half of the data (every other
        sequence; of one sequence the first steps), and the accuracy reported that on the other
        half. It is the mean of the two labels' own, so that saying the more frequent one always is
        worth 0.5. A threshold, rather than a correlation or the mutual information, since it is
        what one sees in coloured text, and its accuracy is a number that needs no explanation.

        Parameters
        ----------
        labels : True or False for every sequence (B,), or for every step of each (T, B).
        steps : the steps to judge by, such as those after the word that decides.
        count : how many units to give.
        """
        check_size("Units.telling", count=count)
        shapes = {name: shape for name in self.layers if (shape := _shape(self.layers[name]))}
        label = np.asarray(labels, None if _is_even(labels) else object)
        fitting = [s for s in shapes.values() if label.shape in (s, s[1:])]
        if not fitting or label.dtype != np.bool_:
            shape = next(iter(shapes.values()))
            raise ValueError(
                f"Units.telling: labels must be booleans (B,) or (T, B), {shape[1:]} or {shape} "
                f"here, got {label.dtype} {label.shape}"
            )
        layers = {name: self.layers[name] for name, s in shapes.items() if s == fitting[0]}
        return most_telling(layers, np.broadcast_to(label, fitting[0]), steps, count)

    def strip(
        self, value: str | Unit, unit: int = 0, layer: str | None = None, row: int = 0
    ) -> Strip:
        """One unit over one of the sequences; ``value`` may be one of those that tell most."""
        if isinstance(value, Unit):
            value, unit, layer = value.value, value.unit, value.layer
        inner = self._layer(value, layer)
        values = inner.values[value]
        _check_index("Units.strip", "row", row, values.shape[1])
        flat = values.reshape(*values.shape[:2], -1)
        _check_index("Units.strip", "unit", unit, flat.shape[-1])
        one = flat[..., unit]
        scale = float(np.abs(one[np.isfinite(one)]).max(initial=0.0)) or 1.0
        name = f"{value}[{unit}] of {inner.layer}"
        gate = _is_gate(value, values)
        return Strip(name, flat[:, row, unit], self._tokens(inner, row), gate, scale)

    def over_time(self, unit: int | Unit, layer: str | None = None, row: int = 0) -> Picture:
        """All gates and states of one unit over time, gates and states in a panel each."""
        if isinstance(unit, Unit):
            unit, layer = unit.unit, unit.layer
        if layer is None:
            layer = [*self.layers][-1]
        if layer not in self.layers:
            raise KeyError(f"Units: no layer {layer!r}, only {[*self.layers]}")
        inner = self.layers[layer]
        sizes = [v.shape[1:] for v in inner.values.values() if v.ndim == 3]
        _check_index("Units.over_time", "row", row, max((b for b, _ in sizes), default=0))
        _check_index("Units.over_time", "unit", unit, max((h for _, h in sizes), default=0))
        kinds: dict[str, dict[str, np.ndarray]] = {"gates": {}, "states": {}}
        for name, values in inner.values.items():
            if values.ndim == 3 and unit < values.shape[-1]:
                kind = "gates" if _is_gate(name, values) else "states"
                kinds[kind][name] = values[:, row, unit]
        tokens = self._tokens(inner, row)
        panels = [
            Panel(kind, f"Unit {unit} of {layer}: its {kind}", _Lines(series, tokens).draw)
            for kind, series in kinds.items()
            if series
        ]
        return Picture(panels, columns=1)

    def _tokens(self, inner: Inner, row: int) -> tuple[str, ...]:
        """What a layer reads in one sequence."""
        steps, batch = _shape(inner) or (0, 0)
        if batch == len(self.tokens) and steps == len(self.tokens[row]):
            return self.tokens[row]
        return tuple(map(str, range(steps)))

    def _layer(self, value: str, layer: str | None) -> Inner:
        having = [k for k, inner in self.layers.items() if value in inner.values]
        if layer is None and having:
            return self.layers[having[-1]]
        if layer not in having:
            known = {k: sorted(inner.values) for k, inner in self.layers.items()}
            raise KeyError(f"Units: no {value!r} of the layer {layer!r}; there are {known}")
        return self.layers[layer]

    def __str__(self) -> str:
        """The layers, and of each value its range and the share of what is saturated."""
        lines = [f"{'layer':32} {'value':6} {'units':>5} {'min':>8} {'mean':>8} {'max':>8}"]
        for name, inner in self.layers.items():
            for value, x in inner.values.items():
                size = int(np.prod(x.shape[2:]))
                lines.append(
                    f"{name[-32:]:32} {value:6} {size:5} {x.min():8.3f} {x.mean():8.3f} "
                    f"{x.max():8.3f}"
                )
        return "\n".join(lines)


@dataclass(frozen=True)
class _Lines:
    """Series over tokens, drawn."""

    series: Mapping[str, np.ndarray]
    tokens: Sequence[str]

    def draw(self, axes: Any) -> None:
        places = np.arange(len(self.tokens))
        for (name, values), (colour, line) in zip(self.series.items(), LINES):  # noqa: B905
            axes.plot(places, values, line, color=COLOURS[colour], label=name)
        if len(self.tokens) <= 100:
            name_ticks(axes, self.tokens)
        axes.set(xlabel="step", ylabel="value")
        axes.margins(x=0.01)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def units(
    model: Module,
    inputs: Any,
    tokens: Iterable[Any] | None = None,
    vocabulary: Vocabulary | None = None,
) -> Units:
    """Gates and states of all recurrent layers of a model while it reads a text or a batch.

    The model is run once, without a tape and in evaluation mode; it stays as it is, replayed or
    not. Cells of your own show their states, and what they name by ``rnn.note(gate=gate)``. A loop
    of your own over ``layer.step(x, state)`` or ``cell(x, state)`` is seen, ``cell.step`` is not.

    Parameters
    ----------
    model : any model with recurrent layers.
    inputs : what it is called with; a text, with a ``vocabulary``, which is read as one sequence
        (1, T) by a model whose layers have ``batch_first``, else (T, 1);
        or a function without arguments that calls the model, as ``lambda: model(x, state)``.
    tokens : what was read, T strings, or B times T of them; by default the text, what the
        vocabulary says of integers (T, B), with ``batch_first`` (B, T), or the numbers of the
        steps.
    vocabulary : what integers mean.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> found = lab.units(tg.rnn.GRU(3, 4), tg.ones((6, 1, 3)), tokens="banana")
    >>> found.array("z").shape
    (6, 1, 4)
    >>> strip = found.strip("z", unit=2)  # print(strip), strip.to_html(path), strip.picture()
    """
    if not isinstance(model, Module):
        raise TypeError(f"units: expected a model, got {type(model).__name__}")
    if not isinstance(vocabulary, Vocabulary | None):
        kind = type(vocabulary).__name__
        raise TypeError(f"units: vocabulary must be a data.Vocabulary, got {kind}")
    if not isinstance(tokens, Iterable | None):
        raise TypeError(f"units: expected a list of tokens, got {type(tokens).__name__}")
    numbers = None
    batch_first = any(
        getattr(module, "batch_first", False)
        for module in model.modules()
        if hasattr(module, "initial_state")
    )
    if isinstance(inputs, str):
        if vocabulary is None:
            raise ValueError("units: a text needs the vocabulary of the model, vocabulary=")
        if not inputs:
            raise ValueError("units: the text must have at least one character, got ''")
        tokens = inputs if tokens is None else tokens
        inputs = vocabulary.encode(inputs).reshape((1, -1) if batch_first else (-1, 1))
    if vocabulary is not None and not callable(inputs):
        numbers = inputs.numpy() if isinstance(inputs, Tensor) else np.asarray(inputs)
    run: Callable[[], Any] = inputs if callable(inputs) else lambda: model(inputs)
    with undisturbed(model), no_grad():
        model.eval()
        found = inner_values(run)
    if not found:
        raise ValueError(
            f"units: no recurrent layer of {type(model).__name__} was called; of a loop of your "
            "own, layer.step(x, state) and cell(x, state) are seen, cell.step(x, state) is not"
        )
    shape = next((shape for inner in found.values() if (shape := _shape(inner))), None)
    if shape is None:
        raise ValueError(
            f"units: no recurrent layer of {type(model).__name__} has a state or a noted value "
            "that is floating"
        )
    steps, batch = shape
    if tokens is None and numbers is not None and vocabulary is not None:
        tokens = _decoded(vocabulary, numbers, batch_first)
    if tokens is None:
        tokens = [*map(str, range(steps))]
    said = _sequences(tokens if isinstance(tokens, str) else [*tokens], steps, batch)
    return Units(found, said)


def _decoded(vocabulary: Vocabulary, numbers: np.ndarray, batch_first: bool) -> list[Any] | None:
    """What integers mean, of each sequence; None for other inputs."""
    if numbers.dtype.kind not in "iu" or numbers.ndim not in (1, 2):
        return None
    rows = np.atleast_2d(numbers) if batch_first or numbers.ndim == 1 else numbers.T
    return [*map(vocabulary.decode, rows)]


def _shape(inner: Inner) -> tuple[int, int] | None:
    """(T, B) of what a layer computed, None if it has neither gates nor states."""
    shapes = (values.shape for values in inner.values.values())
    return next(((s[0], s[1]) for s in shapes if len(s) > 1), None)


def _is_even(labels: Any) -> bool:
    """Whether labels can be an array: not lists of different lengths."""
    try:
        np.asarray(labels)
    except ValueError:
        return False
    return True


def _check_index(who: str, what: str, index: int, size: int) -> None:
    if not 0 <= index < size:
        raise IndexError(f"{who}: {what} {index} is out of range for {size}")


def _sequences(tokens: Sequence[Any], steps: int, batch: int) -> tuple[tuple[str, ...], ...]:
    """The tokens of every sequence."""
    one = len(tokens) == steps and (isinstance(tokens[0], str) or np.ndim(tokens[0]) == 0)
    rows = [tokens] * batch if one else [*tokens]
    found = tuple(tuple(map(str, row)) for row in rows)
    if len(found) != batch or any(len(row) != steps for row in found):
        raise ValueError(
            f"units: expected {steps} tokens, or {batch} times {steps} of them, got {len(tokens)}"
        )
    return found


def _is_gate(name: str, values: np.ndarray) -> bool:
    """Whether it is between 0 and 1 everywhere, and no state."""
    finite = values[np.isfinite(values)]
    return name not in ("h", "c") and bool(((finite >= 0) & (finite <= 1)).all())
