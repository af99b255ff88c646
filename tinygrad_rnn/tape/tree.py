"""Nested containers of values: tuples, NamedTuples, lists and dicts. Anything else is a leaf.

The items of a dict come in the order of its sorted keys, and two dicts are matched by key, in
whichever order they were filled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

_SEQUENCE: Any = (tuple, list)  # quicker to ask for than a union
_MAPPING: Any = dict
_CONTAINER: Any = (tuple, list, dict)


def in_order(mapping: Mapping[Any, Any]) -> list[Any]:
    """The keys of a dict, sorted; by type and text where they cannot be compared."""
    try:
        return sorted(mapping)
    except TypeError:
        return sorted(mapping, key=lambda key: (type(key).__name__, repr(key)))


def leaves(tree: Any) -> list[Any]:
    """The leaves from left to right. None is an empty tree."""
    found: list[Any] = []
    _collect(tree, found)
    return found


def _collect(tree: Any, found: list[Any]) -> None:
    if isinstance(tree, _SEQUENCE):
        for child in tree:
            if isinstance(child, _CONTAINER):
                _collect(child, found)
            elif child is not None:
                found.append(child)
    elif isinstance(tree, _MAPPING):
        for key in in_order(tree):
            _collect(tree[key], found)
    elif tree is not None:
        found.append(tree)


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """The same containers with ``function(leaf, *leaves_of_others)`` in place of each leaf.

    Raises
    ------
    ValueError
        where another tree has a dict of other keys, or a container of another length.
    """
    if tree is None:
        return None
    if isinstance(tree, _MAPPING):
        parts = [_same_keys(tree, other) for other in others]
        filled = {
            key: tree_map(function, tree[key], *[part[key] for part in parts])
            for key in in_order(tree)
        }
        return {key: filled[key] for key in tree}
    if isinstance(tree, _SEQUENCE):
        groups = zip(tree, *[_same_length(tree, other) for other in others], strict=True)
        return _like(tree, [tree_map(function, *group) for group in groups])
    return function(tree, *others)


def matched(tree: Any, other: Any, who: str, what: str) -> list[Any]:
    """The leaves of ``other``, each in the place of that of ``tree`` which it belongs to.

    ``who`` asks for them and calls them ``what``, as in "jvp: expected 2 tangents, got 1".

    Raises
    ------
    ValueError
        where they have not the same containers; tuples and lists stand for each other.
    """
    expected, given = len(leaves(tree)), len(leaves(other))
    if given != expected:
        raise ValueError(f"{who}: expected {expected} {what}, got {given}")
    found: list[Any] = []
    try:
        _match(tree, other, found)
    except (TypeError, ValueError) as error:
        message = f"{who}: {what} must have the form of what they belong to: {error}"
        raise ValueError(message) from None
    return found


def _match(tree: Any, other: Any, found: list[Any]) -> None:
    if isinstance(tree, _MAPPING):
        part = _same_keys(tree, other)
        for key in in_order(tree):
            _match(tree[key], part[key], found)
    elif isinstance(tree, _SEQUENCE):
        for child, part in zip(tree, _same_length(tree, other), strict=True):
            _match(child, part, found)
    else:
        expected, values, kind = (0 if tree is None else 1), leaves(other), type(other).__name__
        if len(values) != expected or isinstance(other, dict):
            what = "one value" if expected else "None"
            raise ValueError(f"expected {what}, got a {kind} of {len(values)}")
        found.extend(values)


def _same_keys(tree: Mapping[Any, Any], other: Any) -> Mapping[Any, Any]:
    got: Any = f"a {type(other).__name__}"
    if isinstance(other, dict):
        mapping = cast("dict[Any, Any]", other)
        if mapping.keys() == tree.keys():
            return mapping
        got = in_order(mapping)
    raise ValueError(f"expected a dict with the keys {in_order(tree)}, got {got}")


def _same_length(tree: Sequence[Any], other: Any) -> list[Any]:
    got = "a dict"
    if not isinstance(other, dict):
        values: list[Any] = list(other)
        if len(values) == len(tree):
            return values
        got = f"{len(values)} values"
    raise ValueError(f"expected a {type(tree).__name__} of {len(tree)}, got {got}")


def rebuild(tree: Any, new_leaves: Iterable[Any]) -> Any:
    """The containers of ``tree`` round ``new_leaves``, given in the order of :func:`leaves`."""
    return _filled(tree, iter(new_leaves))


def _filled(tree: Any, items: Iterator[Any]) -> Any:
    if isinstance(tree, _SEQUENCE):
        values: list[Any] = []
        for child in tree:
            inner = child is None or isinstance(child, _CONTAINER)
            values.append(_filled(child, items) if inner else next(items))
        return _like(tree, values)
    if isinstance(tree, _MAPPING):
        filled = {key: _filled(tree[key], items) for key in in_order(tree)}
        return {key: filled[key] for key in tree}
    return None if tree is None else next(items)


def _like(tree: Sequence[Any], items: list[Any]) -> Any:
    kind: Any = type(tree)
    return kind(*items) if hasattr(kind, "_fields") else kind(items)
