"""Checkpoints: exact, whole or not there, and nothing but an error where they do not fit."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import BATCHES, Run, example, files, parts, same
from safetensors import safe_open
from safetensors.numpy import save_file

from tinygrad_rnn import optim
from tinygrad_rnn.tape import leaves
from tinygrad_rnn.training import Checkpoint, CheckpointError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    example().save(tmp_path / "one.safetensors")
    return tmp_path / "one.safetensors"


def test_a_checkpoint_comes_back_exactly(saved: Path) -> None:
    """Dtypes, shapes, numbers to the last bit, containers of the state and their names."""
    loaded = Checkpoint.load(saved)
    assert same(parts(example()) | {"generator": loaded.generator}, parts(loaded))
    assert loaded.state[0].parts[2]["key"].shape == (6,)
    assert type(loaded.state[0]).__name__ == "Inner"
    assert files(saved.parent) == ["one.safetensors"]
    with safe_open(saved, framework="numpy") as file:  # any tool for the format can read it
        assert "model/weight" in file.keys()  # noqa: SIM118


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "^there is no checkpoint '.*bad'$"),
        (b"", "is cut off, damaged or no safetensors file at all"),
        (b"PK\x03\x04 a pickle in a zip, as another framework writes", "a zip archive, no safe"),
        (b'{"json": 1}', "cut off, damaged or no"),
        (b"\xff" * 64, "cut off, damaged or no"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "bad").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load(tmp_path / "bad")


def test_folders_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^cannot read the checkpoint '.*'"):
        Checkpoint.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"^there is no checkpoint in the folder '.*'$"):
        Checkpoint.latest(tmp_path / "nowhere")
    save_file({"weight": np.ones(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="is a safetensors file, but no tinygrad_rnn check"):
        Checkpoint.load(tmp_path / "foreign.safetensors")


@given(st.data())
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, drawn: st.DataObject) -> None:
    """Cut off anywhere, or with bytes changed anywhere: loaded exactly, or one clear error."""
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    example().save(path)
    content = bytearray(path.read_bytes())
    intact = parts(Checkpoint.load(path))
    if drawn.draw(st.booleans()):
        del content[drawn.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(drawn.draw(st.integers(1, 3))):
            position = drawn.draw(st.integers(0, len(content) - 1))
            content[position] = drawn.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        loaded = Checkpoint.load(path)
    except CheckpointError as error:
        said = str(error)
    else:
        said = "damaged, without harm" if same(parts(loaded), intact) else ""
    assert "damaged" in said or "is a safetensors file, but no" in said


class Killed(BaseException):
    """Stands for a SIGKILL: nothing that comes after it is done."""


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_killed_write_loses_nothing(
    saved: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: Any) -> None:
        raise Killed

    before = saved.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, where, kill)
        with pytest.raises(Killed):
            example(1).save(saved)
    assert saved.read_bytes() == before
    example(2).save(saved)
    assert files(saved.parent) == ["one.safetensors"]
    assert same(parts(Checkpoint.load(saved))["model"], parts(example(2))["model"])


def test_a_full_disk(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"^cannot write the checkpoint '.*': No space left"):
        example(1).save(saved)
    assert saved.read_bytes() == before
    assert files(saved.parent) == ["one.safetensors"]


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, evaluate_every=2, checkpoint_every=1, keep=2)
    run.trainer.fit(updates=12)
    assert files(tmp_path) == [
        "best.safetensors",
        "checkpoint-00000011.safetensors",
        "checkpoint-00000012.safetensors",
        "metrics.csv",
    ]
    assert Checkpoint.load(tmp_path / "best.safetensors").progress["updates"] == 6
    assert Checkpoint.latest(tmp_path).name == "checkpoint-00000012.safetensors"


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"settings": {"text": "xyz", "sizes": [4, 5]}}, "made with text 'abc', this run has 'xyz'"),
    ({"settings": {"text": "abc"}}, r"made with sizes \[4, 5\], this run has None"),
    ({"hidden": 6}, r"made with sizes \[4, 5\], this run has \[4, 6\]"),
    (
        {"hidden": 6, "settings": {"text": "abc", "sizes": (4, 5)}},
        r"does not fit: Model.load_state_dict: recurrent.weight_ih_l0 has shape \(24, 4\), the",
    ),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    Run(folder).trainer.fit(updates=5)
    return Checkpoint.latest(folder)


@pytest.mark.parametrize(("options", "message"), MISFITS)
def test_a_checkpoint_of_another_run(
    tmp_path: Path, finished: Path, options: dict[str, Any], message: str
) -> None:
    """One sentence, and neither model, optimizer, generator nor place has changed."""
    run = Run(tmp_path, **options)
    run.trainer.fit(updates=2)
    before = run.everything()
    with pytest.raises(CheckpointError, match=message):
        run.trainer.resume(finished)
    assert run.everything() == before


def test_another_optimizer_and_other_batches(tmp_path: Path, finished: Path) -> None:
    run = Run(tmp_path)
    run.trainer.optimizer = optim.SGD(run.model.parameters(), momentum=0.9)
    before = run.trainer.checkpoint()
    with pytest.raises(CheckpointError, match=r"SGD\.load_state_dict: .* that of 'Adam'"):
        run.trainer.resume(finished)
    run.trainer.optimizer = run.optimizer
    run.trainer.epochs.batches = BATCHES[:3]
    with pytest.raises(CheckpointError, match="with 8 batches in an epoch, this run has 3"):
        run.trainer.resume(finished)
    after = run.trainer.checkpoint()
    assert same(before.model, after.model)
    assert same(before.generator, after.generator)


def test_settings_that_may_differ(tmp_path: Path, finished: Path) -> None:
    run = Run(tmp_path, settings={"text": "moved", "sizes": [4, 5]})
    run.trainer.resume(finished, may_differ=["text"])
    assert run.trainer.updates == 5


def test_every_device(tmp_path: Path, device: str) -> None:
    """Nothing in the loop or in a checkpoint takes arrays for NumPy's."""
    Run(tmp_path, device=device).trainer.fit(updates=4)
    again = Run(tmp_path, device=device, seed=7)
    again.trainer.resume(Checkpoint.latest(tmp_path))
    assert {leaf.device for leaf in leaves(again.trainer.state)} == {
        next(iter(again.model.parameters())).device
    }
    again.trainer.fit(updates=9)
    straight = Run(tmp_path / "straight", device=device)
    straight.trainer.fit(updates=9)
    assert again.everything() == straight.everything()
