"""Files that are whole or not there, in folders that other people and programs write into too.

Whatever lies under a name that is about to be written, a link, a fifo, somebody's own file, is
left as it is or replaced, never written through. Nothing here waits for a fifo.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from io import BufferedReader, BufferedWriter
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
NO_WAIT = getattr(os, "O_NONBLOCK", 0)

_PARTIAL = re.compile(r"\..*\.[0-9a-f]{16}\.tinygrad_rnn\.partial", re.DOTALL)

_NO_FLUSH = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY, errno.EBADF}
"""How file systems say that a folder cannot be flushed, when that is no failure."""


def open_regular(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a file for reading, links followed; an OSError where it is no regular file."""
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | NO_WAIT))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return file


def open_appending(path: str | os.PathLike[str]) -> BufferedWriter:
    """Open a file that is there for appending; an OSError where others may reach it as well."""

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags & ~os.O_CREAT | NO_LINK | NO_WAIT)

    file = open(path, "ab", opener=opener)  # noqa: SIM115
    if not is_sole(file.fileno()):
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file of one name", str(path))
    return file


def is_sole(file: int) -> bool:
    """Whether an open file is a regular one without a second name, a hard link, elsewhere."""
    found = os.fstat(file)
    return stat.S_ISREG(found.st_mode) and found.st_nlink <= 1


def is_named(file: int, path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.lstat(path), os.fstat(file))
    except OSError:
        return False


CAN_LOCK = fcntl is not None


def lock(file: int) -> None:
    """Have an open file for oneself, until it is closed here and in all forked children.

    A BlockingIOError where another has it; another OSError where the file system has no locks.
    Nothing at all where the system has none.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by a file with ``content``: whoever reads it finds the old one or the new.

    The bytes are on the disk before the name is theirs. A file that is replaced hands on its
    permissions; a link is replaced itself, and what it leads to is left alone. What a killed
    attempt leaves behind has a name of its own, which the next attempt in this folder removes.
    """
    remove_partial(path.parent)
    partial, file = _create(path)
    try:
        with file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if not CAN_LOCK:
                file.close()  # Windows renames no open file
            os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor need it be
        _flush_folder(path.parent)


def remove_partial(folder: Path) -> None:
    """Remove what killed attempts of :func:`write_atomically` left in a folder.

    That is files of their names that belong to this user and that nobody is writing: a writer
    holds a lock, which ends with it.
    """
    try:
        names = [name for name in os.listdir(folder) if _PARTIAL.fullmatch(name)]
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder / name, os.O_RDWR | NO_LINK | NO_WAIT)
            with open(descriptor, "r+b") as file:
                if not is_sole(descriptor) or not _is_mine(os.fstat(descriptor)):
                    continue
                lock(descriptor)
                if not CAN_LOCK:
                    file.close()  # Windows removes no open file
                os.unlink(folder / name)


def _create(path: Path) -> tuple[Path, BufferedWriter]:
    """A new file beside ``path``, locked, with the permissions of the one that it will replace."""
    mode = 0o666  # less what the user's mask takes away
    kept = None
    with contextlib.suppress(OSError):
        before = os.lstat(path)
        if stat.S_ISREG(before.st_mode) and _is_mine(before):
            mode = kept = before.st_mode & 0o777
    while True:
        name = f".{path.name[:40]}.{secrets.token_hex(8)}.tinygrad_rnn.partial"
        partial = path.parent / name
        file = open(  # noqa: SIM115
            partial, "xb", opener=lambda name, flags: os.open(name, flags | NO_LINK, mode)
        )
        if _is_taken(file.fileno(), partial):
            file.close()
            continue
        if kept is not None and hasattr(os, "fchmod"):
            with contextlib.suppress(OSError):  # a file system may have no permissions
                os.fchmod(file.fileno(), kept)
        return partial, file


def _is_taken(file: int, path: Path) -> bool:
    """Whether a new file was taken for one left behind, before it could be locked."""
    try:
        lock(file)
    except BlockingIOError:
        with contextlib.suppress(OSError):
            path.unlink()
        return True
    except OSError:  # a file system may have no locks
        return False
    return CAN_LOCK and not is_named(file, path)


def _is_mine(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def _flush_folder(path: Path) -> None:
    """Have the names in a folder written to the disk, where the file system can do that."""
    try:
        folder = os.open(path, os.O_RDONLY)
    except PermissionError:  # one may write into it, but not list it
        return
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(folder)
