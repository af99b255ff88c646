"""What training survives: SIGKILL at any moment, damaged files, full disks, a second run."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import damaged, message_of
from runs import Run, example, files, parts, same
from survivor import digest, make

from tinygrad_rnn import training
from tinygrad_rnn.nn.files import pack
from tinygrad_rnn.training import Callback, Checkpoint, CheckpointError, Trainer
from tinygrad_rnn.training.checkpoint import KIND, numbered

resource = pytest.importorskip("resource")  # which POSIX has
pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills and locks as POSIX does")
PROGRAM = Path(__file__).with_name("survivor.py")
GOAL = 150


def survivor(folder: Path, *last: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "error", PROGRAM, folder, GOAL, *last]
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE)


class Digests(Callback):
    """What every checkpoint of a run without a stop holds."""

    def __init__(self) -> None:
        self.by_update: dict[int, str] = {}

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        checkpoint = Checkpoint.load(path)
        before = self.by_update.setdefault(checkpoint.progress["updates"], digest(checkpoint))
        assert before == digest(checkpoint)  # the best one and the numbered one of an update


# Killed


def kill(process: subprocess.Popen[bytes]) -> None:
    """End this child, whatever it does."""
    process.kill()
    process.communicate()


def wait_for_life(process: subprocess.Popen[bytes], folder: Path, before: set[int]) -> None:
    """Until a child has written a checkpoint."""
    while process.poll() is None and numbered(folder).keys() <= before:
        time.sleep(0.001)


def test_killed_at_random_moments(tmp_path: Path, sample: Callable[[int], int]) -> None:
    """Whatever is there after a kill is whole and right, and nothing that was there is lost.

    Half of the kills come from outside, at any time once the run is alive; the other half hit one
    of the calls that a checkpoint is made of.
    """
    digests, random = Digests(), np.random.default_rng(0)
    whole = make(tmp_path / "whole", callbacks=[digests])
    whole.trainer.fit(updates=GOAL)
    folder, kills, furthest = tmp_path / "killed", max(sample(200), 6), -1
    for k in range(kills):
        if furthest >= GOAL - 30:
            shutil.rmtree(folder)
            furthest = -1
        if k % 2:
            process = survivor(folder)
            wait_for_life(process, folder, set(numbered(folder)) if folder.exists() else set())
            time.sleep(random.uniform(0, 0.03))
            kill(process)
        else:
            call = ["fsync", "replace", "unlink"][k // 2 % 3]
            moments = ["before", "after", "half written"][: 3 if call == "fsync" else 2]
            process = survivor(folder, call, random.integers(1, 25), random.choice(moments))
            _, said = process.communicate(timeout=300)
            assert process.returncode == -9, said.decode()
        left = numbered(folder)
        assert not left or max(left) >= furthest
        assert left or furthest == -1
        furthest = max(left, default=-1)
        for path in [*left.values(), *folder.glob("best.safetensors")]:
            checkpoint = Checkpoint.load(path)
            assert digest(checkpoint) == digests.by_update[checkpoint.progress["updates"]]
    run = make(folder)
    if left:
        run.trainer.resume(Checkpoint.latest(folder))
    run.trainer.fit(updates=GOAL)
    assert run.everything() == whole.everything()
    assert files(folder) == files(tmp_path / "whole")


@pytest.mark.parametrize("moment", ["before", "after", "half written"])
def test_killed_between_the_temporary_file_and_its_name(tmp_path: Path, moment: str) -> None:
    """What is left is never taken for a checkpoint, and the next run removes it."""
    call = "replace" if moment == "before" else "fsync"
    process = survivor(tmp_path, call, 9 if call == "replace" else 17, moment)
    assert process.wait() == -9
    process.communicate()
    partial = [name for name in files(tmp_path) if name.endswith(".partial")]
    assert len(partial) == 1
    last = Checkpoint.latest(tmp_path)
    Checkpoint.load(last)
    assert f".{last.name}.partial" not in partial
    run = make(tmp_path)
    run.trainer.resume(last)
    run.trainer.fit(updates=run.trainer.updates)
    assert not [name for name in files(tmp_path) if name.startswith(".")]


# Two runs and one folder


def test_two_runs_in_one_folder(tmp_path: Path) -> None:
    """The second is told whose folder it is; it is free again as soon as that process is dead."""
    process = survivor(tmp_path)
    wait_for_life(process, tmp_path, set())
    second = make(tmp_path)
    message = (
        rf"^Trainer: the folder '.*' is in use by the run of process {process.pid}; wait for its "
        r"end or choose another folder$"
    )
    with pytest.raises(BlockingIOError, match=message):
        second.trainer.fit(updates=1)
    kill(process)
    assert ".lock" in files(tmp_path)
    second.trainer.resume(Checkpoint.latest(tmp_path))
    second.trainer.fit(updates=second.trainer.updates + 1)
    assert ".lock" not in files(tmp_path)


def test_two_runs_of_one_process(tmp_path: Path) -> None:
    def interfere(run: Run) -> None:
        if run.trainer.updates == 2:
            with pytest.raises(BlockingIOError, match=f"by the run of process {os.getpid()};"):
                Run(tmp_path).trainer.fit(updates=1)

    run = Run(tmp_path, before=interfere)
    run.trainer.fit(updates=4)
    assert len(training.read_metrics(tmp_path / "metrics.csv")) == 4


# Disks and folders


def failing(error: int, path: Path, what: str) -> Callable[..., Any]:
    """A function of os that fails, like a disk that is full, for files of one name."""
    original = getattr(os, what)

    def fail(*arguments: Any, **options: Any) -> Any:
        if any(path.name in str(argument) for argument in arguments):
            raise OSError(error, os.strerror(error))
        return original(*arguments, **options)

    return fail


def test_a_disk_that_is_full_for_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training ends in one sentence with the last checkpoint in place, and can then go on."""
    whole = Run(tmp_path / "whole")
    whole.trainer.fit(updates=12)
    run, folder = Run(tmp_path / "full"), tmp_path / "full"
    with monkeypatch.context() as patch:
        name = folder / "checkpoint-00000006"
        patch.setattr(os, "replace", failing(errno.ENOSPC, name, "replace"))
        with pytest.raises(CheckpointError, match=r"^cannot write .*: No space left on device$"):
            run.trainer.fit(updates=12)
    assert Checkpoint.load(Checkpoint.latest(folder)).progress["updates"] == 3
    assert not [name for name in files(folder) if name.startswith(".")]
    assert run.trainer.fit(updates=6) == "finished"  # nothing left to compute, but to be kept
    assert Checkpoint.load(Checkpoint.latest(folder)).progress["updates"] == 6
    run.trainer.fit(updates=12)
    assert run.everything() == whole.everything()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_metrics_on_a_full_disk(tmp_path: Path) -> None:
    file = training.MetricsFile(tmp_path / "metrics.csv", 0)
    file.append({"update": 1})
    with open("/dev/full", "a") as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "_file", full)
        with pytest.raises(OSError, match=r"^cannot write the metrics '.*': No space left on dev"):
            file.append({"update": 2})
        patch.undo()
        file.close()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"^Trainer: cannot make the folder '.*': Not a directory$"):
        Run(tmp_path / "file" / "run").trainer.fit(updates=1)
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "open", failing(errno.EROFS, Path(".lock"), "open"))
    with pytest.raises(OSError, match=r"^Trainer: cannot write into the folder '.*': Read-only f"):
        Run(tmp_path / "run").trainer.fit(updates=1)
    assert files(tmp_path / "run") == []


# Damaged and hostile files


def test_damaged_checkpoints(tmp_path: Path, sample: Callable[[int], int]) -> None:
    """Each loads exactly or ends in one clear error, and none makes room for what it promises."""
    path = tmp_path / "damaged"
    example().save(path)
    intact = parts(Checkpoint.load(path))
    loaded, cases = 0, sample(10_000)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, content in damaged(path.read_bytes(), cases):
        path.write_bytes(content)
        said = message_of(CheckpointError, Checkpoint.load, path)
        if said is None:
            loaded += 1
            assert same(parts(Checkpoint.load(path)), intact), name
        else:
            assert said.startswith(f"{str(path)!r} "), name
            assert "\n" not in said, name
    assert loaded < 0.1 * cases
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000  # KiB


def hostile(**changes: Any) -> str:
    """The text of a checkpoint with something exchanged."""
    document = {
        "optimizer": {}, "generator": {}, "state": None, "progress": {}, "settings": {}, "parts": {}
    }  # fmt: skip
    return json.dumps(document | changes)


HOSTILE = {
    "nothing": "",
    "a list": "[]",
    "no entries": "{}",
    "a bomb": "[" * 200_000,
    "a bomb of dicts": '{"state":' * 100_000,
    "no dict": hostile(optimizer=[]),
    "arrays that are not there": hostile(state={"list": ["array"] * 3}),
    "too short a tuple": hostile(state={"tuple": ["array"] * 3}),
    "too short a NamedTuple": hostile(
        state={"name": "A", "fields": ["a", "b"], "parts": ["array", "array"]}
    ),
    "arrays that nobody wants": hostile(state={"list": []}),
    "an unknown container": hostile(state={"set": []}),
    "a word": hostile(state="tensor"),
    "code as a name": hostile(
        state={"name": "A(__import__('os').abort())", "fields": [], "parts": []}
    ),
    "code as a field": hostile(
        state={"name": "A", "fields": ["x=__import__('os').abort()"], "parts": [None]}
    ),
    "too few fields": hostile(state={"name": "A", "fields": ["a", "b"], "parts": [None]}),
    "keys that are lists": hostile(state={"dict": [[["a"], None]]}),
}


@pytest.mark.parametrize("document", HOSTILE.values(), ids=HOSTILE.keys())
def test_files_with_the_right_checksum_and_the_wrong_content(tmp_path: Path, document: str) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(pack(KIND, document, {"state/0": np.zeros(2)}))
    with pytest.raises(CheckpointError, match="it has the form of a checkpoint, but not its") as e:
        Checkpoint.load(path)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("key", ["updates", "epoch", "batch", "best"])
def test_a_checkpoint_whose_progress_is_no_progress(tmp_path: Path, key: str) -> None:
    run = Run(tmp_path)
    run.trainer.fit(updates=3)
    good = run.trainer.checkpoint()
    lacking = {name: value for name, value in good.progress.items() if name != key}
    bad = Checkpoint(**(parts(good) | {"progress": lacking}))
    before = run.everything()
    with pytest.raises(CheckpointError, match=f"is not of a Trainer: its progress lacks '{key}'"):
        run.trainer.resume(bad)
    assert run.everything() == before
