"""Delayed output: the forget gate's bias decides whether an LSTM begins with a memory.

A symbol of eight is read, then nothing but blanks, and 40 steps after it was read it has to be said
again, when a mark asks for it. Whoever remembers nothing is right once in eight times. At the start
an LSTM's cell keeps the share sigmoid(b)^40 of what it was given, b the forget gate's bias: 9e-13
for b = 0, 4e-6 for b = 1, 0.76 for b = 5; so much is there to learn from.

    python examples/copy_memory.py                  forget biases 0, 1 and 5, beside other cells
    python examples/copy_memory.py --delay 100 --length 3
    python examples/copy_memory.py --quick          a short delay, in a few seconds

Measured (seeds 1 to 3, 600 updates at most, with the extra jit; about a minute of one core): with
b = 0 and with b = 1 an LSTM stays at a guess, 11 to 13 % right; with b = 5 it says 87, 90 and 100 %
right (with NumPy alone, which rounds differently, 87, 100 and 100). Elman's network stays at a
guess too. An IRNN, a GRU and a simplified GRU with a bias of 5 are all right after 100 updates. A
GRU with b = 0 is so nonetheless, if later, after 350 (medians).

adding.py has every cell side by side. Source of the problem: Hochreiter, Schmidhuber 1997;
Arjovsky, Shah, Bengio 2016.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn

SYMBOLS, HIDDEN, BATCH = 8, 32, 32
INPUTS = SYMBOLS + 1  # the symbols and the mark; the blank is a vector of zeros
CODES = np.insert(np.eye(INPUTS, dtype=np.float32), SYMBOLS, 0, axis=0)


class Entry(NamedTuple):
    """A cell, its learning rate, and what its gate that holds the state has as bias."""

    make: Callable[[], rnn.Cell]
    lr: float = 0.02
    bias: float | None = None


def open_gate(cell: Any, k: int, bias: float) -> rnn.Cell:
    """The cell with the two biases of its k-th gate adding up to ``bias``."""
    rows = slice(k * HIDDEN, (k + 1) * HIDDEN)
    cell.bias_ih.data = cell.bias_ih.detach().at[rows].set(bias)
    cell.bias_hh.data = cell.bias_hh.detach().at[rows].set(0)
    return cell


def lstm(bias: float) -> Entry:
    """An LSTM by its forget bias."""
    return Entry(lambda: rnn.LSTMCell(INPUTS, HIDDEN, forget_bias=bias), bias=bias)


CELLS = {
    "Elman, tanh": Entry(lambda: rnn.RNNCell(INPUTS, HIDDEN), 0.001),
    "IRNN": Entry(lambda: rnn.IRNNCell(INPUTS, HIDDEN, std=0.05), 0.001),
    "LSTM, b = 0": lstm(0),
    "LSTM, b = 1": lstm(1),
    "LSTM, b = 5": lstm(5),
    "GRU, b = 0": Entry(lambda: open_gate(rnn.GRUCell(INPUTS, HIDDEN), 1, 0), bias=0),
    "GRU, b = 5": Entry(lambda: open_gate(rnn.GRUCell(INPUTS, HIDDEN), 1, 5), bias=5),
    "simplified GRU, b = 5": Entry(  # its gate takes in: -5 holds
        lambda: open_gate(rnn.SimplifiedGRUCell(INPUTS, HIDDEN), 0, -5), bias=5
    ),
}


class Copier(nn.Module):
    """Inputs (T, B), integers, to scores (T, B, S) of the symbols."""

    def __init__(self, cell: rnn.Cell) -> None:
        self.recurrent = rnn.Recurrent(cell)
        self.head = nn.Linear(HIDDEN, SYMBOLS)

    def forward(self, inputs: np.ndarray) -> tg.Tensor:
        device = self.head.weight.device
        return self.head(self.recurrent(tg.tensor(CODES[inputs], device=device))[0])


def share_right(model: Copier, delay: int, length: int, seed: int) -> float:
    """The share of symbols said right, in 500 sequences."""
    inputs, targets = data.copy_problem(seed, delay, 500, length, SYMBOLS)
    with tg.no_grad():
        said = model(inputs).numpy()[delay:].argmax(axis=-1)
    return float(np.mean(said == targets[delay:]))


class Run(NamedTuple):
    """One training: the share of right symbols at every 50th update, measured on new sequences."""

    shares: list[float]
    updates: int


def train(entry: Entry, delay: int, length: int, updates: int, seed: int, device: str) -> Run:
    """Train until all symbols of 500 sequences are right, or for all updates."""
    tg.manual_seed(seed)
    random = np.random.default_rng(seed)
    model = Copier(entry.make()).to(device)
    optimizer = optim.Adam(
        model.parameters(), lr=entry.lr, clip=optim.ClipNorm(1.0), nonfinite="skip"
    )
    shares = [share_right(model, delay, length, 10_000 + seed)]
    for update in range(1, updates + 1):
        inputs, targets = data.copy_problem(random, delay, BATCH, length, SYMBOLS)
        optimizer.zero_grad()
        nn.cross_entropy(model(inputs)[delay:], targets[delay:], axis=-1).backward()
        optimizer.step()
        if update % 50 == 0:
            shares.append(share_right(model, delay, length, 10_000 + seed))
            if shares[-1] == 1:
                return Run(shares, update)
    return Run(shares, updates)


def kept(entry: Entry, delay: int) -> float:
    """What a cell keeps of its state over the delay, at the start: sigmoid(b)^delay."""
    return (1 + math.exp(-(entry.bias or 0))) ** -delay


STYLES: dict[str, dict[str, Any]] = {  # a wide line can be seen under the thin one upon it
    "Elman, tanh": {"color": lab.COLOURS["vermilion"], "linewidth": 7, "alpha": 0.4},
    "IRNN": {"color": lab.COLOURS["purple"]},
    "LSTM, b = 0": {"color": lab.COLOURS["sky"], "linewidth": 7, "alpha": 0.5},
    "LSTM, b = 1": {"color": lab.COLOURS["black"], "linestyle": ":"},
    "LSTM, b = 5": {"color": lab.COLOURS["blue"]},
    "GRU, b = 0": {"color": lab.COLOURS["green"], "linestyle": ":"},
    "GRU, b = 5": {"color": lab.COLOURS["green"], "linewidth": 6, "alpha": 0.6},
    "simplified GRU, b = 5": {"color": lab.COLOURS["orange"], "linestyle": "--"},
}


def picture(runs: dict[str, list[Run]], delay: int) -> lab.Picture:
    """What a cell keeps at the start and what it learns, and how it comes to learn."""
    last = {name: [100 * run.shares[-1] for run in found] for name, found in runs.items()}

    def learning(names: list[str]) -> Callable[[Any], None]:
        def draw(axes: Any) -> None:
            for name in names:
                for k, run in enumerate(runs[name]):
                    label = {"label": name if k == 0 else None}
                    updates = 50 * np.arange(len(run.shares))
                    axes.plot(
                        updates, 100 * np.array(run.shares), marker=".", **STYLES[name] | label
                    )
            axes.axhline(100 / SYMBOLS, color="black", linewidth=1, label="a guess")
            axes.set(xlabel="updates (a line for each seed)", ylabel="said right, %", ylim=(0, 103))
            axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))

        return draw

    def memory(axes: Any) -> None:
        names = list(runs)[::-1]
        for row, name in enumerate(names):
            axes.plot(last[name], [row] * len(last[name]), "o", color=lab.COLOURS["blue"],
                      alpha=0.6, markersize=11)  # fmt: skip
        axes.axvline(100 / SYMBOLS, color="black", linewidth=1)
        shares = {name: f"\nkeeps {kept(CELLS[name], delay):.1g}" for name in gated}
        axes.set_yticks(range(len(names)), [name + shares.get(name, "") for name in names])
        axes.set_xlim(0, 103)
        axes.set_xlabel("said right after training, % (a dot for each seed; line: a guess)")

    gated = [name for name in runs if CELLS[name].bias is not None]
    parts = {
        "lstm": [name for name in runs if name.startswith("LSTM")],
        "others": [name for name in runs if not name.startswith("LSTM")],
    }
    panels = [
        lab.Panel(
            name,
            f"Said again after {delay} steps: "
            + ", ".join(f"{np.median(last[n]):.0f} % ({n})" for n in (by[0], by[-1])),
            learning(names),
        )
        for name, names in parts.items()
        if (by := sorted(names, key=lambda n: -np.median(last[n])))
    ]
    if gated:
        best = max(gated, key=lambda name: (kept(CELLS[name], delay), np.median(last[name])))
        least = min(gated, key=lambda name: (kept(CELLS[name], delay), np.median(last[name])))
        title = (
            f"A cell that keeps {kept(CELLS[best], delay):.2g} at the start ({best}) comes to "
            f"{np.median(last[best]):.0f} %, one that keeps {kept(CELLS[least], delay):.1g} "
            f"({least}) to {np.median(last[least]):.0f} %"
        )
        panels.append(lab.Panel("memory", title, memory))
    return lab.Picture(panels)


# The story.


def tell(options: argparse.Namespace) -> None:
    """Train every cell with every seed, and print a row for each cell."""
    delay = options.delay or (10 if options.quick else 40)
    updates, seeds, length = (50 if options.quick else 600), options.seeds, options.length
    print(f"{length} of {SYMBOLS} symbols, said again after {delay} steps: the share said right")
    print(
        f"after at most {updates} updates of {BATCH} sequences, {HIDDEN} units, seeds 1 to {seeds}."
    )
    print(f"A guess is {100 / SYMBOLS:.1f} %. kept: sigmoid(b)^{delay}, b the bias of the gate")
    print("that holds the state.\n")
    print(f"  {'':22}{'kept':>8}{'right: median':>15}{'least':>9}{'most':>9}{'updates':>9}")
    runs: dict[str, list[Run]] = {}
    for name in options.cells:
        entry = CELLS[name]
        runs[name] = [
            train(entry, delay, length, updates, 1 + k, options.device) for k in range(seeds)
        ]
        share = "" if entry.bias is None else f"{kept(entry, delay):.1e}"
        right = [100 * run.shares[-1] for run in runs[name]]
        count = np.median([run.updates for run in runs[name]])
        print(f"  {name:22}{share:>8}{np.median(right):13.1f} %{min(right):7.1f} %", end="")
        print(f"{max(right):7.1f} %{count:9.0f}")
    print("\nupdates: the median; training stops where every symbol of 500 sequences is right.")
    path = Path("runs", "copy_memory", "copy_memory")
    print(f"picture   {lab.draw_picture(picture(runs, delay), path, options)}")


def main() -> None:
    """Read the options; what is wrong with them is said in one sentence."""
    parser = argparse.ArgumentParser(description="Symbols that have to be said again, after long.")
    parser.add_argument("--quick", action="store_true", help="a short delay, in a few seconds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--seeds", type=int, help="how many, from 1 (3)")
    parser.add_argument("--delay", type=int, help="steps, at least as many as symbols (40)")
    parser.add_argument("--length", type=int, default=1, help="symbols (%(default)s)")
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS),
                        metavar="CELL", help=f"some of: {', '.join(map(repr, CELLS))}")  # fmt: skip
    lab.add_picture_options(parser)
    options = parser.parse_args()
    options.seeds = options.seeds or (1 if options.quick else 3)
    try:
        tell(options)
    except KeyboardInterrupt:
        sys.exit("copy_memory: aborted")
    except (OSError, ValueError, tg.DeviceError) as error:
        sys.exit(f"copy_memory: {error}")


if __name__ == "__main__":
    main()
