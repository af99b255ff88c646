"""data/encodings.py: 1-of-N, letter n-grams, context windows."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import run_python

import tinygrad_rnn as tg
from tinygrad_rnn import data

# 1-of-N, with an entry for all that is not known


def test_one_of_n() -> None:
    """Gandalf and Sauron are other: both set element 0, and only that."""
    vocabulary = data.Vocabulary(["apple", "bag", "cat", "dog", "elephant"], other="<other>")
    words = ["cat", "Gandalf", "apple", "Sauron"]
    encoded = tg.one_hot(tg.tensor(vocabulary.encode(words)), len(vocabulary)).numpy()
    assert encoded.dtype == np.float32
    np.testing.assert_array_equal(
        encoded, [[0, 0, 0, 1, 0, 0], [1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]]
    )
    assert vocabulary.decode(encoded.argmax(1)) == ["cat", "<other>", "apple", "<other>"]


# Letters


def test_apple() -> None:
    """It sets exactly app, ppl, ple."""
    assert data.letter_ngrams("apple") == ["app", "ppl", "ple"]
    row = data.hash_letters(["apple"])[0]
    numbers = [zlib.crc32(ngram) % 4096 for ngram in (b"app", b"ppl", b"ple")]
    assert len(set(numbers)) == 3
    assert np.flatnonzero(row).tolist() == sorted(numbers)
    assert row[numbers].tolist() == [1, 1, 1]
    assert row.dtype == np.float32


def test_words_that_share_letters_share_numbers() -> None:
    """The word appleton has all of apple's; banana's an and na are in it twice, and set once."""
    apple, appleton, pear = data.hash_letters(["apple", "appleton", "pear"])
    assert (appleton >= apple).all()
    assert (apple * pear).sum() == 0
    assert data.letter_ngrams("banana", 2) == ["ba", "an", "na", "an", "na"]
    assert data.hash_letters(["banana"], n=2).sum() == 3


@given(st.text(min_size=1), st.integers(1, 4), st.sampled_from(["", "#", "<>"]))
def test_ngrams_of_any_word(word: str, n: int, boundary: str) -> None:
    whole = boundary + word + boundary
    if n > len(whole):
        with pytest.raises(ValueError, match="is longer than the word"):
            data.letter_ngrams(word, n, boundary)
        return
    ngrams = data.letter_ngrams(word, n, boundary)
    assert len(ngrams) == len(whole) - n + 1
    assert ngrams[0] + "".join(ngram[-1] for ngram in ngrams[1:]) == whole
    encoded = data.hash_letters([word], n, 97, boundary)
    assert encoded.shape == (1, 97)
    assert 1 <= encoded.sum() <= len(set(ngrams))


def test_a_hash_is_the_same_in_every_process() -> None:
    code = (
        "from tinygrad_rnn import data\n"
        "print(data.hash_letters(['Z\\u00fcrich'], size=50)[0].nonzero()[0].tolist())"
    )
    expected = data.hash_letters(["Z\N{LATIN SMALL LETTER U WITH DIAERESIS}rich"], size=50)[0]
    assert run_python("-c", code).stdout.strip() == str(expected.nonzero()[0].tolist())


def test_no_words() -> None:
    assert data.hash_letters([], size=5).shape == (0, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("to", 3), "^letter_ngrams: n = 3 is longer than the word 'to', at most 2 is allowed$"),
        (("a", 4, "#"), "n = 4 is longer than the word '#a#', at most 3 is allowed"),
        (("apple", 0), "n must be a positive integer, got 0"),
        (("apple", 1.5), "n must be a positive integer, got 1.5"),
        (("apple", True), "n must be a positive integer, got True"),
    ],
)
def test_ngrams_that_do_not_fit(arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        data.letter_ngrams(*arguments)


def test_hashing_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="n = 3 is longer than the word 'on'"):
        data.hash_letters(["arrive", "on"])
    with pytest.raises(ValueError, match=r"^hash_letters: size must be a positive integer, got 0$"):
        data.hash_letters(["apple"], size=0)


# Windows


@given(st.lists(st.integers(0, 99)), st.sampled_from([1, 3, 5, 7]))
def test_windows(tokens: list[int], size: int) -> None:
    """Row t holds tokens t - h ... t + h, and the padding where there is none."""
    windows = data.context_window(tokens, size, padding=100)
    assert windows.shape == (len(tokens), size)
    assert windows.dtype == np.int64
    half = size // 2
    for t in range(len(tokens)):
        for k in range(-half, half + 1):
            inside = 0 <= t + k < len(tokens)
            assert windows[t, half + k] == (tokens[t + k] if inside else 100)


def test_windows_of_a_batch() -> None:
    tokens = np.random.default_rng(0).integers(0, 9, (4, 3))
    windows = data.context_window(tokens, 3, 9)
    assert windows.shape == (4, 3, 3)
    for b in range(3):
        np.testing.assert_array_equal(windows[:, b], data.context_window(tokens[:, b], 3, 9))
    # A vocabulary's small integers hold no number beyond their own.
    assert data.context_window(np.array([255], np.uint8), 3, 256).tolist() == [[256, 255, 256]]


@pytest.mark.parametrize("size", [0, 2, -1, 3.0, True, None])
def test_sizes_of_windows(size: Any) -> None:
    with pytest.raises(ValueError, match=f"size must be odd and positive, got {size!r}"):
        data.context_window([1], size, 0)


def test_what_is_no_tokens() -> None:
    with pytest.raises(ValueError, match=r"tokens must be integers of shape \(T, ...\), got float"):
        data.context_window([0.5], 3, 0)
    with pytest.raises(ValueError, match=r"got int64 \(\)"):
        data.context_window(3, 3, 0)
