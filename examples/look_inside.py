"""Look inside one network: its tape, its time and memory, its gradients, its units, its faults.

A character language model of two LSTM layers is looked at from all sides that `tinygrad_rnn.lab`
has: before, while and after it is trained. Every section below is one question and the call that
answers it; all numbers are printed, and pictures and pages lie in a folder.

    python examples/look_inside.py                      runs/look_inside, in half a minute
    python examples/look_inside.py --quick              a smaller network, hardly trained
    python examples/look_inside.py --panels             each panel of the pictures by itself

The pages (`tape.html`, `step.html`, `monitor.html`, `unit.html`) open in any browser, without a
network; `trace.json` opens in Perfetto (https://ui.perfetto.dev) or Chrome's chrome://tracing.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn, training

T, B = 50, 16
SIZES = {False: (64, 400), True: (16, 40)}  # units and updates, by whether it is quick
PIECE, PIECES = 200, 24  # characters in a piece of text, and pieces, in which units are looked at


class Model(nn.Module):
    """Characters (T, B) as integers to scores (T, B, V) of the characters that come next."""

    def __init__(self, characters: int, units: int, unroll: bool = False) -> None:
        self.embedding = nn.Embedding(characters, units)
        self.recurrent = rnn.LSTM(units, units, num_layers=2, unroll=unroll)
        self.output = nn.Linear(units, characters)

    def forward(self, characters: Any, state: Any = None) -> tuple[tg.Tensor, Any]:
        outputs, state = self.recurrent(self.embedding(characters), state)
        return self.output(outputs), state


def loss_of(model: Model, batch: data.Batch, state: Any = None) -> tuple[tg.Tensor, Any]:
    """The mean of -log p(next character), in nats, and the state after the batch."""
    scores, state = model(batch.inputs, state)
    return nn.cross_entropy(scores, batch.targets, axis=-1), state


def tell(question: str) -> None:
    """Begin a section."""
    print(f"\n=== {question}\n")


def read_the_tape(model: Model, unrolled: Model, batch: data.Batch, folder: Path) -> None:
    """The records of one loss: as text, side by side with the gradient, as a page, as a drawing."""
    tell("What does the network do? Its tape: unrolled, each operation of each step is on it")
    with lab.look():
        loss, _ = loss_of(unrolled, batch)
    tape = tg.Tape.of(loss)
    print(tape)
    print("page    ", lab.to_html(tape, folder / "tape.html"))
    print("drawing ", lab.draw(tape, folder / "tape.svg"))

    tell("And what is run? The same step, replayed: one operation for each layer")
    with lab.look():
        loss, _ = loss_of(model, batch)
    tape = tg.Tape.of(loss)
    print(tape)

    tell("How does an equation become a kernel? Where each line of the step is run")
    replayed = lab.stages(tape)
    print(replayed)
    print("page    ", lab.to_html(replayed, folder / "step.html"))


def measure(model: Model, batch: data.Batch, options: argparse.Namespace) -> None:
    """Sizes of the layers; time and memory of one update, also within the replayed loops."""
    folder = options.folder
    tell("How large is it?")
    print(lab.summary(model, batch.inputs))

    tell("Where do time and memory go?")

    def pass_through() -> None:
        loss_of(model, batch)[0].backward()

    pass_through()  # what is compiled at the first call is not to be measured
    with lab.profile() as profile:
        pass_through()
    print(profile)
    print()
    print(profile.inside())
    print("trace   ", profile.to_chrome(folder / "trace.json"))
    print("picture ", lab.draw_picture(profile.picture(), folder / "profile", options))
    for parameter in model.parameters():
        parameter.grad = None


def follow_the_gradient(
    model: Model, batch: data.Batch, when: str, options: argparse.Namespace
) -> None:
    """How far back the last step's loss reaches."""

    def last_loss() -> tg.Tensor:
        scores, _ = model(batch.inputs)
        return nn.cross_entropy(scores[-1], batch.targets[-1])

    tell(f"Where does the gradient of the last step's loss go, {when} training?")
    flow = lab.gradient_flow(model, last_loss)
    print(flow)
    print("picture ", lab.draw_picture(flow.picture(), options.folder / f"flow_{when}", options))
    found = lab.contributions(model, last_loss, "recurrent.weight_hh_l0")
    (shares,) = found.shares().values()
    sums = np.abs(found.values.sum(axis=0) - found.gradient).max()
    print(found)
    print(f"the last 10 of {T} steps make {shares[-10:].sum():.0%} of the lengths that add up to")
    print(f"dL/dW_hh; their sum differs from the gradient by {sums:.0e}")


def train(
    model: Model, batches: data.ContiguousBatches, updates: int, folder: Path
) -> list[list[np.ndarray]]:
    """Train under a monitor; what is not finite would be explained. Gives the way that it went."""
    tell("What goes on while it is trained? A monitor writes it down")
    way = [[p.numpy().copy() for p in model.parameters()]]

    class Way(training.Callback):
        """Remembers ten points of the way through the space of parameters."""

        def on_update(self, trainer: training.Trainer, row: Any) -> None:
            if trainer.updates % (updates // 10) == 0:
                way.append([p.numpy().copy() for p in model.parameters()])

    monitor = lab.Monitor(share=0.2)  # of so short a run
    trainer = training.Trainer(
        model,
        optim.Adam(model.parameters(), lr=0.005, clip=optim.ClipNorm(1.0)),
        lambda batch, state: loss_of(model, batch, state),
        batches,
        folder=folder,
        callbacks=[monitor, Way()],
        describe=lambda loss: {"bits_per_character": loss / math.log(2)},
        repeat=lab.explain,
        progress=False,
    )
    trainer.fit(updates=updates)
    rows = training.read_metrics(folder / "metrics.csv")
    bits = [row["bits_per_character"] for row in rows]
    share = monitor.seconds / trainer.seconds
    print(f"{bits[0]:.2f} to {bits[-1]:.2f} bits per character in {trainer.seconds:.0f} s")
    print(f"the monitor looked {monitor.looks} times, {share:.1%} of the time")
    print("page    ", folder / "monitor.html")
    return way


def look_at_units(
    model: Model, vocabulary: data.Vocabulary, text: str, options: argparse.Namespace
) -> None:
    """The unit that tells best where a word ends, over a piece of text."""
    tell("What have its units learnt?")
    pieces = [text[k * PIECE : (k + 1) * PIECE] for k in range(PIECES)]
    read = np.stack([vocabulary.encode(piece) for piece in pieces], axis=1)
    is_letter = np.array([[character.isalpha() for character in piece] for piece in pieces]).T
    ends = is_letter & ~np.roll(is_letter, -1, axis=0)
    found = lab.units(model, read, tokens=pieces)
    telling = found.telling(ends, steps=slice(10, -1), count=3)
    print("whether a word ends at a letter, told by one unit and a threshold:")
    print(telling)
    strip = found.strip(telling[0])
    print(strip.text())
    print("page    ", strip.to_html(options.folder / "unit.html"))
    print("picture ", lab.draw_picture(strip.picture(), options.folder / "unit", options))


def look_around(
    model: Model, batch: data.Batch, way: list[list[np.ndarray]], options: argparse.Namespace
) -> None:
    """The loss round the place where training ended, and the way there."""
    tell("What does the loss look like from where training went?")
    surface = lab.surface(
        lambda: loss_of(model, batch)[0],
        model,
        lab.path_directions(model, way),
        points=9 if options.quick else 21,
        paths={"training": way},
        names=("along the first principal direction of the way", "along the second"),
    )
    print(surface)
    print("picture ", lab.draw_picture(surface.picture(), options.folder / "surface", options))


def find_a_nan(model: Model, batch: data.Batch) -> None:
    """A weight of the second layer is made infinite: who is to blame?"""
    tell("Where does a NaN come from? One weight of recurrent.weight_ih_l1 is inf now")
    weight = model.recurrent.weight_ih_l1
    before = weight.detach()
    weight.data = before.at[3, 5].set(math.inf)
    try:
        with lab.detect_anomaly():
            loss_of(model, batch)[0].backward()
    except lab.AnomalyError as error:
        print(f"AnomalyError: {error}")
    weight.data = before


def main() -> None:
    """The story."""
    parser = argparse.ArgumentParser(
        description="Look inside a recurrent network: tape, time, memory, gradients, units, faults."
    )
    parser.add_argument("--quick", action="store_true", help="a smaller network, hardly trained")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--seed", type=int, default=1, help="decides the first weights")
    parser.add_argument("--folder", type=Path, default=Path("runs/look_inside"))
    lab.add_picture_options(parser)
    options = parser.parse_args()
    units, updates = SIZES[options.quick]
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
    tg.manual_seed(options.seed)

    text = data.python_reference()
    reading, unread = data.split_held_out(text)
    vocabulary = data.Vocabulary.of(reading)
    batches = data.ContiguousBatches(vocabulary.encode(reading), B, T)
    try:
        model = Model(len(vocabulary), units).to(options.device)
        unrolled = Model(len(vocabulary), units, unroll=True).to(options.device)
        unrolled.load_state_dict(model.state_dict())
        batch = batches[0]
        read_the_tape(model, unrolled, batch, options.folder)
        measure(model, batch, options)
        follow_the_gradient(model, batch, "before", options)
        way = train(model, batches, updates, options.folder)
        follow_the_gradient(model, batch, "after", options)
        look_at_units(model, vocabulary, unread, options)
        look_around(model, batch, way, options)
        find_a_nan(model, batch)
    except (OSError, ValueError, tg.DeviceError, training.CheckpointError) as error:
        sys.exit(f"look_inside: {error}")


if __name__ == "__main__":
    main()
