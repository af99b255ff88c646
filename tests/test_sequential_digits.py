"""Digits a pixel at a time: examples/sequential_digits.py."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest

import tinygrad_rnn as tg


def test_without_scikit_learn(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that names the extra."""
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(SystemExit, match=r"^sequential_digits: .* scikit-learn, .*\[examples\]"):
        program.load(1)


def test_the_images(program: ModuleType) -> None:
    pytest.importorskip("sklearn")
    learning, held_out = program.load(1)
    assert learning.pixels.shape == (1437, 64)
    assert held_out.pixels.shape == (360, 64)
    assert learning.pixels.dtype == np.float32
    assert (learning.pixels.min(), learning.pixels.max()) == (0, 1)
    assert set(held_out.labels) == set(range(10))
    rows = {row.tobytes() for row in learning.pixels}
    assert sum(row.tobytes() in rows for row in held_out.pixels) == 0
    assert not np.array_equal(program.load(2)[1].labels, held_out.labels)


@pytest.mark.parametrize("name", ["GRU", "LSTM", "Elman"])
def test_the_network_reads_to_the_end(program: ModuleType, name: str) -> None:
    """A change of the last pixel changes the scores, and so does one of the first."""
    tg.manual_seed(0)
    model = program.Reader(program.CELLS[name]())
    pixels = np.random.default_rng(0).random((3, 64), np.float32)
    scores = model(tg.tensor(pixels)).numpy()
    assert scores.shape == (3, 10)
    for place in (0, 63) if name != "Elman" else (63,):
        other = pixels.copy()
        other[1, place] += 1
        changed = np.any(model(tg.tensor(other)).numpy() != scores, axis=1)
        assert list(changed) == [False, True, False]


def test_training(program: ModuleType) -> None:
    """A few batches are enough to be better than a guess, and a seed repeats itself."""
    pytest.importorskip("sklearn")
    found = program.train("GRU", 1, 3, 20, "cpu")
    assert len(found) == 3
    assert found[-1] > 0.15
    assert program.train("GRU", 1, 3, 20, "cpu") == found
