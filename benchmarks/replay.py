"""Replayed layers against PyTorch, JAX and the bare matrix products: one training step.

    python benchmarks/replay.py [--rounds 3] [--quick] [--check] [--only REGULAR_EXPRESSION]

A step computes the outputs for all T, takes the mean of their squares as loss, and the gradients
of all weights, biases and inputs, in float32. Each contender runs in processes of its own; those
whose library (torch, jax, numba, mkl) is missing are left out. ``--check`` compares the numbers of
both sides of each pair instead of their times, ``--quick`` does both at the smallest shape.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from statistics import geometric_mean
from typing import Any, NamedTuple

from measure import (
    SETUPS,
    Figures,
    able,
    alternate,
    difference,
    median_time,
    on_host,
    set_up,
    table,
    versions,
)

Shape = tuple[int, int, int, int]
SHAPES: list[Shape] = [
    (32, 16, 32, 64),
    (20, 20, 200, 200),
    (50, 32, 128, 256),
    (35, 20, 650, 650),
    (100, 50, 512, 512),
]
SMALL: Shape = (5, 3, 4, 6)


class Row(NamedTuple):
    """Ours against one peer, with the largest ratio wanted (geometric mean) in each set-up."""

    kind: str
    peer: str
    targets: tuple[float | None, float | None, float | None]
    least_hidden: int = 0
    highest: float | None = None  # at any shape, in the last set-up

    def ours(self, setup: str) -> str:
        """The name of our contender."""
        return f"{self.kind}, {setup}"

    def theirs(self, setup: str) -> str:
        """The name of the peer; the bare products are by the provider that we have too."""
        provider = "mkl" if setup.endswith("mkl") else "NumPy"
        return f"products, {provider}" if self.peer == "products" else self.peer


ROWS = [
    Row("LSTM", "PyTorch nn.LSTM", (1.6, 1.25, 1.0), highest=1.3),
    Row("LSTM", "PyTorch LSTM by hand", (0.65, 0.42, 0.35)),
    Row("LSTM", "JAX LSTM", (1.15, 0.85, 0.7)),
    Row("LSTM", "products", (1.7, 1.35, 1.35), least_hidden=200),
    Row("GRU", "PyTorch nn.GRU", (0.9, 0.5, 0.45)),
    Row("GRU", "JAX GRU", (1.15, 0.85, 0.7)),
    Row("RNN", "PyTorch nn.RNN", (0.9, 0.5, 0.45)),
    Row("peephole LSTM", "PyTorch peephole LSTM by hand", (0.65, 0.45, 0.4)),
    Row("layer-norm LSTM", "PyTorch layer-norm LSTM by hand", (None, 0.45, 0.4)),
]


def build(name: str, shape: Shape) -> Callable[[], list[Any]]:
    """The training step of a contender."""
    if name.startswith("products"):
        from products import products_step

        return products_step(*shape, by_mkl=name.endswith("mkl"))
    if name.startswith("JAX"):
        from peers import jax_step

        return jax_step(name.removeprefix("JAX "), *shape)
    if name.startswith("PyTorch"):
        from peers import torch_step

        kind = re.sub("^PyTorch (nn[.])?| by hand$", "", name)
        return torch_step(kind, *shape, by_hand=name.endswith("by hand"))
    from ours import our_step

    return our_step(name.partition(", ")[0], *shape)


def check(pairs: Sequence[tuple[str, str]]) -> str:
    """How far the losses and gradients of each pair differ; too far ends the program."""
    rows = []
    for pair in pairs:
        sides = []
        for name in pair:
            with set_up(name):
                sides.append([on_host(value) for value in build(name, SMALL)()])
        error = difference(*sides)
        if not error < 1e-4:
            sys.exit(f"{pair[0]} and {pair[1]} do not compute the same: {error:.1e}")
        rows.append([" / ".join(pair), error])
    return table(["", "largest difference to the largest value"], rows)


def line(row: Row, setup: str, figures: Figures, shapes: Sequence[Shape]) -> list[Any]:
    """Ratios at each shape that counts, their geometric mean, the target, and whether it is met."""
    ours, theirs = figures[row.ours(setup)], figures[row.theirs(setup)]
    counted = [str(shape) for shape in shapes if shape[3] >= row.least_hidden]
    each = {shape: ours[shape] / theirs[shape] for shape in counted}
    mean = geometric_mean(each.values()) if each else ""
    wanted = dict(zip(SETUPS, row.targets, strict=True))[setup]
    highest = row.highest if setup == list(SETUPS)[-1] else None
    target = "" if wanted is None else f"{wanted}"
    met = "" if wanted is None or not each else "yes" if mean <= wanted else "no"
    if highest is not None:
        target += f", none over {highest}"
        met = "yes" if met == "yes" and max(each.values()) <= highest else "no"
    ratios = [each.get(str(shape), "") for shape in shapes]
    return [f"{row.kind} / {row.theirs(setup)}", setup, *ratios, mean, target, met]


def main() -> None:
    """Parse the options, run the contenders in turn and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the smallest shape, one round")
    parser.add_argument("--check", action="store_true", help="compare numbers, measure nothing")
    parser.add_argument("--only", default="", help='pairs to run, such as "GRU, jit / JAX"')
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shapes = SHAPES[:1] if options.quick else SHAPES
    if options.worker:
        seconds = 0.1 if options.quick else 1.0
        with set_up(options.worker):
            times = {str(s): median_time(build(options.worker, s), seconds) for s in shapes}
        print(json.dumps(times))
        return
    chosen = [
        (row, setup, row.ours(setup), row.theirs(setup))
        for row in ROWS
        for setup in SETUPS
        if re.search(options.only, f"{row.ours(setup)} / {row.theirs(setup)}")
    ]
    names = able(
        list(dict.fromkeys(name for *_, ours, theirs in chosen for name in (ours, theirs)))
    )
    pairs = [pair for pair in chosen if {*pair[2:]} <= {*names}]
    if options.check or options.quick:
        print(f"{check([pair[2:] for pair in pairs if pair[0].peer != 'products'])}\n")
    if options.check:
        return
    rounds = 1 if options.quick else options.rounds
    figures = alternate(__file__, names, rounds, ["--quick"] if options.quick else [])
    print(f"Milliseconds per training step, medians of {rounds} rounds; {versions()}\n")
    heads = [str(shape) for shape in shapes]
    print(table(["(T, B, I, H)", *heads], [[n, *(figures[n][s] for s in heads)] for n in names]))
    print("\nRatios, ours to theirs (below 1 we are faster)\n")
    rows = [line(row, setup, figures, shapes) for row, setup, *_ in pairs]
    print(table(["", "set-up", *heads, "geometric mean", "target", "met"], rows))


if __name__ == "__main__":
    main()
