"""Words as numbers besides their place in a vocabulary: by their letters, with their neighbours.

1-of-N encoding is :func:`tinygrad_rnn.one_hot` of a vocabulary's numbers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from tinygrad_rnn.nn import check_size


def letter_ngrams(word: str, n: int = 3, boundary: str = "") -> list[str]:
    """The n-grams of a word: each run of n of its letters.

    Parameters
    ----------
    word : of at least n letters, boundaries included.
    n : letters in an n-gram.
    boundary : what is put before and after the word. With ``"#"`` every word has a 3-gram (Huang
        et al. 2013); with ``""`` a word shorter than n is an error.

    >>> letter_ngrams("apple")
    ['app', 'ppl', 'ple']
    >>> letter_ngrams("to", boundary="#")
    ['#to', 'to#']

    Raises
    ------
    ValueError
        where n is longer than the word, or not positive.
    """
    whole = f"{boundary}{word}{boundary}"
    check_size("letter_ngrams", n=n)
    if n > len(whole):
        raise ValueError(
            f"letter_ngrams: n = {n} is longer than the word {whole!r}, at most {len(whole)} is "
            "allowed"
        )
    return [whole[k : k + n] for k in range(len(whole) - n + 1)]


def hash_letters(
    words: Iterable[str], n: int = 3, size: int = 4096, boundary: str = ""
) -> np.ndarray:
    """Words as the set of their letter n-grams: 1 at the number of each, 0 elsewhere.

    The number of an n-gram is the CRC-32 of its UTF-8 bytes modulo ``size``: the same in every
    process, for every alphabet, and with nothing to be learnt, so it goes for words that were never
    seen. Two n-grams may share a number, the more rarely the larger ``size`` is. Source: word
    hashing, Huang et al. 2013, which numbers the n-grams of a vocabulary instead.

    Parameters
    ----------
    words : N words; n and boundary : see :func:`letter_ngrams`.
    size : how many numbers there are.

    Returns
    -------
    (N, size) in float32.

    >>> hash_letters(["apple"]).sum()
    np.float32(3.0)

    Raises
    ------
    ValueError
        where n is longer than a word, or n or size is not positive.
    """
    check_size("hash_letters", size=size)
    words = list(words)
    encoded = np.zeros((len(words), size), np.float32)
    for row, word in zip(encoded, words, strict=True):
        for ngram in letter_ngrams(word, n, boundary):
            row[zlib.crc32(ngram.encode("utf-8", "surrogatepass")) % size] = 1
    return encoded


def context_window(tokens: Any, size: int, padding: int) -> np.ndarray:
    """Each token with its neighbours: (T,) or (T, B) to (T, size) or (T, B, size).

    The token itself stands in the middle. Past the ends of the sequence stands ``padding``, which
    should be a number of its own, such as ``len(vocabulary)``. Source: Mesnil et al. 2013.

    Parameters
    ----------
    tokens : integers, time first; sequences of unequal lengths are windowed before they are padded.
    size : the number of tokens in a window, odd.
    padding : the number that stands for no token.

    >>> context_window([5, 6, 7], size=3, padding=9)
    array([[9, 5, 6],
           [5, 6, 7],
           [6, 7, 9]])

    Raises
    ------
    ValueError
        where the size is not odd and positive, or tokens are not integers with a time axis.
    """
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1 or not size % 2:
        raise ValueError(f"context_window: size must be odd and positive, got {size!r}")
    values = np.asarray(tokens)
    if values.ndim == 0 or (values.size and values.dtype.kind not in "iu"):
        raise ValueError(
            "context_window: tokens must be integers of shape (T, ...), got "
            f"{values.dtype} {values.shape}"
        )
    around = np.full((len(values) + size - 1, *values.shape[1:]), padding, np.int64)
    around[size // 2 : size // 2 + len(values)] = values
    return np.stack([around[k : k + len(values)] for k in range(size)], axis=-1)
