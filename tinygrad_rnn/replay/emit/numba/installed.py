"""Whether loops are compiled here: the one place that knows. Numba is not imported for it."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from functools import cache
from typing import Any

from tinygrad_rnn.backends.forks import torn, undivided

LEAST = (0, 62)  # the first with an LLVM that has llvm.maximum

_failure: str | None = None


class Unusable(Exception):
    """Numba is there and could not compile; the message says why."""


def why_not() -> str | None:
    """Why no loop is compiled in this process; None where loops are."""
    if torn():
        return "the process was forked while a loop was compiled"
    return _failure or switched_off() or _missing()


def give_up(failure: str) -> None:
    """Compile nothing more in this process. Numba that has failed once seldom recovers."""
    global _failure
    _failure = failure


def switched_off() -> str | None:
    """What of Numba's own settings says that nothing is to be compiled."""
    config: Any = sys.modules.get("numba.core.config")
    if getattr(config, "DISABLE_JIT", False):  # which it lacks while it is imported
        return "Numba's settings say DISABLE_JIT"
    try:
        disabled = int(os.environ.get("NUMBA_DISABLE_JIT") or 0) != 0
    except ValueError:  # which Numba does not heed
        return None
    return "NUMBA_DISABLE_JIT is set" if disabled else None


@cache
def _missing() -> str | None:
    """Why the Numba that is installed will not do."""
    least = f"Numba {LEAST[0]}.{LEAST[1]} or later"
    try:
        with undivided():  # the import takes 20 ms
            from importlib.metadata import version

            found = version("numba") if importlib.util.find_spec("numba") else None
    except (ImportError, ValueError):  # no such package; none that could be imported
        return f"{least} is needed, and that of the Numba which is there is unknown"
    if found is None:
        return f'{least} (extra "jit") is not installed'
    numbers = re.match(r"(\d+)\.(\d+)", found)  # a release, a candidate, or a developer's own
    if numbers is None or (int(numbers[1]), int(numbers[2])) < LEAST:
        return f"{least} is needed, and {found} is installed"
    return None
