"""Names in context: a word that only what follows can explain.

    He said Teddy Roosevelt was a great president.
    He said Teddy bears are on sale.

Is the third word a person's name? When a network that reads forward has come to it, it has read
"He said Teddy" in both sentences, and whatever its cell, it must give the same answer to both: it
is right in half of them. A bidirectional network has also read the sentence from its end.

Measured with the default settings, seeds 1 to 5, on 400 new sentences: Elman, GRU and LSTM had
50.0 per cent of the third words right with every seed, the bidirectional network (two Elman cells)
100.0; of the other words all four had 100.0. 25 seconds of processor time with the extra jit.

    python examples/names_in_context.py
    python examples/names_in_context.py --quick             small, in a few seconds

The file reads from top to bottom: the sentences, the networks, training, and `main`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn

# The sentences. Every opening and every name stands equally often before a person and a thing.

OPENINGS = ("he said", "she wrote", "they thought", "we heard", "i read", "you knew")
NAMES = {  # a first name: what follows it as a person, and as a part of a thing's name
    "teddy": ("roosevelt", "bears"), "jack": ("london", "knives"), "rose": ("kennedy", "gardens"),
    "lincoln": ("steffens", "cars"), "tiffany": ("trump", "lamps"), "barbie": ("ferreira", "dolls"),
    "cherry": ("jones", "pies"), "victoria": ("beckham", "plums"), "georgia": ("meloni", "peaches"),
    "kelly": ("clarkson", "bags"), "holly": ("hunter", "wreaths"), "ginger": ("rogers", "cookies"),
}  # fmt: skip
PERSON_ENDINGS = ("was a great leader", "was here", "had won again", "was not amused")
THING_ENDINGS = ("are on sale", "were all gone", "are back in fashion", "were sold again")
ASKED = 2
"""Where the third word stands, which may be a name."""
SHOWN = ("he said teddy roosevelt was a great leader", "he said teddy bears are on sale")
"""Two sentences that begin with the same three words: a person and a thing."""


def make_sentences(count: int, random: np.random.Generator) -> list[data.Tagged]:
    """Sentences in pairs: the same first three words, once a person's name, once not."""
    sentences: list[data.Tagged] = []
    for _ in range(count // 2):
        opening = OPENINGS[random.integers(len(OPENINGS))]
        name = list(NAMES)[random.integers(len(NAMES))]
        for kind, endings in enumerate((PERSON_ENDINGS, THING_ENDINGS)):
            ending = endings[random.integers(len(endings))]
            words = f"{opening} {name} {NAMES[name][kind]} {ending}".split()
            tags = ["O"] * len(words)
            if kind == 0:
                tags[ASKED : ASKED + 2] = ["B-person", "I-person"]
            sentences.append(data.Tagged(words, tags))
    return sentences


# The networks: words -> vectors -> one layer over time -> a score for each tag.

TAGS = data.Labels(["O", "B-person", "I-person"])
CELLS = {"Elman": rnn.RNNCell, "GRU": rnn.GRUCell, "LSTM": rnn.LSTMCell}


def make_layer(network: str, size: int) -> tuple[nn.Module, int]:
    """A layer over time, and the size of its outputs."""
    if network != "bidirectional":
        return rnn.Recurrent(CELLS[network](size, size)), size
    forward, backward = (rnn.Recurrent(rnn.RNNCell(size, size)) for _ in range(2))
    return rnn.Bidirectional(forward, backward), 2 * size


class Tagger(nn.Module):
    """Words (T, B) as integers to scores (T, B, 3) of their tags."""

    def __init__(self, network: str, words: int, size: int) -> None:
        self.embedding = nn.Embedding(words, size)
        self.layer, outputs = make_layer(network, size)
        self.output = nn.Linear(outputs, len(TAGS))

    def forward(self, words: tg.Tensor, lengths: np.ndarray) -> tg.Tensor:
        return self.output(self.layer(self.embedding(words), lengths=lengths)[0])


# Training, and what is measured.


class Run(NamedTuple):
    """What a trained network can tell."""

    third: float  # per cent of right tags of the third word in new sentences
    others: float  # of all other words
    names: np.ndarray  # how likely the third word of both SHOWN sentences begins a name, (2,)


def train(network: str, options: argparse.Namespace, seed: int) -> Run:
    """Train on pairs, and ask new ones."""
    tg.manual_seed(seed)
    random = np.random.default_rng(seed)
    sentences, asked = (make_sentences(n, random) for n in (options.sentences, 400))
    vocabulary = data.Vocabulary.of(word for words, _ in sentences for word in words)
    model = Tagger(network, len(vocabulary), options.size).to(options.device)
    optimizer = optim.Adam(model.parameters(), lr=0.01)

    def scores(chosen: Sequence[data.Tagged]) -> tg.Tensor:
        words, lengths = data.pad([vocabulary.encode(words) for words, _ in chosen])
        return model(tg.tensor(words, device=options.device), lengths)

    for _ in range(options.epochs):
        for batch in data.bucketed([len(words) for words, _ in sentences], 16, random):
            chosen = [sentences[k] for k in batch]
            labels, _ = data.pad([TAGS.encode(tags) for _, tags in chosen], value=-100)
            labels = tg.tensor(labels, device=options.device)
            loss = nn.cross_entropy(scores(chosen), labels, axis=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    labels, _ = padded = data.pad([TAGS.encode(tags) for _, tags in asked])
    with tg.no_grad():
        right = tg.argmax(scores(asked), axis=-1).numpy() == labels
    others = padded.mask
    others[ASKED] = False
    shown = [data.Tagged(text.split(), []) for text in SHOWN]
    with tg.no_grad():
        names = tg.softmax(scores(shown), axis=-1).numpy()[ASKED, :, 1]
    return Run(100 * float(np.mean(right[ASKED])), 100 * float(np.mean(right[others])), names)


# The picture.


def picture(runs: dict[str, list[Run]]) -> lab.Picture:
    """What every network tells of the third word, and what it says of two sentences."""
    rows = list(runs)[::-1]
    blue, orange = lab.COLOURS["blue"], lab.COLOURS["orange"]
    third = {name: np.mean([run.third for run in found]) for name, found in runs.items()}

    def right(axes: Any) -> None:
        for row, name in enumerate(rows):
            for field, offset, mark, colour in (
                ("others", 0.13, "s", orange), ("third", -0.13, "o", blue)
            ):  # fmt: skip
                found = [getattr(run, field) for run in runs[name]]
                label = {"others": "all other words", "third": "the third word"}[field]
                axes.plot(found, [row + offset] * len(found), mark, color=colour, alpha=0.7,
                          markersize=12, label=label if row == 0 else None)  # fmt: skip
        axes.axvline(50, color="black", linewidth=1, label="a guess")
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel="right tags, % (a mark for each seed)", xlim=(0, 103))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.legend(loc="center left")

    def said(axes: Any) -> None:
        for k, (text, colour) in enumerate(zip(SHOWN, (blue, orange), strict=True)):
            likely = [100 * float(runs[name][0].names[k]) for name in rows]
            places = np.arange(len(rows)) + (0.2, -0.2)[k]
            bars = axes.barh(places, likely, 0.36, color=colour, label=text)
            axes.bar_label(bars, fmt="%.1f", padding=4)
        axes.set_yticks(range(len(rows)), rows)
        axes.set(xlabel='"teddy" begins a name: how likely a network says so, %', xlim=(0, 115))
        axes.set_ylim(-0.6, len(rows) + 0.4)
        axes.legend(loc="upper right")

    forward = [third[name] for name in CELLS]
    return lab.Picture(
        [
            lab.Panel(
                "right",
                f"The bidirectional network tells {third['bidirectional']:.1f} % of the third "
                f"words, what reads forward {max(forward):.1f} at most",
                right,
            ),
            lab.Panel(
                "said",
                "What reads forward must give one answer to both: it has read the same words",
                said,
            ),
        ],
        columns=2,
    )


# The story.


def tell(options: argparse.Namespace) -> None:
    """Train each network with each seed and print what it can tell."""
    last = options.seed + options.seeds - 1
    print(f"{options.sentences} sentences to learn from, 400 new ones to be asked, all in pairs.")
    print(f"Right tags in per cent: mean of seeds {options.seed} to {last}, lowest and highest.\n")
    print(f"{'':14}{'third word':>24}{'all other words':>24}")
    runs: dict[str, list[Run]] = {}
    for network in (*CELLS, "bidirectional"):
        seeds = range(options.seed, options.seed + options.seeds)
        runs[network] = found = [train(network, options, seed) for seed in seeds]
        columns = [
            f"{np.mean(v):.1f} ({min(v):.1f} to {max(v):.1f})"
            for v in ([run.third for run in found], [run.others for run in found])
        ]
        print(f"{network:14}", *(f"{column:>23}" for column in columns))
    path = Path("runs", "names_in_context", "names")
    print(f"\npicture   {lab.draw_picture(picture(runs), path, options)}")


def main() -> None:
    """Read the options; what is wrong with them is said in one sentence."""
    parser = argparse.ArgumentParser(description="A name that only the words after it explain.")
    parser.add_argument("--quick", action="store_true", help="few sentences, one seed: seconds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--seeds", type=int, help="how many; 5 if not given, 1 with --quick")
    lab.add_picture_options(parser)
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    options.seeds = options.seeds or (1 if options.quick else 5)
    options.sentences, options.epochs, options.size = (
        (200, 6, 16) if options.quick else (600, 6, 32)
    )
    try:
        if options.seeds < 1 or options.seed < 0:
            raise ValueError("--seeds must be at least 1 and --seed at least 0")
        tell(options)
    except KeyboardInterrupt:
        sys.exit("names_in_context: aborted")
    except (OSError, ValueError, tg.DeviceError) as error:
        sys.exit(f"names_in_context: {error}")


if __name__ == "__main__":
    main()
