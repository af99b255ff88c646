"""Whoever asks Python what a public name is gets an answer: a docstring, and arguments by name."""

from __future__ import annotations

import inspect
from types import ModuleType
from typing import Any

import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, ops, optim, rnn, training

ROOMS: tuple[ModuleType, ...] = (tg, nn, rnn, optim, data, training, lab, ops)
NAMELESS = {
    "nn.Module.forward": "a module's own forward names its inputs",
}
"""What takes any arguments, and why."""


def public() -> dict[str, Any]:
    """Every public name of the rooms, and every public method and property of its classes."""
    found: dict[str, Any] = {}
    known: set[int] = set()
    for room in ROOMS:
        for name in room.__all__:
            value = getattr(room, name)
            if id(value) in known or not (callable(value) or isinstance(value, ModuleType)):
                continue  # known by another name, or a number, a text, a table
            known.add(id(value))
            path = f"{room.__name__}.{name}".removeprefix(f"{tg.__name__}.")
            found[path] = value
            if inspect.isclass(value):
                found.update(members(path, value))
    return found


def members(path: str, owner: type) -> dict[str, Any]:
    """The public methods and properties of a class that are not as in a class above it."""
    return {
        f"{path}.{name}": value if isinstance(value, property) else getattr(owner, name)
        for name, value in vars(owner).items()
        if not name.startswith("_") and (callable(value) or isinstance(value, DESCRIPTORS))
    }


DESCRIPTORS = (property, classmethod, staticmethod)
PUBLIC = public()


def docstring(value: Any) -> str | None:
    """That of the value itself, or of the method which it stands for in a class above it."""
    if isinstance(value, tg.Primitive):
        return vars(value).get("__doc__")
    if inspect.isclass(value):
        text = vars(value).get("__doc__")
        return None if text is None or text.startswith(f"{value.__name__}(") else text
    return inspect.getdoc(value)


def nameless(value: Any) -> bool:
    """Whether a signature says no more than that there are arguments."""
    kinds = {p.kind for p in inspect.signature(value).parameters.values()}
    return kinds >= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
