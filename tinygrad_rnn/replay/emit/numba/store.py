"""Machine code on disk, in a folder that is this user's alone.

What lies there is run. So nothing is taken that somebody else could have put there: the folder and
each file are opened without following a link, and what was opened must belong to this user and be
writable by nobody else; files are looked up in the open folder, wherever its path leads by then.
Other folders and files are left as they are, with one warning. A file is put in place at once, and
begins with a hash of its name and contents. A folder that cannot be written, or a broken file,
costs the time to compile and nothing else.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

LARGEST = 1 << 26
"""Bytes of a file; that of an LSTM has some ten thousand."""

POSIX = hasattr(os, "geteuid")
"""Elsewhere (Windows) the user's own folder is closed to others by other means than a mode."""


def _flags(*names: str) -> int:
    return sum(getattr(os, name, 0) for name in names)


OPEN = _flags("O_CLOEXEC", "O_NOFOLLOW", "O_BINARY", "O_NOINHERIT")
FOLDER = OPEN | _flags("O_RDONLY", "O_DIRECTORY")
READ = OPEN | _flags("O_RDONLY", "O_NONBLOCK")  # or a fifo would be waited for
CREATE = OPEN | _flags("O_WRONLY", "O_CREAT", "O_EXCL")


class Code(NamedTuple):
    """An object file, the name of its function, and the names that it expects from outside."""

    name: str
    needs: tuple[str, ...]
    machine: bytes


complaints: list[str] = []
"""What the user has not been told yet; each is said once in a process."""
_said: set[str] = set()


def folder() -> Path | None:
    """Where machine code is kept: TINYGRAD_RNN_CACHE, or the user's cache folder.

    Never a place that depends on the working directory; None where there is no other.
    """
    chosen = os.environ.get("TINYGRAD_RNN_CACHE")
    if chosen:
        if Path(chosen).is_absolute():
            return Path(chosen)
        _complain(f"TINYGRAD_RNN_CACHE must be an absolute path, got {chosen!r}; it is ignored")
    base = os.environ.get("XDG_CACHE_HOME")
    if base and Path(base).is_absolute():
        return Path(base) / "tinygrad_rnn"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    place = home / ".cache"
    if sys.platform == "win32":
        place = Path(os.environ.get("LOCALAPPDATA") or home)
    return place / "tinygrad_rnn" if place.is_absolute() else None


def read(digest: str) -> Code | None:
    """What was written under this digest, None where nothing was that can be trusted."""
    try:
        with _opened(make=False) as place:
            content = place.content(_name(digest))
        head, names, machine = content.split(b"\n", 2)
        if head != _checksum(digest, names, machine):
            return None
        name, *needs = names.decode().split()
    except (OSError, ValueError):
        return None
    return Code(name, tuple(needs), machine)


def write(digest: str, code: Code) -> None:
    """Keep the code for other processes, if the folder can be trusted and written."""
    names = " ".join([code.name, *code.needs]).encode()
    content = b"\n".join([_checksum(digest, names, code.machine), names, code.machine])
    try:
        with _opened(make=True) as place:
            place.put(_name(digest), content)
    except OSError:
        pass


def _name(digest: str) -> str:
    return f"loop_{digest}.bin"


def _checksum(*parts: bytes | str) -> bytes:
    texts = [part.encode() if isinstance(part, str) else part for part in parts]
    return hashlib.sha256(b"\n".join(texts)).hexdigest().encode()


class _Refused(OSError):
    """Something that others may have written; the message says what."""


def _complain(sentence: str) -> None:
    if sentence not in _said:
        _said.add(sentence)
        complaints.append(sentence)


@contextmanager
def _opened(make: bool) -> Generator[_Folder]:
    """The folder, looked at; its refusals are noted for the user."""
    path = folder()
    if path is None:
        raise FileNotFoundError("there is no folder of the user's")
    try:
        if make:
            missing = takewhile(lambda p: not p.exists(), [path, *path.parents])
            for each in reversed(list(missing)):
                each.mkdir(0o700, exist_ok=True)
        place = _Folder(path)
        try:
            yield place
        finally:
            place.close()
    except _Refused as refusal:
        _complain(f"compiled loops are neither taken from {path} nor kept there: {refusal}")
        raise


class _Folder:
    """An open folder that is this user's alone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        if not POSIX:
            return
        if path.is_symlink():
            raise _Refused("it is a link")
        self._handle = os.open(path, FOLDER)
        try:
            _look(os.fstat(self._handle), "it")
        except _Refused:
            self.close()
            raise

    def close(self) -> None:
        if self._handle is not None:
            os.close(self._handle)

    def content(self, name: str) -> bytes:
        """The bytes of a file."""
        try:
            handle = os.open(self._named(name), READ, dir_fd=self._handle)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EMLINK):
                raise _Refused("a file in it is a link") from error
            raise
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
                raise _Refused("a file in it is none that was written there, or far too large")
            _look(found, "a file in it")
            with os.fdopen(handle, "rb", closefd=False) as file:
                return file.read(LARGEST)
        finally:
            os.close(handle)

    def put(self, name: str, content: bytes) -> None:
        """Write a file at once, in the place of none or of one that could be trusted."""
        with suppress(FileNotFoundError):
            self.content(name)
        partial = f"{name}_{os.urandom(8).hex()}.tmp"
        handle = os.open(self._named(partial), CREATE, 0o600, dir_fd=self._handle)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            ends = self._named(partial), self._named(name)
            os.replace(*ends, src_dir_fd=self._handle, dst_dir_fd=self._handle)
        except OSError:
            os.unlink(self._named(partial), dir_fd=self._handle)
            raise

    def _named(self, name: str) -> str:
        return name if POSIX else str(self._path / name)


def _look(found: os.stat_result, what: str) -> None:
    """Raise where others could have written what was opened."""
    if not POSIX:
        return
    if found.st_uid != os.geteuid():
        raise _Refused(f"{what} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _Refused(f"others may write to {what} (chmod go-w takes that from them)")
