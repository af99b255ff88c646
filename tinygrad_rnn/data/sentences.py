"""Reading sentences: text in the manner of the Penn Treebank, one sentence a line."""

from __future__ import annotations

import os
import re

from tinygrad_rnn.data.text import SameWords, read_lines


def read_sentences(path: str | os.PathLike[str], end: str = "<eos>") -> list[list[str]]:
    """The sentences of a file that has one on each line, its words separated by spaces.

    This is the form in which language models get the Penn Treebank (Mikolov et al. 2010): words in
    small letters, ``N`` for numbers, ``<unk>`` for rare words. Words come as they stand in the
    file, with ``end`` after the last one of each sentence. Lines without a word are left out.

    Parameters
    ----------
    path : the file, in UTF-8.
    end : the token that ends a sentence, which is then no word of the text.

    Raises
    ------
    OSError
        where there is no such file, or it cannot be read.
    ValueError
        where it is no text, holds no word at all, or where a line, which is named, holds ``end``.
    """
    sentences: list[list[str]] = []
    same = SameWords()
    for number, line in enumerate(read_lines(path), 1):
        words = [same[found[0]] for found in re.finditer(r"\S+", line)]
        if end in words:
            raise ValueError(
                f"read_sentences: {str(path)!r}, line {number:,}: {end!r} is what ends a sentence "
                "and must not be a word of it"
            )
        if words:
            words.append(end)
            sentences.append(words)
    if not sentences:
        raise ValueError(f"read_sentences: {str(path)!r} holds no words")
    return sentences
