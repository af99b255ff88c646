"""A training that ends in NaN, and what helps: examples/exploding.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tinygrad_rnn as tg


def test_the_waveforms(program: ModuleType) -> None:
    """They fill [-1, 1], and each seed has its own."""
    waves = [program.waveform(seed) for seed in range(9)]
    for seed, wave in enumerate(waves):
        assert wave.shape == (program.T, 1, 1)
        assert wave.dtype == np.float32
        assert np.abs(wave).max() == 1
        np.testing.assert_array_equal(wave, program.waveform(seed))
    assert len({wave.tobytes() for wave in waves}) == 9


def test_each_remedy_changes_one_thing(program: ModuleType) -> None:
    """Besides its name; Adam cannot be compared at the rate of plain gradient descent."""
    nothing, *remedies = program.REMEDIES
    for remedy in remedies:
        pairs = zip(remedy._fields, remedy, nothing, strict=True)
        changed = {field for field, value, usual in pairs if value is not usual} - {"name"}
        assert len(changed) == 1 or changed == {"lr", "optimizer"}


def test_the_largest_eigenvalue(program: ModuleType) -> None:
    tg.manual_seed(3)
    cell = program.rotation()
    assert program.radius_of(cell) == pytest.approx(1, abs=1e-5)
    cell.weight_hh.data = np.diag(np.linspace(-1.7, 0.3, program.H)).astype(np.float32)
    assert program.radius_of(cell) == pytest.approx(1.7)
    assert np.isnan(program.radius_of(tg.rnn.LSTMCell(1, 5)))


def test_clipped_it_lasts(program: ModuleType) -> None:
    """At a rate so large that nothing else can be: what the optimizer says ends the run."""
    nothing, clipped = (remedy._replace(lr=0.6) for remedy in program.REMEDIES[:2])
    wave = program.waveform(2)
    with np.errstate(all="ignore"):
        bare, kept = (program.train(r, wave, 200, 2, "cpu") for r in (nothing, clipped))
    assert not bare.lasted
    assert len(bare.losses) < 200
    assert "holds inf or nan at update" in bare.said
    assert bare.error == np.inf
    assert kept.lasted
    assert len(kept.losses) == len(kept.norms) == 200
    assert kept.error == pytest.approx(np.mean(kept.losses[-50:]))
    assert kept.losses[0] == bare.losses[0]


def test_truncation(program: ModuleType) -> None:
    """What is computed is the same, the gradient is another."""
    wave = program.waveform(1)
    whole, cut = (
        program.train(program.REMEDIES[0]._replace(steps=steps), wave, 1, 1, "cpu")
        for steps in (program.T, 10)
    )
    assert cut.losses == pytest.approx(whole.losses, rel=1e-5)
    assert cut.norms != pytest.approx(whole.norms, rel=1e-3)


def test_story(
    main: Callable[..., None],
    program: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """A row for each remedy and, with --panels, a picture for each statement."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(program, "QUICK", 60)
    monkeypatch.setattr(program, "REMEDIES", tuple(
        remedy._replace(lr=0.6) if remedy.lr == program.RATE else remedy
        for remedy in program.REMEDIES
    ))  # fmt: skip
    main("--quick", "--panels", "--format", "svg")
    said = capsys.readouterr().out
    assert "nothing                     0 of 1" in said
    assert "norm clipped at 0.1         1 of 1" in said
    names = {path.name for path in (tmp_path / "runs" / "exploding").iterdir()}
    parts = ("loss", "norm", "remedies", "eigenvalues")
    assert names == {f"exploding-{part}.svg" for part in parts}


def test_wrong_options(main: Callable[..., None]) -> None:
    for arguments, message in (
        (["--device", "tpu"], "^exploding: device 'tpu' is unknown"),
        (["--seeds", "0"], "^exploding: --seeds must be at least 1"),
        (["--seed", "-1"], "^exploding: --seeds must be at least 1"),
    ):
        with pytest.raises(SystemExit, match=message):
            main("--quick", *arguments)
