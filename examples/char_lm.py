"""A character language model: a recurrent network that learns to write by reading.

At every step it reads one character and says how likely each character is to come next. The
measure is bits per character, the number of yes-or-no questions that the next character still
costs: log2 of the number of characters (6.7 here) for a blind guess, about 1 for a human reader.

    python examples/char_lm.py                          Python's own language reference
    python examples/char_lm.py --file book.txt --cell gru --epochs 20
    python examples/char_lm.py --sample --temperature 0.5
    python examples/char_lm.py --resume                 go on after Ctrl-C, to the very same bits

The file reads from top to bottom: the options, the model, its measure, its writing, one of its
units, its picture, and `main`, which is the story.
"""

from __future__ import annotations

import argparse
import math
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn, training

CELLS = {"rnn": rnn.RNN, "lstm": rnn.LSTM, "gru": rnn.GRU}

# The options. A quick run and a checkpoint bring defaults of their own; what is given on the
# command line always counts.

QUICK = {"hidden": 64, "embedding": 16, "length": 32, "lr": 0.01, "epochs": 3}
QUICK_CHARACTERS = 40_000
KEPT = (
    "file", "cell", "layers", "hidden", "embedding", "batch_size", "length", "lr", "epochs",
    "device", "seed", "quick",
)  # fmt: skip


def at_least(lowest: float, kind: type[int] | type[float]) -> Callable[[str], float]:
    """What argparse calls to read a number, with an error that says what was expected."""

    def number(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not lowest <= value < math.inf:
            whole = "a whole number" if kind is int else "a number"
            raise argparse.ArgumentTypeError(f"expected {whole} from {lowest}, got {text!r}")
        return value

    return number


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train a character language model, measure it on held-out text, let it write."
    )
    add, count = parser.add_argument, at_least(1, int)
    add("--file", help="a text file to read instead of Python's language reference")
    add("--cell", choices=list(CELLS), default="lstm", help="the kind of network (%(default)s)")
    add(
        "--layers",
        type=count,
        default=1,
        help="recurrent layers on top of each other (%(default)s)",
    )
    add("--hidden", type=count, default=256, help="units in each of them (%(default)s)")
    add(
        "--embedding",
        type=count,
        default=64,
        help="numbers that stand for a character (%(default)s)",
    )
    add(
        "--batch-size",
        type=count,
        default=32,
        help="places of the text read side by side (%(default)s)",
    )
    add(
        "--length",
        type=count,
        default=64,
        help="time steps that gradients travel back (%(default)s)",
    )
    add("--lr", type=at_least(0, float), default=0.008, help="first learning rate (%(default)s)")
    add("--epochs", type=count, default=5, help="how often the text is read (%(default)s)")
    add("--minutes", type=at_least(0, float), help="stop after this time, wherever training is")
    add("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    add("--seed", type=at_least(0, int), default=1, help="decides first weights and the sample")
    add("--folder", type=Path, help="where the run is kept; a new one in runs/char_lm if not given")
    add("--resume", action="store_true", help="go on from the last checkpoint")
    add("--sample", action="store_true", help="do not train: write, from the last checkpoint")
    add("--temperature", type=at_least(0, float), default=0.7, help="of writing: 0 dull, 1 bold")
    add("--quick", action="store_true", help="a small model on a little text, in a few seconds")
    lab.add_picture_options(parser)
    return parser


def read_options() -> tuple[argparse.Namespace, Path | None]:
    """The options, and the checkpoint to go on from."""
    parser = make_parser()
    options = parser.parse_args()
    runs = Path("runs", "char_lm_quick" if options.quick else "char_lm")
    numbers = [int(path.name) for path in runs.glob("[0-9]*") if path.name.isdecimal()]
    checkpoint = None
    if options.resume or options.sample:
        folder = options.folder or runs / f"{max(numbers, default=1):03d}"
        checkpoint = training.Checkpoint.latest(folder)
        settings = training.Checkpoint.load(checkpoint).settings
        if not settings.keys() >= {*KEPT, "vocabulary"}:
            raise training.CheckpointError(f"{str(checkpoint)!r} is not from this program")
        parser.set_defaults(**{name: settings[name] for name in KEPT})
    else:
        folder = options.folder or runs / f"{max(numbers, default=0) + 1:03d}"
        parser.set_defaults(**(QUICK if options.quick else {}))
    options = parser.parse_args()
    options.folder = folder
    return options, checkpoint


# The model: characters -> vectors -> recurrent layers -> a score for each next character.


class CharacterModel(nn.Module):
    """Characters (T, B) as integers to scores (T, B, V) of the characters that come next."""

    def __init__(self, characters: int, options: argparse.Namespace) -> None:
        self.embedding = nn.Embedding(characters, options.embedding)
        self.recurrent = CELLS[options.cell](options.embedding, options.hidden, options.layers)
        self.output = nn.Linear(options.hidden, characters)

    def forward(self, characters: Any, state: Any = None) -> tuple[tg.Tensor, Any]:
        outputs, state = self.recurrent(self.embedding(characters), state)
        return self.output(outputs), state


def bits_per_character(model: CharacterModel, batches: data.ContiguousBatches) -> float:
    """The mean of -log2 p(next character) over a text, read on and on with one state."""
    nats, count, state = 0.0, 0, None
    for inputs, targets in batches:
        scores, state = model(inputs, state)
        nats += nn.cross_entropy(scores, targets, axis=-1, reduction="sum").item()
        count += targets.size
    return nats / count / math.log(2)


def write(
    model: CharacterModel,
    vocabulary: data.Vocabulary,
    length: int,
    temperature: float,
    seed: int,
) -> str:
    """Text from the model: each character is drawn, then read as the next input.

    Characters are drawn with probabilities softmax(scores / temperature), by adding noise of the
    Gumbel distribution to the scores and taking the largest: at temperature 0 the likeliest wins.
    """
    random = np.random.default_rng(seed)
    number, state, written = int(vocabulary.encode("\n")[0]), None, []
    with tg.no_grad():
        for _ in range(length):
            scores, state = model(np.array([[number]]), state)
            noise = temperature * random.gumbel(size=len(vocabulary) - 1)
            number = 1 + int(np.argmax(scores.numpy()[0, 0, 1:] + noise))  # 0 is no character
            written.append(number)
    return "".join(vocabulary.decode(written))


# A look inside: Karpathy, Johnson and Fei-Fei (2015) found a unit that is on within quotes.

PIECE, PIECES = 320, 16  # characters in a piece of text, and pieces that are looked at


def within_quotes(text: str) -> np.ndarray:
    """Of each character whether it stands between two double quotes, (T,)."""
    marks = np.array([character == '"' for character in text])
    return (np.cumsum(marks) % 2 == 1) & ~marks


def quote_unit(
    model: CharacterModel, vocabulary: data.Vocabulary, text: str
) -> tuple[lab.Unit, lab.Strip] | None:
    """The unit that tells best what is within quotes, and it over a piece that has some."""
    count = min(len(text) // PIECE, PIECES)
    pieces = [text[k * PIECE : (k + 1) * PIECE] for k in range(count)]
    labels = np.array([within_quotes(piece) for piece in pieces]).T
    if count < 2 or not (labels[:, ::2].any() and labels[:, 1::2].any()):
        return None
    read = np.stack([vocabulary.encode(piece) for piece in pieces], axis=1)
    found = lab.units(model, read, tokens=pieces)
    best = found.telling(labels, count=1)[0]
    return best, found.strip(best, row=int(labels.sum(axis=0).argmax()))


def picture(folder: Path, title: str, inside: tuple[lab.Unit, lab.Strip] | None) -> lab.Picture:
    """The loss over time, from the file of metrics, and one unit over a piece of text."""
    rows = training.read_metrics(folder / "metrics.csv")
    losses = np.array([(row["update"], row["bits_per_character"]) for row in rows])
    held_out = np.array([(row["update"], row["held_out"]) for row in rows if "held_out" in row])
    width = max(len(losses) // 40, 1)
    updates, smooth = (np.convolve(c, np.full(width, 1 / width), "valid") for c in losses.T)

    def draw(axes: Any) -> None:
        colours = lab.COLOURS
        axes.plot(*losses.T, color=colours["sky"], linewidth=1, label="each update")
        axes.plot(updates, smooth, color=colours["blue"], label=f"mean of {width} updates")
        if len(held_out):
            axes.plot(*held_out.T, "o--", color=colours["vermilion"], label="held-out text")
        axes.set(xlabel="updates", ylabel="bits per character")
        axes.legend()

    last = f"held-out text costs {held_out[-1, 1]:.2f} bits per character" if len(held_out) else ""
    panels = [lab.Panel("loss", f"{title}: {last or 'its loss while it is trained'}", draw)]
    if inside is not None:
        unit, strip = inside
        said = f"{unit.value}[{unit.unit}] is {'high' if unit.above else 'low'} within quotes"
        panels.append(strip.panel(f"{said}: {unit.accuracy:.0%} right", name="unit"))
    return lab.Picture(panels)


# The story.


def sample(options: argparse.Namespace, path: Path) -> None:
    """Write from a checkpoint; the text that it was trained on is not needed."""
    checkpoint = training.Checkpoint.load(path)
    vocabulary = data.Vocabulary.from_json(checkpoint.settings["vocabulary"])
    model = CharacterModel(len(vocabulary), options).to(options.device)
    model.load_state_dict(checkpoint.model)
    print(write(model, vocabulary, 1000, options.temperature, options.seed))


def train(options: argparse.Namespace, path: Path | None) -> None:
    """Read the text, train on nine tenths of it, measure on the last one, and write."""
    tg.manual_seed(options.seed)

    # The text, as integers: numbers of characters that occur in its first nine tenths.
    needed = 10 * data.ContiguousBatches.needed(options.batch_size, options.length)
    if options.file is None:
        name = f"the language reference of Python {platform.python_version()}"
        text = data.python_reference()
    else:
        name, text = options.file, data.read_text(options.file, at_least=needed)
    if options.quick:
        name, text = f"the beginning of {name}", text[:QUICK_CHARACTERS]
    reading, unread = data.split_held_out(text)
    vocabulary = data.Vocabulary.of(reading)
    sizes = options.batch_size, options.length
    batches = data.ContiguousBatches(vocabulary.encode(reading), *sizes)
    held_out = data.ContiguousBatches(vocabulary.encode(unread), *sizes, partial=True)

    # The model, its optimizer, and the learning rate: a straight line down to 0.
    model = CharacterModel(len(vocabulary), options).to(options.device)
    optimizer = optim.Adam(model.parameters(), lr=options.lr, clip=optim.ClipNorm(1.0))
    updates = options.epochs * len(batches)

    # The trainer carries the state from batch to batch, so what the network remembers can be
    # older than the time steps that gradients travel back.
    def loss(batch: data.Batch, state: Any) -> tuple[tg.Tensor, Any]:
        scores, state = model(batch.inputs, state)
        return nn.cross_entropy(scores, batch.targets, axis=-1), state

    def evaluate() -> dict[str, float]:
        bits = bits_per_character(model, held_out)
        tqdm.write(f"held-out {bits:.3f} bits per character after {trainer.updates:,} updates")
        return {"held_out": bits}

    trainer = training.Trainer(
        model,
        optimizer,
        loss,
        batches,
        folder=options.folder,
        schedule=optim.schedules.Linear(options.lr, updates),
        evaluate=evaluate,
        checkpoint_every=100,
        settings={name: getattr(options, name) for name in KEPT}
        | {"text sha256": data.fingerprint(text), "vocabulary": vocabulary.to_json()},
        describe=lambda loss: {"bits_per_character": loss / math.log(2)},
        tokens=lambda batch: batch.targets.size,
    )
    if path is not None:
        trainer.resume(path, may_differ=["file", "epochs", "device"])

    title = f"{options.cell.upper()}, {options.layers} x {options.hidden} units"
    parameters = sum(parameter.size for parameter in model.parameters())
    print(f"text      {name}: {len(text):,} characters, {len(vocabulary) - 1} different ones")
    print(f"model     {title}, {parameters:,} parameters, on {options.device}")
    print(f"training  {options.epochs} epochs of {len(batches)} updates; Ctrl-C stops and keeps it")
    print(f"folder    {options.folder}", f"(from update {trainer.updates:,})" if path else "")

    ending = trainer.fit(epochs=options.epochs, minutes=options.minutes)

    after = f"after {trainer.updates:,} of {updates:,} updates in {trainer.seconds:,.0f} s"
    if ending != "finished":
        print(f"{ending} {after}; go on with --resume --folder {options.folder}")
    if ending == "interrupted":
        return
    with tg.no_grad():
        bits = bits_per_character(model, held_out)
    print(f"\nheld-out {bits:.3f} bits per character {after}")
    print(f"metrics   {options.folder / 'metrics.csv'}")
    inside = quote_unit(model, vocabulary, unread)
    drawn = lab.draw_picture(
        picture(options.folder, title, inside), options.folder / "loss", options
    )
    print(f"picture   {drawn}")
    if inside is not None:
        unit, strip = inside
        print(f"unit      {unit.name} tells what is within quotes, {unit.accuracy:.0%} right")
        print(strip.text())
    print(f"\nIt writes (temperature {options.temperature}):")
    print(write(model, vocabulary, 600, options.temperature, options.seed))


def main() -> None:
    """Train or sample; what is wrong with the input is said in one sentence."""
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
    try:
        options, path = read_options()
        if options.sample:
            assert path is not None
            sample(options, path)
        else:
            train(options, path)
    except KeyboardInterrupt:
        sys.exit("char_lm: aborted")
    except (
        OSError, ValueError, FloatingPointError, tg.DeviceError, training.CheckpointError
    ) as error:  # fmt: skip
        sys.exit(f"char_lm: {error}")


if __name__ == "__main__":
    main()
