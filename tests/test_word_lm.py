"""The word language model, as a user runs it: examples/word_lm.py."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from programs import EXAMPLES, run_python

import tinygrad_rnn as tg
from tinygrad_rnn import data, nn, optim, training

PROGRAM = ("-W", "error", EXAMPLES / "word_lm.py")
TABLE = re.compile(r"^(trigrams, Kneser-Ney|.* LSTM, dropout \S+) +(\d+\.\d\d) +(\d+\.\d\d)$", re.M)


def run(folder: Path, *options: str) -> str:
    return run_python(*PROGRAM, *options, cwd=folder).stdout


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language in files: one of ten subjects, and the one verb of ten that goes with it."""
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    for name, count in (("train", 2000), ("valid", 200), ("test", 200)):
        lines: list[str] = []
        for k in random.integers(0, 10, count):
            between = " ".join("very" for _ in range(random.integers(2, 5)))
            lines.append(f" s{k} {between} v{k} \n")
        (folder / f"{name}.txt").write_text("".join(lines))
    return folder


FILES = ("--train", "train.txt", "--valid", "valid.txt", "--test", "test.txt")


def test_files_of_a_user(files: Path) -> None:
    """Both ways are measured on both files, and the network learns.

    What is further away than two words a trigram model cannot know: it guesses among ten subjects
    and ten verbs in six words, so it stays above exp(2 ln(10) / 6) = 2.15.
    """
    said = run(files, *FILES, "--quick", "--epochs", "3", "--folder", "run")
    assert "text      train.txt: " in said
    assert "words     23 are known; 0.0% of the test's are not" in said  # very, <eos>, <unk>
    rows = {name: (float(valid), float(test)) for name, valid, test in TABLE.findall(said)}
    assert list(rows) == ["trigrams, Kneser-Ney", "2 x 32 LSTM, dropout 0.0"]
    counted, found = rows.values()
    assert counted[0] == pytest.approx(counted[1], rel=0.05)
    assert 2.15 < counted[1] < 3.5
    assert found[1] < 10
    watched = [float(p) for p in re.findall(r"^epoch +\d+  perplexity +(\S+)", said, re.M)]
    assert len(watched) == 3
    assert sorted(watched, reverse=True) == watched
    assert watched[-1] == found[0]
    metrics = training.read_metrics(files / "run" / "metrics.csv")
    assert [row["valid"] for row in metrics if "valid" in row] == pytest.approx(watched, abs=0.01)
    assert metrics[0]["perplexity"] == pytest.approx(23, rel=0.1)
    if importlib.util.find_spec("matplotlib"):
        assert (files / "run" / "perplexity.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupted_and_resumed(files: Path) -> None:
    """What --resume makes of a run that was stopped is the run without a stop."""
    options = (*FILES, "--quick", "--dropout", "0.2", "--seed", "3")
    whole = run(files, *options, "--folder", "whole")
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, *options, "--folder", "cut"],
        cwd=files, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    metrics, deadline = files / "cut" / "metrics.csv", time.monotonic() + 120
    while not metrics.exists() or metrics.read_bytes().count(b"\n") < 5:
        assert time.monotonic() < deadline, "training did not begin"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    stopped = re.search(r"^interrupted after (\d+) updates.*--resume --folder cut$", said, re.M)
    assert stopped
    resumed = run(files, *options, "--resume", "--folder", "cut")
    assert f"(from update {stopped[1]})" in resumed
    assert TABLE.findall(resumed) == TABLE.findall(whole)


def test_the_published_setting(program: ModuleType) -> None:
    """Zaremba, Sutskever, Vinyals 2014, section 4.1, and their schedule as it is said there.

    "We used 4 epochs with the learning rate of 1, then it is decreased by 2 after each epoch."
    """
    small = program.PRESETS["small"]
    assert small._asdict() == {
        "vocabulary": 10_000, "least": 1, "layers": 2, "hidden": 200, "tied": False, "dropout": 0.0,
        "uniform": 0.1, "length": 20, "batch_size": 20, "clip": 5.0, "lr": 1.0, "flat": 4,
        "decay": 0.5, "epochs": 13,
    }  # fmt: skip
    rates = [program.rate(small, updates, 7) for updates in range(0, 13 * 7, 7)]
    assert rates == [1, 1, 1, 1, *(0.5**k for k in range(1, 10))]
    assert program.rate(small, 27, 7) == 1
    assert program.rate(small, 28, 7) == 0.5
    # The same, put together from the schedules of the package.
    steps = optim.schedules.Step(1.0, every=7, factor=0.5)
    schedule = optim.schedules.WarmUp(steps, 3 * 7, start=1.0)
    assert [schedule(u) for u in range(91)] == [program.rate(small, u, 7) for u in range(91)]


@pytest.mark.parametrize(
    ("options", "known", "unknown"),
    [(["--preset", "small"], 63, "25.0%"), (["--quick"], 33, "26.2%")],
)
def test_fault_38_words_that_occur_once(
    tmp_path: Path, options: list[str], known: int, unknown: str
) -> None:
    """The published setting knows every word of its text: 30 that occur once, 31 that occur more
    often, <eos> and <unk>, which is a quarter of the text.
    """
    often, once = [f"w{k}" for k in range(31)] * 20, [f"o{k}" for k in range(30)]
    lines = [f"{a} {b} <unk>" for a, b in zip(often, once + often[30:], strict=True)]
    (tmp_path / "text.txt").write_text("\n".join(lines))
    files = ["--train", "text.txt", "--valid", "text.txt", "--test", "text.txt"]
    said = run(tmp_path, *files, *options, "--epochs", "1", "--folder", "run")
    assert f"words     {known} are known; {unknown} of the test's are not" in said


def test_the_model(program: ModuleType) -> None:
    """Parameters of the small setting by hand, uniform on +-0.1; tied weights are one."""
    tg.manual_seed(0)
    small = program.PRESETS["small"]
    model = program.WordModel(10_000, small)
    layer = 4 * 200 * (200 + 200) + 2 * 4 * 200
    assert sum(p.size for p in model.parameters()) == 2 * layer + 2 * 10_000 * 200 + 10_000
    for parameter in model.parameters():
        values = parameter.numpy()
        assert -0.1 <= values.min() < -0.099
        assert 0.099 < values.max() <= 0.1
        assert values.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.05)
    tied = program.WordModel(50, small._replace(tied=True, hidden=8))
    assert tied.output.weight is tied.embedding.weight
    words = np.array([[1, 2, 49], [4, 5, 6]])
    scores, state = tied(words)
    assert scores.shape == (2, 3, 50)
    assert state.h.shape == (2, 3, 8)


def test_dropout_acts_in_training_alone(program: ModuleType) -> None:
    """On the words, between the layers and before the scores; not on what goes on in time."""
    tg.manual_seed(4)
    model = program.WordModel(30, program.PRESETS["reference"]._replace(hidden=40, dropout=0.3))
    assert model.recurrent.dropout == 0.3
    given: dict[str, np.ndarray] = {}
    for name in ("recurrent", "output"):
        getattr(model, name).register_forward_pre_hook(
            lambda module, inputs, name=name: given.update({name: inputs[0].numpy()})
        )
    words = np.arange(30).reshape(5, 6)
    for trains, share in ((True, 0.3), (False, 0.0)):
        model.train(trains)
        model(words)
        for values in given.values():
            assert values.shape == (5, 6, 40)
            assert np.mean(values == 0) == pytest.approx(share, abs=0.06 if share else 0)


def test_perplexity_by_hand(program: ModuleType) -> None:
    """Read in one stream and in windows: exp of the mean over all words but the first."""
    tg.manual_seed(1)
    model = program.WordModel(11, program.QUICK._replace(uniform=1.5))
    words = np.random.default_rng(0).integers(0, 11, 58)
    scores, _ = model(words[:-1, None])
    nats = nn.cross_entropy(scores, words[1:, None]).item()
    batches = data.ContiguousBatches(words, 1, 10, partial=True)
    assert program.perplexity(model, batches) == pytest.approx(np.exp(nats), rel=1e-5)


def test_the_reference_as_words(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small letters, N, sentences that end, and nothing twice that stands in two chapters."""
    words = program.reference_words()
    assert words == program.reference_words()
    assert len(words) > 40_000
    assert all(re.fullmatch(r"[^\W\d_]+|N|<eos>", word) for word in words)
    assert not any(word != word.lower() for word in words if word != "N")
    assert "<eos> <eos>" not in " ".join(words)
    text = "A 'Name'? x_1 = 3.14.\n\n   \n---\n\nOther  line\nwent on\n\nOther line\n  went on"
    monkeypatch.setattr(data, "python_reference", lambda: text)
    found = "a name <eos> x N N N <eos> other line went on <eos>"
    assert program.reference_words() == found.split()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--train none.txt", "read_text: there is no file 'none.txt'"),
        ("--train marked.txt", "'marked.txt', line 2: '<eos>' is what ends a sentence"),
        ("--train short.txt", "3 tokens are too few for 20 streams with windows of 20"),
        ("--discount 1.5", "KneserNey: discount must satisfy 0 < discount < 1, got 1.5"),
        ("--dropout 1", "Dropout: p must satisfy 0 <= p < 1, got 1.0"),
        ("--epochs 0", "--epochs must be at least 1, got 0"),
        ("--device tpu", "device 'tpu' is unknown"),
        ("--resume", "there is no checkpoint in the folder 'runs.word_lm_quick.000'"),
    ],
)
def test_bad_input(
    main: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    message: str,
) -> None:
    """One sentence, no traceback, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    Path("marked.txt").write_text("a b\nc <eos> d\n")
    Path("short.txt").write_text("a a\n" * 1)
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit, match=f"^word_lm: .*{message}") as stopped:
        main("--quick", *options.split())
    assert "\n" not in str(stopped.value)
    assert sorted(Path().rglob("*")) == before
