"""What a step can see and change besides its arguments: its reach, as values to be compared.

A loop is replayed only while its step does nothing but operations. So what it reaches is looked at
before and after: the variables that it closes over, the globals named in its code, the attributes
of objects, of modules all the way down, and their classes; in containers two deep; and the states
of random generators, Python's and NumPy's own among them. What is written elsewhere (a file, a
screen, a list in a list in a list, the middle of a large array) is not seen.
"""

# What a step reaches is of any kind.
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false

from __future__ import annotations

import functools
import io
import itertools
import operator
import random
import sys
import types
from array import array
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tinygrad_rnn.tape import Traced

CONTAINERS, OBJECTS = 2, 3
"""How deep containers and objects are looked into."""
ITEMS, BYTES = 256, 1 << 19
"""Items looked into at each end of a container, and bytes compared at each end of an array."""

_ARRAYS = ("tinygrad_rnn", "numpy", "builtins")
_LIBRARIES = {*_ARRAYS, *sys.stdlib_module_names}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.dtype, np.generic, range, slice)
_GENERATORS = (np.random.Generator, np.random.RandomState, np.random.BitGenerator, random.Random)
_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)


class Unknown:
    """Something that cannot be compared; no two are equal."""


def differs(before: Look, after: Look) -> str | None:
    """The name of something that has changed from one look to the next, None where nothing has."""
    old, new = before.found, after.found
    if old == new:
        return None
    return next(key[0] for key in (*new, *old) if key not in old or old[key] != new.get(key))


def user_function(step: Any) -> types.FunctionType | None:
    """The user's function behind a step, through partials, methods and cells."""
    if isinstance(step, functools.partial):
        candidates = [step.func, *step.args, *step.keywords.values()]
        return next((f for f in map(user_function, candidates) if f is not None), None)
    if isinstance(step, types.MethodType):
        return user_function(step.__func__)
    if isinstance(step, types.FunctionType):
        return None if _is_ours(step) else step
    for name in ("step", "__call__"):
        method = getattr(type(step), name, None)
        if isinstance(method, types.FunctionType):
            inner = [part for part in vars(step).values() if _is_module(type(part))]
            return next((f for f in map(user_function, [method, *inner]) if f is not None), None)
    return None


def _is_ours(value: Any) -> bool:
    """Whether a function, class or module is this package's, NumPy's or Python's own.

    None of these keeps anything of a step but the states of generators; their objects do.
    """
    name = value.__name__ if isinstance(value, types.ModuleType) else value.__module__
    return str(name).partition(".")[0] in _LIBRARIES


@functools.lru_cache(maxsize=1024)
def _globals_of(code: types.CodeType) -> tuple[str, ...]:
    """The names that may be globals in a function, and in those within it."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    return (*code.co_names, *itertools.chain.from_iterable(map(_globals_of, inner)))


class Look:
    """Everything in a step's reach at one time.

    Attributes
    ----------
    found : values that can be compared with those of another look, by name, and by number where
        several have one name.
    """

    def __init__(self, step: Callable[..., Any]) -> None:
        self.found: dict[tuple[str, int], Any] = {
            ("Python's random numbers", 0): random.getstate(),
            ("NumPy's random numbers", 0): _state(np.random.get_state(legacy=False)),  # noqa: NPY002
        }
        self.counts: dict[str, int] = {}
        self.visited: dict[int, Any] = {}  # held, so that nothing else comes to have their place
        self.visit("the step", step, CONTAINERS, OBJECTS)

    def visit(self, name: str, value: Any, depth: int, objects: int) -> None:
        """Note what a value is, and what lies within it."""
        number = self.counts[name] = self.counts.get(name, -1) + 1
        self.found[name, number] = self.what(name, value, depth, objects)

    def what(self, name: str, value: Any, depth: int, objects: int) -> Any:
        """Equal for what has not changed; what lies within is visited."""
        kind: Any = type(value)
        if isinstance(value, _PLAIN):
            inexact = isinstance(value, float | complex | np.inexact)  # nan equals nan
            return kind, repr(value) if inexact else value
        if id(value) in self.visited or isinstance(value, types.ModuleType | io.IOBase):
            return id(value)
        self.visited[id(value)] = value
        if isinstance(value, Traced):
            values, grad = value.array, value.grad
            held = (id(values), value.needs_grad, id(grad), getattr(grad, "version", 0))
            return id(value), value.version, *held
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                items = value.ravel().tolist()
                return id(value), value.shape, *self.container(name, items, depth, objects)
            return id(value), value.shape, value.dtype, _ends(value)
        if isinstance(value, bytearray | array):
            held = memoryview(value)
            return id(value), len(value), bytes(held[:BYTES]), bytes(held[-BYTES:])
        if isinstance(value, _GENERATORS):
            return id(value), _generator(value)
        if isinstance(value, _FUNCTIONS):
            self.function(name, value, depth, objects)
        elif isinstance(value, list | tuple | set | frozenset | dict | deque):
            return id(value), *self.container(name, value, depth, objects)
        elif isinstance(value, Iterator):
            return id(value), _position(value)
        elif isinstance(value, type):
            if objects and not _is_ours(value):
                self.class_attributes(value, objects)
        elif objects and (_is_module(kind) or kind.__module__.partition(".")[0] not in _ARRAYS):
            self.attributes(value, objects)
        return id(value)

    def function(self, name: str, function: Any, depth: int, objects: int) -> None:
        if isinstance(function, functools.partial):
            self.visit(name, function.func, depth, objects)
            for k, argument in enumerate((*function.args, *function.keywords.values())):
                self.visit(f"argument {k} of a partial", argument, depth, objects)
            return
        if isinstance(function, types.MethodType):
            self.visit(name, function.__self__, depth, objects)
            function = function.__func__
        if not isinstance(function, types.FunctionType):
            return
        for variable, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                content = None
            self.visit(f"the variable {variable!r}", content, depth, objects)
        for k, default in enumerate(
            (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
        ):
            self.visit(f"default {k} of {function.__name__}", default, depth, objects)
        if _is_ours(function):
            return
        for attribute, content in vars(function).items():
            self.visit(f"{function.__name__}.{attribute}", content, depth, objects)
        names = _globals_of(function.__code__)
        for variable in names:
            if variable in function.__globals__:
                content = function.__globals__[variable]
                self.visit(f"the global {variable!r}", content, depth, objects)
                if isinstance(content, types.ModuleType) and not _is_ours(content):
                    for attribute in names:
                        if attribute in vars(content):
                            name = f"{variable}.{attribute}"
                            self.visit(name, vars(content)[attribute], depth, objects - 1)

    def container(self, name: str, value: Any, depth: int, objects: int) -> tuple[int, ...]:
        items = [*itertools.chain(*value.items())] if isinstance(value, dict) else [*value]
        self.visited[id(items)] = items
        inner = [*items[:ITEMS], *items[ITEMS:][-ITEMS:]] if depth else []
        for k, item in enumerate(inner):
            self.visit(f"{name}[{k}]", item, depth - 1, objects)
        return len(items), *map(id, items[ITEMS:-ITEMS] if depth else items)

    def attributes(self, value: Any, objects: int) -> None:
        kind: Any = type(value)
        held = dict(getattr(value, "__dict__", {}))
        for base in kind.__mro__:
            slots: Any = vars(base).get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                held.setdefault(slot, getattr(value, slot, None))
        for attribute, content in held.items():
            inner = objects if _is_module(kind) else objects - 1
            self.visit(f"{kind.__name__}.{attribute}", content, CONTAINERS, inner)
        for base in kind.__mro__:
            if not _is_ours(base) and id(base) not in self.visited:
                self.visited[id(base)] = base
                self.class_attributes(base, objects)

    def class_attributes(self, kind: type, objects: int) -> None:
        for attribute, member in vars(kind).items():
            name = f"{kind.__name__}.{attribute}"
            inner = getattr(member, "fget", None) or getattr(member, "__func__", member)
            if isinstance(inner, types.FunctionType) or (
                not attribute.startswith("__")
                and (not hasattr(member, "__get__") or not _is_ours(type(member)))
            ):
                self.visit(name, inner, CONTAINERS, objects - 1)


def _is_module(kind: type) -> bool:
    """Whether objects of a class are modules, which this room does not know."""
    return hasattr(kind, "named_parameters")


def _ends(values: np.ndarray) -> bytes:
    """The bytes of an array, of a large one those at its ends."""
    if values.nbytes <= 2 * BYTES:
        return values.tobytes()
    count = BYTES // max(values.itemsize, 1)
    return values.flat[:count].tobytes() + values.flat[-count:].tobytes()


def _generator(value: Any) -> Any:
    if isinstance(value, random.Random):
        return value.getstate() if type(value).getstate is random.Random.getstate else Unknown()
    if isinstance(value, np.random.RandomState):
        return _state(value.get_state(legacy=False))
    source: Any = value.bit_generator if isinstance(value, np.random.Generator) else value
    return _state(source.state)


def _state(value: Any) -> Any:
    """The state of a bit generator: nested dicts of numbers, strings and arrays."""
    if isinstance(value, dict):
        return tuple((key, _state(part)) for key, part in value.items())
    return value.tobytes() if isinstance(value, np.ndarray) else value


def _position(iterator: Any) -> Any:
    """Where an iterator stands, if it can be asked."""
    if isinstance(iterator, itertools.count):
        return repr(iterator)
    if hasattr(type(iterator), "__length_hint__"):
        return operator.length_hint(iterator)
    return Unknown()
