"""What is switched on in this thread or context: recording, observers, creation frames."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from tinygrad_rnn.backends import Switch

if TYPE_CHECKING:
    from tinygrad_rnn.tape.primitive import Primitive, Record

F = TypeVar("F", bound=Callable[..., Any])


class Observer:
    """Sees every record before and after it is computed, forward and backward.

    Subclass it, override what you need and install it with :func:`observe`. Anomaly detection,
    profiles and pictures are observers; the tape knows nothing of them.
    """

    def before_forward(
        self, primitive: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]
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
class State:
    """The switches of one thread or context."""

    recording: bool = True
    observers: tuple[Observer, ...] = ()
    frames: bool = False
    tracer: Tracer | None = None


current_state: ContextVar[State] = ContextVar("tinygrad_rnn_state", default=State())  # noqa: B039


StateSwitch = Switch[State, None]


def _switched(who: str, **changes: Any) -> StateSwitch:
    return Switch(who, current_state, lambda state: replace(state, **changes))


def is_recording() -> bool:
    """Whether operations are written on a tape in this thread or context."""
    return current_state.get().recording


@overload
def no_grad(function: None = None) -> StateSwitch: ...
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
def enable_grad(function: None = None) -> StateSwitch: ...
@overload
def enable_grad(function: F) -> F: ...
def enable_grad(function: Any = None) -> Any:
    """Write on the tape within the block (or function), also inside a :func:`no_grad`."""
    switch = _switched("enable_grad", recording=True)
    return switch if function is None else switch(function)


def observe(*observers: Observer, frames: bool | None = None) -> StateSwitch:
    """Show every record made or differentiated within the block to ``observers``.

    With ``frames`` records remember their lines too, as within :func:`record_frames`.
    """
    return Switch(
        "observe",
        current_state,
        lambda state: replace(
            state,
            observers=(*state.observers, *observers),
            frames=state.frames if frames is None else frames,
        ),
    )


def tracing(tracer: Tracer) -> StateSwitch:
    """Let ``tracer`` follow everything within the block, and no observer."""
    return _switched("tracing", observers=(), tracer=tracer)


def current_tracer() -> Tracer | None:
    """Who follows the operations of this thread or context."""
    return current_state.get().tracer


def is_tracing() -> bool:
    """Whether a step is being traced in this thread or context."""
    return current_state.get().tracer is not None


def is_quiet() -> bool:
    """Whether nothing is recorded in this thread or context, and nobody sees the operations."""
    state = current_state.get()
    return not (state.recording or state.observers or state.tracer is not None)


def is_observed() -> bool:
    """Whether observers see the operations of this thread or context."""
    return bool(current_state.get().observers)


def reading(value: Any) -> None:
    """Say that the elements of a value are about to be looked at."""
    tracer = current_state.get().tracer
    if tracer is not None:
        tracer.reading(value)


def record_frames() -> StateSwitch:
    """Let every record within the block remember the line of user code that made it."""
    return _switched("record_frames", frames=True)
