"""Files that are whole or not there, and arrays in the safetensors format with a checksum.

What :meth:`Module.save` and the checkpoints and metrics of training/ have in common.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

OURS = "tinygrad_rnn "
"""How both entries begin that say of a file, in its metadata, that :func:`pack` has made it.

There are two so that damage to one cannot pass the file off as another program's, unchecked.
"""

LONGEST_HEADER = 100_000_000
"""Bytes; the limit of the safetensors format."""

DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "|u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip


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


def remove_partial(folder: Path) -> None:
    """Remove what killed attempts of :func:`write_atomically` left in a folder."""
    for partial in folder.glob(".*.partial"):
        partial.unlink(missing_ok=True)


def pack(kind: str, document: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays and a text as one safetensors file that names its kind and its checksum."""
    from safetensors.numpy import save

    ordered = {name: np.array(array, order="C") for name, array in arrays.items()}
    checksum = _checksum(OURS + kind, document, ordered)
    return save(ordered, {"kind": OURS + kind, "document": document, "checksum": checksum})


def unpack(
    path: Path, kind: str, or_foreign: bool = False
) -> tuple[str | None, dict[str, np.ndarray]]:
    """The text and the arrays of a file that :func:`pack` made.

    With ``or_foreign`` also the arrays of a safetensors file that another program made, whose text
    is None.

    Raises
    ------
    OSError
        where the file cannot be read.
    ValueError
        saying what is wrong with it: not of this kind, or damaged.
    """
    metadata, arrays = _read(path)
    said = metadata.get("kind", "")
    if or_foreign and not any(entry.startswith(OURS) for entry in metadata.values()):
        return None, arrays
    if said != OURS + kind:
        other = f"a {said}" if said.startswith(OURS) else "a safetensors file"
        raise ValueError(f"is {other}, but no {OURS}{kind}")
    document = metadata.get("document", "")
    if metadata.get("checksum") != _checksum(said, document, arrays):
        raise ValueError("is damaged: its content does not match its checksum")
    return document, arrays


def _read(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """The metadata and the arrays of any safetensors file."""
    from safetensors import SafetensorError, deserialize

    with open(path, "rb") as file:
        # Before anything is read or trusted: the length of the header, against that of the file.
        length = int.from_bytes(file.read(8), "little")
        size = os.fstat(file.fileno()).st_size
        if not 2 <= length <= min(size - 8, LONGEST_HEADER):
            raise ValueError("is cut off, damaged or no safetensors file at all")
        file.seek(0)
        content = file.read()
    try:
        tensors: list[Any] = deserialize(content)
        header = json.loads(content[8 : 8 + length])
        arrays = {name: _array(**tensor) for name, tensor in sorted(tensors, key=lambda t: t[0])}
    except _Unsupported:
        raise
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ValueError(f"is cut off, damaged or no safetensors file at all ({error})") from None
    return header.get("__metadata__") or {}, arrays


class _Unsupported(ValueError):
    """A file that is whole, but of numbers that NumPy does not have."""


def _array(dtype: str, shape: list[int], data: bytearray) -> np.ndarray:
    if dtype not in DTYPES:
        raise _Unsupported(
            f"holds numbers of the format {dtype}, which cannot be read here; convert them to F32"
        )
    array = np.frombuffer(data, DTYPES[dtype]).reshape(shape)
    if dtype == "BOOL":
        return array != 0
    if dtype == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _checksum(kind: str, document: str, arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of all that a file says, whatever the order in which it stores it."""
    total = hashlib.sha256()
    for part in (kind, document):
        total.update(hashlib.sha256(part.encode()).digest())
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        total.update(array.tobytes())
    return f"{OURS}sha256 {total.hexdigest()}"
