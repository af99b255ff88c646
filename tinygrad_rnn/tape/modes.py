"""What is switched on in this thread or context: recording, observers, whether somebody looks."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar, overload

from tinygrad_rnn.backends import Switch
from tinygrad_rnn.tape.operation import Operation
from tinygrad_rnn.tape.record import Record

F = TypeVar("F", bound=Callable[..., Any])


class Observer:
    """Sees every record before and after it is computed, forward and backward.

    Subclass it, override what you need and install it with :func:`observe`. Anomaly detection,
    profiles and pictures are observers; the tape knows nothing of them.
    """

    def before_forward(
        self, primitive: Operation, inputs: tuple[Any, ...], params: dict[str, Any]
    ) -> None:
        """``primitive`` is about to be applied to ``inputs`` (Tensors, arrays and numbers)."""

    def after_forward(self, record: Record) -> None:
        """``record`` holds the results. It is on a tape only where a gradient is wanted."""

    def before_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        """``cotangents`` holds one entry per result: the gradient that arrived, or None."""

    def after_backward(self, record: Record, cotangents: tuple[Any, ...]) -> None:
        """``cotangents`` holds one entry per input: the gradient that its rule gave, or None."""


class Tracer(Protocol):
    """Who follows what a function does: every operation is recorded for it, gradient or not."""

    def reading(self, value: Any) -> None:
        """The elements of ``value`` are about to be looked at."""

    def made(self, record: Record, outputs: list[Any], recording: bool) -> None:
        """``outputs`` are the handles of a new record; ``recording`` is off within no_grad."""


@dataclass(frozen=True, slots=True)
class Modes:
    """The switches of one thread or context."""

    recording: bool = True
    observers: tuple[Observer, ...] = ()
    looking: bool = False
    tracer: Tracer | None = None

    @property
    def quiet(self) -> bool:
        """Whether nothing is recorded, and nobody sees the operations."""
        return not (self.recording or self.observers or self.tracer is not None)


current_modes: ContextVar[Modes] = ContextVar("tinygrad_rnn_state", default=Modes())  # noqa: B039


ModeSwitch = Switch[Modes, None]


def _switched(who: str, **changes: Any) -> ModeSwitch:
    return Switch(who, current_modes, lambda modes: replace(modes, **changes))


def is_recording() -> bool:
    """Whether operations are written on a tape in this thread or context."""
    return current_modes.get().recording


@overload
def no_grad(function: None = None) -> ModeSwitch: ...
@overload
def no_grad(function: F) -> F: ...
def no_grad(function: Any = None) -> Any:
    """Write nothing on a tape within the block (or the function that it decorates).

    A generator or a coroutine that is decorated records nothing either, and the state is that of
    the code around it wherever it waits.
    """
    switch = _switched("no_grad", recording=False)
    return switch if function is None else switch(function)


@overload
def enable_grad(function: None = None) -> ModeSwitch: ...
@overload
def enable_grad(function: F) -> F: ...
def enable_grad(function: Any = None) -> Any:
    """Write on the tape within the block (or function), also inside a :func:`no_grad`."""
    switch = _switched("enable_grad", recording=True)
    return switch if function is None else switch(function)


def observe(*observers: Observer) -> ModeSwitch:
    """Show every record made or differentiated within the block to ``observers``.

    Records know where they come from, as within :func:`look`.
    """
    return Switch(
        "observe",
        current_modes,
        lambda modes: replace(modes, observers=(*modes.observers, *observers), looking=True),
    )


def unseen() -> ModeSwitch:
    """Show nothing to observers within the block."""
    return _switched("unseen", observers=())


def tracing(tracer: Tracer) -> ModeSwitch:
    """Let ``tracer`` follow everything within the block, and no observer."""
    return _switched("tracing", observers=(), tracer=tracer)


def is_tracing() -> bool:
    """Whether a step is being traced in this thread or context."""
    return current_modes.get().tracer is not None


def reading(value: Any) -> None:
    """Say that the elements of a value are about to be looked at."""
    tracer = current_modes.get().tracer
    if tracer is not None:
        tracer.reading(value)


def look() -> ModeSwitch:
    """Let every record within the block know where it comes from: :class:`Origin`.

    Layers are traced anew at each call meanwhile.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> x = tg.ones(3, requires_grad=True)
    >>> with lab.look():
    ...     y = tg.nn.Sequential(tg.nn.Linear(3, 4), tg.tanh)(x)
    >>> for record in tg.Tape.of(y):
    ...     print(record.primitive.name, repr(record.origin.layer), *record.parameters)
    linear 'layers.0' layers.0.weight layers.0.bias
    tanh ''
    """
    return _switched("look", looking=True)
