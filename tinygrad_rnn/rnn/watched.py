"""Single steps of cells, shown to somebody who follows a model through its time steps."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from tinygrad_rnn.backends import Switch
from tinygrad_rnn.tape import is_tracing

Watcher = Callable[[Any, Any, Any, Any], Any]
"""Makes a step in a cell's place: ``watcher(cell, x, state, valid)`` returns what
``cell.step(x, state)`` does; in rows where ``valid`` (B,) is False the step will not count."""

_watcher: ContextVar[Watcher | None] = ContextVar("tinygrad_rnn_watcher", default=None)


def watch_steps(watcher: Watcher) -> Switch[Watcher | None, None]:
    """Within the block, let ``watcher`` make every step of a cell that a layer or a call makes.

    Loops run unrolled meanwhile, as with ``unroll=True``. To be used where somebody looks
    (``lab.look()``): then no layer makes a call from what it knows of another. What is not shown: a
    ``cell.step`` that is called directly, and steps within a step that is traced.
    """
    return Switch("watch_steps", _watcher, lambda _: watcher)


def are_steps_watched() -> bool:
    """Whether somebody wants to make the steps of cells."""
    return _watcher.get() is not None and not is_tracing()


def step_of(cell: Any, x: Any, state: Any, valid: Any = None) -> Any:
    """``cell.step(x, state)``, made by whoever watches."""
    watcher = _watcher.get()
    if watcher is None or is_tracing():
        return cell.step(x, state)
    return watcher(cell, x, state, valid)
