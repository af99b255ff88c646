"""Slot filling: which words of a request fill which slot of a form?

"arrive taipei on november 2nd" and "leave taipei on november 2nd" differ in one word, and it
decides what the others are: taipei is a destination in one and a place of departure in the other.
A feed-forward network that sees one word at a time can only guess. A recurrent network remembers.

    python examples/slot_filling.py                        five networks on generated requests
    python examples/slot_filling.py --quick                the same, small, in a few seconds
    python examples/slot_filling.py --preset mesnil --train atis.train.iob --test atis.test.iob

Measured with the default settings, slot F1 in per cent, the mean of seeds 1 to 3, lowest and
highest; 44 seconds of processor time with the extra jit, on one core:

                   requests like  words that can fill   new city names,    new city names,
                   those learnt   two slots: tags right as "other"         by their letters
    feed-forward    44.2          49.2 (48.7 to 49.5)   34.0 (31 to 36)    44.9 (44 to 45)
    Elman           99.9         100.0 (99.9 to 100)    82.7 (78 to 85)    87.8 (84 to 90)
    Jordan          99.9          99.9 (99.9 to 100)    78.2 (73 to 83)    79.1 (72 to 83)
    LSTM           100.0         100.0                  80.5 (77 to 84)    85.9 (85 to 87)
    bidirectional   99.7          99.8 (99.5 to 100)    95.3 (93 to 100)   86.8 (75 to 94)

The new names stand in "leave snowy wellington", where "snowy" is as new as "wellington": both are
"other" to a network that reads forward, and only their letters, or what follows, tell the city.

`--preset mesnil` follows Mesnil, He, Deng, Bengio 2013 (Interspeech) and the code published with
it: vectors of 100 numbers, 100 hidden units, windows of 7 words (1 on the generated requests), BPTT
9, SGD at 0.0627, 50 epochs, the one best on validation F1 kept. Words that occur once in training
are <UNK>, which stands for all that are not known. Unlike there, an update is made of the words of
a sentence together, units are tanh, a network begins with a state of zeros, vectors of words are
not kept at length 1, and Jordan's network is fed its scores, not the probabilities made of them.
On the generated requests, with seed 1, the four recurrent networks had an F1 of 100.0 with it, the
feed-forward one 48.8 (120 seconds of processor time).

Its speed, on sentences of 11 words with as many words and labels as ATIS has (572 and 127), on two
cores of a shared machine: 2,300 words a second (Elman), 2,200 (Jordan), 2,000 (LSTM) and 2,000
(bidirectional) with the extra jit, 2,400, 2,200, 1,600 and 1,600 without it. So 50 epochs of the
56,590 words of ATIS would take 20 to 24 minutes with it.

The file reads from top to bottom: the settings, the networks, the words, training, the two stories,
and `main`. Letters: T words, B sentences in a batch, W words in a window, L labels.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn
from tinygrad_rnn.tape import tree_map

# The settings.


class Setting(NamedTuple):
    """How a network is built and trained."""

    embedding: int  # numbers that stand for a word
    hidden: int  # hidden units
    window: int  # words seen at a time: the word and as many on either side
    bptt: int | None  # words that gradients travel back at most, None for all
    batch_size: int  # sentences in an update
    optimizer: Callable[..., optim.Optimizer]
    lr: float
    epochs: int  # at most
    patience: int  # epochs without a better F1 on validation data before training ends
    least: int  # how often a word occurs in training at least that is known; the others are <UNK>
    forget: float  # the share of words that become <UNK> in training, to learn what to do with it


PRESETS = {
    "small": Setting(32, 32, 1, None, 16, optim.Adam, 0.01, 10, 3, 1, 0.05),
    # Mesnil et al. 2013 and the code published with it.
    "mesnil": Setting(100, 100, 7, 9, 1, optim.SGD, 0.0627, 50, 50, 2, 0.0),
}
LETTERS = 1024
"""Numbers that the letter 3-grams of a word are hashed to."""


# The networks: words -> vectors -> a network -> a score for each label.


class Truncated(rnn.Cell):
    """A cell through which gradients travel back ``steps`` steps at most: the state is detached
    before every steps-th one. What is computed is the same.

    This is what BPTT 9 means here. The code of Mesnil et al. runs the network anew for each word,
    over the nine last ones, which are all that it sees in training.
    """

    pure = True

    def __init__(self, cell: rnn.Cell, steps: int) -> None:
        self.cell, self.steps = cell, steps
        self.input_size, self.hidden_size = cell.input_size, cell.hidden_size

    def initial_state(self, batch_size: int) -> Any:
        return self.zeros(batch_size, 1), self.cell.initial_state(batch_size)

    def step(self, x: tg.Tensor, state: Any) -> tuple[tg.Tensor, Any]:
        count, inner = state
        cut = count == self.steps
        y, inner = self.cell.step(x, tree_map(lambda s: tg.where(cut, s.detach(), s), inner))
        return y, (tg.where(cut, 1.0, count + 1), inner)


def make_layer(network: str, inputs: int, labels: int, setting: Setting) -> tuple[Any, int]:
    """A network over vectors (T, B, inputs), None for the one without memory; its outputs' size."""
    sizes = inputs, setting.hidden

    def run(cell: rnn.Cell) -> rnn.Recurrent:
        return rnn.Recurrent(Truncated(cell, setting.bptt) if setting.bptt else cell)

    if network == "feed-forward":
        return nn.Linear(*sizes), setting.hidden
    if network == "Elman":
        return run(rnn.RNNCell(*sizes)), setting.hidden
    if network == "Jordan":
        return run(rnn.JordanCell(*sizes, labels)), labels
    if network == "LSTM":
        return run(rnn.LSTMCell(*sizes)), setting.hidden
    both = rnn.Bidirectional(run(rnn.RNNCell(*sizes)), run(rnn.RNNCell(*sizes)))
    return both, 2 * setting.hidden


NETWORKS = ("feed-forward", "Elman", "Jordan", "LSTM", "bidirectional")
QUICK_NETWORKS = ("feed-forward", "Elman", "bidirectional")


class Tagger(nn.Module):
    """Windows of words (T, B, W, ...) to scores (T, B, L) of the labels of the words."""

    def __init__(self, network: str, vectors: nn.Module, labels: int, setting: Setting) -> None:
        self.network = network
        self.vectors = vectors
        size = setting.window * setting.embedding
        self.layer, size = make_layer(network, size, labels, setting)
        self.output = None if network == "Jordan" else nn.Linear(size, labels)

    def forward(self, windows: Any, lengths: Any) -> tg.Tensor:
        x = self.vectors(windows)  # (T, B, W, embedding)
        x = x.reshape(*x.shape[:2], -1)
        if self.network == "feed-forward":
            return self.output(tg.tanh(self.layer(x)))
        outputs, _ = self.layer(x, lengths=lengths)
        return outputs if self.network == "Jordan" else self.output(outputs)


# The words: numbers in a vocabulary, 0 for every other one, or the hashed groups of their letters.


class Numbers:
    """Words as their numbers: (T, W) integers, and the vectors that stand for them."""

    def __init__(self, sentences: Sequence[data.Tagged], setting: Setting) -> None:
        counts = Counter(word for words, _ in sentences for word in words)
        known = (w for w, count in counts.items() if count >= setting.least and w != "<UNK>")
        self.vocabulary = data.Vocabulary(sorted(known), other="<UNK>")
        self.window, self.size, self.share = setting.window, setting.embedding, setting.forget

    def encode(self, words: Sequence[str]) -> np.ndarray:
        no_word = len(self.vocabulary)
        return data.context_window(self.vocabulary.encode(words), self.window, no_word)

    def forget(self, windows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Some words become <UNK>."""
        return np.where(random.random(windows.shape) < self.share, 0, windows)

    def vectors(self) -> nn.Module:
        return nn.Embedding(len(self.vocabulary) + 1, self.size)


class Letters:
    """Words as their letter 3-grams: (T, W, LETTERS), and a matrix that makes vectors of them."""

    def __init__(self, sentences: Sequence[data.Tagged], setting: Setting) -> None:
        self.window, self.size = setting.window, setting.embedding

    def encode(self, words: Sequence[str]) -> np.ndarray:
        letters = data.hash_letters(words, size=LETTERS, boundary="#")
        rows = np.concatenate([letters, np.zeros((1, LETTERS), np.float32)])  # the last: no word
        return rows[data.context_window(np.arange(len(words)), self.window, len(words))]

    def forget(self, windows: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return windows

    def vectors(self) -> nn.Module:
        return nn.Linear(LETTERS, self.size, bias=False)


# Training, and what is measured.


class Result(NamedTuple):
    """A trained network."""

    predict: Callable[[Sequence[data.Tagged]], list[list[str]]]
    valid_f1: float
    epochs: int
    words_per_second: float


def train(
    network: str,
    sentences: Sequence[data.Tagged],
    valid: Sequence[data.Tagged],
    encoding: type[Numbers] | type[Letters],
    setting: Setting,
    seed: int,
    device: str,
) -> Result:
    """Train until the F1 on validation data is no longer better; the best state is kept."""
    tg.manual_seed(seed)
    random = np.random.default_rng(seed)
    code = encoding(sentences, setting)
    labels = data.Labels.of(tag for _, tags in sentences for tag in tags)
    targets = [labels.encode(tags) for _, tags in sentences]
    model = Tagger(network, code.vectors(), len(labels), setting).to(device)
    optimizer = setting.optimizer(model.parameters(), lr=setting.lr, clip=optim.ClipNorm(5.0))

    def predict(asked: Sequence[data.Tagged]) -> list[list[str]]:
        found: list[list[str]] = [[]] * len(asked)
        for chosen in data.bucketed([len(words) for words, _ in asked], 64):
            windows, lengths = data.pad([code.encode(asked[k].words) for k in chosen])
            with tg.no_grad():
                best = tg.argmax(model(tg.tensor(windows, device=device), lengths), axis=-1)
            for k, column, length in zip(chosen, best.numpy().T, lengths, strict=True):
                found[k] = labels.decode(column[:length])
        return found

    best_f1, best_epoch, best_state, rates = -1.0, 0, model.state_dict(), []
    for epoch in range(1, setting.epochs + 1):
        start = time.perf_counter()
        lengths_of_all = [len(tags) for tags in targets]
        for chosen in data.bucketed(lengths_of_all, setting.batch_size, random):
            windows, lengths = data.pad([code.encode(sentences[k].words) for k in chosen])
            windows = tg.tensor(code.forget(windows, random), device=device)
            wanted, _ = data.pad([targets[k] for k in chosen], value=-100)
            scores = model(windows, lengths)
            wanted = tg.tensor(wanted, device=device)
            loss = nn.cross_entropy(scores, wanted, axis=-1, reduction="sum")
            optimizer.zero_grad()
            (loss / len(chosen)).backward()
            optimizer.step()
        rates.append(sum(lengths_of_all) / (time.perf_counter() - start))
        f1 = f1_of(predict(valid), valid)
        if f1 > best_f1:
            best_f1, best_epoch, best_state = f1, epoch, model.state_dict()
        if best_f1 == 100 or epoch - best_epoch >= setting.patience:
            break
    model.load_state_dict(best_state)
    return Result(predict, best_f1, epoch, float(np.median(rates)))


def f1_of(predicted: Sequence[Sequence[str]], sentences: Sequence[data.Tagged]) -> float:
    """The slot F1 over all slots, in per cent."""
    return 100 * data.slot_scores([tags for _, tags in sentences], predicted).overall.f1


def ambiguous(predicted: Sequence[Sequence[str]], sentences: Sequence[data.Tagged]) -> float:
    """The per cent of right tags among the words that fill a slot: each can fill one of two."""
    pairs = [
        (tag, guess)
        for (_, tags), guesses in zip(sentences, predicted, strict=True)
        for tag, guess in zip(tags, guesses, strict=True)
        if tag != "O"
    ]
    return 100 * float(np.mean([tag == guess for tag, guess in pairs]))


def spread(values: Sequence[float]) -> str:
    """The mean of some runs and how far they lie apart."""
    return f"{np.mean(values):6.2f} ({min(values):.1f} to {max(values):.1f})"


# The pictures.

NAMES = {"destination": "to", "place_of_departure": "from", "time_of_arrival": "arrive",
         "time_of_departure": "depart"}  # fmt: skip
BLUE, ORANGE, RED = (lab.COLOURS[name] for name in ("blue", "orange", "vermilion"))


def dots(axes: Any, rows: dict[str, dict[str, list[float]]], xlabel: str) -> None:
    """A row for each network, a colour for each measure, a mark for each seed."""
    names = list(rows)[::-1]
    measures = list(rows[names[0]])
    for k, (measure, mark, colour) in enumerate(zip(measures, "os", (BLUE, ORANGE), strict=False)):
        for row, name in enumerate(names):
            found = rows[name][measure]
            place = row + (0.12 - 0.24 * k if len(measures) > 1 else 0)
            axes.plot(found, [place] * len(found), mark, color=colour, alpha=0.7, markersize=11,
                      label=measure if row == 0 else None)  # fmt: skip
    axes.set_yticks(range(len(names)), names)
    axes.set(
        xlabel=f"{xlabel} (a mark for each seed)", xlim=(0, 103), ylim=(-0.6, len(names) - 0.4)
    )
    axes.legend(loc="center left")


def answers_to(name: str, sentence: data.Tagged, said: dict[str, Sequence[str]]) -> lab.Panel:
    """A request, word by word, and what each network takes its words for."""
    rows = ["right", *said]
    tags = [sentence.tags, *said.values()]
    wrong = np.array([[a != b for a, b in zip(row, sentence.tags, strict=True)] for row in tags])

    def draw(axes: Any) -> None:
        for row, column in np.argwhere(wrong):
            axes.axvspan(column, column + 1, 1 - (row + 1) / len(rows), 1 - row / len(rows),
                         color=ORANGE, linewidth=0)  # fmt: skip
        for row, column in np.ndindex(wrong.shape):
            place, _, kind = tags[row][column].partition("-")
            text = NAMES.get(kind, kind) if place != "O" else "."
            axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", fontsize=12)
        axes.set_xticks(np.arange(len(sentence.words)) + 0.5, sentence.words, rotation=20)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows)
        axes.set(xlabel="the words of a request (orange: wrong)", xlim=(0, len(sentence.words)),
                 ylim=(len(rows), 0))  # fmt: skip
        axes.grid(False)

    good = sum(not row.any() for row in wrong[1:])
    title = f"{good} of {len(said)} networks read this request right"
    return lab.Panel(name, title, draw)


def requests_picture(
    rows: dict[str, dict[str, list[float]]], pair: Sequence[data.Tagged], said: dict[str, Any]
) -> lab.Picture:
    """What a word alone cannot tell, new names, and a pair of requests as each network reads it."""
    means = {name: {k: float(np.mean(v)) for k, v in row.items()} for name, row in rows.items()}
    asked, other, letters = "ambiguous words", 'as "other"', "by their letters"
    recurrent = [name for name in rows if name != "feed-forward"]
    best = max(rows, key=lambda name: means[name][other])
    return lab.Picture(
        [
            lab.Panel(
                "ambiguous",
                "Of words that can fill two slots a network that sees one word tells "
                f"{means['feed-forward'][asked]:.0f} %, one with a memory "
                f"{min(means[name][asked] for name in recurrent):.1f} or more",
                lambda axes: dots(
                    axes, {name: {asked: row[asked]} for name, row in rows.items()}, "right tags, %"
                ),
            ),
            lab.Panel(
                "new-names",
                f"New city names: the {best} network has an F1 of {means[best][other]:.0f} %, "
                f"Elman's {means['Elman'][other]:.0f}, by their letters "
                f"{means['Elman'][letters]:.0f}",
                lambda axes: dots(
                    axes,
                    {name: {k: row[k] for k in (other, letters)} for name, row in rows.items()},
                    "slot F1, %",
                ),
            ),
            *(
                answers_to(
                    f"request{k + 1}", sentence, {name: found[k] for name, found in said.items()}
                )
                for k, sentence in enumerate(pair)
            ),
        ]
    )


# The two stories.


def tell_requests(options: argparse.Namespace, setting: Setting) -> None:
    """Generated requests: what a word alone cannot tell, and names that were never seen."""
    counts = (200, 60, 100) if options.quick else (600, 200, 400)
    setting = setting._replace(window=1)
    print(f"{counts[0]} requests to learn from, {counts[1]} to stop by, {counts[2]} to be asked")
    print("Slot F1 in per cent: the mean of the seeds, and the lowest and highest of them.\n")
    heads = "known words", "ambiguous words right", "new names: other", "new names: letters"
    print(" " * 14, *(f"{head:>22}" for head in heads), f"{'words/s':>9}")
    rows: dict[str, dict[str, list[float]]] = {}
    said: dict[str, list[list[str]]] = {}
    for network in QUICK_NETWORKS if options.quick else NETWORKS:
        known, asked, other, letters, rates = [], [], [], [], []
        for seed in range(options.seed, options.seed + options.seeds):
            random = np.random.default_rng(seed)
            parts = [data.travel_requests(count, random) for count in counts]
            new = data.travel_requests(counts[-1], random, unseen=True)
            one = train(network, *parts[:2], Numbers, setting, seed, options.device)
            two = train(network, *parts[:2], Letters, setting, seed, options.device)
            answers = one.predict(parts[2])
            if seed == options.seed:
                said[network], pair = answers[:2], parts[2][:2]
            known.append(f1_of(answers, parts[2]))
            asked.append(ambiguous(answers, parts[2]))
            other.append(f1_of(one.predict(new), new))
            letters.append(f1_of(two.predict(new), new))
            rates.append(one.words_per_second)
        row = (known, asked, other, letters)
        print(f"{network:14}", *(f"{spread(v):>22}" for v in row), f"{np.median(rates):9,.0f}")
        rows[network] = {
            "ambiguous words": asked, 'as "other"': other, "by their letters": letters
        }  # fmt: skip
    path = Path("runs", "slot_filling", "requests")
    print(f"\npicture   {lab.draw_picture(requests_picture(rows, pair, said), path, options)}")


def tell_files(options: argparse.Namespace, setting: Setting) -> None:
    """A user's files."""
    random = np.random.default_rng(options.seed)
    sentences = data.read_tagged(options.train)
    test = data.read_tagged(options.test)
    if options.quick:
        sentences, setting = sentences[:200], setting._replace(epochs=3)
    if options.valid:
        valid = data.read_tagged(options.valid)
    else:
        sentences = [sentences[k] for k in random.permutation(len(sentences))]
        sentences, valid = data.split_held_out(sentences, 0.2)
    words = sum(len(words) for words, _ in sentences)
    print(f"{len(sentences):,} sentences of {words:,} words to learn from,", end=" ")
    print(f"{len(valid):,} to stop by, {len(test):,} to test with.")
    print("Slot F1 in per cent, after the epoch that was best on validation data.\n")
    rows: dict[str, dict[str, list[float]]] = {}
    print(f"{'':14} {'test':>22} {'validation':>22} {'epochs':>7} {'words/s':>9}")
    for network in QUICK_NETWORKS if options.quick else NETWORKS:
        runs = [
            train(network, sentences, valid, Numbers, setting, seed, options.device)
            for seed in range(options.seed, options.seed + options.seeds)
        ]
        scores = [f1_of(run.predict(test), test) for run in runs], [run.valid_f1 for run in runs]
        print(f"{network:14}", *(f"{spread(v):>22}" for v in scores), end=" ")
        rate = np.median([run.words_per_second for run in runs])
        print(f"{max(run.epochs for run in runs):7} {rate:9,.0f}")
        rows[network] = {"test": scores[0], "validation": scores[1]}
    means = ", ".join(f"{name} {np.mean(row['test']):.1f}" for name, row in rows.items())
    title = f"Slot F1 on {len(test):,} sentences of the test in per cent: {means}"
    panel = lab.Panel("f1", title, lambda axes: dots(axes, rows, "slot F1, %"))
    path = Path("runs", "slot_filling", "files")
    print(f"\npicture   {lab.draw_picture(lab.Picture([panel]), path, options)}")


def main() -> None:
    """Read the options; what is wrong with them or with a file is said in one sentence."""
    parser = argparse.ArgumentParser(description="Slot filling: what a word is depends on others.")
    add = parser.add_argument
    add("--train", help="an IOB file to learn from, with --test; else requests are generated")
    add("--valid", help="one to stop by; without it a fifth of --train")
    add("--test", help="one to measure on")
    add("--preset", choices=list(PRESETS), default="small", help="the settings (%(default)s)")
    add("--quick", action="store_true", help="three networks, few requests, one seed: seconds")
    add("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    add("--seed", type=int, default=1, help="the first seed: of weights and of requests")
    add("--seeds", type=int, help="how many; 3 if not given, with --quick and with files 1")
    lab.add_picture_options(parser)
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    if options.seeds is None:
        options.seeds = 1 if options.quick or options.train else 3
    try:
        if options.seeds < 1 or options.seed < 0:
            raise ValueError("--seeds must be at least 1 and --seed at least 0")
        if bool(options.train) != bool(options.test) or (options.valid and not options.train):
            raise ValueError("files are given as --train and --test, and --valid if you have one")
        story = tell_files if options.train else tell_requests
        story(options, PRESETS[options.preset])
    except KeyboardInterrupt:
        sys.exit("slot_filling: aborted")
    except (OSError, ValueError, FloatingPointError, tg.DeviceError) as error:
        sys.exit(f"slot_filling: {error}")


if __name__ == "__main__":
    main()
