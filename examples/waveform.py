"""A network without inputs draws a waveform: the Clockwork network's first task.

A network that is told nothing (its input is 1 at every step) has to say the 320 values of a
waveform, one after the other. All it has for it is its state. Elman's network, an LSTM and a
Clockwork network with periods 1, 2, 4 ... 256, about as many parameters each, are trained to do so,
a network for every waveform.

    python examples/waveform.py                  5 waveforms, 3 seeds each
    python examples/waveform.py --updates 4000 --seeds 1
    python examples/waveform.py --quick          one waveform, in a few seconds

Measured (5 waveforms, seeds 1 to 3, 1,000 updates, two to three minutes of one core; mean square
errors, where saying 0 costs 0.12 to 0.17): the Clockwork (460 parameters) ends at 0.00003 in the
median (0.00002 to 0.00011) and cannot be told from the waveform in the picture, the LSTM (451) at
0.04 (0.03 to 0.11), mostly its slow part, Elman's network (441) at 0.10 (0.06 to 0.17). In all 15
pairs the Clockwork is ahead of the LSTM. With --updates 4000 --seeds 1 it ends at 0.000003, the
LSTM at 0.03, Elman's at 0.09 (medians).

Every network has the best of four learning rates or more, chosen on other waveforms. The LSTM
begins with units that hold for a time of their own each, the best of five ways (the others: as
drawn, orthogonal, forget bias 1, forget bias 5); Elman's begins with a rotation, which was better
than as drawn; the Clockwork begins as drawn.

Source: Koutnik, Greff, Gomez, Schmidhuber 2014, A Clockwork RNN, section 4.1. Its waveforms are
7 ms of music each, at 44.1 kHz, which are not at hand: here each is the sum of five sines.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, optim, rnn

STEPS, SINES = 320, 5
PERIODS = (1, 2, 4, 8, 16, 32, 64, 128, 256)

# The cells have no bias: the input is 1, so W_ih is one.


def elman() -> rnn.Cell:
    """20 units whose recurrent weights begin as a rotation, which neither grows nor fades."""
    cell = rnn.RNNCell(1, 20, bias=False)
    nn.init.orthogonal_(cell.weight_hh)
    return cell


def lstm() -> rnn.Cell:
    """10 units that begin to hold for a time of their own each: forget bias log u, input -log u.

    u is uniform on [1, T - 1) (Tallec, Ollivier 2018, Can Recurrent Neural Networks Warp Time?).
    """
    cell = rnn.LSTMCell(1, 10, bias=False)
    times = tg.log(1 + tg.rand(10, 1) * (STEPS - 2)).detach()
    cell.weight_ih.data = cell.weight_ih.detach().at[:10].set(-times).at[10:20].set(times)
    return cell


def clockwork() -> rnn.Cell:
    """Nine modules of 3 units."""
    return rnn.ClockworkRNNCell(1, 27, PERIODS, bias=False)


# The learning rates, and how Elman's network and the LSTM begin, are those with the smallest error
# after 1,000 updates on three other waveforms, of seeds 101 to 103. The Clockwork begins as drawn.


class Entry(NamedTuple):
    """A network's cell, and its learning rate at the start."""

    make: Callable[[], rnn.Cell]
    lr: float


NETWORKS = {
    "Elman": Entry(elman, 0.0003),
    "LSTM": Entry(lstm, 0.03),
    "Clockwork": Entry(clockwork, 0.03),
}


def waveform(seed: int) -> np.ndarray:
    """Five sines of random frequency, phase and size, (T, 1, 1), scaled to [-1, 1].

    Frequencies: 1 to 32 periods in T steps, uniform in their logarithm. Sizes: uniform on [0.2, 1).
    """
    random = np.random.default_rng(seed)
    cycles = 2 ** random.uniform(0, 5, SINES)
    phases = random.uniform(0, 2 * np.pi, SINES)
    sizes = random.uniform(0.2, 1, SINES)
    share = np.arange(STEPS)[:, None] / STEPS
    wave = np.sum(sizes * np.sin(2 * np.pi * cycles * share + phases), axis=1)
    return (wave / np.abs(wave).max()).astype(np.float32).reshape(STEPS, 1, 1)


class Generator(nn.Module):
    """A sequence of ones, (T, 1, 1), to what the network says at each step, (T, 1, 1)."""

    def __init__(self, cell: rnn.Cell) -> None:
        self.recurrent = rnn.Recurrent(cell)
        self.head = nn.Linear(cell.output_size, 1)

    def forward(self, ones: tg.Tensor) -> tg.Tensor:
        return self.head(self.recurrent(ones)[0])


class Run(NamedTuple):
    """One training: the mean square error at its end, and the values that the network says (T,)."""

    error: float
    values: np.ndarray


def train(entry: Entry, wave: np.ndarray, updates: int, seed: int, device: str) -> Run:
    """Train a new network on the whole waveform at every update."""
    tg.manual_seed(seed)
    model = Generator(entry.make()).to(device)
    ones, target = tg.ones(wave.shape, device=device), tg.tensor(wave, device=device)
    optimizer = optim.Adam(
        model.parameters(), lr=entry.lr, clip=optim.ClipNorm(1.0), nonfinite="skip"
    )
    schedule = optim.schedules.Linear(entry.lr, updates)
    for update in range(updates):
        optimizer.lr = schedule(update)
        optimizer.zero_grad()
        nn.mse_loss(model(ones), target).backward()
        optimizer.step()
    with tg.no_grad():
        values = model(ones).numpy()
    return Run(float(np.mean((values - wave) ** 2)), values.ravel())


def parameters(entry: Entry) -> int:
    """How many numbers a network learns."""
    return sum(parameter.size for parameter in Generator(entry.make()).parameters())


def picture(waves: list[np.ndarray], runs: dict[str, list[list[Run]]]) -> lab.Picture:
    """Waveforms, what every network with seed 1 makes of them, and the errors of all."""
    colours = {"Elman": "orange", "LSTM": "vermilion", "Clockwork": "blue"}
    errors = {name: np.array([[run.error for run in row] for row in runs[name]]) for name in runs}

    def traces(row: int) -> Callable[[Any], None]:
        def draw(axes: Any) -> None:
            for k, name in enumerate(reversed(runs)):
                colour = lab.COLOURS[colours[name]]
                axes.plot(2.5 * k + waves[row].ravel(), color="0.7", linewidth=6)
                axes.plot(2.5 * k + runs[name][row][0].values, color=colour, linewidth=1.8)
            axes.set_yticks(2.5 * np.arange(len(runs)), list(runs)[::-1])
            axes.set_xlabel("step (grey: the waveform, -1 to 1)")

        return draw

    def all_errors(axes: Any) -> None:
        for k, name in enumerate(reversed(runs)):
            found = errors[name].ravel()
            axes.semilogx(found, np.full(found.size, k), "o", color=lab.COLOURS[colours[name]],
                          alpha=0.6, markersize=11)  # fmt: skip
        power = [float(np.mean(wave**2)) for wave in waves]
        axes.axvspan(min(power), max(power), color="0.8", label="what saying 0 would cost")
        axes.set_yticks(range(len(runs)), list(runs)[::-1])
        axes.set(xlabel="mean square error", ylim=(-0.5, len(runs) - 0.2))
        axes.legend(loc="upper left")

    panels = [
        lab.Panel(
            f"waveform{row + 1}",
            f"Waveform {row + 1}, mean square error: "
            + ", ".join(f"{name} {runs[name][row][0].error:.1g}" for name in runs),
            traces(row),
        )
        for row in range(len(waves))
    ]
    wins = np.sum(errors["Clockwork"] <= errors["LSTM"])
    title = f"The Clockwork is ahead of the LSTM in {wins} of {errors['LSTM'].size} pairs"
    return lab.Picture([*panels, lab.Panel("errors", title, all_errors)])


# The story.


def tell(options: argparse.Namespace) -> None:
    """Train every network on every waveform with every seed; print a row for each waveform."""
    seeds, updates = options.seeds, options.updates
    if min(seeds, updates, options.waveforms) < 1:
        raise ValueError("--seeds, --updates and --waveforms must be at least 1")
    waves = [waveform(1 + k) for k in range(options.waveforms)]
    print(
        f"Waveforms of {STEPS} steps, {updates} updates. Mean square error in thousandths: median"
    )
    print(f"(least to most) of the seeds 1 to {seeds}. power: what saying 0 would cost.\n")
    print(f"  {'':12}{'power':>8}" + "".join(f"{name:>26}" for name in NETWORKS))
    counts = [parameters(entry) for entry in NETWORKS.values()]
    print(f"  {'parameters':12}{'':8}" + "".join(f"{count:26}" for count in counts))
    runs: dict[str, list[list[Run]]] = {name: [] for name in NETWORKS}
    start = time.perf_counter()
    for k, wave in enumerate(waves):
        print(f"  {f'waveform {k + 1}':12}{1000 * np.mean(wave**2):8.0f}", end="")
        for name, entry in NETWORKS.items():
            found = [train(entry, wave, updates, 1 + j, options.device) for j in range(seeds)]
            runs[name].append(found)
            print(spread([run.error for run in found]), end="", flush=True)
        print()
    errors = {name: np.array([[run.error for run in row] for row in runs[name]]) for name in runs}
    print(f"  {'all':20}" + "".join(spread(errors[name]) for name in NETWORKS))
    wins = np.sum(errors["Clockwork"] <= errors["LSTM"])
    print(f"\nClockwork at or below LSTM, same waveform and seed: {wins} of {errors['LSTM'].size}.")
    print(f"{time.perf_counter() - start:.0f} s")
    path = Path("runs", "waveform", "waveform")
    print(f"picture   {lab.draw_picture(picture(waves, runs), path, options)}")


def spread(errors: np.ndarray | list[float]) -> str:
    """Median, least and most in thousandths, in 26 characters."""
    median, least, most = (
        f"{error:.1f}" if error >= 1 else f"{error:.2g}"
        for error in 1000 * np.quantile(errors, (0.5, 0, 1))
    )
    return f" {f'{median} ({least} to {most})':>25}"


def main() -> None:
    """Read the options; what is wrong with them is said in one sentence."""
    parser = argparse.ArgumentParser(description="Waveforms from networks that are told nothing.")
    parser.add_argument("--quick", action="store_true", help="one waveform, in a few seconds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--seeds", type=int, help="how many for each waveform, from 1 (3)")
    parser.add_argument("--waveforms", type=int, help="how many, from 1 (5)")
    parser.add_argument("--updates", type=int, help="of each network (1000)")
    lab.add_picture_options(parser)
    options = parser.parse_args()
    usual = (1, 1, 100) if options.quick else (3, 5, 1000)
    for name, number in zip(("seeds", "waveforms", "updates"), usual, strict=True):
        if getattr(options, name) is None:
            setattr(options, name, number)
    try:
        tell(options)
    except KeyboardInterrupt:
        sys.exit("waveform: aborted")
    except (OSError, ValueError, tg.DeviceError) as error:
        sys.exit(f"waveform: {error}")


if __name__ == "__main__":
    main()
