"""What a value is called that no operation made: a parameter, a buffer, an argument, a variable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from tinygrad_rnn.backends import Array
from tinygrad_rnn.lab.ranges import array_of
from tinygrad_rnn.nn import Buffer, Module, Parameter
from tinygrad_rnn.tape import current_place

_PACKAGE = __name__.partition(".")[0]
_LEVELS = 3  # of containers in which an argument is looked for


def called(value: Any, array: Array) -> tuple[str, str | None]:
    """What an operand is, in words, and the name of the parameter that it is, if it is one.

    The layers that run now are asked for it, then what their calls were given, from the outermost
    one inwards, then the variables of the user's functions.
    """
    if isinstance(value, Parameter):
        name = value.name or _attribute(array) or "without a name"
        return f"the parameter {name}", name
    name = getattr(value, "name", None) or _attribute(array)
    if name:
        return f"the {'buffer' if isinstance(value, Buffer) else 'Tensor'} {name}", None
    return _argument(value, array) or _variable(value, array) or "an operand", None


def _attribute(array: Array) -> str | None:
    """The path to a Tensor in the tree of the outermost module that runs."""
    for owner, layer in current_place.get().owners[:1]:
        for path, module in owner.named_modules():
            for name, held in vars(module).items():
                if found := _path_to(None, array, held, name):
                    return ".".join(filter(None, (layer, path, found)))
    return None


def _argument(value: Any, array: Array) -> str | None:
    """The argument of the outermost layer that was called with it."""
    layers = {id(owner): layer for owner, layer in current_place.get().owners}
    found = None
    for frame in _frames():
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if code.co_name not in ("forward", "step") or not names:
            continue
        local = frame.f_locals
        layer = local.get(names[0])
        if isinstance(layer, Module) and id(layer) in layers:
            path = next(filter(None, (_path_to(value, array, local.get(n), n) for n in names)), "")
            of = layers[id(layer)]
            kind = type(layer).__name__
            whose = f"layer {of} ({kind})" if of else f"the model ({kind})"
            found = f"the argument {path} of {whose}" if path else found
    return found


def _variable(value: Any, array: Array) -> str | None:
    """The variable of the innermost function of the user's that has it."""
    for frame in _frames():
        if frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
            continue
        for name, held in frame.f_locals.items():
            if path := _path_to(value, array, held, name):
                return f"the variable {path} of {frame.f_code.co_name}"
    return None


def _frames() -> Iterator[FrameType]:
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        yield frame
        frame = frame.f_back


def _path_to(value: Any, array: Array, held: Any, path: str, level: int = 0) -> str | None:
    """The Python that leads from a name to a value, if it holds it."""
    if (value is not None and held is value) or array_of(held) is array:
        return path
    if level == _LEVELS:
        return None
    items: Any = ()
    if isinstance(held, dict):
        items = ((f"{path}[{key!r}]", part) for key, part in held.items())
    elif hasattr(held, "_asdict"):  # a NamedTuple
        items = ((f"{path}.{key}", part) for key, part in held._asdict().items())
    elif isinstance(held, list | tuple):
        items = ((f"{path}[{k}]", part) for k, part in enumerate(held))
    found = (_path_to(value, array, part, name, level + 1) for name, part in items)
    return next(filter(None, found), None)
