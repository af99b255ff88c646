"""Spam or not: examples/spam.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from programs import EXAMPLES, run_python

import tinygrad_rnn as tg
from tinygrad_rnn import data


def table(said: str) -> dict[str, list[float]]:
    """The means in the table: accuracy, precision, recall, F1."""
    rows = re.findall(r"^(always \w+|bag of words|LSTM) +(\d.*\))$", said, re.M)
    return {name: [float(v) for v in re.findall(r"(\S+) \(", row)] for name, row in rows}


def test_a_quick_run(tmp_path: Path) -> None:
    """What reads in order finds spam that the bag of words takes for its twin."""
    program = EXAMPLES / "spam.py"
    said = run_python("-W", "error", program, "--quick", cwd=tmp_path).stdout
    found = table(said)
    assert list(found) == ["always ham", "bag of words", "LSTM"]
    assert found["always ham"][1:] == [0, 0, 0]
    assert found["LSTM"][0] > found["bag of words"][0] > found["always ham"][0] > 80
    assert found["LSTM"][3] > 80 > found["bag of words"][3]
    drawn = tmp_path / "runs" / "spam" / "spam.png"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [drawn]


def test_a_file_of_a_user(
    main: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where one word tells all, both are right; the same message counts once."""
    kinds = ("spam\twin", "ham\thi", "ham\thi", "ham\thi")
    lines = [f"{kinds[k % 4]} {'x ' * (k % 9)}{k}" for k in range(400)]
    (tmp_path / "SMSSpamCollection").write_text("\n".join([*lines, lines[0], lines[1]]) + "\n")
    main("--quick", "--file", str(tmp_path / "SMSSpamCollection"))
    said = capsys.readouterr().out
    assert "SMSSpamCollection: 402, of which 400 differ; 25.0% are spam" in said
    found = table(said)
    assert found["bag of words"] == found["LSTM"] == [100, 100, 100, 100]
    assert 60 < found["always ham"][0] < 90


def test_what_is_held_out(program: ModuleType) -> None:
    """Each message is in one of the parts, and words are known from the first part alone."""
    messages = [data.Message("ham", f"a{k % 20} same") for k in range(40)]
    messages += [data.Message("spam", f"b{k} same B{k}!") for k in range(10)]
    vocabulary, learn, held_out = program.prepare(messages, np.random.default_rng(3))
    assert (len(learn.words), len(held_out.words)) == (40, 10)
    assert learn.labels.sum() + held_out.labels.sum() == 10
    texts = [" ".join(vocabulary.decode(words)) for words in learn.words + held_out.words]
    assert all("same" in text for text in texts)
    counts = {
        token: sum(token in text.split() for text in texts[:40]) for token in vocabulary.tokens
    }
    assert all(counts[token] for token in vocabulary.tokens[1:])


def test_the_models(program: ModuleType) -> None:
    """Neither looks at what stands past the end of a message; the bag does not look at order."""
    tg.manual_seed(2)
    bag, reader = program.BagOfWords(9), program.Reader(9, 5)
    bag.weight.weight.data = np.random.default_rng(0).standard_normal((9, 2), np.float32)
    for model in (bag, reader):
        model.eval()
        both = model(data.pad([[3, 1, 4, 1, 5], [2, 8]])).numpy()
        assert both.shape == (2, 2)
        for k, words in enumerate(([3, 1, 4, 1, 5], [2, 8])):
            np.testing.assert_allclose(both[k], model(data.pad([words])).numpy()[0], atol=1e-6)
        turned = model(data.pad([[5, 1, 4, 1, 3]])).numpy()[0]
        assert np.allclose(turned, both[0], atol=1e-5) == (model is bag)
    by_hand = bag.weight.weight.numpy()[[3, 1, 4, 1, 5]].sum(axis=0)
    np.testing.assert_allclose(bag(data.pad([[3, 1, 4, 1, 5]])).numpy()[0], by_hand, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--file none.tsv", "^spam: read_text: there is no file 'none.tsv'$"),
        ("--file bad.tsv", "^spam: read_messages: 'bad.tsv', line 2: the label 'eggs' is unknown"),
        ("--quick --device tpu", "^spam: device 'tpu' is unknown"),
    ],
)
def test_bad_input(
    main: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.tsv").write_text("ham\thello\neggs\tbacon\n")
    with pytest.raises(SystemExit, match=message) as stopped:
        main(*options.split())
    assert "\n" not in str(stopped.value)
