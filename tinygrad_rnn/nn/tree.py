"""What hangs on a module: its attributes, and the items of their containers by dotted name."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tinygrad_rnn.nn.parameter import KEPT, Parameter
from tinygrad_rnn.tensor import Tensor

CONTAINERS = (list, tuple, dict)


def attributes(module: object) -> Iterator[tuple[str, Any]]:
    """The attributes of a module but those that a class of it hides; containers by their items."""
    hidden = hidden_by(type(module))
    for name, value in [*vars(module).items()]:
        if name in hidden:
            continue
        if isinstance(value, CONTAINERS):
            yield from items(name, value)
        else:
            yield name, value


@functools.lru_cache(1000)
def hidden_by(kind: type) -> frozenset[str]:
    """What a class hides, and every class that it inherits from."""
    given = [vars(one).get("hidden") for one in kind.__mro__]
    # What is no tuple is an attribute of the user's that happens to be called so.
    return frozenset(name for names in given if isinstance(names, tuple) for name in names)


def items(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value under its name, or what lists, tuples and dicts hold, by index or key."""
    stack = [(name, value)]
    while stack:
        name, value = stack.pop()
        if not isinstance(value, CONTAINERS):
            yield name, value
            continue
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        stack += reversed([(f"{name}.{key}", item) for key, item in pairs])


def leads_back(module: object, kind: type) -> bool:
    """Whether a way down from a module, over others of a kind, comes to it again."""
    seen: set[int] = set()
    below = deque([module])  # short ways first: a loop is most often one of two steps
    while below:
        for _, value in attributes(below.popleft()):
            if value is module:
                return True
            if isinstance(value, kind) and id(value) not in seen:
                seen.add(id(value))
                below.append(value)
    return False


def holds_kept(value: Any) -> bool:
    """Whether a value is, or has in its containers, a Parameter or Buffer."""
    if isinstance(value, KEPT):
        return True
    if not isinstance(value, CONTAINERS):
        return False
    return any(map(holds_kept, value.values() if isinstance(value, dict) else value))


def check_replaced(who: str, name: str, old: Any, new: Any) -> None:
    """Refuse to lose a Parameter or Buffer to something that is none of them, nor None."""
    places = {name: new} if isinstance(old, Tensor) else dict(items(name, new))
    for key, value in items(name, old):
        place = places.get(key)
        if isinstance(value, KEPT) and place is not None and not isinstance(place, KEPT):
            raise _lost(who, key, type(value).__name__, place)


def check_company(who: str, found: list[tuple[str, Any]]) -> None:
    """Refuse a Tensor in a container of Parameters or Buffers: it has replaced one there."""
    kinds = {
        key.rpartition(".")[0]: type(value).__name__
        for key, value in found
        if "." in key and isinstance(value, KEPT)
    }
    for key, value in found if kinds else ():
        container = key.rpartition(".")[0]
        if container in kinds and isinstance(value, Tensor) and not isinstance(value, KEPT):
            raise _lost(who, key, kinds[container], value, among=True)


def _lost(who: str, key: str, kind: str, value: Any, among: bool = False) -> TypeError:
    given = type(value).__name__
    what = "be neither trained nor saved" if kind == "Parameter" else "not be saved"
    place = (
        f"{key} is a {given} among others that are {kind}s, and"
        if among
        else f"{key} is a {kind}, and a {given} in its place"
    )
    return TypeError(
        f"{who}: {place} would {what}; assign to {key}.data for new values, or put "
        f"nn.{kind}(...) there"
    )


def name_parameters(module: Any, attribute: str, value: Any) -> None:
    """Let the parameters of an attribute of a module be called by their place in it.

    Not those of a module that leads back to this one, whose names would grow in a circle.
    """
    if attribute in hidden_by(type(module)):
        return
    for name, item in items(attribute, value):
        if isinstance(item, Parameter):
            item.called(name)
        elif hasattr(item, "named_parameters") and not any(m is module for m in item.modules()):
            for path, parameter in item.named_parameters():
                parameter.called(f"{name}.{path}")


def rows(named: Iterable[tuple[str, Parameter]]) -> list[tuple[str, ...]]:
    """Name, shape, dtype and number of elements of every parameter, and the sum, under a head.

    A tied parameter comes under each of its names, and counts once.
    """
    names: dict[int, str] = {}
    found: list[tuple[str, ...]] = [("name", "shape", "dtype", "elements", "")]
    total = 0
    for name, p in named:
        first = names.setdefault(id(p), name)
        count, note = f"{p.size:,}", "" if p.requires_grad else "no gradient"
        if first != name:
            count, note = "", f"tied to {first}"
        total += p.size if first == name else 0
        found.append((name, str(tuple(p.shape)), str(p.dtype), count, note))
    return [*found, ("total", "", "", f"{total:,}", "")]


def table(found: Sequence[tuple[str, ...]]) -> str:
    """Such rows as text."""
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    return "\n".join(
        f"{name:{widths[0]}}  {shape:{widths[1]}}  {dtype:{widths[2]}}  {count:>{widths[3]}}"
        f"  {note}".rstrip()
        for name, shape, dtype, count, note in found
    )
