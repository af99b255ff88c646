"""Where a record comes from: its layer, time step and line, known while somebody looks.

Whoever runs something that has a name (a module, a loop) says so for as long as it runs, in the
context variable ``current_place``; a record that is made meanwhile takes its origin from there.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from linecache import getline
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from tinygrad_rnn.backends import Switch

_PACKAGE = __name__.partition(".")[0]
_FOLDER = Path(__file__).parents[2]  # that of the package
_CELLS = f"{_PACKAGE}.rnn.cells."


class Origin(NamedTuple):
    """Where a record comes from. It holds text and numbers alone, so nothing lives by it.

    Attributes
    ----------
    layer : the path of names to the module whose record it is, from the outermost one that is
        called; "" for that one itself, None outside every module. What runs of a module otherwise
        than by calling it, such as the ``step`` of a cell within a user's cell, belongs to the
        module that runs it; layers and wrappers of this package say what they run.
    step, reverse : the time step within the innermost loop, None outside loops and for a loop as a
        whole; and whether that loop runs from the last step to the first (of a backward record,
        whether the forward pass does).
    around : the time steps of the loops around that one, the outermost first.
    line : file and line of the user's code, ``model.py:12``; of a backward record those of the
        forward record, where these are known.
    equation : file and line of this package's own cell whose equation it is, None elsewhere.
    forward : of a record that a backward pass made, the position of the forward record that it
        belongs to.
    inside : of a replayed loop, the origins of the lines of its step, one per line of its program.
    """

    layer: str | None = None
    step: int | None = None
    reverse: bool = False
    around: tuple[int, ...] = ()
    line: str | None = None
    equation: str | None = None
    forward: int | None = None
    inside: tuple[Origin, ...] = ()

    @property
    def steps(self) -> tuple[int, ...]:
        """The time steps of all loops around the record, the innermost last."""
        return self.around if self.step is None else (*self.around, self.step)

    @property
    def short_line(self) -> str:
        """The line of the equation, else that of the user, without folders; may be ""."""
        return without_folders(self.equation or self.line)

    def at_step(self, t: int | None, reverse: bool, around: tuple[int, ...]) -> Origin:
        """The same line of the same layer at a time step."""
        return self._replace(step=t, reverse=reverse, around=around)

    def __str__(self) -> str:
        """For reading: ``encoder.cell, step 3, reversed, model.py:12``."""
        steps = " of step ".join(map(str, reversed(self.steps)))
        step, way = steps and f"step {steps}", "reversed" if self.reverse else ""
        return ", ".join(filter(None, (self.layer, step, way, self.equation, self.line)))


class Place(NamedTuple):
    """What runs in this thread or context: the origin of its records, but for the line of each.

    ``owners`` are the objects that run, the outermost first, with the layer that each one is.
    ``lines`` are, in a backward pass, the origins of the lines of the replayed loop that it has
    come to.
    """

    origin: Origin = Origin()
    owners: tuple[tuple[Any, str], ...] = ()
    lines: tuple[Origin, ...] = ()


current_place: ContextVar[Place] = ContextVar("tinygrad_rnn_place", default=Place())  # noqa: B039

PlaceSwitch = Switch[Place, None]


def without_folders(place: str | None) -> str:
    """A line of code, ``models/lstm.py:12``, as ``lstm.py:12``; "" for None."""
    return (place or "").replace("\\", "/").rpartition("/")[2]


def code_at(place: str) -> str:
    """The text of a line of code, ``model.py:12``; "" where it cannot be read."""
    file, _, number = place.rpartition(":")
    if not number.isdigit():
        return ""
    found = getline(file, int(number)) or getline(str(_FOLDER / file), int(number))
    return found.strip()


def origin_here() -> Origin:
    """The origin of a record that is made now."""
    origin = current_place.get().origin
    if origin.line is None and origin.forward is None:
        line, equation = _lines()
        return origin._replace(line=line, equation=equation)
    return origin


def user_line() -> str | None:
    """File and line of the innermost caller outside this package and NumPy."""
    return _lines()[0]


def _lines() -> tuple[str | None, str | None]:
    """The user's line, and that of a cell of this package on the way to it."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    equation = None
    while frame:
        module: str = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in (_PACKAGE, "numpy"):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}", equation
        if equation is None and module.startswith(_CELLS):
            equation = f"{module.replace('.', '/')}.py:{frame.f_lineno}"
        frame = frame.f_back
    return None, equation


def in_place(place: Place) -> PlaceSwitch:
    """Be in a place within the block, whatever is around it."""
    return Switch("in_place", current_place, lambda before: place)


def with_origin(**changes: Any) -> PlaceSwitch:
    """Within the block, records have another origin in these respects."""
    return Switch(
        "with_origin",
        current_place,
        lambda before: before._replace(origin=before.origin._replace(**changes)),
    )


def in_layer(owner: Any, layer: str) -> PlaceSwitch:
    """Within the block, ``owner`` runs, which is the layer of that name."""
    return Switch(
        "in_layer",
        current_place,
        lambda before: Place(before.origin._replace(layer=layer), (*before.owners, (owner, layer))),
    )


def in_step(t: int, reverse: bool) -> PlaceSwitch:
    """Within the block, a loop makes its time step t."""

    def change(before: Place) -> Place:
        origin = before.origin
        return before._replace(origin=origin.at_step(t, reverse, origin.steps))

    return Switch("in_step", current_place, change)


def walk_from(origin: Origin | None, position: int) -> None:
    """Say that a backward pass has come to the record at a position, which has an origin.

    It stays so until the next one; whoever walks restores the place when the pass is over.
    """
    origin = origin or Origin()
    back = origin._replace(forward=position, inside=())
    current_place.set(Place(back, lines=origin.inside))
