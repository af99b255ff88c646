"""What an operation computes and how it is differentiated, as its source says it."""

from __future__ import annotations

import inspect
from functools import cache
from pathlib import Path
from typing import Any

from tinygrad_rnn.tape import Primitive

_FOLDER = Path(__file__).parents[3]


def description(primitive: Any) -> dict[str, Any]:
    """The docstring, the expression and the sources of the gradient rules of an operation."""
    doc = inspect.getdoc(primitive) or ""
    found = {
        "name": primitive.name,
        "doc": "" if doc == inspect.getdoc(Primitive) else doc,
        "kernel": primitive.kernel,
        "rules": [],
    }
    rules = [primitive.joint_rule] if primitive.joint_rule else primitive.rules
    sources = dict.fromkeys(source(rule) for rule in rules if rule)
    found["rules"] = [{"place": place, "source": text} for place, text in sources]
    return found


def source(function: Any) -> tuple[str, str]:
    """Where a function stands and its source, a lambda with the declaration that it stands in."""
    try:
        file = inspect.getsourcefile(function) or ""
        lines, first = inspect.getsourcelines(function)
    except (OSError, TypeError):
        return "", f"{getattr(function, '__qualname__', function)}: there is no source to be read"
    return f"{shown_path(file)}:{first}", inspect.cleandoc("".join(lines))


@cache
def shown_path(path: str) -> str:
    """The path of a file, from the package on for those of this package."""
    try:
        return str(Path(path).relative_to(_FOLDER))
    except ValueError:
        return path
