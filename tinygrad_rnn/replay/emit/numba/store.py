"""Machine code on disk, in a folder that is this user's alone.

What lies there is run. So nothing is taken that somebody else could have put there: neither the
folder nor a file may be a link, both must belong to this user and be writable by nobody else, and
a file is looked at when it is open: it is the user's own, wherever its path leads by then. Other
folders and files are left as they are, with one warning. A file is put in place at once, and begins
with a hash of its name and contents. A folder that cannot be written, or a broken file, costs the
time to compile and nothing else.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import sys
from contextlib import suppress
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple, NoReturn

LARGEST = 1 << 26
"""Bytes of a file; that of an LSTM has some ten thousand."""

POSIX = hasattr(os, "geteuid")
"""Elsewhere (Windows) the user's own folder is closed to others by other means than a mode."""

READ = sum(getattr(os, name, 0) for name in ("O_RDONLY", "O_BINARY", "O_NOFOLLOW", "O_NONBLOCK"))
"""How a file is opened: not through a link, and a fifo is not waited for."""


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
        content = _content(_trusted() / _name(digest))
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
    with suppress(OSError):
        place = _trusted(make=True)
        file = place / _name(digest)
        with suppress(FileNotFoundError):
            _content(file)  # one that cannot be trusted is left as it is
        written = place / f"{file.name}_{os.urandom(8).hex()}.tmp"
        try:
            with open(written, "xb", opener=partial(os.open, mode=0o600)) as new:
                new.write(content)
            os.replace(written, file)
        except OSError:
            written.unlink(missing_ok=True)


def _name(digest: str) -> str:
    return f"loop_{digest}.bin"


def _checksum(*parts: bytes | str) -> bytes:
    texts = [part.encode() if isinstance(part, str) else part for part in parts]
    return hashlib.sha256(b"\n".join(texts)).hexdigest().encode()


def _trusted(make: bool = False) -> Path:
    """The folder, which is no link and this user's alone; raises OSError for any other."""
    path = folder()
    if path is None:
        raise FileNotFoundError("there is no folder of the user's")
    if make:
        missing = takewhile(lambda p: not p.exists(), [path, *path.parents])
        for each in reversed(list(missing)):
            each.mkdir(0o700, exist_ok=True)
    found = path.lstat()
    if POSIX and stat.S_ISLNK(found.st_mode):
        _refuse(path, "it is a link")
    _look(found, path, "it")
    return path


def _content(path: Path) -> bytes:
    """The bytes of a file that nobody else can have written; raises OSError for any other."""
    try:
        handle = os.open(path, READ)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            _refuse(path.parent, "a file in it is a link")
        raise
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
            _refuse(path.parent, "a file in it is none that was written there, or far too large")
        _look(found, path.parent, "a file in it")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(LARGEST)
    finally:
        os.close(handle)


def _look(found: os.stat_result, place: Path, what: str) -> None:
    """Refuse what others could have written."""
    if not POSIX:
        return
    if found.st_uid != os.geteuid():
        _refuse(place, f"{what} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        _refuse(place, f"others may write to {what} (chmod go-w takes that from them)")


def _refuse(place: Path, why: str) -> NoReturn:
    _complain(f"compiled loops are neither taken from {place} nor kept there: {why}")
    raise PermissionError(why)


def _complain(sentence: str) -> None:
    if sentence not in _said:
        _said.add(sentence)
        complaints.append(sentence)
