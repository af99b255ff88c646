"""Ways to damage a safetensors file, for the tests of what reads one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import numpy as np

Random = np.random.Generator


def _header(content: bytes) -> tuple[dict[str, object], bytes]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _file(header: bytes, data: bytes, length: int | None = None) -> bytes:
    return (len(header) if length is None else length).to_bytes(8, "little") + header + data


def _place(content: bytes, random: Random) -> int:
    """A position: as often in the header as in the data, which may be much longer."""
    end = 8 + int.from_bytes(content[:8], "little")
    return int(random.integers(end) if random.random() < 0.5 else random.integers(len(content)))


def flip_bits(content: bytes, random: Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(random.integers(1, 4)):
        damaged[_place(content, random)] ^= 1 << int(random.integers(8))
    return bytes(damaged)


def change_bytes(content: bytes, random: Random) -> bytes:
    damaged, start = bytearray(content), _place(content, random)
    stop = min(start + int(random.integers(1, 40)), len(content))
    damaged[start:stop] = random.bytes(stop - start)
    return bytes(damaged)


def cut_off(content: bytes, random: Random) -> bytes:
    return content[: _place(content, random)]


def cut_out(content: bytes, random: Random) -> bytes:
    start = _place(content, random)
    return content[:start] + content[start + int(random.integers(1, 40)) :]


def lengthen(content: bytes, random: Random) -> bytes:
    start = _place(content, random)
    start = len(content) if random.random() < 0.3 else start
    return content[:start] + random.bytes(int(random.integers(1, 40))) + content[start:]


def swap_blocks(content: bytes, random: Random) -> bytes:
    size = min(int(random.choice([1, 4, 8, 64, 512])), len(content) // 2)
    a, b = sorted(int(k) for k in random.integers(0, len(content) - size + 1, 2))
    b = max(b, a + size) if a + 2 * size <= len(content) else b
    if b + size > len(content) or b < a + size:
        return content[::-1]
    block, other = content[a : a + size], content[b : b + size]
    return content[:a] + other + content[a + size : b] + block + content[b + size :]


def zero_blocks(content: bytes, random: Random) -> bytes:
    """As a file system may after a crash."""
    start = _place(content, random)
    stop = min(start + int(random.choice([16, 512])), len(content))
    return content[:start] + bytes(stop - start) + content[stop:]


def garbage_lengths(content: bytes, random: Random) -> bytes:
    length = int(random.choice([0, 1, 2, 7, 99_999_999, 100_000_001, 2**31, 2**63 - 1]))
    length = int(random.integers(2**62)) if random.random() < 0.3 else length
    return length.to_bytes(8, "little") + content[8:]


def nesting_bombs(content: bytes, random: Random) -> bytes:
    opening = [b"[", b'{"a":', b'{"__metadata__":', b'{"w":{"shape":['][int(random.integers(4))]
    return _file(opening * int(random.integers(1, 20_000)), b"")


def false_headers(content: bytes, random: Random) -> bytes:
    """The same data under a header that says something else about one array."""
    header, data = _header(content)
    names = [name for name in header if name != "__metadata__"]
    entry = header[names[int(random.integers(len(names)))]]
    assert isinstance(entry, dict)
    changes: list[tuple[str, object]] = [
        ("dtype", str(random.choice(["F64", "F16", "BF16", "I32", "F8_E4M3", "C64", "X", ""]))),
        ("shape", [int(random.integers(2**40))]),
        ("shape", [0, 2**62, 2**62]),
        ("shape", [1] * 100),
        ("shape", [-1, 4]),
        ("shape", "many"),
        ("data_offsets", [0, 2**40]),
        ("data_offsets", [2**63, 2**63 + 4]),
        ("data_offsets", [8, 4]),
        ("data_offsets", None),
    ]
    name, value = changes[int(random.integers(len(changes)))]
    entry[name] = value
    return _file(json.dumps(header).encode(), data)


def foreign_files(content: bytes, random: Random) -> bytes:
    """Other safetensors files, and no safetensors files at all."""
    array = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    empty = {"dtype": "F32", "shape": [0, 2**62], "data_offsets": [0, 0]}
    header, data = _header(content)
    metadata = {"kind": "tinygrad_rnn something else", "checksum": "0", "document": "{}"}
    files = [
        b"",
        b"{}",
        b"PK\x03\x04" + random.bytes(60),
        b"\x80\x04\x95" + random.bytes(60),
        b"\x93NUMPY\x01\x00" + random.bytes(60),
        random.bytes(int(random.integers(1, 500))),
        _file(b"{}", b""),
        _file(json.dumps({"w": array}).encode(), b"\0" * 4),
        _file(json.dumps({"w": array, "__metadata__": {"format": "pt"}}).encode(), b"\0" * 4),
        _file(json.dumps({"w": empty}).encode(), b""),
        _file(json.dumps(header | {"__metadata__": metadata}).encode(), data),
        _file(b"\xff\xfe" * 20, b""),
        _file(b"NaN" + b" " * 20, b""),
    ]
    return files[int(random.integers(len(files)))]


KINDS: list[Callable[[bytes, Random], bytes]] = [
    flip_bits, change_bytes, cut_off, cut_out, lengthen, swap_blocks, zero_blocks, garbage_lengths,
    nesting_bombs, false_headers, foreign_files,
]  # fmt: skip


def damaged(content: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """So many damaged versions of a file, each kind in turn, with a name to try it again."""
    for k in range(count):
        kind = KINDS[k % len(KINDS)]
        yield f"{kind.__name__} {k}", kind(content, np.random.default_rng(k))


def message_of(
    error: type[Exception], call: Callable[..., object], *arguments: object
) -> str | None:
    """What a call says that fails with this error, None where it succeeds."""
    try:
        call(*arguments)
    except error as caught:
        return str(caught)
    return None
