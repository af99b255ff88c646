"""Arrays in the safetensors format with a checksum: what Module.save and the checkpoints share.

A file is a stranger's until it is read: its header is checked before anything is made of it, and
an array is read when it is asked for, a block at a time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn.nn.disk import open_regular
from tinygrad_rnn.nn.formats import BEGINNING, recognised

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

WIDENED = {"BF16": np.dtype(np.float32), "BOOL": np.dtype(np.bool_)}
"""What NumPy has for the formats that are not read as they are."""

BLOCK = 1 << 18
"""Elements that are read and converted at once."""

FREE = 16 << 20
"""Bytes of memory that JSON may take in a file of any size."""

_DAMAGED = "is cut off, damaged or no safetensors file at all"
_STRINGS_AND_MARKS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[\[{,:]', re.DOTALL)


class Stored:
    """An array in an open file: its shape and dtype; NumPy reads it where it is asked for it."""

    __slots__ = ("file", "format", "shape", "start")

    def __init__(
        self, file: BufferedReader, start: int, format: str, shape: tuple[int, ...]
    ) -> None:
        self.file, self.start, self.format, self.shape = file, start, format, shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """What its values have when they are read."""
        return WIDENED.get(self.format) or np.dtype(DTYPES[self.format]).newbyteorder("=")

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    def blocks(self) -> Iterator[np.ndarray]:
        """Its values, flat, a block after the other."""
        self.file.seek(self.start)
        for start in range(0, self.size, BLOCK):
            count = min(BLOCK, self.size - start)
            raw = np.fromfile(self.file, DTYPES[self.format], count)
            if raw.size < count:
                raise ValueError("was cut off while it was read")
            if self.format == "BF16":  # the upper half of a float32
                raw = (raw.astype(np.uint32) << 16).view(np.float32)
            yield raw.astype(self.dtype, copy=False)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values, start = np.empty(self.size, dtype or self.dtype), 0
        for block in self.blocks():
            values[start : start + block.size] = block
            start += block.size
        return values.reshape(self.shape)


def pack(kind: str, document: str, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays and a text as one safetensors file that names its kind and its checksum.

    Raises
    ------
    ValueError
        where it could not be read back: an array is of no such numbers.
    """
    from safetensors.numpy import save

    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in ordered.items():
        if array.dtype != np.bool_ and array.dtype.str not in DTYPES.values():
            raise ValueError(f"{name} is {array.dtype}, which a safetensors file does not hold")
    checksum = _checksum(OURS + kind, document, ordered)
    return save(ordered, {"kind": OURS + kind, "document": document, "checksum": checksum})


@contextmanager
def unpack(
    path: Path, kind: str, or_foreign: bool = False
) -> Generator[tuple[str | None, dict[str, Stored]]]:
    """Open a file that :func:`pack` made: its text and its arrays, to be read within the block.

    With ``or_foreign`` also a safetensors file that another program made, whose text is None.

    Raises
    ------
    OSError
        where the file cannot be read.
    ValueError
        saying what is wrong with it: not of this kind, or damaged.
    """
    with open_regular(path) as file:
        metadata, arrays = _read_header(file)
        said = metadata.get("kind", "")
        if or_foreign and not any(entry.startswith(OURS) for entry in metadata.values()):
            yield None, arrays
            return
        if said != OURS + kind:
            other = f"a {said:.80}" if said.startswith(OURS) else "a safetensors file"
            raise ValueError(f"is {other}, but no {OURS}{kind}")
        document = metadata.get("document", "")
        if metadata.get("checksum") != _checksum(said, document, arrays):
            raise ValueError("is damaged: its content does not match its checksum")
        yield document, arrays


class RefusedError(ValueError):
    """A file that may be whole, but is not read."""


def _read_header(file: BufferedReader) -> tuple[dict[str, str], dict[str, Stored]]:
    """The metadata and the arrays of any safetensors file."""
    size = os.fstat(file.fileno()).st_size
    beginning = file.read(BEGINNING)
    length = int.from_bytes(beginning[:8], "little")
    # Before anything is read or trusted: the length of the header, against that of the file.
    if not 2 <= length <= min(size - 8, LONGEST_HEADER):
        raise ValueError(recognised(beginning) or _DAMAGED)
    file.seek(8)
    try:
        header = parse_json(file.read(length), size)
        metadata = header.pop("__metadata__", None) or {}
        for text in (*header, *metadata, *metadata.values()):
            text.encode()  # half a surrogate pair is no text
        return metadata, _arrays(file, header, 8 + length, size)
    except RefusedError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"{_DAMAGED} ({error!s:.200})") from None


def _arrays(
    file: BufferedReader, header: Mapping[str, Any], position: int, size: int
) -> dict[str, Stored]:
    """The arrays that a header describes, if they fill the file from there to its end."""
    first, found = position, dict[str, Stored]()
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        format, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if not isinstance(format, str) or not format.isidentifier():
            raise ValueError(f"{name:.80}: no format of numbers")
        if format not in DTYPES:
            raise RefusedError(
                f"holds numbers of the format {format:.40}, which cannot be read here; convert "
                "them to F32"
            )
        width = np.dtype(DTYPES[format]).itemsize
        whole = all(type(number) is int and number >= 0 for number in (*shape, start, stop))
        if not whole or len(shape) > 64 or math.prod(n or 1 for n in shape) * width >= 2**63:
            raise ValueError(f"{name:.80}: no shape of an array")
        if start != position - first or stop - start != math.prod(shape) * width:
            raise ValueError(f"{name:.80}: its place does not fit its shape")
        found[name] = Stored(file, position, format, tuple(shape))
        position = first + stop
    if position != size:
        raise ValueError("the file is longer or shorter than its arrays")
    return found


def check_json(text: bytes, size: int) -> None:
    """Refuse JSON that would take far more memory, once it is read, than its file has bytes.

    By measurement a name, a number or a container takes up to 64 bytes; so do their commas. One
    letter beyond Latin makes all of a text take four bytes a letter, twice or more over.
    """
    room = FREE + size - len(text) * (4 if text.isascii() and b"\\u" not in text else 10)
    marks = _STRINGS_AND_MARKS.finditer(text)
    if room < 0 or any(64 * count > room for count, _ in enumerate(marks, 1)):
        raise RefusedError(
            "holds so many names, numbers and words beside its arrays that reading them would take "
            f"far more memory than its {size:,} bytes"
        )


def parse_json(text: bytes, size: int) -> Any:
    """What JSON says in a file of that size, within its memory; no key of an object comes twice."""
    check_json(text, size)
    decoded = text.decode()
    del text  # it may be as long as all of the file
    return json.loads(decoded, object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found


def _checksum(
    kind: str, document: str, arrays: Mapping[str, np.ndarray] | Mapping[str, Stored]
) -> str:
    """The SHA-256 of all that a file says, whatever the order in which it stores it."""
    total = hashlib.sha256()
    for part in (kind, document):
        total.update(hashlib.sha256(part.encode()).digest())
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        for block in array.blocks() if isinstance(array, Stored) else [array]:
            total.update(block.tobytes())
    return f"{OURS}sha256 {total.hexdigest()}"
