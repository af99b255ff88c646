"""Switches of state: on within a block and off behind it, also where Ctrl-C comes in between."""

from __future__ import annotations

import inspect
import io
import types
from collections.abc import Callable, Generator
from contextvars import ContextVar, Token
from functools import partial, wraps
from typing import Any, Generic, TypeVar

V = TypeVar("V")
G = TypeVar("G")
F = TypeVar("F", bound=Callable[..., Any])


class Switch(io.IOBase, Generic[V, G]):
    """A new value of a context variable within a block, or within a function that it decorates.

    Python looks for a signal where one of its functions begins and where a call ends. So a context
    manager written in Python can be interrupted before the first line of its ``__exit__``, and its
    state stays as it is for good. This one leaves by C alone: ``io.IOBase.__exit__`` calls
    ``close``, which takes the last token off a list and resets the variable with it. That is all
    that it has to do with files.

    Parameters
    ----------
    who : what errors call it.
    variable : what is switched.
    change : gives the new value from that of before.
    gives : what ``with ... as`` gives, from the value of before.
    after : called with None when the block has been left and the state is as before; what it raises
        leaves the block.
    """

    closed = True  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
    """Keeps IOBase from closing what is dropped without a block."""

    def __init__(
        self,
        who: str,
        variable: ContextVar[V],
        change: Callable[[V], V],
        gives: Callable[[V], G] = lambda before: None,
        after: Callable[[None], None] | None = None,
    ) -> None:
        tokens: list[Token[V]] = []
        self._given, self._tokens = (who, variable, change, gives, after), tokens
        leaving = map(variable.reset, iter(tokens.pop, None))
        self.close = partial(next, leaving if after is None else map(after, leaving))

    def __enter__(self) -> G:  # pyright: ignore[reportIncompatibleMethodOverride]
        _, variable, change, gives, _ = self._given
        depth, before = len(self._tokens), variable.get()
        given, after = gives(before), change(before)
        try:
            self._tokens.append(variable.set(after))
            return given
        except BaseException:
            del self._tokens[depth:]
            variable.set(before)
            raise

    def __call__(self, function: F) -> F:
        """The function with the switch on whenever its body runs; off while a generator waits."""
        return _decorated(self._given[0], self.again, function)

    def again(self) -> Switch[V, G]:
        """A switch like this one, for another block."""
        return Switch(*self._given)


def _decorated(who: str, switch: Callable[[], Switch[Any, Any]], function: Any) -> Any:
    if isinstance(function, staticmethod | classmethod):
        kind: Any = type(function)  # pyright: ignore[reportUnknownVariableType]
        return kind(_decorated(who, switch, function.__func__))
    if isinstance(function, type) or not callable(function):
        what = f"class {function.__name__}" if isinstance(function, type) else repr(function)
        raise TypeError(f"{who}: it decorates a function, got {what}; decorate its methods instead")
    bodies = function, type(function).__call__
    if any(map(inspect.isasyncgenfunction, bodies)):
        raise TypeError(
            f"{who}: it cannot decorate an asynchronous generator; write the block into it, round "
            "what it computes and round no yield"
        )
    if any(map(inspect.isgeneratorfunction, bodies)):

        @wraps(function)
        def generator(*args: Any, **options: Any) -> Any:
            return (yield from _within(switch, function(*args, **options)))

        return generator
    if any(map(inspect.iscoroutinefunction, bodies)):

        @wraps(function)
        async def coroutine(*args: Any, **options: Any) -> Any:
            return await _awaited(switch, function(*args, **options))

        return coroutine

    @wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        with switch():
            return function(*args, **options)

    return wrapped


def _within(switch: Callable[[], Switch[Any, Any]], body: Any) -> Generator[Any, Any, Any]:
    """Run a generator or a coroutine with the switch on, off wherever it waits."""
    resume = partial(body.send, None)
    while True:
        with switch():
            try:
                item = resume()
            except StopIteration as end:
                return end.value
        try:
            resume = partial(body.send, (yield item))
        except GeneratorExit:
            with switch():
                body.close()
            raise
        except BaseException as error:
            resume = partial(body.throw, error)


_awaited = types.coroutine(_within)
