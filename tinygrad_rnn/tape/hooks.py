"""Hooks: functions that are called when something happens, until their handle is removed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Handle:
    """What registering a hook returns: ``remove()`` takes it off again, once or more often.

    As a context manager it takes the hook off at the end of the block.
    """

    __slots__ = ("_hooks",)

    def __init__(self, hooks: dict[Handle, Callable[..., Any]], hook: Callable[..., Any]) -> None:
        if not callable(hook):
            raise TypeError(f"a hook must be a function, got {type(hook).__name__}")
        self._hooks = hooks
        hooks[self] = hook

    def remove(self) -> None:
        """Call the hook no more."""
        self._hooks.pop(self, None)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Watch:
    """What is wanted of the gradient of one value, besides its way to the leaves.

    Attributes
    ----------
    keeps_grad : whether ``backward`` leaves it in ``.grad`` though the value is not a leaf.
    hooks : functions that it is shown to, and that may put another in its place.
    """

    __slots__ = ("hooks", "keeps_grad")

    def __init__(self) -> None:
        self.keeps_grad = False
        self.hooks: dict[Handle, Callable[..., Any]] = {}
