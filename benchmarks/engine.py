"""The engine's own costs: operations and the time of import.

python benchmarks/engine.py [--rounds 3] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from measure import median_time, table, versions


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
        "split in 4": (lambda: tg.split(x, parts=4), lambda: np.split(a, 4, 1)),
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
    """Parse the options and print the two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="short runs of everything")
    options = parser.parse_args()
    rounds = 1 if options.quick else options.rounds
    print(f"{versions()}\n\nMicroseconds per operation, (32, 256) float32\n")
    print(operations(0.01 if options.quick else 0.3))
    print("\nImport\n")
    print(import_time(rounds))


if __name__ == "__main__":
    main()
