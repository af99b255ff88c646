"""Where a gradient goes in time: through the states of every layer, and to the weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn.lab.flow.followed import Followed, Run
from tinygrad_rnn.lab.flow.gates import saturation_of
from tinygrad_rnn.lab.flow.layer_flow import LayerFlow
from tinygrad_rnn.lab.flow.panels import flow_panels
from tinygrad_rnn.lab.flow.step_jacobians import step_jacobians
from tinygrad_rnn.lab.flow.uses import Sums, Uses, by_loop
from tinygrad_rnn.lab.picture import Picture
from tinygrad_rnn.lab.undisturbed import undisturbed
from tinygrad_rnn.lab.written import write_csv
from tinygrad_rnn.nn import Module
from tinygrad_rnn.ops.arrays import is_integer
from tinygrad_rnn.tape import format_bytes, observe

LIMIT = 2**30
"""Bytes of Jacobians of one layer beyond which :func:`gradient_flow` refuses to take them."""


@dataclass(frozen=True)
class GradientFlow:
    """What :func:`gradient_flow` found.

    Attributes
    ----------
    loss : its value.
    layers : by name, each loop of a cell: a layer in one direction, in the order in which they
        began. A layer that is called again with a state of its own is there again, as ``name (2)``.
    """

    loss: float
    layers: dict[str, LayerFlow]

    def __getitem__(self, name: str) -> LayerFlow:
        if name not in self.layers:
            raise KeyError(f"gradient_flow: no layer {name!r}, only {list(self.layers)}")
        return self.layers[name]

    def __str__(self) -> str:
        """A row per layer and field of its state."""
        lines = [
            f"gradient of a loss of {self.loss:.4g}, from the last step that it sees to the first",
            f"  {'layer':30}{'state':>6}{'steps':>7}{'|dL/ds| last':>14}{'first':>10}{'alone':>10}"
            f"{'cosine':>8}",
        ]
        for flow in self.layers.values():
            last, first = np.argmin(abs(flow.back)), np.argmax(flow.back)
            for name, norms in flow.norms.items():
                alone = flow.norms_alone.get(name)
                there = "" if alone is None else f"{alone[first]:.1e}"
                lines.append(
                    f"  {flow.name:30}{name:>6}{flow.steps:7}{norms[last]:14.2e}"
                    f"{norms[first]:10.1e}{there:>10}{flow.cosines[name][first]:8.2f}"
                )
        return "\n".join(lines)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write every number per time step, one line each; returns where."""
        rows: list[tuple[object, ...]] = []
        for flow in self.layers.values():
            series = {f"|dL/d{name}|": n for name, n in flow.norms.items()}
            series |= {f"|dL/d{name}| alone": n for name, n in flow.norms_alone.items()}
            series |= {f"cosine of dL/d{name}": n for name, n in flow.cosines.items()}
            series |= {f"norm of the part of {name}": n for name, n in flow.contributions.items()}
            for name, gate in flow.saturation.items():
                series |= {f"{name} low": gate.low, f"{name} high": gate.high}
            for name, values in series.items():
                rows += [
                    (flow.name, t, back, name, value)
                    for t, (back, value) in enumerate(zip(flow.back, values, strict=True))
                ]
        head = ("layer", "step", "back", "quantity", "value")
        return write_csv(path, head, rows, "gradient_flow")

    def picture(self, *layers: str) -> Picture:
        """Of the named layers, by default of all: the norms over the steps back from the loss,
        where dL/dW comes from, the products of Jacobians, and the gates' saturation over time.
        """
        return Picture(flow_panels([self[name] for name in layers or self.layers]))


def gradient_flow(model: Module, loss: Callable[[], Any], *, row: int | None = 0) -> GradientFlow:
    """How the gradient of a loss flows back in time, through every layer and direction of a model.

    Of each loop of a cell: the gradient of the loss by every state, in all and along each field of
    the state alone, what each step adds to the gradient of each weight, the Jacobians of the steps,
    and how far its gates are saturated; :class:`LayerFlow` has the definitions.

    The model runs as it stands, once, with every loop unrolled, which gives the same numbers as
    replayed, to rounding; then the tape is walked once, and once more for every field of a state
    that has several. All is as it was afterwards: gradients, buffers, modes, the random generator.
    For an LSTM of 256 units over 64 steps of 32 sequences that takes the time of some 10 updates on
    two cores, with the Jacobians of 50; their products, for the picture, 50 more.

    Seen are the layers of this package over any cell, their steps one by one in a loop of your own
    (``layer.step(x, state)``), and a cell that is called (``cell(x, state)``). Not seen are
    ``cell.step(x, state)`` called directly, a ``tg.scan`` over a step of your own, what runs within
    ``no_grad``, and what ``tg.checkpoint`` runs again.

    Parameters
    ----------
    model : the names of layers and parameters are those of its tree.
    loss : a function without arguments that runs the model and returns a Tensor of one element.
    row : the sequence of the batch whose Jacobians are taken; None for none. They take T S^2
        numbers per layer, S being the size of the state (2 H of an LSTM), and the time of as many
        backward passes through a step as one of S sequences has rows.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> model, x = tg.rnn.LSTM(3, 5), tg.ones((7, 2, 3))
    >>> flow = lab.gradient_flow(model, lambda: tg.sum(model(x)[0][-1]))
    >>> flow["l0"].gradients["h"].shape, flow["l0"].jacobians.shape
    ((7, 2, 5), (7, 10, 10))
    """
    with undisturbed(model):
        followed = Followed("gradient_flow", model, loss)
        runs = [run for run in followed.runs if run.fields]
        if not runs:
            raise ValueError(
                "gradient_flow: the loss runs no recurrent layer that can be seen: layers, "
                "layer.step(x, state) and cell(x, state) are, cell.step(x, state) is not"
            )
        _check_row(runs, row)
        named = {name: p for name, p in model.named_parameters() if p.needs_grad}
        sums = Sums(norms=True)
        states = [s for run in runs for step in run.steps for s in step.made]
        with observe(Uses(followed, named, sums)):
            totals = iter(followed.gradients([*states, *named.values()]))
        sums.passed(-1)
        norms = {
            name: by_loop(followed, {p: v for (n, p), v in sums.sizes.items() if n == name}, 0.0)
            for name in named
        }
        layers: dict[str, LayerFlow] = {}
        for run in runs:
            of_steps = [[next(totals) for _ in run.fields] for _ in run.steps]
            found = [None] if row is None else step_jacobians(run, row)
            layers[run.label] = LayerFlow(
                run.label,
                type(run.cell).__name__,
                run.reverse,
                run.fields,
                _by_field(run, of_steps),
                _alone(followed, run),
                {name: parts[run.label] for name, parts in norms.items() if run.label in parts},
                None if row is None else run.in_time(found),
                saturation_of(run),
            )
        return GradientFlow(float(followed.loss.item()), layers)


def _by_field(run: Run, of_steps: list[list[Any]]) -> dict[str, np.ndarray]:
    columns = zip(*of_steps, strict=True)
    return {name: run.in_time([*c]) for name, c in zip(run.fields, columns, strict=True)}


def _alone(followed: Followed, run: Run) -> dict[str, np.ndarray]:
    """The gradients along each field of a state, none coming back through the others' gates."""
    found: dict[str, np.ndarray] = {}
    for k, name in enumerate(run.fields if len(run.fields) > 1 else ()):
        gates = [gate for step in run.steps for j, gate in enumerate(step.gates) if j != k]
        try:
            for gate in gates:
                gate.needs_grad = False
            found[name] = run.in_time(followed.gradients([step.made[k] for step in run.steps]))
        finally:
            for gate in gates:
                gate.needs_grad = True
    return found


def _check_row(runs: list[Run], row: int | None) -> None:
    """Refuse Jacobians of a row that is not there, or that would take too much memory."""
    if row is None:
        return
    for run in runs:
        states = run.steps[0].after
        batch = states[0].shape[0]
        if not is_integer(row) or not 0 <= row < batch:
            raise ValueError(
                f"gradient_flow: row must be a sequence of the batch, 0 to {batch - 1}, or None "
                f"for no Jacobians, got {row!r}"
            )
        size = sum(int(np.prod(s.shape[1:])) for s in states)
        memory = len(run.steps) * size**2 * states[0].dtype.itemsize
        if memory > LIMIT:
            raise MemoryError(
                f"gradient_flow: the Jacobians of {run.label} take {format_bytes(memory)}, more "
                f"than {format_bytes(LIMIT)}; give row=None to do without them"
            )
