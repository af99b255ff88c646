"""Files that are whole or not there: written beside their place, checked, and then renamed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save


def write_atomically(path: Path, content: bytes) -> None:
    """Replace ``path`` by a file with ``content``: whoever reads it finds the old one or the new.

    The bytes are on the disk before the name is theirs. What a failed or killed attempt leaves
    behind has a name of its own, ``.<name>.partial``, which the next attempt overwrites.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # elsewhere a folder cannot be opened, nor need it be
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def pack(kind: str, document: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays and a text as one safetensors file that names its kind and its checksum."""
    ordered = {name: np.array(array, order="C") for name, array in arrays.items()}
    checksum = _checksum(kind, document, ordered)
    return save(ordered, {"kind": kind, "document": document, "checksum": checksum})


def unpack(path: Path, kind: str) -> tuple[str, dict[str, np.ndarray]]:
    """The text and the arrays of a file that :func:`pack` made.

    Raises
    ------
    OSError
        where the file cannot be read.
    ValueError
        saying what is wrong with it: not of this kind, or damaged.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if metadata.get("kind") != kind:
                raise ValueError(f"is a safetensors file, but no {kind}")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"is cut off, damaged or no {kind} at all ({error})") from None
    document = metadata.get("document", "")
    if metadata.get("checksum") != _checksum(kind, document, arrays):
        raise ValueError("is damaged: its content does not match its checksum")
    return document, arrays


def _checksum(kind: str, document: str, arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of all that a file says, whatever the order in which it stores it."""
    total = hashlib.sha256()
    for part in (kind, document):
        total.update(hashlib.sha256(part.encode()).digest())
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        total.update(array.tobytes())
    return total.hexdigest()
