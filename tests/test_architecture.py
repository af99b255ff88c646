"""The rooms and the directions between them, read from the imports.

``backends <- tape <- ops <- tensor <- replay <- nn <- rnn, optim, data <- training <- lab``: each
room imports only what stands to its left. The three in the middle stand beside each other. Within
``replay`` it is ``program <- passes <- emit <- run <- its other files``. No files import each other
in a circle, not even for their annotations or within functions.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import tinygrad_rnn

PACKAGE = "tinygrad_rnn"
ROOT = Path(tinygrad_rnn.__file__).parent
PLACES = (
    ("backends",),
    ("tape",),
    ("ops",),
    ("tensor",),
    ("replay",),
    ("nn",),
    ("rnn", "optim", "data"),
    ("training",),
    ("lab",),
)
PLACE = {room: k for k, rooms in enumerate(PLACES) for room in rooms}
STOREYS = ("program", "passes", "emit", "run", "replay")  # the last one: replay's other files
LONGEST = 300


class Import(NamedTuple):
    """One name that a module imports."""

    module: str  # "tinygrad_rnn.ops.shaping", "numpy"
    name: str | None  # what is taken out of it, None for the module itself
    line: int

    @property
    def room(self) -> str | None:
        """The room of this package that it comes from."""
        parts = self.module.split(".")
        if parts[0] != PACKAGE:
            return None
        if len(parts) > 1:
            return parts[1]
        return self.name if self.name in PLACE else None


def imports(source: str, module: str, is_package: bool = False) -> Iterator[Import]:
    """Everything that a module's source imports, at its head or within a function."""
    home = module.split(".") if is_package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, None, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = home[: len(home) - node.level + 1] if node.level else []
            origin = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            for alias in node.names:
                yield Import(origin, alias.name, node.lineno)


def room_of(module: str) -> str:
    """The room of a module, and "" for the package itself."""
    return (*module.split("."), "")[1]


def storey(module: str) -> str:
    """The folder of replay in which a module is, "replay" for its other files."""
    folder = (*module.split("."), "", "")[2]
    return folder if folder in STOREYS else "replay"


def faults(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module does against the order of the rooms, one sentence each."""
    here = room_of(module)
    found: list[str] = []
    for item in imports(source, module, is_package):
        where = f"{module}, line {item.line}:"
        if item.module.split(".")[0] in ("cupy", "cupyx") and here != "backends":
            found.append(f"{where} cupy is imported outside backends/")
        if item.module.split(".")[0] != PACKAGE:
            continue
        if here in PLACE and item.module == PACKAGE and item.room is None:
            if item.name != "version":
                found.append(f"{where} a room imports the package as a whole")
            continue
        there = item.room
        if here == there == "replay":
            own, other = storey(module), storey(f"{item.module}.{item.name}")
            if STOREYS.index(own) < STOREYS.index(other):
                found.append(f"{where} {own}/ imports {other}/, which stands above it")
        if there not in PLACE or there == here:
            continue
        if here in PLACE and PLACE[there] >= PLACE[here]:
            found.append(f"{where} {here}/ imports {there}/, which does not stand to its left")
        path = [*item.module.split(".")[1:], *([item.name] if item.name else [])]
        private = [part for part in path if part.startswith("_") and part != "__version__"]
        if private:
            found.append(f"{where} {private[0]} of {there}/ is private")
    if here in PLACE:
        found += private_attributes(source, module)
    return found


def private_attributes(source: str, module: str) -> list[str]:
    """Uses such as ``ops._sum`` or ``shaping._flip`` of a room that was imported whole."""
    here = room_of(module)
    tree = ast.parse(source)
    rooms: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                if room_of(full) in PLACE and room_of(full) != here:
                    rooms[alias.asname or alias.name] = full
    return [
        f"{module}, line {node.lineno}: {node.attr} of {rooms[node.value.id]} is private"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in rooms
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
    ]


def imported_files(sources: Mapping[str, str]) -> dict[str, set[str]]:
    """Which of some modules each of them imports."""
    found: dict[str, set[str]] = {}
    for module, source in sources.items():
        is_package = any(other.startswith(f"{module}.") for other in sources)
        items = [*imports(source, module, is_package)]
        names = {item.module for item in items if f"{item.module}.{item.name}" not in sources}
        names |= {f"{item.module}.{item.name}" for item in items}
        found[module] = names & sources.keys()
    return found


def circle(sources: Mapping[str, str]) -> list[str]:
    """Modules of which each imports the next and the last one is the first; empty without such."""
    try:
        TopologicalSorter(imported_files(sources)).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def modules() -> list[tuple[str, Path]]:
    """Every module of the package with its name."""
    found: list[tuple[str, Path]] = []
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found.append((".".join(part for part in parts if part != "__init__"), path))
    return found


MODULES = modules()
every_module = pytest.mark.parametrize(
    ("module", "path"), MODULES, ids=[module for module, _ in MODULES]
)


@every_module
def test_imports(module: str, path: Path) -> None:
    assert not faults(path.read_text("utf-8"), module, path.name == "__init__.py")


@every_module
def test_length(module: str, path: Path) -> None:
    """A file that grows past about 300 lines is two rooms; a facade of methods may be longer."""
    length = len(path.read_text("utf-8").splitlines())
    assert length <= LONGEST, f"{module} has {length} lines"


def test_no_files_import_each_other() -> None:
    assert not circle({module: path.read_text("utf-8") for module, path in MODULES})


def test_length_of_tests() -> None:
    """A file of tests, or of what they share, that grows past 600 lines tests two things."""
    files = Path(__file__).parent.glob("*.py")
    lengths = {path.name: len(path.read_text("utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > 600} == {}


def test_every_folder_is_a_known_room() -> None:
    folders = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert folders <= set(PLACE)
    assert {"backends", "tape", "ops", "tensor"} <= folders


def test_the_package_has_no_code_of_its_own() -> None:
    """__init__.py re-exports names one by one, each of them listed in __all__."""
    tree = ast.parse((ROOT / "__init__.py").read_text("utf-8"))
    kinds = (ast.Import, ast.ImportFrom, ast.Assign)
    text = [n for n in tree.body if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    assert all(isinstance(node, kinds) or node in text for node in tree.body)
    assert sorted(tinygrad_rnn.__all__) == sorted(set(tinygrad_rnn.__all__))
    for name in tinygrad_rnn.__all__:
        assert hasattr(tinygrad_rnn, name)


def test_importing_the_package_imports_no_cupy() -> None:
    for module, path in MODULES:
        if module.startswith(f"{PACKAGE}.backends") and path.name != "cuda.py":
            names = [item.module for item in imports(path.read_text("utf-8"), module)]
            assert not any(name.startswith("cupy") for name in names), module


# The checker is checked

GOOD = {
    "to the left": ("tinygrad_rnn.ops.new", "from tinygrad_rnn.tape import Primitive"),
    "far to the left": ("tinygrad_rnn.lab.new", "import tinygrad_rnn.backends"),
    "its own room": ("tinygrad_rnn.ops.new", "from tinygrad_rnn.ops.shaping import _shape"),
    "relative": ("tinygrad_rnn.ops.new", "from .shaping import flip"),
    "several rooms": ("tinygrad_rnn.tensor.new", "from tinygrad_rnn import backends, ops, tape"),
    "public attribute": ("tinygrad_rnn.nn.new", "from tinygrad_rnn import ops\nops.tanh"),
    "a private attribute of its own": ("tinygrad_rnn.nn.new", "self._x = 1\nself._x"),
    "cupy at home": ("tinygrad_rnn.backends.new", "import cupy"),
    "other libraries": ("tinygrad_rnn.tape.new", "import numpy as np\nfrom numpy import _core"),
    "the package": ("tinygrad_rnn", "from tinygrad_rnn.lab import draw"),
    "down in replay": (
        "tinygrad_rnn.replay.emit.cuda.new",
        "from tinygrad_rnn.replay.passes import fuse\nimport tinygrad_rnn.replay.program.loop",
    ),
    "its own storey": (
        "tinygrad_rnn.replay.run.new",
        "from tinygrad_rnn.replay.run.memory import lend",
    ),
    "on top of replay": ("tinygrad_rnn.replay.new", "from tinygrad_rnn.replay import emit, cache"),
    "the version": ("tinygrad_rnn.training.new", "from tinygrad_rnn.version import __version__"),
}
BAD = {
    "to the right": (
        "tinygrad_rnn.tape.new",
        "from tinygrad_rnn.ops import add",
        "tape/ imports ops/",
    ),
    "to the right, module": (
        "tinygrad_rnn.ops.new",
        "import tinygrad_rnn.nn.module",
        "imports nn/",
    ),
    "from the package": ("tinygrad_rnn.ops.new", "from tinygrad_rnn import tensor", "tensor/"),
    "relative": ("tinygrad_rnn.ops.new", "from ..tensor import Tensor", "imports tensor/"),
    "relative room": ("tinygrad_rnn.ops.new", "from .. import tensor", "imports tensor/"),
    "in a function": (
        "tinygrad_rnn.tape.new",
        "def f():\n    from tinygrad_rnn.tensor import Tensor\n",
        "tape/ imports tensor/",
    ),
    "under TYPE_CHECKING": (
        "tinygrad_rnn.ops.new",
        "if TYPE_CHECKING:\n    from tinygrad_rnn.tensor import Tensor\n",
        "ops/ imports tensor/",
    ),
    "beside": ("tinygrad_rnn.rnn.new", "from tinygrad_rnn.optim import Adam", "imports optim/"),
    "beside too": ("tinygrad_rnn.data.new", "from tinygrad_rnn import rnn", "imports rnn/"),
    "lab": ("tinygrad_rnn.training.new", "from tinygrad_rnn import lab", "imports lab/"),
    "cupy": ("tinygrad_rnn.ops.new", "import cupy as cp", "cupy is imported outside"),
    "cupy within": ("tinygrad_rnn.nn.new", "from cupy.cuda import Stream", "cupy is imported"),
    "cupyx": ("tinygrad_rnn.lab.new", "import cupyx", "cupy is imported outside"),
    "a private name": (
        "tinygrad_rnn.nn.new",
        "from tinygrad_rnn.ops.shaping import _shape",
        "_shape of ops/ is private",
    ),
    "a private module": (
        "tinygrad_rnn.nn.new",
        "from tinygrad_rnn.ops._hidden import f",
        "_hidden of ops/ is private",
    ),
    "a private attribute": (
        "tinygrad_rnn.nn.new",
        "from tinygrad_rnn import ops\nops._sum(1)",
        "_sum of tinygrad_rnn.ops is private",
    ),
    "up in replay": (
        "tinygrad_rnn.replay.program.new",
        "from tinygrad_rnn.replay.passes.fuse import fuse",
        "program/ imports passes/, which stands above it",
    ),
    "up in replay, folder": (
        "tinygrad_rnn.replay.emit.numba.new",
        "def f():\n    from tinygrad_rnn.replay import run",
        "emit/ imports run/",
    ),
    "up to the top of replay": (
        "tinygrad_rnn.replay.run.new",
        "import tinygrad_rnn.replay.cache",
        "run/ imports replay/",
    ),
    "the whole package": ("tinygrad_rnn.nn.new", "import tinygrad_rnn as tg", "as a whole"),
    "a public name of the package": (
        "tinygrad_rnn.nn.new",
        "from tinygrad_rnn import Tensor",
        "as a whole",
    ),
}


@pytest.mark.parametrize(("module", "source"), GOOD.values(), ids=GOOD.keys())
def test_good_imports_pass(module: str, source: str) -> None:
    assert faults(source, module) == []


@pytest.mark.parametrize(("module", "source", "fault"), BAD.values(), ids=BAD.keys())
def test_bad_imports_are_found(module: str, source: str, fault: str) -> None:
    assert any(fault in found for found in faults(source, module))


ROOM = {"tinygrad_rnn.ops": "from .a import f", "tinygrad_rnn.ops.a": "", "tinygrad_rnn.ops.b": ""}
NO_CIRCLES = {
    "a room of its files": {},
    "one way": {"tinygrad_rnn.ops.b": "from tinygrad_rnn.ops.a import f"},
    "one way, module": {"tinygrad_rnn.ops.b": "from . import a"},
    "another room": {"tinygrad_rnn.nn": "from tinygrad_rnn.ops import a, f"},
}
CIRCLES = {
    "two files": {
        "tinygrad_rnn.ops.a": "from tinygrad_rnn.ops.b import f",
        "tinygrad_rnn.ops.b": "import tinygrad_rnn.ops.a",
    },
    "by way of a third": {
        "tinygrad_rnn.ops.a": "from . import b",
        "tinygrad_rnn.ops.b": "from .c import f",
        "tinygrad_rnn.ops.c": "from .a import f",
    },
    "under TYPE_CHECKING": {
        "tinygrad_rnn.ops.a": "if TYPE_CHECKING:\n    from .b import f",
        "tinygrad_rnn.ops.b": "from .a import f",
    },
    "in a function": {
        "tinygrad_rnn.ops.a": "def f():\n    from .b import f",
        "tinygrad_rnn.ops.b": "from .a import f",
    },
    "its own room": {"tinygrad_rnn.ops.a": "from tinygrad_rnn.ops import f"},
    "the package": {
        "tinygrad_rnn": "from tinygrad_rnn.ops import f",
        "tinygrad_rnn.ops.b": "import tinygrad_rnn as tg",
        "tinygrad_rnn.ops": "from .b import f",
    },
}


@pytest.mark.parametrize("sources", NO_CIRCLES.values(), ids=NO_CIRCLES.keys())
def test_files_without_a_circle_pass(sources: dict[str, str]) -> None:
    assert circle(ROOM | sources) == []


@pytest.mark.parametrize("sources", CIRCLES.values(), ids=CIRCLES.keys())
def test_circles_are_found(sources: dict[str, str]) -> None:
    found = circle(ROOM | sources)
    assert found[0] == found[-1]
    assert set(found) & set(sources)
    imported = imported_files(ROOM | sources)
    assert all(after in imported[one] for one, after in itertools.pairwise(found))
