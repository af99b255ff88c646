"""One run at a time in a folder."""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: there, nothing keeps two runs apart
    fcntl = None

NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Generator[None]:
    """Within the block no other process, nor another run of this one, gets the folder.

    The system lets go of the lock when the process ends, however it ends. The file ``.lock`` says
    which process it is, and is removed at the end.

    Raises
    ------
    BlockingIOError
        where another run has the folder, naming its process.
    OSError
        where nothing can be written into it.
    """
    if fcntl is None:
        yield
        return
    path = folder / NAME
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OSError(
                f"Trainer: cannot write into the folder {str(folder)!r}: {error.strerror}"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            process = os.pread(file, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(file)
            raise BlockingIOError(
                f"Trainer: the folder {str(folder)!r} is in use by the run of process {process}; "
                "wait for its end or choose another folder"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP):
                os.close(file)
                raise
            warnings.warn(
                f"Trainer: the file system of {str(folder)!r} has no locks; nothing keeps a second "
                "run out of it",
                RuntimeWarning,
                stacklevel=2,
            )
        if _is(path, file):
            break
        os.close(file)  # its last owner has removed it since: ours is a file without a name
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(file)


def _is(path: Path, file: int) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
