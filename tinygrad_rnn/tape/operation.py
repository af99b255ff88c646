"""What an operation is: computed by one function of arrays, differentiated by others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Function: TypeAlias = (
    Callable[..., Any]
    | Callable[[Any, Any], Any]
    | Callable[[Any, Any, Any], Any]
    | Callable[[Any, Any, Any, Any], Any]
    | Callable[[Any, Any, Any, Any, Any], Any]
    | Callable[[Any, Any, Any, Any, Any, Any], Any]
)
"""A forward or a rule: a function of the arguments that its primitive takes.

The numbers of arguments are spelled out since a type checker knows the parameters of a lambda from
them alone.
"""

Promotion: TypeAlias = Callable[[str, tuple[Any, ...]], tuple[Any, ...]]
"""``promote(name, operands)``: the operands of an operation, cast to the dtype in which they meet.

Where they are in it already, they are returned as they are.
"""


class Operation:
    """A :class:`Primitive` as its records know it: what there is to read, differentiate, replay.

    What each attribute is, the primitive says: it is what can be called, and makes the records.
    """

    name: str
    forward: Callable[..., Any]
    rules: tuple[Callable[..., Any] | None, ...]
    joint_rule: Callable[..., Sequence[Any]] | None
    kernel: str | None
    multiple: bool
    batch: Function | None
    promote: Promotion | None
    reads: str | Sequence[str] | Callable[..., str | Sequence[str]]
    fresh: bool
    inside: Callable[..., tuple[int, Any]] | None
