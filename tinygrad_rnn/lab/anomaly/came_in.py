"""What a value is called that no operation made: a parameter, a buffer, an argument, a variable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from types import FrameType, FunctionType, ModuleType
from typing import Any, TypeAlias

import numpy as np

from tinygrad_rnn.backends import Array, find_backend
from tinygrad_rnn.lab.anomaly.ranges import array_of, host
from tinygrad_rnn.nn import Buffer, Module, Parameter
from tinygrad_rnn.tape import Traced, current_place

_PACKAGE = __name__.partition(".")[0]
Test: TypeAlias = Callable[[Any], bool]

_LEVELS = 3  # of containers in which an argument is looked for


def called(value: Any, array: Array) -> tuple[str, str | None]:
    """What an operand is, in words, and the name of the parameter that it is, if it is one.

    The layers that run now are asked for it, then what calls were given, from the outermost one
    inwards, then the variables of the user's functions; at last for something with equal elements,
    as an array is of which a Tensor was made.
    """
    name = value.name if isinstance(value, Traced) else None
    name = name or _attribute(array)
    if name:
        owners = [owner for owner, _ in current_place.get().owners[:1]]
        held = [one for owner in owners for one in owner.tensors() if one.array is array]
        kinds = {Parameter: "parameter", Buffer: "buffer"}
        of = (kinds[kind] for kind in kinds for one in (value, *held) if isinstance(one, kind))
        kind = next(of, "Tensor")
        return f"the {kind} {name}", name if kind == "parameter" else None

    def is_it(held: Any) -> bool:
        return array_of(held) is array

    values = host(array)

    def equals(held: Any) -> bool:
        held = array_of(held)
        backend = find_backend(held)
        if backend is None or not isinstance(held, backend.array_type):
            return False
        if held.shape != values.shape or held.dtype.kind != "f":
            return False
        return np.array_equal(host(held), values, equal_nan=True)

    for holds in (is_it, equals):
        for where in (_argument_of_layer, _variable, _argument_of_function):
            if found := where(holds):
                return found, None
    return "an operand", None


def _attribute(array: Array) -> str | None:
    """The path to a Tensor in the tree of the outermost module that runs."""
    for owner, layer in current_place.get().owners[:1]:
        for path, module in owner.named_modules():
            for name, held in vars(module).items():
                if found := _path_to(lambda one: array_of(one) is array, held, name):
                    return ".".join(filter(None, (layer, path, found)))
    return None


def _argument_of_layer(holds: Test) -> str | None:
    """The argument of the outermost layer that was called with it."""
    layers = {id(owner): layer for owner, layer in current_place.get().owners}
    found = None
    for frame in _frames():
        names = _arguments(frame)
        layer = frame.f_locals.get(names[0]) if names else None
        if not isinstance(layer, Module) or id(layer) not in layers:
            continue
        if path := _path_in(holds, frame, names[1:]):
            kind, of = type(layer).__name__, layers[id(layer)]
            whose = f"layer {of} ({kind})" if of else f"the model ({kind})"
            found = f"the argument {path} of {whose}"
    return found


def _argument_of_function(holds: Test) -> str | None:
    """The argument of the outermost function of nn/, such as a loss, that was called with it."""
    found = None
    for frame in _frames():
        is_nn = frame.f_globals.get("__name__", "").startswith(f"{_PACKAGE}.nn.")
        if is_nn and (path := _path_in(holds, frame, _arguments(frame))):
            found = f"the argument {path} of {frame.f_code.co_name}"
    return found


def _arguments(frame: FrameType) -> tuple[str, ...]:
    """The names of what a public function was called with."""
    code = frame.f_code
    if code.co_name.startswith(("_", "<")):
        return ()
    return code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


def _path_in(holds: Test, frame: FrameType, names: Iterable[str]) -> str | None:
    local = frame.f_locals
    found = (_path_to(holds, local[name], name) for name in names if name in local)
    return next(filter(None, found), None)


def _variable(holds: Test) -> str | None:
    """The variable of the innermost function of the user's that has it."""
    for frame in _frames():
        is_ours = frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE
        if is_ours:
            continue
        names = [*frame.f_locals]
        if path := _path_in(holds, frame, names) or _attribute_of(holds, frame, names):
            return f"the variable {path} of {frame.f_code.co_name}"
    return None


def _attribute_of(holds: Test, frame: FrameType, names: Iterable[str]) -> str | None:
    """The attribute of an object that a variable is, a model's own class among them."""
    for name in names:
        value = frame.f_locals.get(name)
        if isinstance(value, type | ModuleType | FunctionType | Traced):
            continue
        attributes = getattr(value, "__dict__", None)
        if not isinstance(attributes, dict):  # an object may answer whatever it is asked
            continue
        for attribute, held in [*attributes.items()]:
            if path := _path_to(holds, held, f"{name}.{attribute}"):
                return path
    return None


def _frames() -> Iterator[FrameType]:
    """The functions that run now but for those of the lab, the innermost first."""
    frame: FrameType | None = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if not frame.f_globals.get("__name__", "").startswith(f"{_PACKAGE}.lab."):
            yield frame
        frame = frame.f_back


def _path_to(holds: Test, held: Any, path: str, level: int = 0) -> str | None:
    """The Python that leads from a name to a value, if it holds it."""
    if holds(held):
        return path
    if level == _LEVELS:
        return None
    items: Any = ()
    if isinstance(held, dict):
        items = ((f"{path}[{key!r}]", part) for key, part in [*held.items()])
    elif isinstance(held, tuple) and (names := getattr(held, "_fields", ())):  # a NamedTuple
        items = ((f"{path}.{key}", part) for key, part in zip(names, held, strict=True))
    elif isinstance(held, list | tuple):
        items = ((f"{path}[{k}]", part) for k, part in enumerate(held))
    elif is_dataclass(held) and not isinstance(held, type):
        items = ((f"{path}.{f.name}", getattr(held, f.name, None)) for f in fields(held))
    found = (_path_to(holds, part, name, level + 1) for name, part in items)
    return next(filter(None, found), None)
