"""Agreement over a distance: what was said long ago decides the word that comes next.

    the cat , which already ate bread and the fresh apple and the old pears , was
    when she tried to print her tickets , he lost the maps ; she kept her tickets

The number of the subject decides between "was" and "were", however many nouns of either number
stand between; and what she tried to print is what she keeps, whatever else is named. One
network reads both kinds of sentences and is asked for the last word. Elman's network, a GRU and an
LSTM are trained alike, on sentences of all distances up to 40 words:

    python examples/agreement.py                      tables, and runs/agreement/agreement.png
    python examples/agreement.py --quick              small, in a few seconds

With the default settings (64 units, 600 updates, seeds 1, 2 and 3) the GRU and the LSTM were right
every time, at every distance up to 40 and from each seed. Elman's network agreed at distance 1 (100
percent), and from 7 words on it guessed: at distance 40 it was right in 50 percent (49 to 51) for
"was or were", and in 16 percent (16 to 17) for one of six papers. The nine trainings took four
minutes together, in one thread on a machine that was busy with other work.

Inside the LSTM from seed 1 one unit, h[6], holds the number of the subject: it was above 0.35
before "were" and below it before "was", at every word from the subject to the verb 20 words on, in
all sentences that it was not chosen by.

The file reads from top to bottom: the sentences, the network, training, the questions, and `main`
is the story. Letters: T words, B sentences, H units.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn

Generator = np.random.Generator

# The sentences. A distance is counted in words from the one that decides to the last one.

ANIMALS = ["cat", "dog", "horse", "bird", "mouse", "cow"]
FOOD = ["apple", "pear", "carrot", "berry", "melon", "potato"]
PLURALS = {"mouse": "mice", "berry": "berries", "potato": "potatoes"}
ADJECTIVES = ["old", "fresh", "small", "sweet", "green"]
PAPERS = ["tickets", "letters", "photos", "tables", "maps", "stories"]
PLACES = ["shop", "printer", "office", "car", "door"]
STATES = ["open", "closed", "full", "empty"]
VERBS = ["found", "lost", "sold", "read"]


def choice(rng: Generator, words: list[str]) -> str:
    """One of the words."""
    return words[rng.integers(len(words))]


def noun(rng: Generator, words: list[str]) -> tuple[str, bool]:
    """One of the words in its singular or its plural, and whether it is the plural."""
    one, plural = choice(rng, words), bool(rng.integers(2))
    return (PLURALS.get(one, f"{one}s") if plural else one), plural


def adjectives(rng: Generator, count: int) -> list[str]:
    """So many adjectives."""
    return [choice(rng, ADJECTIVES) for _ in range(count)]


def food(rng: Generator, size: int) -> list[str]:
    """What else was eaten, in so many words: a noun of either number."""
    return ["and", "the", *adjectives(rng, size - 3), noun(rng, FOOD)[0]]


def errand(rng: Generator, size: int) -> list[str]:
    """What else happened, in so many words: often to papers that she did not try to print."""
    between = adjectives(rng, size - 5)
    if rng.integers(2):
        return ["the", *between, choice(rng, PLACES), "was", choice(rng, STATES), ";"]
    return ["he", choice(rng, VERBS), "the", *between, choice(rng, PAPERS), ";"]


def filled(
    rng: Generator, length: int, sizes: range, part: Callable[[Generator, int], list[str]]
) -> list[str]:
    """Parts of these sizes that have the length together."""
    words: list[str] = []
    while (left := length - len(words)) > 0:
        fitting = [size for size in sizes if size == left or left - size >= sizes[0]]
        words += part(rng, int(rng.choice(fitting)))
    return words


def number_sentence(rng: Generator, distance: int) -> list[str]:
    """The cat (cats), which already ate ..., was (were); at distance 1 without a clause."""
    subject, plural = noun(rng, ANIMALS)
    clause: list[str] = []
    if distance > 1:
        more = filled(rng, distance - 7, range(3, 7), food)
        clause = [",", "which", "already", "ate", "bread", *more, ","]
    return ["the", subject, *clause, "were" if plural else "was"]


def object_sentence(rng: Generator, distance: int) -> list[str]:
    """When she tried to print her ..., ... she kept her ..."""
    paper = choice(rng, PAPERS)
    beginning = ["when", "she", "tried", "to", "print", "her", paper, ","]
    errands = filled(rng, distance - 5, range(5, 10), errand)
    return [*beginning, *errands, "she", "kept", "her", paper]


KINDS = {"was or were": number_sentence, "her ___": object_sentence}
GUESSED = {"was or were": 1 / 2, "her ___": 1 / len(PAPERS)}
LONGEST = 40
POSSIBLE = {
    "was or were": (1, 7, *range(10, LONGEST + 1)),
    "her ___": (5, *range(10, LONGEST + 1)),
}
JUDGED = {"was or were": (1, 7, 10, 15, 20, 30, 40), "her ___": (5, 10, 15, 20, 25, 30, 40)}


def every_word() -> list[str]:
    """All words that a sentence can have."""
    frames = """the , which already ate bread and was were
        when she tried to print her he ; kept"""
    plurals = [PLURALS.get(word, f"{word}s") for word in ANIMALS + FOOD]
    lists = ANIMALS + FOOD + ADJECTIVES + PAPERS + PLACES + STATES + VERBS
    return sorted({*lists, *plurals, *frames.split()})


VOCABULARY = data.Vocabulary(every_word())


def some_distance(rng: Generator, kind: str) -> int:
    """A distance to train on: the next possible one below a number that is drawn."""
    drawn = rng.integers(1, LONGEST + 1)
    return max((d for d in POSSIBLE[kind] if d <= drawn), default=min(POSSIBLE[kind]))


def sentences(rng: Generator, kind: str, distance: int, count: int) -> tuple[Any, Any]:
    """All words but the last (T, B), and the last ones (B,), as numbers."""
    found = [VOCABULARY.encode(KINDS[kind](rng, distance)) for _ in range(count)]
    words = np.stack(found, axis=1).astype(np.int64)
    return words[:-1], words[-1]


# The networks: they differ in their cells alone.

CELLS: dict[str, Callable[[int, int], rnn.Cell]] = {
    "Elman": rnn.RNNCell,
    "GRU": rnn.GRUCell,
    "LSTM": lambda inputs, units: rnn.LSTMCell(inputs, units, forget_bias=1.0),
}


class Reader(nn.Module):
    """Words (T, B) are looked up and read; the last output gives a score to every word (B, V)."""

    def __init__(self, cell: Callable[[int, int], rnn.Cell], units: int) -> None:
        self.layers = rnn.Stacked(
            [nn.Embedding(len(VOCABULARY), units), rnn.Recurrent(cell(units, units))]
        )
        self.head = nn.Linear(units, len(VOCABULARY))

    def forward(self, words: tg.Tensor) -> tg.Tensor:
        output, _ = self.layers(words)
        return self.head(output[-1])


class Size(NamedTuple):
    """How much is done: units and batch, updates, sentences of each kind and distance to judge."""

    units: int
    batch: int
    updates: int
    judged: int
    lr: float = 0.01


FULL = Size(units=64, batch=32, updates=600, judged=500)
QUICK = Size(units=16, batch=8, updates=20, judged=20)


def trained(name: str, size: Size, seed: int, device: str) -> Reader:
    """A network after training: a batch has sentences of one kind and one distance, both drawn."""
    tg.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Reader(CELLS[name], size.units).to(device)
    optimizer = optim.Adam(model.parameters(), lr=size.lr, clip=optim.ClipNorm(1.0))
    schedule = optim.schedules.Linear(size.lr, size.updates)
    for update in range(size.updates):
        kind = list(KINDS)[rng.integers(2)]
        words, last = sentences(rng, kind, some_distance(rng, kind), size.batch)
        loss = nn.cross_entropy(model(tg.tensor(words, device=device)), last)
        optimizer.zero_grad()
        loss.backward()
        optimizer.lr = schedule(update)
        optimizer.step()
    return model


def right(model: Reader, kind: str, size: Size, device: str) -> list[float]:
    """The share of last words that got the highest score of all words, by distance."""
    rng = np.random.default_rng(0)  # everyone is asked the same
    found: list[float] = []
    for distance in JUDGED[kind]:
        words, last = sentences(rng, kind, distance, size.judged)
        with tg.no_grad():
            scores = model(tg.tensor(words, device=device)).numpy()
        found.append(float(np.mean(scores.argmax(axis=1) == last)))
    return found


# A look inside: one unit that holds the number of the subject until the verb comes.

INSIDE = 20  # words from the subject to the verb


class Held(NamedTuple):
    """The units that tell the number of the subject, and the best one over a sentence of each."""

    telling: lab.Telling
    strips: dict[str, lab.Strip]


def held(model: Reader, size: Size) -> Held:
    """Which units tell "were" from "was", at every step from the subject on."""
    rng = np.random.default_rng(1)
    words, last = sentences(rng, "was or were", INSIDE, max(size.judged // 4, 20))
    plural = last == VOCABULARY.encode(["were"])[0]
    found = lab.units(model, tg.tensor(words), vocabulary=VOCABULARY)
    telling = found.telling(plural, steps=slice(1, None), count=3)
    rows = {"the verb is was": plural.argmin(), "the verb is were": plural.argmax()}
    return Held(telling, {said: found.strip(telling[0], row=k) for said, k in rows.items()})


# The story.

LOOKS = {
    "Elman": ("D-", "vermilion", 2.5),
    "GRU": ("o-", "sky", 7.0),  # wide, and the LSTM over it
    "LSTM": ("s--", "black", 2.5),
}


def picture(found: dict[tuple[str, str], np.ndarray], inside: Held) -> lab.Picture:
    """The shares over the distance, and one unit over two sentences."""
    panels: list[lab.Panel] = []
    for kind in KINDS:

        def draw(axes: Any, kind: str = kind) -> None:
            for name, (style, colour, width) in LOOKS.items():
                shares, colour = found[name, kind], lab.COLOURS[colour]
                look = {"color": colour, "linewidth": width, "label": name}
                axes.plot(JUDGED[kind], shares.mean(0), style, **look)
                axes.fill_between(
                    JUDGED[kind], shares.min(0), shares.max(0), color=colour, alpha=0.15
                )
            axes.axhline(GUESSED[kind], color="gray", linestyle=":", label="a guess")
            axes.set(xlabel="words from the deciding one", ylabel="share of last words right")
            axes.set_ylim(0, 1.05)
            axes.legend(loc="center", bbox_to_anchor=(0.5, 0.75))

        at_end = ", ".join(
            f"{name} {100 * found[name, kind][:, -1].mean():.0f} %" for name in CELLS
        )
        title = f'"{kind}", {JUDGED[kind][-1]} words after what decides: {at_end} right'
        panels.append(lab.Panel(kind.replace(" ", "-").strip("_-"), title, draw))
    unit = inside.telling[0]
    for said, strip in inside.strips.items():
        title = f"LSTM, {said}: {unit.value}[{unit.unit}] tells so in {unit.accuracy:.0%} of words"
        panels.append(strip.panel(title, name=said.split()[-1]))
    return lab.Picture(panels)


def tell(options: argparse.Namespace) -> None:
    """Train every network from several seeds, ask, look inside, print, draw."""
    if options.seeds < 1:
        raise ValueError(f"--seeds must be at least 1, got {options.seeds}")
    size = QUICK if options.quick else FULL
    rng = np.random.default_rng(0)
    for sentence in KINDS.values():
        print(f"  {' '.join(sentence(rng, 20))}")
    print(f"\n{size.units} units, {size.updates} updates of {size.batch} sentences. Percent right")
    print(f"by distance, from seeds 1 to {options.seeds}: mean (lowest-highest)")
    found: dict[tuple[str, str], np.ndarray] = {}
    for name in CELLS:
        start = time.perf_counter()
        models = [trained(name, size, 1 + k, options.device) for k in range(options.seeds)]
        print(f"\n{name}, {time.perf_counter() - start:.0f} seconds of training")
        for kind, distances in JUDGED.items():
            shares = np.array([right(model, kind, size, options.device) for model in models])
            found[name, kind] = shares
            told = [f"{c.mean():.0f} ({c.min():.0f}-{c.max():.0f})" for c in 100 * shares.T]
            print(f"  {kind:13}", *(f"{distance:<14}" for distance in distances))
            print(f"  {'':13}", *(f"{text:<14}" for text in told))
    inside = held(models[0], size)
    print(f"\nInside the last network, at every word from the subject to {INSIDE} words on: which")
    print(f"unit tells whether the verb is were?\n{inside.telling}")
    for strip in inside.strips.values():
        print(f"\n{strip.text(76)}")
    print(f"\na guess is right in {', '.join(f'{100 * g:.0f}% ({k})' for k, g in GUESSED.items())}")
    drawn = lab.draw_picture(picture(found, inside), "runs/agreement/agreement", options)
    print(f"picture: {drawn}")


def main() -> None:
    """Read the options; what is wrong with them is said in one sentence."""
    parser = argparse.ArgumentParser(description="Agreement over a growing distance.")
    parser.add_argument(
        "--quick", action="store_true", help="small, in a few seconds; learns nothing"
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--seeds", type=int, default=3, help="train from so many seeds, 1, 2, ...")
    lab.add_picture_options(parser)
    try:
        tell(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit("agreement: aborted")
    except (OSError, ValueError, tg.DeviceError) as error:
        sys.exit(f"agreement: {error}")


if __name__ == "__main__":
    main()
