"""The engine's own costs: operations, the main job's training step, memory over T, import time.

    python benchmarks/engine.py [--rounds 3] [--quick]

The training step is compared with the same model in PyTorch, in alternating processes; without
``torch`` installed that part is left out and said so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np

sys.path.insert(0, os.path.dirname(__file__))

from measure import alternate, median_time, table, versions

CLASSES, EMBEDDING, HIDDEN, LENGTH, BATCH = 103, 64, 256, 64, 32
"""The main job: examples/char_lm.py with its default settings."""


def operations(seconds: float) -> str:
    """Microseconds per operation on (32, 256) float32, forward with recording and the pass back."""
    import tinygrad_rnn as tg

    a = np.random.default_rng(0).standard_normal((32, 256), np.float32)
    w = np.random.default_rng(1).standard_normal((256, 256), np.float32)
    x, weight = tg.tensor(a, requires_grad=True), tg.tensor(w, requires_grad=True)
    cases: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "x + x": (lambda: x + x, lambda: a + a),
        "x * x": (lambda: x * x, lambda: a * a),
        "tanh": (lambda: tg.tanh(x), lambda: np.tanh(a)),
        "sigmoid": (lambda: tg.sigmoid(x), lambda: 1 / (1 + np.exp(-a))),
        "softmax": (lambda: tg.softmax(x), lambda: np.exp(a) / np.exp(a).sum(1, keepdims=True)),
        "sum": (lambda: tg.sum(x), lambda: a.sum()),
        "matmul": (lambda: x @ weight, lambda: a @ w),
        "linear": (lambda: tg.linear(x, weight), lambda: a @ w.T),
        "split in 4": (lambda: tg.split(x, 4), lambda: np.split(a, 4, 1)),
        "concat": (lambda: tg.concat([x, x], 1), lambda: np.concatenate([a, a], 1)),
        "x[3:9]": (lambda: x[3:9], lambda: a[3:9]),
    }

    def back(run: Callable[[], Any]) -> Callable[[], None]:
        def step() -> None:
            y = run()
            y = y[0] if isinstance(y, tuple) else y
            y.backward(np.ones(y.shape, np.float32))

        return step

    rows = [
        [name, *(1e3 * median_time(f, seconds, 100) for f in (plain, ours, back(ours)))]
        for name, (ours, plain) in cases.items()
    ]
    return table(["operation", "NumPy", "recorded", "recorded and differentiated"], rows)


def our_step() -> Callable[[], None]:
    """One update of the main job here."""
    import tinygrad_rnn as tg

    embedding, lstm, head = (
        tg.nn.Embedding(CLASSES, EMBEDDING),
        tg.rnn.LSTM(EMBEDDING, HIDDEN),
        tg.nn.Linear(HIDDEN, CLASSES),
    )
    parameters = [*embedding.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = tg.optim.Adam(parameters, lr=4e-3, clip=tg.optim.ClipNorm(1.0))
    tokens = np.random.default_rng(0).integers(0, CLASSES, (LENGTH + 1, BATCH))
    x, y = tg.tensor(tokens[:-1]), tg.tensor(tokens[1:])

    def step() -> None:
        optimizer.zero_grad()
        output, _ = lstm(embedding(x))
        tg.nn.cross_entropy(head(output), y).backward()
        optimizer.step()

    return step


def torch_step() -> Callable[[], None]:
    """The same update in PyTorch."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    embedding, lstm, head = (
        torch.nn.Embedding(CLASSES, EMBEDDING),
        torch.nn.LSTM(EMBEDDING, HIDDEN),
        torch.nn.Linear(HIDDEN, CLASSES),
    )
    parameters = [*embedding.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=4e-3)
    tokens = torch.randint(0, CLASSES, (LENGTH + 1, BATCH))
    x, y = tokens[:-1], tokens[1:]

    def step() -> None:
        optimizer.zero_grad()
        output, _ = lstm(embedding(x))
        logits = head(output).reshape(-1, CLASSES)
        torch.nn.functional.cross_entropy(logits, y.reshape(-1)).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    return step


def memory(lengths: list[int]) -> str:
    """Peak memory of a training step of an LSTM (B 16, I 32, H 64) over T."""
    import tinygrad_rnn as tg

    layer = tg.rnn.LSTM(32, 64)
    rows = []
    for length in lengths:
        x = tg.tensor(np.ones((length, 16, 32), np.float32))
        tracemalloc.start()
        start = time.perf_counter()
        tg.mean(tg.square(layer(x)[0])).backward()
        seconds = time.perf_counter() - start
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        rows.append([length, peak / 2**20, peak / length / 2**10, 1e6 * seconds / length])
    return table(["T", "peak, MiB", "KiB per time step", "µs per time step (traced)"], rows)


def import_time(rounds: int) -> str:
    """Seconds to import the package and NumPy, in fresh processes."""

    def seconds(statement: str) -> float:
        code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        times = [
            float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(rounds + 1)
        ]
        return statistics.median(times[1:])

    cases = {"NumPy": "import numpy", "tinygrad_rnn (with NumPy)": "import tinygrad_rnn"}
    return table(["import", "seconds"], [[name, seconds(code)] for name, code in cases.items()])


def main() -> None:
    """Parse the options and print the four tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="short runs of everything")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        step = our_step() if options.worker == "tinygrad_rnn" else torch_step()
        print(json.dumps({"step": median_time(step, 0.2 if options.quick else 4.0)}))
        return
    rounds = 1 if options.quick else options.rounds
    print(f"{versions()}\n\nMicroseconds per operation, (32, 256) float32\n")
    print(operations(0.01 if options.quick else 0.3))
    print("\nOne update of the main job (embedding 64, LSTM 256, T 64, B 32), milliseconds\n")
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed; nothing to compare with.")
    else:
        names = ["tinygrad_rnn", "torch"]
        found = alternate(__file__, names, rounds, ["--quick"] if options.quick else [])
        ours, theirs = (found[name]["step"] for name in names)
        print(table([*names, "ratio"], [[ours, theirs, ours / theirs]]))
    print("\nMemory of one training step\n")
    print(memory([100, 200] if options.quick else [100, 200, 400, 1000, 2000]))
    print("\nImport\n")
    print(import_time(rounds))


if __name__ == "__main__":
    main()
