"""The folder of machine code: what lies there is run, so nothing of anybody else's is taken."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from programs import run_python

from tinygrad_rnn.replay.emit.numba import store
from tinygrad_rnn.replay.emit.numba.store import Code

pytest.importorskip("numba")

POSIX = hasattr(os, "geteuid")
posix = pytest.mark.skipif(not POSIX, reason="modes and owners are POSIX's")
root = pytest.mark.skipif(not POSIX or os.geteuid() != 0, reason="only root can give files away")

PROGRAM = """
import sys
import numpy as np
sys.path.insert(0, {tests!r})
from loop_cases import allocate, lstm
from tinygrad_rnn.replay.emit.numba import cache as numba_cache
from tinygrad_rnn.replay.emit.numba import table as numba_table
from tinygrad_rnn.replay.emit.numba.emitter import compile_loop
loop = lstm(3, 5)
arrays = allocate(loop, 4)
compile_loop(loop, packed=False)(arrays, 4)
print(numba_cache.compiled_here(), "numba" in sys.modules, float(arrays[3].sum()))
"""


def program(cache: Path | str, warnings: str = "error", **options: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "TINYGRAD_RNN_CACHE": str(cache)}
    command = [
        sys.executable,
        "-W",
        warnings,
        "-c",
        PROGRAM.format(tests=str(Path(__file__).parent)),
    ]
    return subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_program(cache: Path) -> list[str]:
    process = program(cache)
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert not errors
    return out.split()


def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    """And one with a broken file, or a truncated one, compiles again and mends it."""
    first = run_program(tmp_path)
    second = run_program(tmp_path)
    assert first[:2] == ["1", "True"]
    assert second[:2] == ["0", "False"]
    assert second[2] == first[2]
    (file,) = tmp_path.iterdir()
    whole_file = file.read_bytes()
    file.write_bytes(whole_file[:-100])
    assert run_program(tmp_path) == first
    assert run_program(tmp_path) == second
    file.write_bytes(b"")
    assert run_program(tmp_path) == first


def test_two_processes_at_once(tmp_path: Path) -> None:
    processes = [program(tmp_path) for _ in range(2)]
    results = [process.communicate(timeout=240) for process in processes]
    assert [errors for _, errors in results] == ["", ""]
    assert len({out.split()[2] for out, _ in results}) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_an_unwritable_cache_costs_time_only(tmp_path: Path) -> None:
    """A file where the folder should be cannot be written even by root."""
    place = tmp_path / "file"
    place.write_text("")
    assert run_program(place)[:2] == ["1", "True"]
    assert place.read_text() == ""


def test_importing_the_package_imports_no_numba() -> None:
    text = "import sys, tinygrad_rnn, tinygrad_rnn.replay.emit.numba.emitter as e; e.why_not()"
    text += "; print(sorted({'numba', 'llvmlite'} & set(sys.modules)))"
    assert run_python("-c", text).stdout.strip() == "[]"


# Where it lies


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TINYGRAD_RNN_CACHE", str(tmp_path))
    assert store.folder() == tmp_path
    monkeypatch.delenv("TINYGRAD_RNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert store.folder() == tmp_path / "tinygrad_rnn"


@posix
def test_fault_51_no_place_depends_on_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store, "complaints", [])
    monkeypatch.setattr(store, "_said", set())
    monkeypatch.setenv("TINYGRAD_RNN_CACHE", "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        assert store.folder() == tmp_path / "tinygrad_rnn"
    said = "TINYGRAD_RNN_CACHE must be an absolute path, got 'cache'; it is ignored"
    assert store.complaints == [said]
    monkeypatch.delenv("TINYGRAD_RNN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", ".cache")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store.folder() == tmp_path / ".cache" / "tinygrad_rnn"
    monkeypatch.setenv("HOME", ".")
    assert store.folder() is None
    store.write("d", CODE)
    assert store.read("d") is None
    assert store.complaints == [said]


def test_a_relative_path_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    process = program("cache", "default", cwd=tmp_path)
    out, errors = process.communicate(timeout=120)
    assert out.startswith("1 True")
    assert errors.count("TINYGRAD_RNN_CACHE must be an absolute path, got 'cache'") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["tinygrad_rnn"]


# Whose it is

CODE = Code("run", ("memset", "erf"), b"machine\ncode")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that does not exist yet; nothing has been said."""
    place = tmp_path / "a" / "b"
    monkeypatch.setenv("TINYGRAD_RNN_CACHE", str(place))
    monkeypatch.setattr(store, "complaints", [])
    monkeypatch.setattr(store, "_said", set())
    return place


def entry(folder: Path) -> Path:
    """A file that was written and can be read."""
    store.write("digest", CODE)
    assert store.read("digest") == CODE
    (file,) = folder.iterdir()
    return file


def refused(folder: Path, why: str) -> None:
    """Nothing is read nor written, and that is said once."""
    before = sorted(map(str, folder.parent.rglob("*")))
    for _ in range(2):
        assert store.read("digest") is None
        store.write("digest", Code("other", (), b""))
    assert sorted(map(str, folder.parent.rglob("*"))) == before
    head = f"compiled loops are neither taken from {folder} nor kept there: "
    assert [sentence.removeprefix(head) for sentence in store.complaints] == [why]


@pytest.fixture
def no_umask() -> Generator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@posix
@pytest.mark.usefixtures("no_umask")
def test_fault_51_what_is_made_is_the_users_alone(folder: Path) -> None:
    file = entry(folder)
    assert file.stat().st_mode & 0o777 == 0o600
    for made in (folder, folder.parent):
        assert made.stat().st_mode & 0o777 == 0o700


@posix
@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702, 0o720])
def test_fault_45_a_folder_that_others_may_write_to(folder: Path, mode: int) -> None:
    entry(folder)
    folder.chmod(mode)
    refused(folder, "others may write to it (chmod go-w takes that from them)")
    folder.chmod(mode & ~0o022)
    assert store.read("digest") == CODE


@posix
@pytest.mark.parametrize("mode", [0o666, 0o660, 0o606])
def test_fault_45_a_file_that_others_may_write_to(folder: Path, mode: int) -> None:
    file = entry(folder)
    file.chmod(mode)
    refused(folder, "others may write to a file in it (chmod go-w takes that from them)")


@root
def test_fault_45_a_folder_of_another_user(folder: Path) -> None:
    entry(folder)
    os.chown(folder, 12345, -1)
    refused(folder, "it belongs to another user")


@root
def test_fault_45_a_file_planted_by_another_user(folder: Path) -> None:
    file = entry(folder)
    os.chown(file, 12345, -1)
    content = file.read_bytes()
    refused(folder, "a file in it belongs to another user")
    assert file.read_bytes() == content


@posix
def test_fault_45_links_are_not_followed(folder: Path, tmp_path: Path) -> None:
    """Neither of the folder nor of a file, whatever they lead to."""
    file = entry(folder)
    moved = file.rename(tmp_path / "moved")
    file.symlink_to(moved)
    refused(folder, "a file in it is a link")
    store.complaints.clear()
    file.unlink()
    moved.rename(file)
    aside = folder.rename(tmp_path / "aside")
    folder.symlink_to(aside, target_is_directory=True)
    refused(folder, "it is a link")


def huge(file: Path) -> None:
    with file.open("wb") as handle:
        handle.truncate(1 << 40)  # of which nothing lies on the disk


@posix
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, huge] if POSIX else [])
def test_fault_48_what_is_no_file_of_ours(folder: Path, make: Callable[[Path], None]) -> None:
    """A fifo would be waited for, and a file of 1 TiB fill the memory."""
    file = entry(folder)
    file.unlink()
    make(file)
    signal.alarm(60)
    refused(folder, "a file in it is none that was written there, or far too large")
    signal.alarm(0)


def test_fault_51_exchanged_files_are_not_taken(folder: Path) -> None:
    """Each is whole, and belongs to another text: it would take a table of another length."""
    first = entry(folder)
    store.write("other", Code("other", (), b""))
    (second,) = set(folder.iterdir()) - {first}
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    assert store.read("digest") is None
    assert store.read("other") is None
    store.write("digest", CODE)
    assert store.read("digest") == CODE
    assert not store.complaints


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\n\xff\n\xff", b"a\nb"])
def test_a_broken_file_is_mended(folder: Path, content: bytes) -> None:
    file = entry(folder)
    file.write_bytes(content)
    assert store.read("digest") is None
    store.write("digest", CODE)
    assert store.read("digest") == CODE


def test_a_full_disk_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry(folder)

    def fails(*names: str, **options: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fails)
    store.write("other", CODE)
    assert len(list(folder.iterdir())) == 1


@posix
def test_fault_45_the_user_is_told_once(tmp_path: Path) -> None:
    """The loop is compiled, and the folder left as it is."""
    place = tmp_path / "shared"
    place.mkdir()
    place.chmod(0o777)
    out, errors = program(place, "default").communicate(timeout=120)
    assert out.startswith("1 True")
    said = f"RuntimeWarning: compiled loops are neither taken from {place} nor kept there: others"
    assert errors.count("Warning") == errors.count(said) == 1
    assert not list(place.iterdir())
