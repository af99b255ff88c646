"""Runs in unlucky surroundings: damaged metrics and progress, disks full for a while, forks."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import stat
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import Run, example, files, parts, same

from tinygrad_rnn import nn, optim, training
from tinygrad_rnn.nn import WeightsError
from tinygrad_rnn.nn.files import pack
from tinygrad_rnn.training import Checkpoint, CheckpointError, EarlyStopping
from tinygrad_rnn.training.checkpoint import KIND

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and forks as POSIX has them")

# 57: damaged metrics


GOOD = b"update,loss\n1,0.5\n"
DAMAGED = {
    "no text": (GOOD + b"2,\xff\n", "line 3: it is not UTF-8 text"),
    "more values": (GOOD + b"2,1,3\n", "line 3: expected 2 values, as there are columns, got 3"),
    "fewer values": (GOOD + b"2\n", "line 3: expected 2 values, as there are columns, got 1"),
    "a column twice": (b"update,loss,loss\n1,2,3\n", "line 1: a column comes twice"),
    "a line end within": (GOOD + b"2,0\r5\n", "line 3: new-line character seen in unquoted field"),
    "too long a field": (GOOD + b"2," + b"1" * 200_000 + b"\n", "line 3: field larger than field "),
}


@pytest.mark.parametrize(("content", "said"), DAMAGED.values(), ids=DAMAGED.keys())
def test_fault_57_damaged_metrics(tmp_path: Path, content: bytes, said: str) -> None:
    """One sentence with file and line, for who reads them and for a run that goes on."""
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    message = rf"^the metrics '.*metrics.csv' are damaged, {said}.*; mend the file or remove it$"
    with pytest.raises(ValueError, match=message):
        training.read_metrics(path)
    with pytest.raises(ValueError, match=message):
        training.MetricsFile(path, 3)
    assert path.read_bytes() == content


def test_fault_57_metrics_that_are_no_numbers(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_bytes(GOOD + b"2,low\n")
    with pytest.raises(ValueError, match=r"line 3: could not convert string to float: 'low'; mend"):
        training.read_metrics(path)
    for row in (b"x,1\n", b",1\n", b"1.5,1\n", b"-1,1\n", b"\0,1\n"):
        path.write_bytes(GOOD + row)
        with pytest.raises(ValueError, match="line 3: expected the number of an update, got '"):
            training.MetricsFile(path, 3)
    path.write_bytes(b"step,loss\n1,0.5\n")
    with pytest.raises(ValueError, match="line 2: expected the number of an update, got ''"):
        training.MetricsFile(path, 3)


def test_fault_57_metrics_that_are_damaged_amidst_a_run(tmp_path: Path) -> None:
    rows = training.MetricsFile(tmp_path / "metrics.csv", 0)
    rows.append({"update": 1})
    (tmp_path / "metrics.csv").write_bytes(b"update\n1,2\n")
    with pytest.raises(ValueError, match="are damaged, line 2: expected 1 values"):
        rows.append({"update": 2, "loss": 1.0})


def test_metrics_of_a_spreadsheet(tmp_path: Path) -> None:
    """What another program has saved anew, with its line ends and a mark at the beginning."""
    path = tmp_path / "metrics.csv"
    path.write_bytes(b'\xef\xbb\xbfupdate,"loss"\r\n1,"0.5"\r\n\r\n2,\r\n3,0.25\r\n4,0.')
    assert training.read_metrics(path) == [
        {"update": 1, "loss": 0.5}, {"update": 2}, {"update": 3, "loss": 0.25}
    ]  # fmt: skip
    training.MetricsFile(path, 2).close()
    assert path.read_bytes() == b"update,loss\n1,0.5\n2,\n"


# 57: states and progress that no run has made


def containers(state: Any) -> str:
    """The text of a checkpoint with this state."""
    names = ("optimizer", "generator", "progress", "settings", "parts")
    document: dict[str, Any] = {name: {} for name in names}
    return json.dumps({**document, "state": state})


def fields(*names: Any, name: Any = "State") -> dict[str, Any]:
    return {"name": name, "fields": list(names), "parts": [None] * len(names)}


STATES = {
    "read as one": fields("\N{LATIN SMALL LIGATURE FI}", "fi"),
    "read as one too": fields("\N{FEMININE ORDINAL INDICATOR}", "a"),
    "the same": fields("h", "h"),
    "a keyword": fields("lambda"),
    "an underscore": fields("_h"),
    "a number": fields("1h"),
    "no strings": fields(1, None),
    "no list": {"name": "State", "fields": "h c", "parts": [None, None]},
    "no name": fields("h", name=["State"]),
    "a keyword as name": fields("h", name="class"),
    "a key twice": {"dict": [["h", None], ["h", None]]},
    "a key of no kind": {"dict": [[1.5, None]]},
    "more kinds than any": {"list": [fields(name=f"State{k}") for k in range(101)]},
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
def test_fault_57_states_that_no_run_has_made(tmp_path: Path, state: Any) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(pack(KIND, containers(state), {}))
    message = "it has the form of a checkpoint, but not its content"
    with pytest.raises(CheckpointError, match=message) as caught:
        Checkpoint.load(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_fault_57_a_name_that_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(pack(KIND, containers(None)[:-1] + ', "progress": {"updates": 1}}', {}))
    with pytest.raises(CheckpointError, match=r"not its content \(ValueError: a name comes twice"):
        Checkpoint.load(path)


def test_fault_57_what_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    """A state, or an array, that would make a file that nobody can load."""
    renamed = namedtuple("State", ["h", "h"], rename=True)  # whose second field is called _1
    array, bad = np.ones(2), np.ones(2, complex)
    checkpoint = Checkpoint({}, {}, {}, renamed(array, array), {}, {})
    with pytest.raises(CheckpointError, match="a NamedTuple 'State': Field names cannot start wit"):
        checkpoint.save(tmp_path / "one")
    with pytest.raises(CheckpointError, match="it model/w is complex128, which a safetensors file"):
        Checkpoint({"w": bad}, {}, {}, None, {}, {}).save(tmp_path / "one")
    assert files(tmp_path) == []


def test_states_come_back_in_the_order_of_their_containers(tmp_path: Path) -> None:
    state = {"z": np.zeros(1), "a": (np.ones(2), {"y": np.ones(3), "b": np.ones(4)})}
    Checkpoint({}, {}, {}, state, {}, {}).save(tmp_path / "one")
    assert same(Checkpoint.load(tmp_path / "one").state, state)


WRONG: list[tuple[str, Any, str]] = [
    ("updates", -3, "an integer >= 0"),
    ("updates", 2.5, "an integer >= 0"),
    ("updates", True, "an integer >= 0"),
    ("updates", "3", "an integer >= 0"),
    ("updates", 10**30, "an integer >= 0 of at most 63 bits"),
    ("epoch", -1, "an integer >= 0"),
    ("epoch", 100, "no more than its 3 updates make"),
    ("batch", 100, "less than batches 8"),
    ("batch", 8, "less than batches 8"),
    ("batch", -1, "an integer >= 0"),
    ("batches", 0, "an integer >= 1"),
    ("batches", None, "an integer >= 1"),
    ("accumulate", 0, "an integer >= 1"),
    ("accumulate", "x", "an integer >= 1"),
    ("seconds", "a", "a number >= 0"),
    ("seconds", -1.0, "a number >= 0"),
    ("seconds", math.nan, "a number >= 0"),
    ("seconds", None, "a number >= 0"),
    ("best", "x", "a number or None"),
    ("best", math.nan, "a number or None"),
    ("best", [1.0], "a number or None"),
]


@pytest.mark.parametrize(("key", "value", "expected"), WRONG)
def test_fault_57_a_progress_that_no_run_has_made(
    tmp_path: Path, key: str, value: Any, expected: str
) -> None:
    """Refused at once, in one sentence, and nothing has changed."""
    run = Run(tmp_path)
    run.trainer.fit(updates=3)
    good, before = run.trainer.checkpoint(), run.everything()
    bad = Checkpoint(**(parts(good) | {"progress": {**good.progress, key: value}}))
    with pytest.raises(CheckpointError) as caught:
        run.trainer.resume(bad, may_differ=["accumulate"])
    said = f"the checkpoint is damaged: its progress says {key} {value!r:.40}, expected {expected}"
    assert str(caught.value).startswith(said)
    assert run.everything() == before


GENERATORS: list[dict[str, Any]] = [
    {},
    {"bit_generator": "MT19937"},
    {"state": None},
    {"state": {"state": 1}},
    {"state": {"state": 1.5, "inc": 3}},
    {"state": {"state": "1", "inc": 3}},
    {"state": {"state": -1, "inc": 3}},
    {"state": {"state": 2**200, "inc": 3}},
    {"has_uint32": "no"},
    {"uinteger": 2**40},
    {"more": 1},
]


@pytest.mark.parametrize("change", GENERATORS)
def test_fault_57_a_state_of_the_generator_that_is_none(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    run = Run(tmp_path)
    run.trainer.fit(updates=3)
    good, before = run.trainer.checkpoint(), run.everything()
    generator = {**good.generator, **change} if change else {}
    bad = Checkpoint(**(parts(good) | {"generator": generator}))
    with pytest.raises(CheckpointError, match=r"^the checkpoint does not fit: "):
        run.trainer.resume(bad)
    assert run.everything() == before


COUNTS: list[dict[str, Any]] = [{"updates": -3}, {"updates": "3"}, {"consecutive_skips": 1.5},
                                {"nonfinite_steps": None}, {"counts": [-1] * 7},
                                {"counts": ["x"] * 7}]  # fmt: skip


@pytest.mark.parametrize("change", COUNTS)
def test_fault_57_counts_of_an_optimizer_that_are_none(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    run = Run(tmp_path)
    run.trainer.fit(updates=3)
    good, before = run.trainer.checkpoint(), run.everything()
    bad = Checkpoint(**(parts(good) | {"optimizer": {**good.optimizer, **change}}))
    with pytest.raises(CheckpointError, match=r"does not fit: Adam.load_state_dict: .* must be"):
        run.trainer.resume(bad)
    assert run.everything() == before


@pytest.mark.parametrize("state", [{"best": "x", "waited": 0}, {"best": 1.0, "waited": "a"}])
def test_fault_57_states_of_parts(state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^EarlyStopping.load_state_dict: best must be a number"):
        EarlyStopping(3).load_state_dict(state)
    plateau = {"rate": 0.1, "best": None, "bad": 0, "cooling": 0}
    for name, value in {"rate": "a", "best": "x", "bad": 0.5, "cooling": None}.items():
        with pytest.raises(ValueError, match=rf"^Plateau.load_state_dict: {name} is no number, go"):
            optim.schedules.Plateau(0.1).load_state_dict({**plateau, name: value})


def test_fault_57_settings_that_hold_nan(tmp_path: Path) -> None:
    """Are equal to themselves, however deep; and differ from what they differ from."""
    settings = {"a": math.nan, "b": [1, {"c": math.nan}]}
    Run(tmp_path, settings=settings).trainer.fit(updates=3)
    path = Checkpoint.latest(tmp_path)
    Run(tmp_path, settings=settings).trainer.resume(path)
    for other in ({"a": 1.0, "b": settings["b"]}, {"a": math.nan, "b": [1, {"c": None}]}):
        with pytest.raises(CheckpointError, match="was made with"):
            Run(tmp_path, settings=other).trainer.resume(path)


# 58: what could not be written for a while


def failing(error: int, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    """A function of os that fails for a file of that name."""

    def fail(*arguments: Any, **options: Any) -> Any:
        if any(name in str(argument) for argument in arguments):
            raise OSError(error, os.strerror(error))
        return original(*arguments, **options)

    return fail


def whole(folder: Path, updates: int = 12) -> Run:
    run = Run(folder)
    run.trainer.fit(updates=updates)
    return run


@pytest.mark.parametrize("updates", [3, 12])
def test_fault_58_a_best_checkpoint_that_could_not_be_written(tmp_path: Path, updates: int) -> None:
    """When fit goes on, with updates left or not, neither it nor a row of metrics is missing."""
    expected, run = whole(tmp_path / "whole", updates), Run(tmp_path / "full")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", failing(errno.ENOSPC, "best.safetensors", os.replace))
        for _ in range(2):
            with pytest.raises(CheckpointError, match=r"^cannot write .*best.*: No space left on"):
                run.trainer.fit(updates=updates)
        assert run.trainer.updates == 3
    run.trainer.fit(updates=updates)
    assert run.everything() == expected.everything()
    one, other = (
        Checkpoint.load(tmp_path / name / "best.safetensors") for name in ("full", "whole")
    )
    assert {**one.progress, "seconds": 0} == {**other.progress, "seconds": 0}
    assert same(one.model, other.model)


def test_fault_58_a_row_that_could_not_be_written(tmp_path: Path) -> None:
    """Because the disk was full, or a callback or the evaluation failed: it is not lost."""
    expected = whole(tmp_path / "whole").everything()

    class Faulty(training.Callback):
        def on_update(self, trainer: Any, row: Any) -> None:
            if row["update"] in (1, 5):
                raise ZeroDivisionError

    run = Run(tmp_path / "faulty", callbacks=[Faulty()])
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            run.trainer.fit(updates=12)
    run.trainer.fit(updates=12)
    assert run.everything()["rows"] == expected["rows"]


def test_fault_58_a_row_that_was_written_though_it_failed(tmp_path: Path) -> None:
    """It does not come twice."""
    run, append = Run(tmp_path), training.MetricsFile.append

    def fail(file: training.MetricsFile, row: Any) -> None:
        append(file, row)
        if row["update"] == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.MetricsFile, "append", fail)
        with pytest.raises(OSError, match="Input/output error"):
            run.trainer.fit(updates=3)
    run.trainer.fit(updates=3)
    rows = training.read_metrics(tmp_path / "metrics.csv")
    assert [row["update"] for row in rows] == [1, 2, 3]


def test_fault_58_what_was_due_is_forgotten_with_its_run(tmp_path: Path) -> None:
    run = whole(tmp_path, 2)
    start = run.trainer.checkpoint()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", failing(errno.ENOSPC, "best.safetensors", os.replace))
        with pytest.raises(CheckpointError):
            run.trainer.fit(updates=4)
    run.trainer.resume(start)
    run.trainer.fit(updates=2)
    assert "best.safetensors" not in files(tmp_path)
    assert len(training.read_metrics(tmp_path / "metrics.csv")) == 2


@posix
@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EIO])
@pytest.mark.parametrize("kind", [stat.S_ISDIR, stat.S_ISREG])
def test_fault_58_a_folder_that_cannot_be_flushed(
    tmp_path: Path, error: int, kind: Callable[[int], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is no failure where the file system has no such thing; everything else is one."""
    flush = os.fsync

    def fail(file: int) -> None:
        if kind(os.fstat(file).st_mode):
            raise OSError(error, os.strerror(error))
        flush(file)

    monkeypatch.setattr(os, "fsync", fail)
    if kind is stat.S_ISDIR and error != errno.EIO:
        Run(tmp_path).trainer.fit(updates=3)
        assert Checkpoint.latest(tmp_path).name == "checkpoint-00000003.safetensors"
    else:
        with pytest.raises(WeightsError, match=r"^cannot write the weights"):
            nn.Linear(3, 2).save(tmp_path / "w")


@posix
def test_fault_58_permissions_are_kept(tmp_path: Path) -> None:
    """Those of a file that is replaced; a new one has what the user's mask leaves."""
    layer, path, mask = nn.Linear(3, 2), tmp_path / "w", os.umask(0o027)
    try:
        layer.save(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        for mode in (0o600, 0o644, 0o666, 0o400):
            path.chmod(mode)
            layer.save(path)
            assert stat.S_IMODE(path.stat().st_mode) == mode
        path.chmod(0o4755)  # but not what lets others run as this user
        layer.save(path)
        assert stat.S_IMODE(path.stat().st_mode) == 0o755
        (tmp_path / "link").symlink_to(path)
        layer.save(tmp_path / "link")
        assert stat.S_IMODE((tmp_path / "link").stat().st_mode) == 0o640
        example().save(tmp_path / "checkpoint")
        (tmp_path / "checkpoint").chmod(0o600)
        example().save(tmp_path / "checkpoint")
        assert stat.S_IMODE((tmp_path / "checkpoint").stat().st_mode) == 0o600
    finally:
        os.umask(mask)


@posix
def test_a_file_name_of_full_length(tmp_path: Path) -> None:
    nn.Linear(3, 2).save(tmp_path / ("w" * 255))
    assert files(tmp_path) == ["w" * 255]


# 59: forks


FORKS = """
import os, signal, sys
from pathlib import Path
from runs import Run

folder, what = Path(sys.argv[1]), sys.argv[2]

def before(run):
    if run.trainer.updates == 4:
        child = os.fork()
        if what == "exit":
            if not child:
                sys.exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
            assert (folder / ".lock").read_text() == f"{os.getpid()}\\n"
            try:
                Run(folder).trainer.fit(updates=1)
            except BlockingIOError:
                print("in use", flush=True)
        else:
            if child:
                print(child, flush=True)
            signal.pause()

Run(folder, before=before, checkpoint_every=1).trainer.fit(updates=6)
"""


def forking(folder: Path, what: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKS, str(folder), what],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


@posix
def test_fault_59_a_child_that_exits_leaves_the_lock_of_its_parent(tmp_path: Path) -> None:
    process = forking(tmp_path, "exit")
    said, _ = process.communicate(timeout=300)
    assert (said, process.returncode) == ("in use\n", 0)
    assert Checkpoint.latest(tmp_path).name == "checkpoint-00000006.safetensors"
    assert ".lock" not in files(tmp_path)


@posix
def test_fault_59_a_child_that_survives_does_not_keep_the_lock(tmp_path: Path) -> None:
    process = forking(tmp_path, "survive")
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        with pytest.raises(BlockingIOError, match=f"by the run of process {process.pid};"):
            Run(tmp_path).trainer.fit(updates=1)
        process.kill()
        process.wait()
        os.kill(child, 0)  # it is there still
        run = Run(tmp_path, checkpoint_every=1)
        run.trainer.resume(Checkpoint.latest(tmp_path))
        run.trainer.fit(updates=6)
        assert ".lock" not in files(tmp_path)
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()
