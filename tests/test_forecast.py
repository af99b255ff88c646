"""A series that goes on: examples/forecast.py."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import lab


def test_a_file_of_a_user(
    main: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A season of 12 steps with a little noise: it is found, and hard to beat by one that stays."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).standard_normal(300)
    lines = [f"{t},{20 + 5 * math.sin(math.pi * t / 6) + 0.5 * noise[t]:.3f},7" for t in range(300)]
    Path("series.csv").write_text("\n".join(["step,value,constant", *lines]))
    main("--quick", "--file", "series.csv", "--column", "value")
    said = capsys.readouterr().out
    assert "series.csv: 300 values, the last 60 held out" in said
    assert "forecast  5 values from 20, 56 times" in said  # the targets are within the last 60
    assert "season    12 steps (of those it is most alike after)" in said
    rows = re.findall(r"^(naive|seasonal naive|LSTM) +((?: *\d\.\d{3}){4})", said, re.M)
    errors = {name: [float(value) for value in row.split()] for name, row in rows}
    # Two values with noise of deviation 0.5 / 3.6 each differ by 0.16 in the mean.
    assert errors["seasonal naive"] == pytest.approx([0.16] * 4, abs=0.05)
    assert errors["naive"][3] > 5 * errors["seasonal naive"][3]
    assert errors["LSTM"][3] < errors["naive"][3]


def test_what_is_held_out(
    main: Callable[..., None], program: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what the model is fitted to nor how it is scaled depends on the last fifth."""
    fitted: list[np.ndarray] = []
    series = np.random.default_rng(1).standard_normal(200).cumsum()
    for last in (series, np.concatenate([series[:160], np.full(40, 99.0)])):
        monkeypatch.setattr(program, "brain_waves", lambda last=last: last)
        monkeypatch.setattr(program, "train", lambda model, values, *_: fitted.append(values))
        monkeypatch.setattr(lab, "draw_picture", lambda *_: "")
        main("--quick")
    np.testing.assert_array_equal(*fitted)
    assert fitted[0].shape == (160,)
    assert fitted[0].std() == pytest.approx(1)


def test_naive_forecasts(program: ModuleType) -> None:
    inputs = np.array([[1, 2, 3, 4, 5], [10, 20, 30, 40, 50]]).T
    np.testing.assert_array_equal(program.naive(inputs, 3), [[5, 50]] * 3)
    np.testing.assert_array_equal(
        program.seasonal_naive(inputs, 4, season=3), [[3, 30], [4, 40], [5, 50], [3, 30]]
    )
    assert program.season_of(np.tile([0.0, 1, 5, 2], 10), most=9) == 4


def test_the_network_goes_on(program: ModuleType) -> None:
    """Each value that it writes is what it would say if it had read those before it."""
    tg.manual_seed(3)
    model = program.Forecaster(5).to("float64")
    x = tg.randn(6, 3, 1, dtype="float64")
    written = model(x, 4)
    assert written.shape == (4, 3, 1)
    read = x
    for k in range(4):
        following = model(read, 1)
        np.testing.assert_allclose(following.numpy()[0], written.numpy()[k], atol=1e-12)
        read = tg.concat([read, following])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--file gap.csv", "read_series: 'gap.csv', line 3, column 'v': expected a number, got ''"),
        ("--file short.csv", "the first 8 values of the series must be more than 20, and not all"),
        ("--file flat.csv", "the first 80 values of the series must be more than 20, and not all"),
        ("--season 0", "--season must be at least 1, got 0"),
        ("--season 700", "windows: .* values are too few for windows of 700 and 5"),
        ("--device tpu", "device 'tpu' is unknown"),
    ],
)
def test_bad_input(
    main: Callable[..., None],
    program: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gap.csv").write_text("w,v\n1,2\n3,\n")
    Path("short.csv").write_text("\n".join(map(str, range(10))))
    Path("flat.csv").write_text("\n".join(["7"] * 100))
    series = np.random.default_rng(1).standard_normal(800)
    monkeypatch.setattr(program, "brain_waves", lambda: series)
    with pytest.raises(SystemExit, match=f"^forecast: .*{message}") as stopped:
        main("--quick", *options.split())
    assert "\n" not in str(stopped.value)


def test_without_matplotlib(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default series comes with it: what to install is said."""
    monkeypatch.setitem(sys.modules, "matplotlib.cbook", None)
    with pytest.raises(
        ValueError, match=r'comes with matplotlib: pip install "tinygrad_rnn\[lab\]'
    ):
        program.brain_waves()
