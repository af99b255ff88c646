"""A training that jitters and ends in NaN, the same one clipped, and what else helps.

Elman's network has to say a waveform of 100 values, told nothing. W_hh begins as a rotation, so
gradients reach far. As it learns, the largest eigenvalue of W_hh grows from 1 to about 1.5, and now
and then a gradient is ten times as long as the others, which throws the loss up. One of these
throws drives the units to their limits, from 0.5 to 1 in the mean of |h|. For these the rate is too
large: from there on every update overshoots by more than the one before, for 23 updates with seed
1, until the loss is infinite. Beside it stand the remedies, each of which changes one thing, with
the same waveforms, the same rate and the same random starts:

    python examples/exploding.py                    every remedy with 5 seeds, and pictures
    python examples/exploding.py --quick            one seed, in a few seconds

Measured (seeds 1 to 5, a waveform each, 2,000 updates, with the extra jit; saying 0 costs 0.17 to
0.23): with nothing against it all five end, after 151 to 560 updates. With the gradient's norm
clipped at 0.1 all last and come to 0.010 (median), with its elements clipped at 0.01 to 0.028, with
a tenth of the rate to 0.0067, and Adam, which divides each element by its usual size, to 0.0007.
Weight decay of 0.001 saves one run of five. That of 0.01 saves four, and none learns, 0.18: the
largest eigenvalue of W_hh falls from 1 to 0.44 (median). Gradients that travel 10 steps at most
save four, 0.17, and recurrent weights as they are drawn one. An LSTM always lasts, but learns
nothing at this rate, 0.18. To skip the updates that are not finite saves none: the weights were
thrown away before.

The rate was chosen so that all end: at 0.1 one of five does, at 0.25 all within 30 updates. The
limits, the small rate and Adam's are what was best of two or three each on seeds 1 to 3 (1,000
updates): clipped at a norm of 1 or elements of 0.1, with a third of the rate, or Adam at 0.01,
these runs last too, and learn little or nothing (0.14 to 0.29). With weight decay of 0.003 all
three end.

The file reads from top to bottom: the waveform, the remedies, training, the picture, and `main`,
which is the story. Letters: T steps, H units. cliff.py shows the wall in the error surface that
such a throw comes from; vanishing.py when gradients explode at the start.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, optim, rnn

T, H, RATE, SINES = 100, 32, 0.18, 4
QUICK, FULL = 600, 2000
"""Updates."""


def waveform(seed: int) -> np.ndarray:
    """Four sines of random frequency, phase and size, (T, 1, 1), scaled to [-1, 1]."""
    random = np.random.default_rng(seed)
    cycles = 2 ** random.uniform(0, 4, SINES)
    phases = random.uniform(0, 2 * np.pi, SINES)
    sizes = random.uniform(0.2, 1, SINES)
    share = np.arange(T)[:, None] / T
    wave = np.sum(sizes * np.sin(2 * np.pi * cycles * share + phases), axis=1)
    return (wave / np.abs(wave).max()).astype(np.float32).reshape(T, 1, 1)


# The remedies, each of which differs from the first, "nothing", in one thing.


def rotation() -> rnn.Cell:
    """Elman's network whose recurrent weights begin as a rotation."""
    cell = rnn.RNNCell(1, H)
    nn.init.orthogonal_(cell.weight_hh)
    return cell


class Remedy(NamedTuple):
    """What is done."""

    name: str
    cell: Callable[[], rnn.Cell] = rotation
    lr: float = RATE
    clip: optim.Clip | None = None
    decay: float = 0.0
    nonfinite: str = "raise"
    steps: int = T  # that gradients travel back at most
    optimizer: type[optim.SGD | optim.Adam] = optim.SGD


REMEDIES = (
    Remedy("nothing"),
    Remedy("norm clipped at 0.1", clip=optim.ClipNorm(0.1)),
    Remedy("elements clipped at 0.01", clip=optim.ClipValue(0.01)),
    Remedy("a tenth of the rate", lr=RATE / 10),
    Remedy("weight decay 0.001", decay=0.001),
    Remedy("weight decay 0.01", decay=0.01),
    Remedy("weights as drawn", lambda: rnn.RNNCell(1, H)),
    Remedy("truncated at 10 steps", steps=10),
    Remedy("gates: an LSTM", lambda: rnn.LSTMCell(1, H // 2)),
    Remedy("Adam, rate 0.003", lr=0.003, optimizer=optim.Adam),
    Remedy("infinite updates skipped", nonfinite="skip"),
)


# Training.


class Run(NamedTuple):
    """One training, which ends early where the loss or a gradient is no longer finite."""

    losses: np.ndarray
    norms: np.ndarray  # of the gradient, before clipping
    radius: float  # the largest |eigenvalue| of W_hh at the end, nan for one that has none
    said: str  # what the optimizer said at the end, if it did not last

    @property
    def lasted(self) -> bool:
        return not self.said

    @property
    def error(self) -> float:
        """The mean of the last 50 losses."""
        return float(np.mean(self.losses[-50:])) if self.lasted else np.inf


def radius_of(cell: rnn.Cell) -> float:
    """The largest |eigenvalue| of W_hh: by how much a state may grow or fade in a step."""
    W = cell.weight_hh.numpy()
    if W.shape[0] != W.shape[1] or not np.isfinite(W).all():
        return np.nan
    return float(np.abs(np.linalg.eigvals(W)).max())


def train(remedy: Remedy, wave: np.ndarray, updates: int, seed: int, device: str) -> Run:
    """Train a new network on the whole waveform at every update."""
    tg.manual_seed(seed)
    cell = remedy.cell()
    layer, head = rnn.Recurrent(cell).to(device), nn.Linear(cell.output_size, 1).to(device)
    ones, target = tg.ones(wave.shape, device=device), tg.tensor(wave, device=device)
    optimizer = remedy.optimizer(
        [*layer.parameters(), *head.parameters()], lr=remedy.lr, clip=remedy.clip,
        weight_decay=remedy.decay, nonfinite=remedy.nonfinite,
    )  # fmt: skip
    losses, norms, said = [], [], ""
    while len(losses) < updates and not said:
        outputs, state = [], cell.initial_state(1)
        for k in range(0, T, remedy.steps):
            output, state = layer(ones[k : k + remedy.steps], rnn.detach(state))
            outputs.append(output)
        loss = nn.mse_loss(head(tg.concat(outputs)), target)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        try:
            norms.append(optimizer.step().norm)
        except FloatingPointError as error:
            said = str(error)
    return Run(np.array(losses), np.array(norms), radius_of(cell), said)


# The picture.


def median(values: Iterable[float]) -> float:
    """The median, nan of nothing."""
    found = [*values]
    return float(np.median(found)) if found else np.nan


def picture(runs: dict[str, list[Run]], power: list[float]) -> lab.Picture:
    """The training with and without clipping, and all remedies; ``power`` is what 0 would cost."""
    bare, clipped = (runs[remedy.name][0] for remedy in REMEDIES[:2])
    updates = max(len(run.losses) for run in (bare, clipped))
    room = "right" if len(bare.losses) < updates / 2 else "left"
    colours = lab.COLOURS["vermilion"], lab.COLOURS["blue"]
    labels = "not clipped", REMEDIES[1].name
    names = list(runs)[::-1]

    def losses(axes: Any) -> None:
        for run, colour, label in zip((bare, clipped), colours, labels, strict=True):
            axes.semilogy(run.losses, color=colour, linewidth=1.5, label=label)
        axes.axhline(power[0], color="black", linewidth=1, label="what saying 0 costs")
        if not bare.lasted:
            top = 100.0
            axes.plot(len(bare.losses) - 1, top, "x", color=colours[0], markersize=16, mew=4)
            text = f"{bare.losses[-1]} at update {len(bare.losses)}"
            place = (len(bare.losses) + (-1 if room == "left" else 1) * updates / 25, top)
            axes.annotate(text, place, va="center", ha="left" if room == "right" else "right")
            axes.set_ylim(top=3 * top)
        axes.set(xlabel="updates", ylabel="mean square error")
        axes.legend(loc="lower left")

    def norms(axes: Any) -> None:
        for run, colour, label in zip((bare, clipped), colours, labels, strict=True):
            axes.semilogy(run.norms, color=colour, linewidth=1.5, label=label)
        axes.set(xlabel="updates", ylabel="norm of the gradient, before clipping")
        axes.legend(loc=f"center {room}")

    def errors(axes: Any) -> None:
        last = max(run.error for found in runs.values() for run in found if run.lasted)
        gone = 10 * max(last, 1.0)
        for row, name in enumerate(names):
            for run in runs[name]:
                mark, colour = ("o", colours[1]) if run.lasted else ("x", colours[0])
                axes.semilogx(min(run.error, gone), row, mark, color=colour, alpha=0.7, mew=3)
        axes.axvspan(min(power), max(power), color="0.85", label="what saying 0 costs")
        axes.plot([], [], "x", color=colours[0], mew=3, label="not finite, ended")
        axes.set_yticks(range(len(names)), names)
        axes.set(xlabel="mean square error, the last 50 updates (a mark for each seed)")
        axes.set_ylim(-0.5, len(names) + 1.5)
        axes.legend(loc="upper left")

    def radii(axes: Any) -> None:
        for row, name in enumerate(shown):
            found = [run.radius for run in runs[name] if run.lasted]
            axes.plot(found, [row] * len(found), "o", color=colours[1], alpha=0.7)
        axes.axvline(1, color="black", linewidth=1, label="at the start, a rotation")
        axes.set_yticks(range(len(shown)), shown)
        axes.set(xlabel="largest |eigenvalue| of W_hh at the end (a dot for each seed)", xlim=0)
        axes.legend()

    shown = [name for name in names if any(run.lasted for run in runs[name])
             and not np.isnan([run.radius for run in runs[name]]).all()]  # fmt: skip
    usual, longest = np.median(bare.norms), bare.norms[np.isfinite(bare.norms)].max()
    below = np.flatnonzero(bare.norms < 100 * usual)
    burst = len(bare.norms) - 1 - below[-1]
    lasting = [name for name in names if all(run.lasted for run in runs[name])]
    learning = [name for name in lasting if np.median([r.error for r in runs[name]]) < power[0] / 3]
    decay = max(REMEDIES, key=lambda remedy: remedy.decay).name
    decayed = [run for run in runs[decay] if run.lasted]
    return lab.Picture(
        [
            lab.Panel(
                "loss",
                f"Not clipped, the error jitters and is {bare.losses[-1]:.3g} at update "
                f"{len(bare.losses)}; clipped, it comes to {clipped.error:.2g}",
                losses,
            ),
            lab.Panel(
                "norm",
                f"Not clipped, gradients are {usual:.1g} long in the median, and in the last "
                f"{burst} updates up to {longest:.0e}",
                norms,
            ),
            lab.Panel(
                "remedies",
                f"{len(lasting)} of {len(REMEDIES) - 1} remedies last with every seed; "
                f"{len(learning)} of them learn",
                errors,
            ),
            lab.Panel(
                "eigenvalues",
                f"With {decay} the largest eigenvalue of W_hh falls to "
                f"{median(run.radius for run in decayed):.2f}, and the error stays at "
                f"{median(run.error for run in decayed):.2g}",
                radii,
            ),
        ]
    )


# The story.


def tell(options: argparse.Namespace) -> None:
    """Train with every remedy and every seed, and print a row for each remedy."""
    updates = QUICK if options.quick else FULL
    seeds = range(options.seed, options.seed + options.seeds)
    waves = [waveform(seed) for seed in seeds]
    power = [float(np.mean(wave**2)) for wave in waves]
    print(f"A waveform of {T} values, Elman's network of {H} units, {updates} updates at the rate")
    print(f"{RATE}, seeds {seeds[0]} to {seeds[-1]}. Saying 0 costs {min(power):.2g} to", end=" ")
    print(f"{max(power):.2g}. lasted: the loss was")
    print("finite to the end. error: the mean of the last 50, median of those that lasted.\n")
    print(f"  {'':26}{'lasted':>8}{'error':>9}{'ended at':>12}{'longest':>10}{'radius':>8}")
    runs: dict[str, list[Run]] = {}
    with np.errstate(all="ignore"):  # it is the subject here
        for remedy in REMEDIES:
            runs[remedy.name] = [
                train(remedy, wave, updates, seed, options.device)
                for seed, wave in zip(seeds, waves, strict=True)
            ]
            tell_row(remedy.name, runs[remedy.name])
    print("\nended at: the first and the last update. longest: a finite gradient, before clipping.")
    print("radius: the largest |eigenvalue| of W_hh at the end, 1 at the start; median of those")
    print("that lasted.")
    print(f"\nWhat the optimizer said:\n  {runs['nothing'][0].said}")
    path = Path("runs", "exploding", "exploding")
    print(f"\npicture   {lab.draw_picture(picture(runs, power), path, options)}")


def tell_row(name: str, runs: Sequence[Run]) -> None:
    """What became of one remedy."""
    errors = [run.error for run in runs if run.lasted]
    ends = [len(run.losses) for run in runs if not run.lasted]
    norms = np.concatenate([run.norms for run in runs])
    radii = [run.radius for run in runs if run.lasted and not np.isnan(run.radius)]
    print(f"  {name:26}{len(errors):3} of {len(runs)}", end="")
    print(f"{np.median(errors):9.2g}" if errors else f"{'-':>9}", end="")
    print(f"{f'{min(ends)}-{max(ends)}' if ends else '-':>12}", end="")
    print(f"{norms[np.isfinite(norms)].max():10.0e}", end="")
    print(f"{np.median(radii):8.2f}" if radii else f"{'-':>8}")


def main() -> None:
    """Read the options; what is wrong with them is said in one sentence."""
    parser = argparse.ArgumentParser(
        description="A training that ends in NaN, the same one clipped, and what else helps."
    )
    parser.add_argument("--quick", action="store_true", help="one seed, in a few seconds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, help="how many; 5 if not given, 1 with --quick")
    lab.add_picture_options(parser)
    options = parser.parse_args()
    options.seeds = (1 if options.quick else 5) if options.seeds is None else options.seeds
    try:
        if options.seeds < 1 or options.seed < 0:
            raise ValueError("--seeds must be at least 1 and --seed at least 0")
        tell(options)
    except KeyboardInterrupt:
        sys.exit("exploding: aborted")
    except (OSError, ValueError, tg.DeviceError) as error:
        sys.exit(f"exploding: {error}")


if __name__ == "__main__":
    main()
