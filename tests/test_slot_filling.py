"""Slot filling: examples/slot_filling.py, and the requests that it learns from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import data, rnn

NETWORKS = ["feed-forward", "Elman", "Jordan", "LSTM", "bidirectional"]


# The requests


def test_requests_come_in_two_wordings() -> None:
    """One word differs, and with it the kind of every slot, and nothing else."""
    requests = data.travel_requests(300, np.random.default_rng(4))
    assert len(requests) == 300
    turned = {"destination": "place_of_departure", "time_of_arrival": "time_of_departure"}
    counts: Counter[tuple[str, str]] = Counter()
    for one, other in zip(requests[::2], requests[1::2], strict=True):
        pairs = [(a, b) for a, b in zip(one.words, other.words, strict=True) if a != b]
        assert pairs == [("arrive", "leave")]
        assert [(turned[kind], *place) for kind, *place in data.spans(one.tags)] == [
            tuple(span) for span in data.spans(other.tags)
        ]
        for words, tags in (one, other):
            counts.update(zip(words, tags, strict=True))
    for word in ("taipei", "november", "pm"):
        found = [count for (known, _), count in counts.items() if known == word]
        assert len(found) == 2
        assert found[0] == found[1]


def test_requests_of_a_seed() -> None:
    one, same, other = (data.travel_requests(40, np.random.default_rng(k)) for k in (1, 1, 2))
    assert one == same
    assert one != other
    for count in (3, -2):
        with pytest.raises(ValueError, match=f"count must be even and at least 0, got {count}"):
            data.travel_requests(count, np.random.default_rng(1))


def test_unseen_cities_are_in_no_other_request() -> None:
    random = np.random.default_rng(8)
    known, new = data.travel_requests(2000, random), data.travel_requests(200, random, unseen=True)
    words = {word for words, _ in known for word in words}
    for sentence in new:
        spans = data.spans(sentence.tags)
        city = {sentence.words[k] for k in range(spans[0].start, spans[0].stop)}
        assert not city & words
        assert set(sentence.words[spans[0].stop :]) <= words


# The networks


@pytest.mark.parametrize("cell", [rnn.RNNCell, rnn.LSTMCell])
@pytest.mark.parametrize("unroll", [False, True])
def test_gradients_travel_three_steps(program: ModuleType, cell: Any, unroll: bool) -> None:
    """Outputs are those of the cell; gradients end where its state is detached, in each row."""
    tg.manual_seed(1)
    inner = cell(2, 5).to("float64")
    layer = rnn.Recurrent(program.Truncated(inner, 3), unroll=unroll)
    x = tg.randn(8, 4, 2, dtype="float64")
    x.requires_grad = True
    output, _ = layer(x, lengths=[8, 8, 5, 1])
    plain, _ = rnn.Recurrent(inner)(x, lengths=[8, 8, 5, 1])
    np.testing.assert_allclose(output.numpy(), plain.numpy(), atol=1e-14)
    for t, reached in ((2, {0, 1, 2}), (3, {3}), (4, {3, 4}), (7, {6, 7})):
        x.grad = None
        layer(x, lengths=[8, 8, 5, 1])[0][t].sum().backward()
        size = np.abs(x.grad.numpy()).sum((1, 2))
        assert {int(k) for k in np.flatnonzero(size)} == reached


def test_truncation_counts_from_the_end_in_the_other_direction(program: ModuleType) -> None:
    tg.manual_seed(1)
    layer = rnn.Recurrent(program.Truncated(rnn.RNNCell(2, 5), 3), reverse=True)
    x = tg.randn(8, 4, 2)
    x.requires_grad = True
    layer(x)[0][3].sum().backward()
    assert np.flatnonzero(np.abs(x.grad.numpy()).sum((1, 2))).tolist() == [3, 4]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("preset", ["small", "mesnil"])
def test_what_a_network_sees(program: ModuleType, network: str, preset: str) -> None:
    """Which words the scores of word 4 depend on: its window, those before, or all of them."""
    tg.manual_seed(2)
    setting = program.PRESETS[preset]._replace(embedding=3, hidden=6, bptt=2, least=1)
    sentence = data.Tagged([f"w{k}" for k in range(12)], ["O"] * 12)
    code = program.Numbers([sentence], setting)
    model = program.Tagger(network, code.vectors(), 4, setting)
    words = code.encode(sentence.words)[:, None]
    scores = model(tg.tensor(words), np.array([12]))
    assert scores.shape == (12, 1, 4)
    sees = set()
    for k in range(12):
        changed = list(sentence.words)
        changed[k] = "gandalf"
        found = model(tg.tensor(code.encode(changed)[:, None]), np.array([12]))
        if np.abs(found.numpy() - scores.numpy())[4].max() > 1e-7:
            sees.add(k)
    half = setting.window // 2
    start = 4 - half if network == "feed-forward" else 0
    stop = 12 if network == "bidirectional" else 5 + half
    assert sees == set(range(start, stop))


def test_a_padded_sentence_is_read_as_if_alone(program: ModuleType) -> None:
    tg.manual_seed(7)
    setting = program.PRESETS["small"]._replace(embedding=3, hidden=6)
    sentences = data.travel_requests(6, np.random.default_rng(2))
    code = program.Numbers(sentences, setting)
    model = program.Tagger("bidirectional", code.vectors(), 4, setting)
    windows = [code.encode(words) for words, _ in sentences]
    tokens, lengths = data.pad(windows)
    assert len(set(lengths)) > 1
    scores = model(tg.tensor(tokens), lengths).numpy()
    for k, length in enumerate(lengths):
        alone = model(tg.tensor(windows[k][:, None]), lengths[k : k + 1]).numpy()
        np.testing.assert_allclose(scores[:length, k], alone[:, 0], atol=1e-6)


# The words


def test_words_as_numbers_and_letters(program: ModuleType) -> None:
    setting = program.PRESETS["small"]._replace(window=3, embedding=5)
    sentences = data.travel_requests(20, np.random.default_rng(0))
    numbers, letters = (kind(sentences, setting) for kind in (program.Numbers, program.Letters))
    words = ["leave", "wellington", "at"]
    a, b = numbers.encode(words), letters.encode(words)
    size = len(numbers.vocabulary)
    leave, at = numbers.vocabulary.encode(["leave", "at"])
    assert leave != at != 0
    assert a.tolist() == [[size, leave, 0], [leave, 0, at], [0, at, size]]
    assert b.shape == (3, 3, program.LETTERS)
    assert not b[0, 0].any()
    assert not b[2, 2].any()
    np.testing.assert_array_equal(b[:, 1], data.hash_letters(words, 3, program.LETTERS, "#"))
    np.testing.assert_array_equal(b[0, 1:], b[1, :2])
    for code, windows in ((numbers, a), (letters, b)):
        assert code.vectors()(tg.tensor(windows[:, None])).shape == (3, 1, 3, 5)
    many = np.full((100, 100, 1), 7)
    forgotten = numbers.forget(many, np.random.default_rng(0))
    assert set(np.unique(forgotten)) == {0, 7}
    assert 0.04 < np.mean(forgotten == 0) < 0.06


def test_fault_38_the_published_setting_knows_words_as_its_paper_does(program: ModuleType) -> None:
    """What occurs once is <UNK>, be it marked in the file or not, and nothing else is forgotten."""
    mesnil = program.PRESETS["mesnil"]
    assert (mesnil.least, mesnil.forget, mesnil.epochs, mesnil.patience) == (2, 0, 50, 50)
    words = ["to", "boston", "to", "denver", "<UNK>", "to", "<UNK>", "from", "boston"]
    code = program.Numbers([data.Tagged(words, ["O"] * len(words))], mesnil)
    assert code.vocabulary.tokens == ["<UNK>", "boston", "to"]
    windows = code.encode([*words, "never seen"])
    middle = windows[:, mesnil.window // 2].tolist()
    assert middle == [2, 1, 2, 0, 0, 2, 0, 0, 1, 0]
    np.testing.assert_array_equal(code.forget(windows, np.random.default_rng(0)), windows)


def test_measures(program: ModuleType) -> None:
    """Two of four slots right; of the five words that fill one, three."""
    truth = [data.Tagged(list("abc"), ["B-x", "I-x", "O"]), data.Tagged(["d"], ["B-y"])]
    truth.append(data.Tagged(list("ef"), ["B-x", "B-x"]))
    answers = [["B-x", "O", "O"], ["B-y"], ["B-y", "B-x"]]
    assert program.ambiguous(answers, truth) == pytest.approx(60)
    assert program.f1_of(answers, truth) == pytest.approx(50)


# Training


def test_one_word_alone_can_only_guess(program: ModuleType) -> None:
    """A feed-forward network is right in at most half of the ambiguous words, an Elman in most."""
    random = np.random.default_rng(6)
    parts = [data.travel_requests(count, random) for count in (300, 60, 100)]
    setting = program.PRESETS["small"]._replace(lr=0.02)
    shares = {}
    for network in ("feed-forward", "Elman"):
        result = program.train(network, *parts[:2], program.Numbers, setting, 1, "cpu")
        answers = result.predict(parts[2])
        shares[network] = program.ambiguous(answers, parts[2])
        assert result.epochs <= setting.epochs
        assert result.words_per_second > 0
        assert program.f1_of(result.predict(parts[1]), parts[1]) == result.valid_f1
    assert 40 < shares["feed-forward"] <= 50
    assert shares["Elman"] > 95


def test_files_of_a_user(
    main: Callable[..., None], program: ModuleType, tmp_path: Path, capsys: Any
) -> None:
    """Both forms of a file, a label that training has not, and a sentence per update."""
    random = np.random.default_rng(3)
    train, test = tmp_path / "train.iob", tmp_path / "test.iob"
    train.write_text(
        "\n".join(
            f"BOS {' '.join(words)} EOS\tO {' '.join(tags)} travel"
            for words, tags in data.travel_requests(40, random)
        )
    )
    test.write_text("zurich B-moon\n\nleave O\nboston B-place_of_departure\n")
    arguments = ["--train", str(train), "--test", str(test), "--preset", "mesnil", "--quick"]
    main(*arguments)
    said = capsys.readouterr().out
    assert "32 sentences of" in said
    assert "8 to stop by, 2 to test with" in said
    for network in program.QUICK_NETWORKS:
        assert re.search(rf"^{network} +\d+\.\d\d \(.*\) +\d+\.\d\d \(.*\) +3 +[\d,]+$", said, re.M)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "tpu"], "device 'tpu' is unknown"),
        (["--seeds", "0"], "--seeds must be at least 1"),
        (["--train", "x"], "files are given as --train and --test"),
        (["--valid", "x"], "files are given as --train and --test"),
        (["--train", "none.iob", "--test", "x"], "there is no file 'none.iob'"),
        (["--train", __file__, "--test", "x"], "line 1: a tag must be O, B-type or I-type"),
    ],
)
def test_wrong_options(main: Callable[..., None], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=f"^slot_filling: .*{message}"):
        main("--quick", *arguments)
