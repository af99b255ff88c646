"""LSTM, GRU and Elman layers here and in PyTorch: one training step, forward and backward.

    python benchmarks/layers.py [--rounds 3] [--quick]

A step computes the outputs for all T, takes the mean of their squares as loss, and the gradients
of all weights, biases and inputs, in float32. ``by hand`` is PyTorch's LSTM written as a user
writes a cell there, with the input product hoisted out of the loop. Needs ``torch``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable

sys.path.insert(0, os.path.dirname(__file__))

from measure import alternate, median_time, table, versions

SHAPES = [
    (32, 16, 32, 64),
    (20, 20, 200, 200),
    (50, 32, 128, 256),
    (35, 20, 650, 650),
    (100, 50, 512, 512),
]
PAIRS = [
    ("LSTM", "torch LSTM"),
    ("LSTM", "torch LSTM by hand"),
    ("GRU", "torch GRU"),
    ("RNN", "torch RNN"),
]


def ours(name: str, T: int, B: int, I: int, H: int) -> Callable[[], None]:
    """One training step of a layer of this package."""
    import numpy as np

    import tinygrad_rnn as tg

    layer = getattr(tg.rnn, name)(I, H)
    x = tg.tensor(np.random.default_rng(0).standard_normal((T, B, I), np.float32))
    x.requires_grad = True

    def step() -> None:
        layer.zero_grad()
        x.grad = None
        output, _ = layer(x)
        tg.mean(tg.square(output)).backward()

    return step


def torchs(name: str, T: int, B: int, I: int, H: int) -> Callable[[], None]:
    """One training step of PyTorch's layer, or of its LSTM by hand."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    by_hand = name.endswith("by hand")
    layer = getattr(torch.nn, name.split()[1])(I, H)
    x = torch.randn(T, B, I, requires_grad=True)

    def unrolled() -> torch.Tensor:
        w_ih, w_hh, b_ih, b_hh = layer.parameters()
        z_x = x @ w_ih.T + (b_ih + b_hh)
        h = c = x.new_zeros(B, H)
        outputs = []
        for z in z_x:
            i, f, g, o = (z + h @ w_hh.T).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs)

    def step() -> None:
        layer.zero_grad()
        x.grad = None
        output = unrolled() if by_hand else layer(x)[0]
        output.square().mean().backward()

    return step


def worker(name: str, shapes: list[tuple[int, int, int, int]], seconds: float) -> None:
    """Time one contender at every shape and print the milliseconds as JSON."""
    build = torchs if name.startswith("torch") else ours
    figures = {str(shape): median_time(build(name, *shape), seconds) for shape in shapes}
    print(json.dumps(figures))


def main() -> None:
    """Parse the options, run the contenders in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="the smallest shape, one round")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shapes = SHAPES[:1] if options.quick else SHAPES
    if options.worker:
        worker(options.worker, shapes, 0.1 if options.quick else 1.0)
        return
    names = list(dict.fromkeys(name for pair in PAIRS for name in pair))
    flags = ["--quick"] if options.quick else []
    rounds = 1 if options.quick else options.rounds
    figures = alternate(__file__, names, rounds, flags)
    print(f"Milliseconds per training step, medians of {rounds} rounds; {versions()}\n")
    rows = [[str(s), *(figures[name][str(s)] for name in names)] for s in shapes]
    print(table(["(T, B, I, H)", *names], rows))
    print("\nRatios, ours to theirs (below 1 we are faster)\n")
    ratios = []
    for our, their in PAIRS:
        each = [figures[our][str(s)] / figures[their][str(s)] for s in shapes]
        mean = math.exp(sum(math.log(r) for r in each) / len(each))
        ratios.append([f"{our} / {their}", *each, mean])
    print(table(["", *map(str, shapes), "geometric mean"], ratios))


if __name__ == "__main__":
    main()
