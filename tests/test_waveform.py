"""Waveforms from networks that are told nothing: examples/waveform.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import rnn


def test_about_as_many_parameters(program: ModuleType) -> None:
    """Counted by hand: W_hh, W_ih (a bias, as the input is 1), and the head."""
    counts = {name: program.parameters(entry) for name, entry in program.NETWORKS.items()}
    blocks = sum(3 * 3 * k for k in range(1, 10))  # the k-th slowest module reads from k
    assert counts == {
        "Elman": 20 * 20 + 20 + 20 + 1,
        "LSTM": 4 * (10 * 10 + 10) + 10 + 1,
        "Clockwork": blocks + 27 + 27 + 1,
    }
    assert max(counts.values()) < 1.05 * min(counts.values())
    assert abs(counts["Clockwork"] / counts["LSTM"] - 1) <= 0.02


def test_the_waveforms(program: ModuleType) -> None:
    """They fill [-1, 1], each is another, and next to nothing is above 32 periods."""
    waves = [program.waveform(seed) for seed in range(20)]
    for seed, wave in enumerate(waves):
        assert wave.shape == (320, 1, 1)
        assert wave.dtype == np.float32
        assert np.abs(wave).max() == 1
        np.testing.assert_array_equal(wave, program.waveform(seed))
        power = np.abs(np.fft.rfft(wave.ravel() * np.hanning(320))) ** 2
        assert power[36:].sum() < 1e-3 * power.sum()
        assert power[3:].sum() > 0.1 * power.sum()
    assert len({wave.tobytes() for wave in waves}) == 20


def test_the_units_of_the_lstm_begin_with_times_of_their_own(program: ModuleType) -> None:
    """With recurrent weights 0, f = u / (1 + u) and i = 1 - f, where 1 <= u < T - 1."""
    for seed in range(5):
        tg.manual_seed(seed)
        cell = program.lstm()
        tg.nn.init.zeros_(cell.weight_hh)
        _, _, inner = rnn.Recurrent(cell)(tg.ones((1, 1, 1)), record=["f", "i"])
        f, i = inner["f"].numpy()[0, 0], inner["i"].numpy()[0, 0]
        np.testing.assert_allclose(f + i, 1, rtol=1e-5)
        times = f / (1 - f)
        assert 1 <= times.min() < times.max() < 320
        assert times.max() > 100


def test_the_other_cells(program: ModuleType) -> None:
    recurrent = program.elman().weight_hh.numpy()
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(20), atol=1e-5)
    assert program.clockwork().periods == tuple(2**k for k in range(9))


def test_the_network_is_told_nothing(program: ModuleType) -> None:
    """What Elman's says, by hand: its state is all that changes."""
    tg.manual_seed(3)
    model = program.Generator(program.elman())
    cell, head = model.recurrent.cell, model.head
    W_ih, W_hh, W, b = (
        parameter.numpy().astype(float)
        for parameter in (cell.weight_ih, cell.weight_hh, head.weight, head.bias)
    )
    h, expected = np.zeros(20), []
    for _ in range(40):
        h = np.tanh(W_ih[:, 0] + W_hh @ h)
        expected.append(W @ h + b)
    np.testing.assert_allclose(model(tg.ones((40, 1, 1))).numpy()[:, 0], expected, atol=1e-5)


def test_training(program: ModuleType) -> None:
    """The claim in small: on a waveform the Clockwork is ahead of the LSTM after 200 updates."""
    wave = program.waveform(1)
    runs = {
        name: program.train(program.NETWORKS[name], wave, 200, 1, "cpu")
        for name in ("LSTM", "Clockwork")
    }
    for run in runs.values():
        assert run.values.shape == (320,)
        np.testing.assert_allclose(run.error, np.mean((run.values - wave.ravel()) ** 2), rtol=1e-5)
    power = np.mean(wave**2)
    assert runs["Clockwork"].error < 0.1 * power
    assert runs["Clockwork"].error < runs["LSTM"].error < power
    entry = program.NETWORKS["Clockwork"]
    first, again, other = (program.train(entry, wave, 2, seed, "cpu").error for seed in (1, 1, 2))
    assert first == again != other


def test_the_table(
    main: Callable[..., None],
    program: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """Wins are counted for the same waveform and seed; a tie is one of them."""
    made = {"Elman": [9, 9, 9, 9], "LSTM": [4, 5, 6, 7], "Clockwork": [4, 0.25, 8, 8]}
    left = {name: iter(made[name]) for name in made}
    names = {entry: name for name, entry in program.NETWORKS.items()}

    def train(entry: Any, wave: np.ndarray, *_: Any) -> Any:
        return program.Run(next(left[names[entry]]) / 1000, wave.ravel())

    monkeypatch.setattr(program, "train", train)
    monkeypatch.chdir(tmp_path)
    main("--waveforms", "2", "--seeds", "2")
    printed = capsys.readouterr().out
    assert "same waveform and seed: 2 of 4." in printed
    rows = [" ".join(line.split()) for line in printed.splitlines()]
    assert "parameters 441 451 460" in rows
    assert "waveform 1 122 9.0 (9.0 to 9.0) 4.5 (4.0 to 5.0) 2.1 (0.25 to 4.0)" in rows
    assert "all 9.0 (9.0 to 9.0) 5.5 (4.0 to 7.0) 6.0 (0.25 to 8.0)" in rows
    pytest.importorskip("matplotlib")
    picture = Path("runs", "waveform", "waveform.png")
    assert f"picture {picture}" in rows
    assert (tmp_path / picture).stat().st_size > 10_000


@pytest.mark.parametrize("option", ["--seeds", "--updates", "--waveforms"])
def test_none_of_them(main: Callable[..., None], option: str) -> None:
    with pytest.raises(SystemExit, match=r"^waveform: .* must be at least 1$"):
        main(option, "0")
