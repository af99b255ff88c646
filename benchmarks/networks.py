"""Every network side by side: parameters, time of a training step, and what it was seen to learn.

    python benchmarks/networks.py [--rounds 9] [--seeds 3] [--quick] [--only names|time|tasks]

Prints the tables of docs/networks.md. The time is that of a training step at I = 128, H = 256, with
T = 50 and B = 32, relative to the LSTM's; all networks take turns in one process. What is learnt is
measured by the examples themselves, with their settings: adding.py, copy_memory.py and
sequential_digits.py.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from measure import table, versions

import tinygrad_rnn as tg
from tinygrad_rnn import rnn

I, H, T, B = 128, 256, 50, 32
QUICK = (3, 8, 4, 2)


class Network(NamedTuple):
    """A row of the table. The last fields are its names in the examples."""

    make: Callable[[int, int], rnn.Cell]
    equations: str
    source: str
    adding: str | None = None
    copying: str | None = None
    digits: str | None = None


NETWORKS = {
    "RNNCell": Network(
        rnn.RNNCell,
        "h = tanh(W x + U h)",
        "Elman 1990",
        "Elman, tanh",
        "Elman, tanh",
        "Elman",
    ),
    "IRNNCell": Network(
        rnn.IRNNCell,
        "h = relu(W x + U h), U = 1 at the start",
        "Le et al. 2015",
        "IRNN: relu, identity",
        "IRNN",
    ),
    "JordanCell": Network(
        lambda I, H: rnn.JordanCell(I, H, H),
        "h = tanh(W x + S y), y = V h",
        "Jordan 1986",
        "Jordan",
    ),
    "LayerNormRNNCell": Network(
        rnn.LayerNormRNNCell,
        "h = tanh(LN(W x) + LN(U h))",
        "Ba et al. 2016",
        "Elman, layer norm",
    ),
    "ClockworkRNNCell": Network(
        rnn.ClockworkRNNCell,
        "module k of h is updated when T_k divides t",
        "Koutnik et al. 2014",
        "Clockwork",
    ),
    "SCRNCell": Network(
        lambda I, H: rnn.SCRNCell(I, H, H // 4),
        "k = (1 - a) B x + a k, h = sig(P k + A x + R h)",
        "Mikolov et al. 2014",
        "SCRN",
    ),
    "LSTMCell": Network(
        rnn.LSTMCell,
        "c = f c + i g, h = o tanh(c)",
        "Hochreiter, Schmidhuber 1997; Gers et al. 2000",
        "LSTM",
        "LSTM, b = 5",
        "LSTM",
    ),
    "NoForgetLSTMCell": Network(
        rnn.NoForgetLSTMCell,
        "c = c + i g, h = o tanh(c)",
        "Hochreiter, Schmidhuber 1997",
        "LSTM, no forget gate",
    ),
    "CoupledLSTMCell": Network(
        rnn.CoupledLSTMCell,
        "c = (1 - i) c + i g, h = o tanh(c)",
        "Greff et al. 2015",
        "LSTM, coupled gates",
    ),
    "PeepholeLSTMCell": Network(
        rnn.PeepholeLSTMCell,
        "LSTM; i and f see the old c, o the new, by diagonals",
        "Gers, Schmidhuber 2000",
        "LSTM, peepholes",
    ),
    "LayerNormLSTMCell": Network(
        rnn.LayerNormLSTMCell,
        "LSTM of LN(W x) + LN(U h), h = o tanh(LN(c))",
        "Ba et al. 2016",
        "LSTM, layer norm",
    ),
    "GRUCell": Network(
        rnn.GRUCell,
        "n = tanh(W x + r U h), h = (1 - z) n + z h",
        "Cho et al. 2014",
        "GRU",
        "GRU, b = 5",
        "GRU",
    ),
    'GRUCell(reset="before")': Network(
        lambda I, H: rnn.GRUCell(I, H, reset="before"),
        "n = tanh(W x + U (r h)), h = (1 - z) n + z h",
        "Cho et al. 2014",
        "GRU, reset before",
    ),
    "LayerNormGRUCell": Network(
        rnn.LayerNormGRUCell,
        "GRU of LN(W x), LN(U h)",
        "Ba et al. 2016",
        "GRU, layer norm",
    ),
    "SimplifiedGRUCell": Network(
        rnn.SimplifiedGRUCell,
        "n = tanh(W x + U h), h = u n + (1 - u) h",
        "Cho et al. 2014, r = 1",
        "simplified GRU",
        "simplified GRU, b = 5",
    ),
}


def step_of(network: Network, sizes: Sequence[int]) -> Callable[[], None]:
    """A training step: outputs, the mean of their squares, all gradients."""
    I, H, T, B = sizes
    tg.manual_seed(0)
    layer = rnn.Recurrent(network.make(I, H))
    x = tg.randn((T, B, I))
    x.requires_grad = True

    def step() -> None:
        layer.zero_grad()
        x.grad = None
        tg.mean(tg.square(layer(x)[0])).backward()

    return step


def times(rounds: int, sizes: Sequence[int], jit: bool) -> dict[str, float]:
    """The time of each network's step relative to the LSTM's, the median over the rounds."""
    with tg.replay.using(jit=jit):
        steps = {name: step_of(network, sizes) for name, network in NETWORKS.items()}
        found: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds + 1):
            for name, step in steps.items():
                gc.collect()
                step()
                start = time.perf_counter()
                for _ in range(5):
                    step()
                found[name].append(time.perf_counter() - start)
    pairs = {name: zip(of, found["LSTMCell"], strict=True) for name, of in found.items()}
    return {name: median([a / b for a, b in of][1:]) for name, of in pairs.items()}


def example(name: str) -> ModuleType:
    """An example as a module."""
    path = Path(__file__).parent.parent / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spread(values: Sequence[float], digits: int = 0) -> str:
    """The median, and the least and the largest where they differ from it."""
    texts = [f"{v:.{digits}f}" for v in (median(values), min(values), max(values))]
    return texts[0] if len(set(texts)) == 1 else f"{texts[0]} ({texts[1]} to {texts[2]})"


def tasks(seeds: int, quick: bool) -> dict[str, list[str]]:
    """What each network made of each task."""
    adding, copying, digits = map(example, ("adding", "copy_memory", "sequential_digits"))
    size = adding.QUICK if quick else adding.FULL
    runs: dict[str, Callable[[Any, int], float]] = {
        "adding": lambda name, seed: adding.train(adding.CELLS[name], size, seed, "cpu").error,
        "copying": lambda name, seed: (
            100
            * copying.train(
                copying.CELLS[name], *((8, 1, 50) if quick else (40, 1, 600)), seed, "cpu"
            ).shares[-1]
        ),
        "digits": lambda name, seed: (
            100 * digits.train(name, seed, *((1, 2) if quick else (30, 10**6)), "cpu")[-1]
        ),
    }
    found: dict[str, list[str]] = {}
    for name, network in NETWORKS.items():
        cells: list[str] = []
        for task, run in runs.items():
            which = getattr(network, task)
            values = [] if which is None else [run(which, 1 + k) for k in range(seeds)]
            cells.append(spread(values, 3 if task == "adding" else 0) if values else "")
        found[name] = cells
    return found


def about(name: str, sizes: Sequence[int]) -> list[str]:
    """A network in words, and its number of parameters."""
    network = NETWORKS[name]
    size = sum(p.size for p in network.make(*sizes[:2]).parameters())
    return [f"`{name}`", network.equations, network.source, f"{size:,}"]


def state(name: str, sizes: Sequence[int]) -> list[str]:
    """A network's state_dict, names and shapes."""
    arrays = NETWORKS[name].make(*sizes[:2]).state_dict()
    return [f"`{name}`", ", ".join(f"`{key}` {a.shape}" for key, a in arrays.items())]


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description="Every network side by side.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that all works")
    parser.add_argument("--only", choices=("names", "time", "tasks"))
    options = parser.parse_args()
    sizes = QUICK if options.quick else (I, H, T, B)
    if options.quick:
        options.rounds = options.seeds = 1
    header = ["network", "equations", "source", "parameters"]
    rows = {name: about(name, sizes) for name in NETWORKS}
    if options.only in (None, "time"):
        header += ["step / LSTM, jit", "step / LSTM, NumPy"]
        by_jit, by_numpy = (times(options.rounds, sizes, jit) for jit in (True, False))
        for name, row in rows.items():
            row += [f"{by[name]:.2f}" for by in (by_jit, by_numpy)]
    if options.only in (None, "tasks"):
        header += ["adding: error", "copying: % right", "digits: % right"]
        for name, cells in tasks(options.seeds, options.quick).items():
            rows[name] += cells
    print(versions())
    print(table(header, list(rows.values())))
    print(table(["network", "state_dict"], [state(name, sizes) for name in NETWORKS]))


if __name__ == "__main__":
    np.seterr(over="ignore")
    main()
