"""Nested containers of values: tuples, NamedTuples, lists and dicts, with anything else as a leaf."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_Rebuild = Callable[[list[Any]], Any]


def _children(tree: Any) -> tuple[list[Any], _Rebuild] | None:
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        kind = type(tree)
        return list(tree), lambda items: kind(*items)
    if isinstance(tree, tuple):
        return list(tree), tuple
    if isinstance(tree, list):
        return list(tree), list
    if isinstance(tree, dict):
        keys = list(tree)
        return list(tree.values()), lambda items: dict(zip(keys, items, strict=True))
    return None


def leaves(tree: Any) -> list[Any]:
    """The leaves from left to right. None is an empty tree."""
    if tree is None:
        return []
    found = _children(tree)
    return [tree] if found is None else [leaf for child in found[0] for leaf in leaves(child)]


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The same containers with ``function(leaf, *leaves_of_others)`` in place of each leaf."""
    if tree is None:
        return None
    found = _children(tree)
    if found is None:
        return function(tree, *others)
    children, rebuild = found
    other_children = [list(o.values()) if isinstance(o, dict) else list(o) for o in others]
    return rebuild(
        [tree_map(function, *group) for group in zip(children, *other_children, strict=True)]
    )


def rebuild(tree: Any, new_leaves: list[Any]) -> Any:
    """The containers of ``tree`` round ``new_leaves``, given in the order of :func:`leaves`."""
    items = iter(new_leaves)
    return tree_map(lambda _: next(items), tree)
