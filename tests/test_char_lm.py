"""The main job, as a user runs it: examples/char_lm.py."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from programs import EXAMPLES, run_python

from tinygrad_rnn import training
from tinygrad_rnn.training import Checkpoint

PROGRAM = ("-W", "error", EXAMPLES / "char_lm.py")
SMALL = ("--quick", "--hidden", "16", "--epochs", "2", "--seed", "4")
HELD_OUT = re.compile(r"^held-out (\d+\.\d+) bits per character", re.MULTILINE)


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A folder in which the program ran with --quick, and what it said."""
    folder = tmp_path_factory.mktemp("quick")
    done = run_python(*PROGRAM, "--quick", cwd=folder)
    return folder, done.stdout, done.stderr


def test_a_quick_run(quick: tuple[Path, str, str]) -> None:
    """It learns, says so at every evaluation and at the end, and leaves the files it names."""
    folder, said, shown = quick
    measured = [float(bits) for bits in HELD_OUT.findall(said)]
    assert len(measured) == 4
    assert measured[-1] == measured[-2] == min(measured) < 4.3
    for part in ("bits per character", "tokens/s", "norm"):
        assert part in shown
    run_folder = folder / "runs" / "char_lm_quick" / "001"
    rows = training.read_metrics(run_folder / "metrics.csv")
    assert len(rows) == 105
    assert [row["update"] for row in rows if "held_out" in row] == [35, 70, 105]
    assert rows[0]["bits_per_character"] == pytest.approx(6.5, abs=0.3)
    assert rows[0]["learning_rate"] == 0.01 > rows[-1]["learning_rate"] > 0
    if importlib.util.find_spec("matplotlib"):
        assert (run_folder / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert Checkpoint.latest(run_folder).name == "checkpoint-00000105.safetensors"
    written = said.partition("It writes")[2].partition("\n")[2]
    assert len(written) >= 600


def test_writing_from_a_checkpoint(quick: tuple[Path, str, str]) -> None:
    """--sample needs no text and no training; it depends on seed and temperature alone."""
    folder = quick[0]

    def written(*options: str) -> str:
        return run_python(*PROGRAM, "--sample", *options, cwd=folder).stdout

    first = written("--quick")
    again = written("--folder", "runs/char_lm_quick/001", "--seed", "1")
    other = written("--quick", "--temperature", "1.5")
    assert len(first) == 1001
    assert first == again != other
    assert len(set(first)) < len(set(other))


def wait_for_rows(path: Path, count: int) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_bytes().count(b"\n") <= count:
        assert time.monotonic() < deadline, "training did not begin"
        time.sleep(0.01)


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_interrupted_and_resumed(tmp_path: Path) -> None:
    """Ctrl-C ends cleanly with a checkpoint; what --resume makes of it is a run without a stop."""
    whole = run_python(*PROGRAM, *SMALL, "--folder", "whole", cwd=tmp_path).stdout
    process = subprocess.Popen(
        [sys.executable, *PROGRAM, *SMALL, "--folder", "cut"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    wait_for_rows(tmp_path / "cut" / "metrics.csv", 5)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    stopped = re.search(
        r"^interrupted after (\d+) of 70 updates.*--resume --folder cut", said, re.M
    )
    assert stopped
    assert 5 <= int(stopped[1]) < 70
    assert (
        int(stopped[1]) == Checkpoint.load(Checkpoint.latest(tmp_path / "cut")).progress["updates"]
    )

    resumed = run_python(*PROGRAM, "--resume", "--folder", "cut", cwd=tmp_path).stdout
    assert f"from update {stopped[1]}" in resumed
    assert HELD_OUT.findall(resumed)[-1] == HELD_OUT.findall(whole)[-1]
    assert resumed.partition("It writes")[2] == whole.partition("It writes")[2]
    ends = [Checkpoint.load(Checkpoint.latest(tmp_path / name)) for name in ("whole", "cut")]
    for one, other in zip(*(end.model.values() for end in ends), strict=True):
        assert one.tobytes() == other.tobytes()
    times = ("seconds", "tokens_per_second")
    rows = [
        [{k: v for k, v in row.items() if k not in times} for row in training.read_metrics(path)]
        for path in (tmp_path / "whole" / "metrics.csv", tmp_path / "cut" / "metrics.csv")
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--file none.txt", "^char_lm: read_text: there is no file 'none.txt'$"),
        ("--file empty.txt", "^char_lm: read_text: 'empty.txt' is empty$"),
        ("--file binary.txt", "'binary.txt' is binary or UTF-16"),
        ("--file short.txt", "'short.txt' has 5 characters, at least 20,490 are needed"),
        ("--device tpu", "device 'tpu' is unknown"),
        ("--resume", "there is no checkpoint in the folder 'runs.char_lm.001'"),
        ("--sample --folder nowhere", "there is no checkpoint in the folder 'nowhere'"),
        ("--resume --folder damaged", "checkpoint-00000009.safetensors' is cut off, damaged or"),
        ("--resume --folder quick --hidden 9", "was made with hidden 64, this run has 9$"),
        ("--resume --folder quick --file other.txt", "was made with text sha256 '.*', this run"),
        ("--quick --folder quick", "'quick' holds a run already, of 105 updates; resume it or"),
    ],
)
def test_bad_input(
    main: Callable[..., None],
    quick: tuple[Path, str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: str,
    message: str,
) -> None:
    """One sentence, no traceback, and nothing is left behind."""
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").write_bytes(b"")
    Path("binary.txt").write_bytes(b"\x7fELF\0\0")
    Path("short.txt").write_text("short")
    Path("other.txt").write_text("another text, but long enough\n" * 1000)
    Path("damaged").mkdir()
    Path("damaged/checkpoint-00000009.safetensors").write_bytes(b"half of i")
    Path("quick").symlink_to(quick[0] / "runs" / "char_lm_quick" / "001")
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit, match=message) as stopped:
        main(*options.split())
    assert "\n" not in str(stopped.value)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--cell foo", "--cell: invalid choice: 'foo'"),
        ("--epochs 0", "--epochs: expected a whole number from 1, got '0'"),
        ("--hidden 2.5", "--hidden: expected a whole number from 1, got '2.5'"),
        ("--temperature -1", "--temperature: expected a number from 0, got '-1'"),
        ("--minutes soon", "--minutes: expected a number from 0, got 'soon'"),
    ],
)
def test_bad_options(
    main: Callable[..., None], capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(*options.split())
    assert message in capsys.readouterr().err


def test_without_matplotlib(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture is optional: what is missing is said, with the extra that brings it."""
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (tmp_path / "metrics.csv").write_text("update,bits_per_character\n1,6.5\n2,5.5\n")
    picture = program.picture(tmp_path, "title", None)
    options = program.make_parser().parse_args([])
    said = program.lab.draw_picture(picture, tmp_path / "loss", options)
    assert 'pip install "tinygrad_rnn[lab]"' in said


def test_what_stands_within_quotes(program: ModuleType) -> None:
    found = program.within_quotes('a "bc" d "e"')
    assert "".join(np.array([*'a "bc" d "e"'])[found]) == "bce"
