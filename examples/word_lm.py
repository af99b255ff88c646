"""A word language model: stacked LSTMs against a trigram model that counts.

At every step the network reads one word and says how likely each word is to come next. The measure
is perplexity: a model that at every step finds k words equally likely has perplexity k. Beside it
stands what counting can do, a trigram model with Kneser-Ney smoothing, on the same words.

    python examples/word_lm.py                          Python's own language reference
    python examples/word_lm.py --train ptb.train.txt --valid ptb.valid.txt --test ptb.test.txt \
        --preset small                                  a published setting on the Penn Treebank
    python examples/word_lm.py --resume                 go on after Ctrl-C, to the very same bits

A file of yours has one sentence a line, its words separated by spaces. `--preset small` is the
configuration of that name in Zaremba, Sutskever, Vinyals 2014 (arXiv 1409.2329).

Measured with the default settings and seeds 1, 2, 3, on the text of Python 3.11.7: perplexity 125.4
(123.7 to 126.4) on the test text, where trigrams have 149.9 (and 5-grams 145.1); on the validation
text 103.2 (102.4 to 104.2), 124.2 and 119.9. A run takes two and a half minutes of one core with
the extra jit.

With `--preset small` on 60,000 words, drawn at random from 10,000, an epoch read 3,800 words a
second with the extras jit and mkl, 3,600 with jit and 3,000 with NumPy alone, all evaluations
counted, on two cores. So the 13 epochs of 929,589 words that the paper has take 53 to 66 minutes.

The file reads from top to bottom: the settings, the text, the model, its measure, its picture, and
`main`, which is the story.
"""

from __future__ import annotations

import argparse
import itertools
import platform
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, optim, rnn, training

# The settings, one row for each preset.


class Setting(NamedTuple):
    """Everything that a run depends on besides the text and the seed."""

    vocabulary: int  # the most frequent words, the others are one
    least: int  # how often a word occurs at least that is among them
    layers: int
    hidden: int  # units of a layer, and numbers that stand for a word
    tied: bool  # whether the scores of words are products with the numbers that stand for them
    dropout: float  # of what a layer is given, and of what the last one gives
    uniform: float  # every weight begins uniform on +- this
    length: int  # time steps that gradients travel back
    batch_size: int  # places of the text read side by side
    clip: float  # the largest norm of a gradient
    lr: float  # the learning rate of SGD
    flat: int  # epochs that it stays
    decay: float  # its factor in every epoch after these
    epochs: int


PRESETS = {
    "reference": Setting(10_000, 2, 2, 200, True, 0.5, 0.1, 20, 20, 5.0, 1.0, 8, 0.7, 16),
    # All 10,000 of the Penn Treebank, <unk> and <eos> among them; 30 of these words occur once.
    "small": Setting(10_000, 1, 2, 200, False, 0.0, 0.1, 20, 20, 5.0, 1.0, 4, 0.5, 13),
}
QUICK = Setting(500, 2, 2, 32, True, 0.0, 0.1, 20, 20, 5.0, 1.0, 1, 0.5, 2)
QUICK_WORDS = 20_000


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Train a stacked LSTM to predict words, beside a trigram model that counts."
    )
    add = parser.add_argument
    add("--train", help="a file to learn from, one sentence a line, instead of Python's reference")
    add("--valid", help="one to watch learning by; without it, a tenth of what there is to learn")
    add("--test", help="one for the last figures; without it, a tenth of what there is to learn")
    add("--preset", choices=list(PRESETS), default="reference", help="the settings (%(default)s)")
    add("--quick", action="store_true", help="a small model on a little text, in a few seconds")
    add("--epochs", type=int, help="how often the text is read, if not as the preset says")
    add("--dropout", type=float, help="the share of dropout, if not as the preset says")
    add("--discount", type=float, help="of the trigrams, between 0 and 1; estimated if not given")
    add("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    add("--seed", type=int, default=1, help="decides the first weights and what is dropped")
    add("--folder", type=Path, help="where the run is kept; a new one in runs/word_lm if not given")
    add("--resume", action="store_true", help="go on from the last checkpoint of a run like this")
    lab.add_picture_options(parser)
    return parser


# The text: three lists of words.


def reference_words() -> list[str]:
    """Python's language reference as the Penn Treebank has it: small letters, and N for numbers.

    Signs are left out, and ``<eos>`` ends each sentence, title or row of a table. A paragraph that
    stands in several chapters is read once: else what is held out would not be new.
    """
    words: list[str] = []
    paragraphs = re.split(r"\n\s*\n", data.python_reference())
    for paragraph in dict.fromkeys(" ".join(text.split()) for text in paragraphs):
        for sentence in re.split(r"[.!?] ", paragraph.lower()):
            found = re.findall(r"[^\W\d_]+|\d+", sentence)
            words += ["N" if word.isdecimal() else word for word in found]
            words += ["<eos>"] if found else []
    return words


def read_words(options: argparse.Namespace) -> tuple[str, list[list[str]]]:
    """A name, and the words to learn from, to watch learning by, and to measure at the end."""
    if options.train is None:
        name = f"the language reference of Python {platform.python_version()}"
        train = reference_words()
        if options.quick:
            name, train = f"the beginning of {name}", train[:QUICK_WORDS]
    else:
        name = options.train
        train = list(itertools.chain.from_iterable(data.read_sentences(options.train)))
    parts: list[list[str]] = []
    for path in (options.test, options.valid):
        if path is None:
            train, part = data.split_held_out(train)
        else:
            part = list(itertools.chain.from_iterable(data.read_sentences(path)))
        parts.insert(0, part)
    return name, [train, *parts]


# The model: words -> vectors -> stacked LSTMs -> a score for each next word.


class WordModel(nn.Module):
    """Words (T, B) as integers to scores (T, B, V) of the words that come next.

    Dropout acts on what goes up, from layer to layer, and not on what goes on in time: Zaremba,
    Sutskever, Vinyals 2014, figure 2. Tied weights: Press, Wolf 2017.
    """

    def __init__(self, words: int, setting: Setting) -> None:
        self.embedding = nn.Embedding(words, setting.hidden)
        self.dropout = nn.Dropout(setting.dropout)
        self.recurrent = rnn.LSTM(
            setting.hidden, setting.hidden, setting.layers, dropout=setting.dropout
        )
        self.output = nn.Linear(setting.hidden, words)
        if setting.tied:
            self.output.weight = self.embedding.weight
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -setting.uniform, setting.uniform)

    def forward(self, words: Any, state: Any = None) -> tuple[tg.Tensor, Any]:
        outputs, state = self.recurrent(self.dropout(self.embedding(words)), state)
        return self.output(self.dropout(outputs)), state


def perplexity(model: WordModel, batches: data.ContiguousBatches) -> float:
    """The exponential of the mean -ln p(next word) over a text, read on and on with one state."""
    nats, count, state = 0.0, 0, None
    for inputs, targets in batches:
        scores, state = model(inputs, state)
        nats += nn.cross_entropy(scores, targets, axis=-1, reduction="sum").item()
        count += targets.size
    return data.perplexity(nats, count)


def rate(setting: Setting, updates: int, per_epoch: int) -> float:
    """The learning rate: as it is for some epochs, then multiplied by ``decay`` in each."""
    return setting.lr * setting.decay ** max(updates // per_epoch + 1 - setting.flat, 0)


def picture(folder: Path, name: str, counting: float) -> lab.Picture:
    """Perplexity after each epoch, from the file of metrics."""
    rows = training.read_metrics(folder / "metrics.csv")
    epochs = np.array([row["epoch"] for row in rows])
    nats = np.log([row["perplexity"] for row in rows])
    numbers = np.unique(epochs)
    reading = [np.exp(np.mean(nats[epochs == number])) for number in numbers]
    watched = np.array([(row["epoch"], row["valid"]) for row in rows if "valid" in row])

    def perplexities(axes: Any) -> None:
        blue, red = lab.COLOURS["blue"], lab.COLOURS["vermilion"]
        axes.semilogy(numbers, reading, "o-", color=blue, label="while it reads, with dropout")
        axes.semilogy(*watched.T, "s-", color=red, label="validation text")
        axes.axhline(counting, color="black", linestyle="--", label="trigrams, validation text")
        axes.yaxis.set_major_formatter("{x:.0f}")
        axes.yaxis.set_minor_formatter("{x:.0f}")
        axes.tick_params(axis="y", which="minor", labelsize=12)
        axes.set(xlabel="epochs", ylabel="perplexity (logarithmic)")
        axes.grid(alpha=0.3, which="both")
        axes.legend()

    last = watched[-1, 1]
    title = f"{name}: perplexity {last:.1f} on the validation text, where trigrams have "
    return lab.Picture([lab.Panel("perplexity", f"{title}{counting:.1f}", perplexities)])


# The story.


def settings_of(options: argparse.Namespace) -> Setting:
    """The preset, with what the command line says instead."""
    setting = QUICK if options.quick else PRESETS[options.preset]
    given = {name: getattr(options, name) for name in ("epochs", "dropout")}
    setting = setting._replace(**{name: v for name, v in given.items() if v is not None})
    if setting.epochs < 1:
        raise ValueError(f"--epochs must be at least 1, got {setting.epochs}")
    return setting


def run_folder(options: argparse.Namespace) -> Path:
    """Where the run is kept: a new folder, or for --resume the last one."""
    runs = Path("runs", "word_lm_quick" if options.quick else "word_lm")
    numbers = [int(path.name) for path in runs.glob("[0-9]*") if path.name.isdecimal()]
    number = max(numbers, default=0) + (not options.resume)
    return options.folder or runs / f"{number:03d}"


def tell(options: argparse.Namespace) -> None:
    """Read the text, count, train, compare."""
    tg.manual_seed(options.seed)
    setting, folder = settings_of(options), run_folder(options)

    # The text, as integers. By default a word that occurs once is no better known than one that
    # never does; a published perplexity counts it.
    name, parts = read_words(options)
    frequent = Counter(parts[0]).most_common(setting.vocabulary)
    known = [w for w, count in frequent if count >= setting.least and w != "<unk>"]
    vocabulary = data.Vocabulary(known[: setting.vocabulary - 1], other="<unk>")
    train, valid, test = (vocabulary.encode(part) for part in parts)
    batches = data.ContiguousBatches(train, setting.batch_size, setting.length)
    watched, last = (data.ContiguousBatches(part, 1, 100, partial=True) for part in (valid, test))

    # Counting.
    trigrams = data.KneserNey(train, len(vocabulary), order=3, discount=options.discount)
    counted = [-np.log(trigrams.probabilities(part))[1:] for part in (valid, test)]
    counting = [data.perplexity(nats.sum(), nats.size) for nats in counted]

    # The model. Its loss is summed over time: the rate and the clipping of the paper are for that.
    model = WordModel(len(vocabulary), setting).to(options.device)
    optimizer = optim.SGD(model.parameters(), lr=setting.lr, clip=optim.ClipNorm(setting.clip))

    def loss(batch: data.Batch, state: Any) -> tuple[tg.Tensor, Any]:
        scores, state = model(batch.inputs, state)
        return len(batch.inputs) * nn.cross_entropy(scores, batch.targets, axis=-1), state

    def evaluate() -> dict[str, float]:
        found = perplexity(model, watched)
        tqdm.write(f"epoch {trainer.epoch:2d}  perplexity {found:7.2f} on the validation text")
        return {"valid": found}

    trainer = training.Trainer(
        model,
        optimizer,
        loss,
        batches,
        folder=folder,
        schedule=lambda updates: rate(setting, updates, len(batches)),
        evaluate=evaluate,
        settings=setting._asdict()
        | {"seed": options.seed, "text sha256": data.fingerprint(" ".join(parts[0]))},
        describe=lambda loss: {"perplexity": data.perplexity(loss, setting.length)},
        tokens=lambda batch: batch.targets.size,
    )
    if options.resume:
        trainer.resume(training.Checkpoint.latest(folder), may_differ=["epochs"])

    title = f"{setting.layers} x {setting.hidden} LSTM, dropout {setting.dropout}"
    size = sum(parameter.size for parameter in model.parameters())
    print(f"text      {name}: {len(train):,} words, then {len(valid):,} and {len(test):,}")
    print(
        f"words     {len(vocabulary):,} are known; {np.mean(test == 0):.1%} of the test's are not"
    )
    print(f"model     {title}, {size:,} parameters, on {options.device}")
    print(f"training  {setting.epochs} epochs of {len(batches)} updates; Ctrl-C stops and keeps it")
    print(f"folder    {folder}", f"(from update {trainer.updates:,})" if options.resume else "")

    ending = trainer.fit(epochs=setting.epochs)
    if ending != "finished":
        print(f"{ending} after {trainer.updates:,} updates; go on with --resume --folder {folder}")
        return
    model.eval()
    with tg.no_grad():
        found = perplexity(model, watched), perplexity(model, last)
    speed = trainer.updates * setting.length * setting.batch_size / trainer.seconds
    print(f"\nafter {trainer.seconds:,.0f} s, {speed:,.0f} words per second with all evaluations")
    drawn = lab.draw_picture(picture(folder, title, counting[0]), folder / "perplexity", options)
    print(f"picture   {drawn}\n")
    print(f"{'perplexity':28}{'validation':>12}{'test':>10}")
    print(f"{'trigrams, Kneser-Ney':28}{counting[0]:12.2f}{counting[1]:10.2f}")
    print(f"{title:28}{found[0]:12.2f}{found[1]:10.2f}")


def main() -> None:
    """What is wrong with the input is said in one sentence."""
    sys.stdout.reconfigure(line_buffering=True, errors="replace")
    try:
        tell(make_parser().parse_args())
    except KeyboardInterrupt:
        sys.exit("word_lm: aborted")
    except (
        OSError, ValueError, FloatingPointError, tg.DeviceError, training.CheckpointError
    ) as error:  # fmt: skip
        sys.exit(f"word_lm: {error}")


if __name__ == "__main__":
    main()
