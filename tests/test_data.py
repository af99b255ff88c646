"""data/: reading text, vocabularies, batches."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tg
from tinygrad_rnn import data, nn

# Text


def test_reading_a_file(tmp_path: Path) -> None:
    """Line ends become newlines, and a byte order mark is no character."""
    file = tmp_path / "text.txt"
    file.write_bytes("\ufeffÜber\r\nden\rWolken\n".encode())
    assert data.read_text(file) == data.read_text(str(file)) == "Über\nden\nWolken\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text".encode("utf-16"), "is binary or UTF-16"),
        (b"", "'.*bad.txt' is empty$"),
        (b"caf\xe9 au lait", r"'.*' is not UTF-8 text \(byte 3 is 0xe9\); convert it to UTF-8"),
        (
            b"\x7fELF\x02\x01\x01\x00\x00",
            r"'.*' is binary or UTF-16, not UTF-8 text \(byte 7 is zero\)",
        ),
        (b"short", "has 5 characters, at least 1,000 are needed"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "bad.txt"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        data.read_text(file, at_least=1000)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^read_text: there is no file '.*none.txt'$"):
        data.read_text(tmp_path / "none.txt")
    with pytest.raises(IsADirectoryError, match="is a folder, expected a text file"):
        data.read_text(tmp_path)


def test_the_language_reference() -> None:
    text = data.python_reference()
    assert text == data.python_reference()
    assert len(text) > 400_000
    assert "The assignment statement" in text or "Assignment statements" in text
    assert data.fingerprint(text) == hashlib.sha256(text.encode()).hexdigest()
    assert data.fingerprint(text) != data.fingerprint(text + " ")


def test_split() -> None:
    """The last tenth, of a string and of an array, and every token in one of the two."""
    text = "".join(map(chr, range(65, 65 + 37)))
    begin, end = data.split_held_out(text)
    assert (begin + end, len(end)) == (text, 3)
    first, last = data.split_held_out(np.arange(40), share=0.25)
    assert first.tolist() + last.tolist() == list(range(40))
    assert len(last) == 10
    with pytest.raises(ValueError, match="share must satisfy 0 < share < 1, got 1"):
        data.split_held_out(text, 1)


# Vocabulary


@given(st.text(min_size=1))
def test_known_characters_come_back(text: str) -> None:
    text = text.replace("\N{REPLACEMENT CHARACTER}", "x")
    vocabulary = data.Vocabulary.of(text)
    numbers = vocabulary.encode(text)
    assert "".join(vocabulary.decode(numbers)) == text
    assert numbers.dtype.kind == "u"
    assert set(numbers.tolist()) == set(range(1, len(vocabulary)))
    assert data.Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


def test_other_tokens() -> None:
    """Words that are not known share number 0."""
    vocabulary = data.Vocabulary.of(["the", "ring", "the", "hobbit"], other="<other>")
    assert len(vocabulary) == 4
    assert "ring" in vocabulary
    assert "Gandalf" not in vocabulary
    numbers = vocabulary.encode(["Gandalf", "hobbit", "Sauron"])
    assert numbers.tolist() == [0, 1, 0]
    assert vocabulary.decode(numbers) == ["<other>", "hobbit", "<other>"]
    assert repr(vocabulary) == "Vocabulary(3 tokens and other '<other>')"


@pytest.mark.parametrize(("size", "dtype"), [(255, "uint8"), (256, "uint16"), (65_536, "uint32")])
def test_numbers_are_small(size: int, dtype: str) -> None:
    vocabulary = data.Vocabulary(map(str, range(size)))
    assert vocabulary.encode([str(size - 1)]).dtype == dtype
    assert vocabulary.encode([str(size - 1)]) == size


def test_bad_vocabularies() -> None:
    with pytest.raises(ValueError, match="the token 'b' is given twice"):
        data.Vocabulary("abcb")
    with pytest.raises(ValueError, match="the token 'a' is given twice"):
        data.Vocabulary("abc", other="a")
    with pytest.raises(ValueError, match="at least one token, got none"):
        data.Vocabulary("")
    with pytest.raises(TypeError, match="tokens must be strings, got 3"):
        data.Vocabulary(["a", 3])  # pyright: ignore[reportArgumentType]
    with pytest.raises(IndexError, match="number 4 is out of range for 4 entries"):
        data.Vocabulary("abc").decode([1, 4])
    with pytest.raises(TypeError, match="expected integers, got float64"):
        data.Vocabulary("abc").decode([1.0])  # pyright: ignore[reportArgumentType]


# Batches


@given(st.integers(2, 200), st.integers(1, 7), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_contiguous_batches(
    count: int, batch_size: int, length: int, partial: bool, first: int
) -> None:
    """Streams are pieces of the text, windows follow each other, targets are one ahead."""
    tokens = np.arange(first, first + count).astype(np.uint16)
    if count < batch_size * (1 if partial else length) + 1:
        with pytest.raises(ValueError, match="are too few"):
            data.ContiguousBatches(tokens, batch_size, length, partial=partial)
        return
    batches = data.ContiguousBatches(tokens, batch_size, length, partial=partial)
    assert len(batches) == len(list(batches)) > 0
    inputs = np.concatenate([batch.inputs for batch in batches])
    targets = np.concatenate([batch.targets for batch in batches])
    assert (targets == inputs + 1).all()
    assert inputs[0, 0] == first
    assert (np.diff(inputs, axis=0) == 1).all()
    assert (np.diff(inputs[0]) == (count - 1) // batch_size).all()
    shapes = {batch.inputs.shape for batch in batches[:-1]}
    assert shapes <= {(length, batch_size)}
    if partial:
        assert len(inputs) == (count - 1) // batch_size
    else:
        assert batches[-1].inputs.shape == (length, batch_size)


def test_batches_are_looked_up_by_number() -> None:
    """What a run needs in order to go on from the middle of an epoch is a number."""
    batches = data.ContiguousBatches(np.arange(100), 3, 5)
    assert repr(batches) == "ContiguousBatches(6 batches of 5 steps in 3 streams)"
    every = list(batches)
    for k in range(-len(batches), len(batches)):
        np.testing.assert_array_equal(batches[k].inputs, every[k].inputs)
        assert batches[k].inputs.flags.c_contiguous
        assert batches[k].inputs.dtype == np.int64
    assert len(batches[4:]) == 2
    with pytest.raises(IndexError, match="batch 6 is out of range for 6"):
        batches[6]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((range(640), 32, 64), ValueError, "640 tokens are too few for 32 streams with windows "
         "of 64: at least 2,049 are needed"),
        (([], 1, 1), ValueError, "0 tokens are too few"),
        (([0.5, 1.5], 1, 1), TypeError, r"integers of shape \(N,\), got float64 \(2,\)"),
        (([[1, 2], [3, 4]], 1, 1), TypeError, r"got int64 \(2, 2\)"),
        ((range(9), 0, 1), ValueError, "batch_size must be a positive integer, got 0"),
        ((range(9), 1, 2.5), ValueError, "length must be a positive integer, got 2.5"),
    ],
)  # fmt: skip
def test_bad_batches(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        data.ContiguousBatches(*arguments)


def test_small_integers_index_a_table_of_their_whole_range(device: str) -> None:
    """256 rows, and uint8 numbers: len(table) itself does not fit in the dtype."""
    table = nn.Embedding(256, 3).to(device)
    numbers = np.array([[255, 0], [255, 7]], np.uint8)
    nn.cross_entropy(
        tg.linear(table(numbers), tg.ones((256, 3), device=device)), numbers
    ).backward()
    table.weight.grad = None
    table(tg.tensor(numbers, device=device)).sum().backward()
    expected = np.zeros((256, 3))
    np.add.at(expected, numbers, 1)
    np.testing.assert_array_equal(table.weight.grad.numpy(), expected)  # pyright: ignore
