"""data/tagging.py: IOB files, spans, labels."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn import data

COLUMNS = """\
He PRP B-NP
# # B-NP

1.8 CD I-NP
"""
ATIS = """\
BOS i want to fly from baltimore to new york EOS\tO O O O O O B-from O B-to I-to atis_flight
BOS what is ewr EOS\tO O O B-code atis_abbreviation
"""


def write(folder: Path, text: str) -> Path:
    """A file with this text."""
    path = folder / "tags.iob"
    path.write_text(text, "utf-8")
    return path


def test_columns(tmp_path: Path) -> None:
    """As in CoNLL-2000, where # is a word; blank lines in any number, none needed at the end."""
    expected = [data.Tagged(["He", "#"], ["B-NP", "B-NP"]), data.Tagged(["1.8"], ["I-NP"])]
    for text in (
        COLUMNS,
        COLUMNS.replace(" ", "\t"),
        COLUMNS.replace(" ", "  "),
        COLUMNS.replace("\n", "\r\n"),
        "\n\n" + COLUMNS.replace("\n\n", "\n \t\n\n") + "\n\n",
        COLUMNS.removesuffix("\n"),
        "-DOCSTART- -X- O\n\n" + COLUMNS.replace("\n\n", "\n-DOCSTART- -X-\n"),
    ):
        assert data.read_tagged(write(tmp_path, text)) == expected
    path = write(tmp_path, "B-NP He PRP\nO said VBD")
    for place in ((1, 0), (-2, -3), (1, -3)):
        assert data.read_tagged(path, *place) == [data.Tagged(["He", "said"], ["B-NP", "O"])]


def test_words_keep_their_other_blanks(tmp_path: Path) -> None:
    """Only blanks and tabs part columns: a no-break space belongs to its word."""
    sentences = data.read_tagged(write(tmp_path, "1\N{NO-BREAK SPACE}000\tO\n"))
    assert sentences == [data.Tagged(["1\N{NO-BREAK SPACE}000"], ["O"])]


def test_comments(tmp_path: Path) -> None:
    """Left out where they are asked for; a line of three columns else breaks the file."""
    path = write(tmp_path, "# sent 1\nHe B-NP\n# a b\n# O\n")
    assert data.read_tagged(path, comment="# ") == [data.Tagged(["He"], ["B-NP"])]
    with pytest.raises(ValueError, match="line 1: a tag must be O, B-type or I-type, got '1'"):
        data.read_tagged(path)


def test_the_form_of_atis(tmp_path: Path) -> None:
    sentences = data.read_tagged(write(tmp_path, ATIS))
    assert len(sentences) == 2
    assert sentences[0].words == [
        "i",
        "want",
        "to",
        "fly",
        "from",
        "baltimore",
        "to",
        "new",
        "york",
    ]
    assert sentences[0].tags == ["O", "O", "O", "O", "O", "B-from", "O", "B-to", "I-to"]
    assert sentences[1] == data.Tagged(["what", "is", "ewr"], ["O", "O", "B-code"])
    assert data.read_tagged(write(tmp_path, "\n" + ATIS.replace("EOS\t", "EOS \t"))) == sentences


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("He B-NP\nsaid\n", "line 2: expected 2 columns as in the lines before, got 1"),
        ("He B-NP\n\nsaid a O\n", "line 3: expected 2 columns as in the lines before, got 3"),
        ("He\n", "line 1: expected a word in column 0 and its tag in column -1, got 1 columns"),
        ("He B-NP\nsaid X\n", "line 2: a tag must be O, B-type or I-type, got 'X'"),
        ("He B-\n", "line 1: a tag must be O, B-type or I-type, got 'B-'"),
        ("He E-NP\n", "line 1: a tag must be O, B-type or I-type, got 'E-NP'"),
        ("\n \n", "holds no sentence"),
        ("-DOCSTART- O\n", "holds no sentence"),
        (ATIS + "BOS a b EOS\tO O x\n", "line 3: 4 words, BOS and EOS included, but 3 tags, the"),
        (ATIS + "BOS a EOS\tO Z x\n", "line 3: a tag must be O, B-type or I-type, got 'Z'"),
        (ATIS + "BOS EOS\tO x\n", "line 3: a sentence without words"),
        (ATIS + "a b O O\n", "line 3: expected BOS, words, EOS, a tab and tags, got 'a b O O'"),
        (ATIS + "BOS a EOS O O x\n", "line 3: expected BOS, words, EOS, a tab and tags, got"),
    ],
)
def test_malformed_lines(tmp_path: Path, text: str, message: str) -> None:
    """File and line are named."""
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(f"{str(path)!r}") + ".*" + re.escape(message)):
        data.read_tagged(path)


@pytest.mark.parametrize("place", [(0, 0), (1, -1), (0, 2), (-3, 1)])
def test_columns_that_are_not_there(tmp_path: Path, place: tuple[int, int]) -> None:
    path = write(tmp_path, "He B-NP\n")
    message = f"column {place[0]} and its tag in column {place[1]}, got 2 columns"
    with pytest.raises(ValueError, match=message):
        data.read_tagged(path, *place)


# Spans


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("", []),
        ("O O", []),
        ("B-a", [("a", 0, 1)]),
        ("O B-a I-a O", [("a", 1, 3)]),
        ("B-a B-a", [("a", 0, 1), ("a", 1, 2)]),
        ("B-a I-a B-a I-a", [("a", 0, 2), ("a", 2, 4)]),
        ("B-a B-b", [("a", 0, 1), ("b", 1, 2)]),
        # Tags that are not well formed.
        ("I-a I-a", [("a", 0, 2)]),
        ("O I-a", [("a", 1, 2)]),
        ("B-a I-b I-b", [("a", 0, 1), ("b", 1, 3)]),
        ("I-a I-b I-a", [("a", 0, 1), ("b", 1, 2), ("a", 2, 3)]),
        ("I-a B-a", [("a", 0, 1), ("a", 1, 2)]),
        ("B-a O I-a", [("a", 0, 1), ("a", 2, 3)]),
        # A type may hold a dash, or be missing.
        ("B-a-b I-a-b I-a-c", [("a-b", 0, 2), ("a-c", 2, 3)]),
        ("B I O I", [("", 0, 2), ("", 3, 4)]),
        ("B-a I", [("a", 0, 1), ("", 1, 2)]),
    ],
)
def test_spans(tags: str, expected: list[tuple[str, int, int]]) -> None:
    assert data.spans(tags.split()) == expected


@given(st.lists(st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b"])))
def test_spans_of_any_tags(tags: list[str]) -> None:
    """They cover all that is not O, once; and written out as IOB they are found again."""
    found = data.spans(tags)
    written = ["O"] * len(tags)
    for kind, start, stop in found:
        assert written[start:stop] == ["O"] * (stop - start)
        written[start:stop] = [f"B-{kind}", *[f"I-{kind}"] * (stop - start - 1)]
    assert [tag.partition("-")[2] for tag in written] == [tag.partition("-")[2] for tag in tags]
    assert data.spans(written) == found


def test_a_tag_that_is_none() -> None:
    with pytest.raises(ValueError, match=r"^spans: position 1: a tag must be O, .* got 'S-city'$"):
        data.spans(["O", "S-city"])


# Labels


@given(st.lists(st.text(), min_size=1))
def test_labels_come_back(names: list[str]) -> None:
    labels = data.Labels.of(names)
    assert len(labels) == len(set(names))
    assert labels.encode(sorted(set(names))).tolist() == list(range(len(labels)))
    assert labels.decode(labels.encode(names)) == names


def test_labels_that_are_unknown() -> None:
    labels = data.Labels.of(["O", "B-a"])
    with pytest.raises(ValueError, match=r"the label 'I-a' is unknown; known are 'B-a', 'O'$"):
        labels.encode(["O", "I-a"])
    many = data.Labels(map(str, range(11)))
    with pytest.raises(ValueError, match=r"known are '0', .*'7' and 3 more$"):
        many.encode(["x"])
    for number in (2, -1):
        with pytest.raises(IndexError, match=f"number {number} is out of range for 2 labels"):
            labels.decode([0, number])
    with pytest.raises(ValueError, match=r"^Labels: the label 'O' is given twice$"):
        data.Labels(["O", "O"])
    with pytest.raises(ValueError, match=r"^Labels: expected at least one label, got none$"):
        data.Labels([])
