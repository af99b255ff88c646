"""What docs/dtypes.md says, read from its tables."""

from __future__ import annotations

from pathlib import Path

PAGE = (Path(__file__).parent.parent / "docs" / "dtypes.md").read_text(encoding="utf-8")
KINDS = {"bools": ["bool"], "integers": ["uint8", "int16", "int32", "int64", "uint64"],
         "floats": ["float16", "float32", "float64"]}  # fmt: skip


def tables() -> list[list[list[str]]]:
    """The tables of the page: rows of cells, without the line below the head."""
    found: list[list[list[str]]] = [[]]
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            found += [[]] if found[-1] else []
        elif not line.startswith("|---"):
            cells = line.replace(r"\|", "\0").strip("|").split("|")
            found[-1].append([cell.strip().replace("\0", "|") for cell in cells])
    return [table for table in found if table]


def quoted(cell: str) -> list[str]:
    return [part for k, part in enumerate(cell.split("`")) if k % 2]


MEETING, GIVING = tables()
HEAD = [quoted(cell)[0] for cell in MEETING[0][1:]]
CELLS = [
    (quoted(row[0])[0], other, said)
    for row in MEETING[1:]
    for other, said in zip(HEAD, row[1:], strict=True)
]
CALLS = [
    (call, dtype, said)
    for row in GIVING[1:]
    for call in quoted(row[0])
    for kind, said in zip(GIVING[0][1:], row[1:], strict=True)
    for dtype in KINDS[kind]
]
