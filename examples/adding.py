"""The adding problem: what does a network still know of a number that it read 150 steps ago?

Every step brings a number, and two of the steps are marked, one in the first half and one in the
second. At the end the network has to say the sum of the two marked numbers. Whoever knows neither
says 1 and is wrong by 1/6 in the mean of squares. Every cell of the library stands side by side,
and a unit of relu with recurrent weights that begin at random, or as the identity.

    python examples/adding.py                           all cells, several seeds
    python examples/adding.py --cells GRU LSTM --seeds 5
    python examples/adding.py --quick                   a short problem, in a few seconds

Measured with T = 150 (seeds 1 to 3, 1,500 updates at most, with the extras jit and mkl; the mean
square error on new sequences, of which 1/6 = 0.1667 is knowing nothing; all of it took six minutes
of processor time): every gated cell ends at 0.002 to 0.015 in every run, after 70 (GRU with layer
norm), 132 (LSTM with layer norm), 341 (GRU), 345 (reset before the product), 358 (simplified GRU),
413 (coupled), 564 (LSTM), 598 (no forget gate) and 646 (peepholes) updates in the median. An IRNN
ends at 0.018 to 0.029, later: after 1,235. With the same unit of relu, but random recurrent
weights, it is 0.164 to 0.169, with sigmoid and with tanh too: they learn nothing, and Jordan's, the
Clockwork (periods 1 to 64) and the SCRN (decay 0.99) do not either. With layer norm Elman's network
ends at 0.11, 0.13 and 0.16. The learning rate falls linearly; at a constant one an IRNN is thrown
back now and then, and one of nine ended at 0.36.

A gated cell whose gates begin half open forgets within a few steps, so its gradient through T steps
is as small as a simple network's. Here all gates begin with biases that hold on to a unit for a
time of its own, between 1 and T steps (Tallec, Ollivier 2018, Can Recurrent Neural Networks Warp
Time?). The forget bias alone is looked at by copy_memory.py. The IRNN's W_ih begins with a standard
deviation of 0.05: with the paper's 0.001 it learned nothing in 1,500 updates. Source of the
problem: Hochreiter, Schmidhuber 1997; of the comparison: Le, Jaitly, Hinton 2015.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn

BASELINE = 1 / 6  # the variance of the sum of two numbers that are uniform on [0, 1)


class Size(NamedTuple):
    """T, units, sequences in a batch, updates at most, and when a problem counts as solved."""

    steps: int
    hidden: int
    batch: int
    updates: int
    solved: float


FULL = Size(steps=150, hidden=32, batch=32, updates=1500, solved=0.02)
QUICK = Size(steps=20, hidden=16, batch=32, updates=60, solved=0.02)

# The cells, each with its learning rate: simple networks need a small one. For a gated cell, which
# rows of its biases hold the state: 1 where a large bias holds it, -1 where a small one does.


class Entry(NamedTuple):
    """A cell by its number of units, its learning rate, and the gates that hold its state."""

    make: Callable[[int], rnn.Cell]
    lr: float
    gates: dict[int, int]


PERIODS = (1, 4, 16, 64)
CELLS = {
    "Elman, tanh": Entry(lambda H: rnn.RNNCell(2, H), 0.001, {}),
    "Elman, sigmoid": Entry(lambda H: rnn.RNNCell(2, H, nonlinearity="sigmoid"), 0.001, {}),
    "Elman, relu, random": Entry(lambda H: rnn.RNNCell(2, H, nonlinearity="relu"), 0.001, {}),
    "IRNN: relu, identity": Entry(lambda H: rnn.IRNNCell(2, H, std=0.05), 0.001, {}),
    "Jordan": Entry(lambda H: rnn.JordanCell(2, H, 1), 0.001, {}),
    "Elman, layer norm": Entry(lambda H: rnn.LayerNormRNNCell(2, H), 0.001, {}),
    "Clockwork": Entry(lambda H: rnn.ClockworkRNNCell(2, H, PERIODS), 0.001, {}),
    "SCRN": Entry(lambda H: rnn.SCRNCell(2, H, H // 4, 0.99), 0.001, {}),
    "LSTM": Entry(lambda H: rnn.LSTMCell(2, H), 0.01, {0: -1, 1: 1}),
    "LSTM, no forget gate": Entry(lambda H: rnn.NoForgetLSTMCell(2, H), 0.01, {0: -1}),
    "LSTM, peepholes": Entry(lambda H: rnn.PeepholeLSTMCell(2, H), 0.01, {0: -1, 1: 1}),
    "LSTM, coupled gates": Entry(lambda H: rnn.CoupledLSTMCell(2, H), 0.01, {0: -1}),
    "LSTM, layer norm": Entry(lambda H: rnn.LayerNormLSTMCell(2, H), 0.01, {0: -1, 1: 1}),
    "GRU": Entry(lambda H: rnn.GRUCell(2, H), 0.01, {1: 1}),
    "GRU, reset before": Entry(lambda H: rnn.GRUCell(2, H, reset="before"), 0.01, {1: 1}),
    "GRU, layer norm": Entry(lambda H: rnn.LayerNormGRUCell(2, H), 0.01, {1: 1}),
    "simplified GRU": Entry(lambda H: rnn.SimplifiedGRUCell(2, H), 0.01, {0: -1}),
}
QUICK_CELLS = ("Elman, tanh", "IRNN: relu, identity", "LSTM", "GRU")


def hold(cell: Any, gates: dict[int, int], steps: int) -> None:
    """Let every unit begin with a time of its own: biases +-log u, u uniform on [1, T - 1)."""
    H = cell.hidden_size
    norms = (cell.norm_ih, cell.norm_hh) if hasattr(cell, "norm_ih") else None
    first, second = (norms[0].bias, norms[1].bias) if norms else (cell.bias_ih, cell.bias_hh)
    times = tg.log(1 + tg.rand(H) * (steps - 2)).detach()
    for k, sign in gates.items():
        rows = slice(k * H, (k + 1) * H)
        first.data = first.detach().at[rows].set(sign * times)
        second.data = second.detach().at[rows].set(0)


class Adder(nn.Module):
    """Sequences (T, B, 2) to what their sums are said to be, (B, 1)."""

    def __init__(self, entry: Entry, size: Size) -> None:
        cell = entry.make(size.hidden)
        if entry.gates:
            hold(cell, entry.gates, size.steps)
        self.recurrent = rnn.Recurrent(cell)
        self.head = nn.Linear(cell.output_size, 1)

    def forward(self, x: tg.Tensor) -> tg.Tensor:
        return self.head(self.recurrent(x)[0][-1])


class Run(NamedTuple):
    """One training: the error on 1,000 new sequences, and how it came about."""

    error: float
    updates: int
    losses: list[float]
    milliseconds: float  # of an update


def train(entry: Entry, size: Size, seed: int, device: str) -> Run:
    """Train until the last 50 losses are below ``size.solved`` in the mean, or for all updates."""
    tg.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = Adder(entry, size).to(device)
    optimizer = optim.Adam(
        model.parameters(), lr=entry.lr, clip=optim.ClipNorm(1.0), nonfinite="skip"
    )
    schedule = optim.schedules.Linear(entry.lr, size.updates)
    losses: list[float] = []
    start = time.perf_counter()
    while len(losses) < size.updates:
        x, sums = data.adding_problem(random, size.steps, size.batch)
        loss = nn.mse_loss(model(tg.tensor(x, device=device)), tg.tensor(sums, device=device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = schedule(len(losses))
        optimizer.step()
        losses.append(loss.item())
        if len(losses) >= 50 and np.mean(losses[-50:]) < size.solved:
            break
    took = 1e3 * (time.perf_counter() - start) / len(losses)
    x, sums = data.adding_problem(10_000 + seed, size.steps, 1000)
    with tg.no_grad():
        said = model(tg.tensor(x, device=device)).numpy()
    return Run(float(np.mean((said - sums) ** 2)), len(losses), losses, took)


def picture(runs: dict[str, list[Run]], size: Size) -> lab.Picture:
    """Every seed of every cell: the error at the end, and the updates until it was solved."""
    middle = {name: np.median([run.error for run in found]) for name, found in runs.items()}
    order = sorted(runs, key=lambda name: middle[name], reverse=True)
    learnt = [name for name in runs if middle[name] < BASELINE / 5]
    solved = {
        name: np.median([run.updates for run in found])
        for name, found in runs.items()
        if all(run.updates < size.updates for run in found)
    }

    def errors(axes: Any) -> None:
        for row, name in enumerate(order):
            axes.semilogx([run.error for run in runs[name]], [row] * len(runs[name]), "o",
                          color=lab.COLOURS["blue"], markersize=11, alpha=0.6)  # fmt: skip
        axes.axvline(
            BASELINE, color=lab.COLOURS["vermilion"], zorder=0, label="knowing nothing, 1/6"
        )
        axes.set_yticks(range(len(order)), order)
        axes.set_xlabel("mean square error on new sequences (a dot for each seed)")
        axes.legend(loc="lower left")

    def updates(axes: Any) -> None:
        for row, name in enumerate(order):
            for run in runs[name]:
                solved = run.updates < size.updates
                axes.plot(run.updates, row, "o" if solved else "x", markersize=11, alpha=0.6,
                          color=lab.COLOURS["green" if solved else "vermilion"])  # fmt: skip
        axes.plot([], [], "o", color=lab.COLOURS["green"], label=f"below {size.solved:g}")
        axes.plot([], [], "x", color=lab.COLOURS["vermilion"], label="never so in training")
        axes.set_yticks(range(len(order)), order)
        axes.set_xlabel("updates (a dot for each seed)")
        axes.legend(loc="lower center")

    first = min(solved, key=lambda name: solved[name], default=None)
    return lab.Picture(
        [
            lab.Panel(
                "errors",
                f"{len(learnt)} of {len(runs)} cells remember two numbers of {size.steps}: a "
                "fifth of the error of knowing nothing, or less",
                errors,
            ),
            lab.Panel(
                "updates",
                f"{len(solved)} of {len(runs)} are below {size.solved:g} with every seed within "
                f"{size.updates} updates"
                + (f"; {first} first, after {solved[first]:.0f}" if first else ""),
                updates,
            ),
        ],
        columns=2,
    )


# The story.


def tell(options: argparse.Namespace, names: Sequence[str]) -> None:
    """Train every cell with every seed, and print a row for each cell."""
    size = QUICK if options.quick else FULL
    print(f"The sum of two of {size.steps} numbers: mean square error on 1,000 new sequences after")
    print(
        f"at most {size.updates} updates of {size.batch} sequences, {size.hidden} units, seeds 1 to"
    )
    print(f"{options.seeds}. To know nothing is {BASELINE:.4f}.\n")
    print(f"  {'':22}{'error: median':>14}{'least':>8}{'most':>9}{'solved':>8}", end="")
    print(f"{'updates':>9}{'ms':>6}")
    runs: dict[str, list[Run]] = {}
    for name in names:
        entry = CELLS[name]
        runs[name] = [train(entry, size, 1 + k, options.device) for k in range(options.seeds)]
        errors = [run.error for run in runs[name]]
        solved = sum(run.updates < size.updates for run in runs[name])
        updates = np.median([run.updates for run in runs[name]])
        print(f"  {name:22}{np.median(errors):14.4f}{min(errors):8.4f}{max(errors):9.4f}"
              f"{solved:4} of {len(errors)}{updates:7.0f}"
              f"{np.median([run.milliseconds for run in runs[name]]):8.1f}")  # fmt: skip
    print(
        f"\nSolved: the last 50 batches below {size.solved}; training stops there. ms: an update."
    )
    path = Path("runs", "adding", "adding")
    print(f"picture   {lab.draw_picture(picture(runs, size), path, options)}")


def main() -> None:
    """Read the options; what is wrong with them is said in one sentence."""
    parser = argparse.ArgumentParser(description="The adding problem, every cell side by side.")
    parser.add_argument("--quick", action="store_true", help="a short problem, in a few seconds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--seeds", type=int, help="how many, from 1 (3)")
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), metavar="CELL",
                        help=f"some of: {', '.join(map(repr, CELLS))}")  # fmt: skip
    lab.add_picture_options(parser)
    options = parser.parse_args()
    options.seeds = options.seeds or (1 if options.quick else 3)
    try:
        tell(options, options.cells or [*(QUICK_CELLS if options.quick else CELLS)])
    except KeyboardInterrupt:
        sys.exit("adding: aborted")
    except (OSError, ValueError, tg.DeviceError) as error:
        sys.exit(f"adding: {error}")


if __name__ == "__main__":
    main()
