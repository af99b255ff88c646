"""How an equation becomes a kernel: replayed steps after each pass, down to their source."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.lab.undisturbed import undisturbed
from tinygrad_rnn.nn import Module
from tinygrad_rnn.replay import Stages, is_replayed, stages_of
from tinygrad_rnn.replay.cache import replay_of
from tinygrad_rnn.replay.primitive import wanted_by
from tinygrad_rnn.replay.program.program import Program
from tinygrad_rnn.rnn import Cell, Recurrent
from tinygrad_rnn.rnn.cell_layer import CellLayer
from tinygrad_rnn.tape import Observer, Record, Tape, is_recording, observe
from tinygrad_rnn.tensor import zeros


@dataclass(frozen=True)
class Replayed:
    """What was made of replayed loops.

    ``loops`` has the :class:`Stages` of each by its layer, ``l0_reverse``. ``str()`` shows the
    traced step of each, and where its lines are run; ``str()`` of a way of its stages everything.
    """

    loops: dict[str, Stages]

    def __str__(self) -> str:
        return "\n\n".join(f"{name}\n{found}" for name, found in self.loops.items())


def stages(what: Module | Callable[..., Any] | Tape | Record | Program, *inputs: Any) -> Replayed:
    """The step of each replayed loop as traced, and after each pass, down to its source.

    A pass says of each line what it made of it and why: what was stored for the backward step,
    what can be done once or for all T at once, which lines share a kernel, where each value lies
    (in bytes), and what Numba, CUDA and NumPy are given, with the line of the cell that each line
    of source computes.

    Parameters
    ----------
    what : a tape, or the record of one loop, before it is freed, or the program of a step; or a
        model, which is called with ``inputs`` and left as it was; or a function of them. Under
        ``no_grad`` it is the forward pass without gradients that is shown.
    inputs : a layer of cells, or a cell, is called with zeros (2, 8, I) where there are none.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> found = lab.stages(tg.rnn.GRU(3, 5)).loops["l0"]
    >>> forward, backward = found.ways
    >>> [stage.name.partition(",")[0] for stage in backward.stages]
    ['differentiated', 'lowered', 'simplified', 'split', 'fused', 'planned', 'emitted']
    >>> found.traced.sections[1].rows[0].text
    '%0 = linear(x0, k0, k1)   float32 (8, 15)'
    >>> forward.places(0)
    ['once', 'before', 'step 1']
    """
    if isinstance(what, Program):
        return Replayed({"step": _of_program(what)})
    if isinstance(what, Record):
        records: list[Record] = [what]
    elif isinstance(what, Tape):
        records = [*what]
    else:
        records = _records_of(what, inputs)
    if records and all(record.freed for record in records):
        raise ValueError(
            "stages: the tape was freed by a backward pass; ask before it, or pass "
            "backward(retain_graph=True)"
        )
    loops = dict(_found(records))
    if not loops:
        raise ValueError(
            "stages: there is no replayed loop here: expected a recurrent layer or scan, without "
            "unroll=True"
        )
    return Replayed(loops)


def _of_program(program: Program) -> Stages:
    """The stages of a step as it is run on NumPy, from t = 0 on, with all gradients."""
    inputs = (*program.consts, *program.xs, *program.state)
    wanted = wanted_by(program, [v.dtype.kind == "f" for v in inputs]) if is_recording() else None
    return stages_of(replay_of(program, False, np.empty(0)), wanted)


class _Seen(Observer):
    """The records of the loops that were run."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def after_forward(self, record: Record) -> None:
        if is_replayed(record):
            self.records.append(record)


def _records_of(what: Any, inputs: tuple[Any, ...]) -> list[Record]:
    """The loops that a call of a model or function runs."""
    if not callable(what) and not isinstance(what, Cell):
        kind = type(what).__name__
        raise TypeError(f"stages: expected a model, a function, a tape or a record, got {kind}")
    model, called = (what, Recurrent(what)) if isinstance(what, Cell) else (what, what)
    if not inputs and isinstance(called, CellLayer):
        like = called.some_tensor()
        x = zeros((2, 8, called.cells()[0].input_size))
        x = x if like is None else x.to(like.dtype).to(like.device)
        x.requires_grad = is_recording()
        inputs = (x,)
    if isinstance(called, Module):
        try:
            inspect.signature(called.forward).bind(*inputs)
        except TypeError as error:
            raise TypeError(
                f"stages: {type(called).__name__} {error}; write lab.stages(model, x) with its "
                "inputs; lab.to_html takes what that returns"
            ) from None
    seen = _Seen()
    with undisturbed(model) if isinstance(model, Module) else nullcontext(), observe(seen):
        called(*inputs)
    return seen.records


def _found(records: Iterable[Record]) -> Iterator[tuple[str, Stages]]:
    """The stages of each loop under its name; what a layer runs twice alike is one."""
    names: dict[str, int] = {}
    known: set[Any] = set()
    for record in records:
        if not is_replayed(record):
            continue
        replay, held = record.params["replay"], record.params["held"]
        origin = record.origin
        wanted = None if held is None else held.wanted
        key = origin and origin.layer, id(replay), wanted
        if key in known:
            continue
        known.add(key)
        name = (origin and origin.layer) or "scan"
        names[name] = names.get(name, 0) + 1
        label = name if names[name] == 1 else f"{name} ({names[name]})"
        constants = record.inputs[: len(replay.program.consts)]
        called = [getattr(x, "name", None) for x in constants]
        yield label, stages_of(replay, wanted, origin.inside if origin else (), called)
