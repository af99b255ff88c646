"""Fair timing on a noisy machine: contenders in processes of their own, in turn, round after round.

Every figure is the median over the rounds of the median within a process. Only ratios of one run
count.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

Figures = dict[str, dict[str, float]]
"""Contender, then case, then figure."""

SETUPS = {
    "NumPy alone": {"jit": False, "packed": False},
    "jit": {"jit": True, "packed": False},
    "jit and mkl": {"jit": True, "packed": True},
}
"""The set-ups of the replay, as options of ``tg.replay.using``."""

NEEDS = {"PyTorch": "torch", "JAX": "jax", "jit": "numba", "mkl": "mkl"}
"""The library that a contender needs whose name has such a word."""


def set_up(name: str) -> contextlib.AbstractContextManager[Any]:
    """The set-up of the replay that stands after the comma in a contender's name, if any does."""
    setup = name.rpartition(", ")[2]
    if setup not in SETUPS:
        return contextlib.nullcontext()
    import tinygrad_rnn as tg

    return tg.replay.using(**SETUPS[setup])


def is_installed(library: str) -> bool:
    """Whether there is a distribution of that name."""
    try:
        importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def able(names: Sequence[str]) -> list[str]:
    """The contenders whose libraries are installed; the others are printed as left out."""
    found: list[str] = []
    left_out: dict[str, list[str]] = {}
    for name in names:
        needed = [library for word, library in NEEDS.items() if word in name]
        missing = " and ".join(library for library in needed if not is_installed(library))
        (left_out.setdefault(missing, []) if missing else found).append(name)
    for missing, some in left_out.items():
        print(f"Left out, since {missing} cannot be found: {'; '.join(some)}\n")
    return found


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


class Clock(NamedTuple):
    """Marks in the work of a device. ``between`` gives milliseconds, of marks that were reached."""

    mark: Callable[[], Any]
    wait: Callable[[Any], Any]
    between: Callable[[Any, Any], float]


def clock(library: str) -> Clock:
    """Marks by the events of ``"cupy"`` or ``"torch"``; by the host's time for any other name."""
    if library == "cupy":
        import cupy

        def marked() -> Any:
            event = cupy.cuda.Event()
            event.record()
            return event

        return Clock(marked, lambda event: event.synchronize(), cupy.cuda.get_elapsed_time)
    if library == "torch":
        import torch

        def recorded() -> Any:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            return event

        return Clock(recorded, lambda event: event.synchronize(), lambda a, b: a.elapsed_time(b))
    return Clock(time.perf_counter, lambda moment: None, lambda a, b: 1e3 * (b - a))


def device_time(
    step: Callable[[], Any], marks: Clock, seconds: float, least: int = 5, most: int = 200
) -> dict[str, float]:
    """Milliseconds of one call on a device, after a warm-up, the calls one behind the other.

    ``ms`` is the median from mark to mark, ``host`` what the host takes to hand a call over, and
    ``wall`` the host's time of a call from the first to the end of the last.
    """
    for _ in range(3):
        begin = time.perf_counter()
        step()
        marks.wait(marks.mark())
        once = time.perf_counter() - begin
    count = min(max(int(seconds / once), least), most)
    gc.collect()
    begin = time.perf_counter()
    reached = [marks.mark()]
    for _ in range(count):
        step()
        reached.append(marks.mark())
    host = time.perf_counter() - begin
    marks.wait(reached[-1])
    wall = time.perf_counter() - begin
    each = [marks.between(a, b) for a, b in itertools.pairwise(reached)]
    per_call = {"host": 1e3 * host / count, "wall": 1e3 * wall / count}
    return {"ms": statistics.median(each), **per_call, "calls": count}


def on_host(value: Any) -> np.ndarray:
    """A number or an array of any of the contenders, wherever it is."""
    for method in ("detach", "float", "cpu", "numpy"):
        if hasattr(value, method):
            value = getattr(value, method)()
    return np.asarray(value)


def difference(found: Sequence[Any], wanted: Sequence[Any]) -> float:
    """The largest difference, to the largest value of its array; nan if anything is."""
    pairs = zip(map(on_host, found), map(on_host, wanted), strict=True)
    return float(np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in pairs]))


def limited(
    command: Sequence[str], seconds: float, log: Path, environment: Mapping[str, str] | None = None
) -> int | None:
    """Run a command, what it prints going to a file; its exit status, or None beyond the limit.

    What takes too long is interrupted, then asked where it is, then killed, with its children.
    """
    with log.open("ab") as printed:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONFAULTHANDLER": "1", **(environment or {})},
            process_group=0,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            for number, patience in ((signal.SIGINT, 10), (signal.SIGABRT, 2)):
                process.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
            return None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def alternate(script: str, contenders: Sequence[str], rounds: int, options: list[str]) -> Figures:
    """Run ``script --worker NAME`` for each contender in turn; each prints one JSON object."""
    found: dict[str, dict[str, list[float]]] = {name: {} for name in contenders}
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    for k in range(rounds):
        for name in contenders:
            print(f"\rround {k + 1} of {rounds}: {name:<50}", end="", file=sys.stderr, flush=True)
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
    if rounds > 1:
        spreads = [max(of) / min(of) for cases in found.values() for of in cases.values()]
        print(f"Rounds differ by a factor of {statistics.median(spreads):.2f}, the median over all")
        print(f"figures, and of {max(spreads):.2f} at most.\n")
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
    import platform

    import numpy

    found = [f"Python {platform.python_version()}", f"NumPy {numpy.__version__}"]
    others = filter(is_installed, ("torch", "jax", "numba", "mkl"))
    found += [f"{name} {importlib.metadata.version(name)}" for name in others]
    return f"{os.cpu_count()} cores; " + ", ".join(found)
