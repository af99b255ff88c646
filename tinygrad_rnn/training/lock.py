"""One run at a time in a folder."""

from __future__ import annotations

import errno
import os
import re
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tinygrad_rnn.nn.disk import CAN_LOCK, NO_LINK, NO_WAIT, is_named, is_sole, lock

NAME = ".lock"

_held: set[int] = set()
"""The open files by which this process has folders or asks for them."""


def _let_go() -> None:
    """In a child that was forked: the lock is its parent's alone, and ends with that."""
    for file in _held:
        os.close(file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Within the block no other process, nor another run of this one, gets the folder.

    The system lets go of the lock when the process ends, however it ends. The file ``.lock`` says
    which process it is, and is removed at the end. A child that is forked within the block has no
    part in it.

    Raises
    ------
    BlockingIOError
        where another run has the folder, naming its process.
    OSError
        where nothing can be written into it, or where its ``.lock`` is not that of a run.
    """
    if not CAN_LOCK:  # Windows: there, nothing keeps two runs apart
        yield
        return
    path = folder / NAME
    while not is_named(file := _locked(path), path):
        _close(file)  # its last owner has removed it since: ours is a file without a name
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        if file in _held:  # else this is a child
            if is_named(file, path):
                path.unlink(missing_ok=True)
            _close(file)


def _locked(path: Path) -> int:
    """The file of the lock, open and locked."""
    where = str(path.parent)
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | NO_LINK | NO_WAIT, 0o666)
    except OSError as error:
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise _foreign(where) from error
        raise OSError(
            f"Trainer: cannot write into the folder {where!r}: {error.strerror}"
        ) from error
    _held.add(file)
    try:
        # Another program's file is neither overwritten nor removed, by whatever name it is here.
        if not is_sole(file) or not re.fullmatch(rb"\d*\n?", said := os.pread(file, 32, 0)):
            raise _foreign(where)
        try:
            lock(file)
        except BlockingIOError:
            process = said.decode().strip() or "unknown"
            raise BlockingIOError(
                f"Trainer: the folder {where!r} is in use by the run of process {process}; wait "
                "for its end or choose another folder"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                raise
            warnings.warn(
                f"Trainer: the file system of {where!r} has no locks; nothing keeps a second run "
                "out of it",
                RuntimeWarning,
                stacklevel=3,
            )
    except BaseException:
        _close(file)
        raise
    return file


def _close(file: int) -> None:
    _held.discard(file)
    os.close(file)


def _foreign(folder: str) -> OSError:
    return FileExistsError(
        f"Trainer: the {NAME!r} in the folder {folder!r} is a link, or not the file of a run; "
        "remove it or choose another folder"
    )
