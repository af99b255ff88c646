"""What surrounds the layers: the main job, a stream, compilation, and how time and memory grow.

    python benchmarks/scaling.py [--rounds 3] [--quick] [--only job|stream|last|compile|length ...]

- job: one update of examples/char_lm.py with its default settings, against PyTorch.
- stream: one step of an LSTM for one sequence without gradients, against PyTorch's LSTMCell.
- last: a training step of an LSTM (T 300, B 32, I 64, H 128) whose loss sees every output, or the
  last one, so that the gradient vanishes on its way back; against PyTorch.
- compile: from a new layer to one that is ready, beyond the time of a step; with an empty cache on
  disk, in a process that finds it filled, and for a second layer in the same process.
- length: time and memory of a training step (B 16, I 32, H 64) over T, with and without
  ``checkpoint="sqrt"``. Residuals are what lives between the two passes, outputs not counted.

Every contender runs in fresh processes, in turn; those whose library is missing are left out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
from measure import SETUPS, able, alternate, median_time, set_up, table, versions

CLASSES, EMBEDDING, HIDDEN, LENGTH, BATCH = 103, 64, 256, 64, 32
"""The main job: examples/char_lm.py with its default settings."""
JOB = (LENGTH, BATCH, EMBEDDING, HIDDEN)
"""Its (T, B, I, H)."""

STREAMS = (128, 256)
LENGTHS = (100, 1000, 10000)
LONG = (300, 32, 64, 128)
"""(T, B, I, H) of a loss that sees the last output."""


def our_update(device: str = "cpu", sizes: Sequence[int] = JOB) -> Callable[[], None]:
    """One update of the main job here."""
    import tinygrad_rnn as tg

    T, B, I, H = sizes
    embedding = tg.nn.Embedding(CLASSES, I).to(device)
    lstm = tg.rnn.LSTM(I, H).to(device)
    head = tg.nn.Linear(H, CLASSES).to(device)
    parameters = [*embedding.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = tg.optim.Adam(parameters, lr=4e-3, clip=tg.optim.ClipNorm(1.0))
    tokens = np.random.default_rng(0).integers(0, CLASSES, (T + 1, B))
    x, y = (tg.tensor(some, device=device) for some in (tokens[:-1], tokens[1:]))

    def step() -> None:
        optimizer.zero_grad()
        output, _ = lstm(embedding(x))
        tg.nn.cross_entropy(head(output), y, axis=-1).backward()
        optimizer.step()

    return step


def torch_update(device: str = "cpu", sizes: Sequence[int] = JOB) -> Callable[[], None]:
    """The same update in PyTorch."""
    import torch

    T, B, I, H = sizes
    torch.set_num_threads(os.cpu_count() or 1)
    embedding = torch.nn.Embedding(CLASSES, I, device=device)
    lstm = torch.nn.LSTM(I, H, device=device)
    head = torch.nn.Linear(H, CLASSES, device=device)
    parameters = [*embedding.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=4e-3)
    tokens = torch.randint(0, CLASSES, (T + 1, B), device=device)
    x, y = tokens[:-1], tokens[1:]

    def step() -> None:
        optimizer.zero_grad()
        output, _ = lstm(embedding(x))
        logits = head(output).reshape(-1, CLASSES)
        torch.nn.functional.cross_entropy(logits, y.reshape(-1)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def job(name: str, seconds: float) -> dict[str, float]:
    """Milliseconds of one update."""
    return {"": median_time((torch_update if name == "PyTorch" else our_update)(), seconds)}


def our_stream(kind: str, size: int) -> Callable[[], None]:
    """One step that goes on from the state of the last one, here."""
    import tinygrad_rnn as tg

    layer = tg.rnn.LSTM(size, size).step if kind == "LSTM.step" else tg.rnn.LSTMCell(size, size)
    x, state = tg.randn((1, size)), None

    def step() -> None:
        nonlocal state
        with tg.no_grad():
            _, state = layer(x, state)

    return step


def torch_stream(size: int) -> Callable[[], None]:
    """The same in PyTorch."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    cell, x, state = torch.nn.LSTMCell(size, size), torch.randn(1, size), None

    def step() -> None:
        nonlocal state
        with torch.no_grad():
            state = cell(x, state)

    return step


def stream(kind: str, contender: str, seconds: float) -> dict[str, float]:
    """Microseconds of one step of a stream, by size."""
    steps = {
        size: torch_stream(size) if contender == "PyTorch" else our_stream(kind, size)
        for size in STREAMS
    }
    return {f"H = {size}": 1e3 * median_time(step, seconds, 100) for size, step in steps.items()}


def last(contender: str, sizes: Sequence[int], seconds: float) -> dict[str, float]:
    """Milliseconds of a training step whose loss sees every output, or the last."""
    T, B, I, H = sizes
    values = np.random.default_rng(0).standard_normal((T, B, I), np.float32)
    layer: Any
    if contender == "PyTorch":
        import torch

        torch.set_num_threads(os.cpu_count() or 1)
        layer, x = torch.nn.LSTM(I, H), torch.from_numpy(values)
    else:
        import tinygrad_rnn as tg

        layer, x = tg.rnn.LSTM(I, H), tg.tensor(values)
    found = {}
    for case, first in (("every output", 0), ("the last", T - 1)):

        def step(first: int = first) -> None:
            layer.zero_grad()
            layer(x)[0][first:].sum().backward()

        found[case] = median_time(step, seconds, 3)
    return found


def compile_time(kind: str, setup: str) -> dict[str, float]:
    """Seconds that the first step of a layer takes beyond a later one; Numba has been imported."""
    from ours import our_step

    if SETUPS[setup]["jit"]:
        importlib.import_module("numba")
    firsts = []
    for _ in range(2):
        step = our_step(kind, 7, 3, 5, 6)
        start = time.perf_counter()
        step()
        firsts.append(time.perf_counter() - start)
    later = median_time(step, 0.1) / 1e3
    return {"first": firsts[0] - later, "second": firsts[1] - later}


def length(checkpoint: str | None, lengths: Sequence[int], seconds: float) -> dict[str, float]:
    """Milliseconds, and MiB of residuals and at the peak, of a training step over T."""
    import tinygrad_rnn as tg

    layer = tg.rnn.Recurrent(tg.rnn.LSTMCell(32, 64), checkpoint=checkpoint)
    tg.mean(tg.square(layer(tg.ones((2, 16, 32)))[0])).backward()  # compiles it
    found = {}
    for T in lengths:
        x = tg.tensor(np.ones((T, 16, 32), np.float32))

        def step(x: tg.Tensor = x) -> None:
            layer.zero_grad()
            tg.mean(tg.square(layer(x)[0])).backward()

        layer.zero_grad()
        tracemalloc.start()
        output, _ = layer(x)
        found[f"{T} residuals"] = (tracemalloc.get_traced_memory()[0] - output.nbytes) / 2**20
        tg.mean(tg.square(output)).backward()
        found[f"{T} peak"] = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        del output
        found[f"{T} ms"] = median_time(step, seconds, 3)
    return found


def worker(name: str, quick: bool) -> dict[str, float]:
    """The figures of a contender: a part and what it needs to know, a comma, and a set-up."""
    part, contender = name.split(", ")
    part, _, detail = part.partition(" ")
    with set_up(name):
        if part == "job":
            return job(contender, 0.2 if quick else 4.0)
        if part == "stream":
            return stream(detail, contender, 0.1 if quick else 1.0)
        if part == "last":
            return last(contender, (5, 2, 3, 4) if quick else LONG, 0.1 if quick else 2.0)
        if part == "compile":
            return compile_time(detail, contender)
        checkpoint = None if detail == "plain" else detail
        return length(checkpoint, LENGTHS[:1] if quick else LENGTHS, 0.1 if quick else 1.0)


def against_torch(part: str, kinds: Sequence[str], rounds: int, flags: list[str]) -> str:
    """Ours in each set-up beside PyTorch."""
    peer = f"{part}, PyTorch"
    names = able([*(f"{part} {kind}, {setup}" for kind in kinds for setup in SETUPS), peer])
    figures = alternate(__file__, names, rounds, flags)
    rows = []
    for name in names:
        for case, ours in figures[name].items():
            theirs = figures.get(peer, {}).get(case)
            ratio = ["", ""] if theirs is None or name == peer else [ours / theirs, "1.0"]
            rows.append([*name.removeprefix(f"{part}").strip().split(", "), case, ours, *ratio])
    return table(["", "set-up", "", "time", "ratio to PyTorch", "target"], rows)


def compilation(rounds: int, flags: list[str]) -> str:
    """Cold, from disk, and again in one process: medians over rounds with caches of their own."""
    from ours import LAYERS

    kinds = list(LAYERS)[:1] if "--quick" in flags else list(LAYERS)
    names = able([f"compile {kind}, {setup}" for kind in kinds for setup in SETUPS])
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for name in names * rounds:
        with (
            tempfile.TemporaryDirectory() as folder,
            mock.patch.dict(os.environ, XDG_CACHE_HOME=folder, NUMBA_CACHE_DIR=folder),
        ):
            cold, warm = (alternate(__file__, [name], 1, flags)[name] for _ in range(2))
        found[name].append([cold["first"], warm["first"], warm["second"]])
    rows = [
        [*name.removeprefix("compile ").split(", "), *map(statistics.median, zip(*of, strict=True))]
        for name, of in found.items()
    ]
    return table(["", "set-up", "cold, s", "cached on disk, s", "second layer, s"], rows)


def growth(rounds: int, flags: list[str]) -> str:
    """Time and memory over T."""
    kinds = ("plain", "sqrt")
    names = able([f"length {kind}, {setup}" for kind in kinds for setup in SETUPS])
    figures = alternate(__file__, names, rounds, flags)
    rows = []
    for name in names:
        kind, setup = name.removeprefix("length ").split(", ")
        of_name = figures[name]
        for T in (int(case.removesuffix(" ms")) for case in of_name if case.endswith(" ms")):
            time, residuals, peak = (of_name[f"{T} {of}"] for of in ("ms", "residuals", "peak"))
            per = [1e3 * time / T, 2**10 * residuals / T, 2**10 * residuals / T**0.5]
            rows.append(["" if kind == "plain" else kind, setup, T, time, residuals, peak, *per])
    head = ["checkpoint", "set-up", "T", "ms", "residuals, MiB", "peak, MiB"]
    per = ["µs per step", "residuals, KiB per step", "residuals, KiB per sqrt(T)"]
    return table([*head, *per], rows)


def main() -> None:
    """Parse the options and print a table of each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="one short round of everything")
    parser.add_argument("--only", choices=("job", "stream", "last", "compile", "length"), nargs="+")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(options.worker, options.quick)))
        return
    rounds = 1 if options.quick else options.rounds
    flags = ["--quick"] if options.quick else []
    parts: dict[str, tuple[str, Callable[[], str]]] = {
        "job": (
            "One update of the main job (embedding 64, LSTM 256, T 64, B 32), milliseconds",
            lambda: against_torch("job", ["update"], rounds, flags),
        ),
        "stream": (
            "One step of an LSTM with B = 1 and I = H, no gradients, microseconds",
            lambda: against_torch("stream", ["LSTM.step", "LSTMCell"], rounds, flags),
        ),
        "last": (
            "A training step of an LSTM (T 300, B 32, I 64, H 128) by what the loss sees, ms",
            lambda: against_torch("last", ["LSTM"], rounds, flags),
        ),
        "compile": (
            "Compilation, from a new layer to one that is ready",
            lambda: compilation(rounds, flags),
        ),
        "length": (
            "A training step of an LSTM (B 16, I 32, H 64) over T",
            lambda: growth(rounds, flags),
        ),
    }
    print(f"{versions()}; medians of {rounds} rounds\n")
    for part, (title, run) in parts.items():
        if not options.only or part in options.only:
            print(f"{title}\n\n{run()}\n")


if __name__ == "__main__":
    main()
