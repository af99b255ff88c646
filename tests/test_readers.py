"""data/: readers of sentences, labelled messages and series, and the messages that are made."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygrad_rnn import data
from tinygrad_rnn.data.generated_messages import ORDERED

# Sentences


def test_sentences(tmp_path: Path) -> None:
    """The Penn Treebank's form: a space at both ends of a line, and a last line end."""
    file = tmp_path / "ptb.txt"
    file.write_bytes(b" no it was n't black monday \n but while the <unk> dow fell N \r\n\n  \nok")
    assert data.read_sentences(file) == data.read_sentences(str(file)) == [
        ["no", "it", "was", "n't", "black", "monday", "<eos>"],
        ["but", "while", "the", "<unk>", "dow", "fell", "N", "<eos>"],
        ["ok", "<eos>"],
    ]  # fmt: skip
    assert data.read_sentences(file, end="</s>")[2] == ["ok", "</s>"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a b\n\nc <eos>\n", r"^read_sentences: '.*text.txt', line 3: '<eos>' is what ends a "),
        (b" \n\t\n", r"^read_sentences: '.*text.txt' holds no words$"),
        (b"", r"^read_text: '.*text.txt' is empty$"),
        (b"a b\xff\n", r"'.*text.txt' is not UTF-8 text \(byte 3 is 0xff\)"),
    ],
)
def test_bad_sentences(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.read_sentences(file)
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*none.txt'"):
        data.read_sentences(tmp_path / "none.txt")


# Messages


def test_messages(tmp_path: Path) -> None:
    """What looks like a quotation, another tab or a line end within a text belongs to it."""
    file = tmp_path / "SMSSpamCollection"
    lines = [
        'ham\tOk lar... "Joking" wif u oni',
        "spam\tFree entry: \u00a31000\tcash\x85now",
        "ham\t'",
    ]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    expected = [
        data.Message("ham", 'Ok lar... "Joking" wif u oni'),
        data.Message("spam", "Free entry: \u00a31000\tcash\x85now"),
        data.Message("ham", "'"),
    ]
    assert data.read_messages(file) == expected
    file.write_text("\n".join(lines), encoding="utf-8")  # without the last line end
    assert data.read_messages(file) == expected


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("ham no tab", "line 2: expected a label, a tab and a text, got 'ham no tab'$"),
        ("", "line 2: expected a label, a tab and a text, got ''$"),
        ("eggs\ttext", "line 2: the label 'eggs' is unknown, expected one of 'ham', 'spam'$"),
        ("Ham\ttext", "line 2: the label 'Ham' is unknown"),
        ("\ttext", "line 2: the label '' is unknown"),
        ("spam\t ", "line 2: expected a text after the label 'spam' and a tab$"),
    ],
)
def test_bad_messages(tmp_path: Path, second: str, message: str) -> None:
    file = tmp_path / "messages.tsv"
    file.write_text(f"spam\tfirst\n{second}\nham\tthird\n")
    with pytest.raises(ValueError, match=rf"^read_messages: '.*messages.tsv', {message}"):
        data.read_messages(file)


def test_other_labels(tmp_path: Path) -> None:
    file = tmp_path / "messages.tsv"
    file.write_text("good\tfine\nbad\tpoor\n")
    assert [m.label for m in data.read_messages(file, labels=["bad", "good"])] == ["good", "bad"]
    with pytest.raises(ValueError, match="line 2: the label 'bad' is unknown, expected one of 'go"):
        data.read_messages(file, labels=["good"])


# The messages that are made


def test_generated_messages() -> None:
    """The share of spam is that of the SMS Spam Collection; a seed gives the same ones again."""
    messages = data.generated_messages(4000, seed=3)
    assert messages == data.generated_messages(4000, seed=3)
    assert messages[:10] != data.generated_messages(10, seed=4)
    share = sum(m.label == "spam" for m in messages) / len(messages)
    assert share == pytest.approx(747 / 5574, abs=0.02)
    assert {m.label for m in messages} == {"ham", "spam"}
    assert len({m.text for m in messages}) > 3000
    with pytest.raises(ValueError, match="count must be a positive integer, got 0"):
        data.generated_messages(0)


def test_generated_messages_need_their_order() -> None:
    """The same words in another order make the other label, and no message has both labels."""
    for pair in ORDERED:
        spam, ham = (re.findall(r"[\w{}]+", text) for text in pair)
        assert spam != ham
        assert sorted(spam) == sorted(ham)
    labels: dict[str, set[str]] = {}
    for label, text in data.generated_messages(20_000, seed=1):
        labels.setdefault(text, set()).add(label)
    assert all(len(found) == 1 for found in labels.values())


def test_generated_messages_are_read_back(tmp_path: Path) -> None:
    file = tmp_path / "messages.tsv"
    messages = data.generated_messages(50, seed=2)
    file.write_text("".join(f"{label}\t{text}\n" for label, text in messages))
    assert data.read_messages(file) == messages


# Series


def test_series(tmp_path: Path) -> None:
    """The last column, or one by its name; dates, quotation marks and spaces are no hindrance."""
    file = tmp_path / "series.csv"
    file.write_bytes(b'month,"passengers, in 1000",temperature\r\n1949-01, 112 ,-3.5\r\n'
                     b'1949-02,"118",1e1\r\n1949-03,132,0\r\n\r\n')  # fmt: skip
    np.testing.assert_array_equal(data.read_series(file), [-3.5, 10, 0])
    found = data.read_series(str(file), "passengers, in 1000")
    np.testing.assert_array_equal(found, [112, 118, 132])
    assert found.dtype == np.float64
    file.write_text("1,2\n3,4")  # without a line of names
    np.testing.assert_array_equal(data.read_series(file), [2, 4])
    np.testing.assert_array_equal(data.read_series(file, "1"), [1, 3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("t,v\n1,2\n2,\n3,4\n", ", line 3, column 'v': expected a number, got ''$"),
        ("t,v\n1,2\n2,n/a\n", ", line 3, column 'v': expected a number, got 'n/a'$"),
        ("t,v\n1,nan\n", ", line 2, column 'v': expected a number, got 'nan'$"),
        ("1,2\n2,1;5\n", ", line 2, column '2': expected a number, got '1;5'$"),
        ("t,v\n1,2\n\n3,4\n", ", line 3: expected 2 values, as there are columns, got 0$"),
        ("t,v\n1,2,3\n", ", line 2: expected 2 values, as there are columns, got 3$"),
        (" \n\n", ", line 1: expected the names of columns, or numbers, got nothing$"),
        ("t,v\n", ": the column 'v' holds no numbers$"),
        ('t,v\n1,"2\n', ", line 2: unexpected end of data$"),
    ],
)
def test_bad_series(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "series.csv"
    file.write_text(content)
    with pytest.raises(ValueError, match=rf"^read_series: '.*series.csv'{message}"):
        data.read_series(file)


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "series.csv"
    file.write_text("t,v,v\n1,2,3\n")
    with pytest.raises(ValueError, match=r"one column 'x', the columns are 't', 'v', 'v'$"):
        data.read_series(file, "x")
    with pytest.raises(ValueError, match="expected one column 'v'"):
        data.read_series(file)


def test_windows() -> None:
    """Every window is a piece of the series, of numbers or of rows."""
    rows = np.random.default_rng(0).standard_normal((23, 2))
    inputs, targets = data.windows(rows, length=4, horizon=3, stride=2)
    assert (inputs.shape, targets.shape) == ((4, 9, 2), (3, 9, 2))
    for k in range(9):
        np.testing.assert_array_equal(inputs[:, k], rows[2 * k : 2 * k + 4])
        np.testing.assert_array_equal(targets[:, k], rows[2 * k + 4 : 2 * k + 7])
    assert data.windows(range(7), 4, 3).inputs.shape == (4, 1)
    inputs[0] = 0  # it is a copy
    assert rows[0].all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((range(6), 4, 3), "6 values are too few for windows of 4 and 3: at least 7 are needed"),
        ((5.0, 1, 1), "1 values are too few"),
        ((range(9), 0), "length must be a positive integer, got 0"),
        ((range(9), 2, 1.5), "horizon must be a positive integer, got 1.5"),
        ((range(9), 2, 1, True), "stride must be a positive integer, got True"),
    ],
)
def test_bad_windows(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^windows: {message}"):
        data.windows(*arguments)
