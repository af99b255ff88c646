"""Work in several threads at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any


def at_once(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What the jobs give, each in a thread of its own and all from one moment on."""
    start = threading.Barrier(len(jobs))
    found: list[Any] = [None] * len(jobs)
    problems: list[BaseException] = []

    def work(k: int) -> None:
        start.wait()
        try:
            found[k] = jobs[k]()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]
    return found
