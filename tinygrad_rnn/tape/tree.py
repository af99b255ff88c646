"""Nested containers of values: tuples, NamedTuples, lists and dicts. Anything else is a leaf."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

_Rebuild = Callable[[list[Any]], Any]
_SEQUENCE = (tuple, list)  # quicker to ask for than a union


def _children(tree: Any) -> tuple[list[Any], _Rebuild] | None:
    if isinstance(tree, dict):
        mapping = cast("dict[Any, Any]", tree)
        return list(mapping.values()), lambda items: dict(zip(mapping, items, strict=True))
    if isinstance(tree, _SEQUENCE):
        children = cast("Sequence[Any]", tree)
        kind = cast("Callable[..., Any]", type(children))
        return list(children), (lambda items: kind(*items)) if hasattr(kind, "_fields") else kind
    return None


def leaves(tree: Any) -> list[Any]:
    """The leaves from left to right. None is an empty tree."""
    found: list[Any] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Any]) -> None:
    if isinstance(tree, _SEQUENCE):
        for child in cast("Sequence[Any]", tree):
            _collect(child, found)
    elif isinstance(tree, dict):
        for child in cast("dict[Any, Any]", tree).values():
            _collect(child, found)
    elif tree is not None:
        found.append(tree)


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The same containers with ``function(leaf, *leaves_of_others)`` in place of each leaf."""
    if tree is None:
        return None
    found = _children(tree)
    if found is None:
        return function(tree, *others)
    children, rebuild = found
    groups = zip(children, *map(_matching, others), strict=True)
    return rebuild([tree_map(function, *group) for group in groups])


def _matching(other: Any) -> list[Any]:
    found = _children(other)
    return list(other) if found is None else found[0]


def rebuild(tree: Any, new_leaves: list[Any]) -> Any:
    """The containers of ``tree`` round ``new_leaves``, given in the order of :func:`leaves`."""
    return _filled(tree, iter(new_leaves))


def _filled(tree: Any, items: Iterator[Any]) -> Any:
    if isinstance(tree, _SEQUENCE):
        children = cast("Sequence[Any]", tree)
        kind = cast("Callable[..., Any]", type(children))
        parts = [_filled(child, items) for child in children]
        return kind(*parts) if hasattr(kind, "_fields") else kind(parts)
    if isinstance(tree, dict):
        mapping = cast("dict[Any, Any]", tree)
        return {key: _filled(child, items) for key, child in mapping.items()}
    return None if tree is None else next(items)
