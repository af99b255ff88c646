"""Fair timing on a noisy machine: contenders in processes of their own, in turn, round after round.

Every figure is the median over the rounds of the median within a process. Only ratios of one run
count.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

Figures = dict[str, dict[str, float]]
"""Contender, then case, then figure."""


def median_time(step: Callable[[], Any], seconds: float = 1.0, least: int = 5) -> float:
    """Milliseconds of one call: the median of as many as fit into ``seconds``, after a warm-up."""
    step()
    step()
    times: list[float] = []
    begin = time.perf_counter()
    gc.collect()
    while len(times) < least or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def alternate(script: str, contenders: Sequence[str], rounds: int, options: list[str]) -> Figures:
    """Run ``script --worker NAME`` for each contender in turn; each prints one JSON object."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in contenders}
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    for k in range(rounds):
        for name in contenders:
            print(f"\rround {k + 1} of {rounds}: {name:<30}", end="", file=sys.stderr, flush=True)
            done = subprocess.run(
                [sys.executable, script, "--worker", name, *options],
                stdout=subprocess.PIPE,
                check=True,
                text=True,
                env=environment,
            )
            for case, figure in json.loads(done.stdout).items():
                found[name].setdefault(case, []).append(figure)
    print(file=sys.stderr)
    return {
        name: {case: statistics.median(values) for case, values in cases.items()}
        for name, cases in found.items()
    }


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; floats are shown with three digits."""

    def cell(value: Any) -> str:
        return f"{value:.3g}" if isinstance(value, float) else str(value)

    lines = [list(header), ["---"] * len(header), *[[cell(v) for v in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def versions() -> str:
    """The machine and the versions that the figures belong to."""
    import importlib.metadata
    import platform

    import numpy

    found = [f"Python {platform.python_version()}", f"NumPy {numpy.__version__}"]
    for name in ("torch", "numba", "jax"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return f"{os.cpu_count()} cores; " + ", ".join(found)
