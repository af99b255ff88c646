"""Why gradients vanish, where they explode, and what helps.

A loss at the last step T depends on every earlier state, through a product of as many Jacobians as
there are steps between. Seen here are that product in numbers that can be checked by hand, in
layers on top of each other, and in recurrent networks at their random starts:

    python examples/vanishing.py                      tables, and pictures in runs/vanishing
    python examples/vanishing.py --quick              fewer random starts, in a few seconds

Measured (seed 1, medians of 10 random starts; under a minute of one core). In 30 layers of
sigmoids the gradient shrinks to 3e-26. Xavier's start alone leaves 1e-19, layer norm 4e-13, relu
without a start of its own 2e-12; skips, relu with He's start, and tanh with Xavier's keep a tenth
or more. Through 100 layers that share one matrix the length of a gradient is anything from 0.09 to
2e5 (20 draws), through independent ones it is 0.1 to 1. Through 100 steps Elman's network keeps
3e-24, a GRU 9e-21, an LSTM 7e-21: by default gates are half open. 99 % of dL/dW_hh then come from
the 10 nearest steps. Where the gates begin with a bias of 5 that holds the state, 0.3 to 0.55 is
kept, as by an IRNN (0.3), and 23 to 58 % of dL/dW_hh come from more than 50 steps back. That is an
LSTM's dL/dh; its dL/dc, by all paths, is 9 times as large at the first step as at the last. Its
cell path never explodes, since its factors are below 1: in none of 200 starts, with W_hh up to 8
times the default. The others do, in 117 of them, with a forget bias of 5 in 176; of Elman's
networks 198 do.

The file reads from top to bottom, a function for each part, and `main` is the story. Letters: T
time steps, B sequences, I inputs, H units. All is computed in float64: the small numbers matter.
"""

from __future__ import annotations

import argparse
import itertools
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn

T, B, I, H = 100, 8, 4, 32
DEPTH, WIDTH = 30, 64
LAYERS = 100
EXPLODED = 100  # a gradient this many times as large as at its beginning
NEAR = 10  # steps from the loss that count as near

# Numbers to check by hand.


def power(w: float, n: int, device: str = "cpu") -> tuple[float, float]:
    """w^n and its gradient n w^(n - 1): a linear unit of weight w that begins at 1, n steps on."""
    cell = rnn.RNNCell(1, 1, bias=False, nonlinearity="identity").to("float64").to(device)
    nn.init.constant_(cell.weight_hh, w)
    x = tg.zeros((n, 1, 1), "float64", device)
    _, last = rnn.Recurrent(cell)(x, tg.ones((1, 1), "float64", device))
    tg.sum(last).backward()
    return last.item(), cell.weight_hh.grad.item()


def chain_of_sigmoids(depth: int = 3) -> tuple[list[float], float]:
    """y_k = sigmoid(y_{k-1} + b_k) from y_0 = 0 with b = 0: all y_k, and dy_depth / db_1."""
    first = tg.tensor(0.0, dtype="float64", requires_grad=True)
    y, found = first, list[tg.Tensor]()
    for _ in range(depth):
        y = tg.sigmoid(y)
        found.append(y)
    y.backward()
    return [value.item() for value in found], first.grad.item()


# Layers on top of each other: the chain above made wide and deep, and its remedies.


class Remedy(NamedTuple):
    """How a layer x -> f(W x) is made: one thing differs from the chain of sigmoids at a time."""

    name: str
    function: Callable[[tg.Tensor], tg.Tensor]
    start: Callable[[tg.Tensor], tg.Tensor]
    skip: bool = False
    norm: bool = False


def drawn(weight: tg.Tensor) -> tg.Tensor:
    """Uniform on +-1 / sqrt(n), a common default."""
    bound = 1 / math.sqrt(weight.shape[1])
    return nn.init.uniform_(weight, -bound, bound)


REMEDIES = (
    Remedy("sigmoid", tg.sigmoid, drawn),
    Remedy("sigmoid, Xavier", tg.sigmoid, nn.init.xavier_normal_),
    Remedy("sigmoid, layer norm", tg.sigmoid, drawn, norm=True),
    Remedy("sigmoid, skips", tg.sigmoid, drawn, skip=True),
    Remedy("tanh, Xavier", tg.tanh, nn.init.xavier_normal_),
    Remedy("relu", tg.relu, drawn),
    Remedy("relu, He", tg.relu, nn.init.kaiming_normal_),
    Remedy("leaky relu, He", tg.leaky_relu, nn.init.kaiming_normal_),
)


def gradient_by_layer(remedy: Remedy, device: str) -> np.ndarray:
    """|dL/dx_k| of the inputs x_k of every layer and of the last outputs, L = sum(v * outputs)."""
    x = tg.randn(B, WIDTH, dtype="float64").to(device)
    x.requires_grad = True
    norm = nn.LayerNorm(WIDTH).to("float64").to(device)
    values = [x]
    for _ in range(DEPTH):
        weight = remedy.start(nn.Parameter(tg.zeros((WIDTH, WIDTH), "float64", device)))
        a = tg.linear(x, weight)
        y = remedy.function(norm(a) if remedy.norm else a)
        x = x + y if remedy.skip else y
        values.append(x)
    for value in values:
        value.retain_grad()
    tg.sum(x * tg.randn(B, WIDTH, dtype="float64").to(device)).backward()
    return np.array([tg.norm(value.grad).item() for value in values])


def growth(shared: bool, gain: float, device: str) -> np.ndarray:
    """|v W_1 ... W_k| / |v| for k = 0 ... LAYERS: a gradient through linear layers.

    The elements of the matrices are normal, of variance gain^2 / WIDTH, so that one of them changes
    the length of a vector by the factor gain in the mean (of squares). They are either one and the
    same, as in a network over time, or independent of each other.
    """
    w = tg.zeros(0)
    g = tg.randn(1, WIDTH, dtype="float64").to(device)
    lengths = [tg.norm(g).item()]
    for k in range(LAYERS):
        if k == 0 or not shared:
            w = tg.randn(WIDTH, WIDTH, dtype="float64").to(device) * (gain / math.sqrt(WIDTH))
        g = g @ w
        lengths.append(tg.norm(g).item())
    return np.array(lengths) / lengths[0]


# Through time, in recurrent networks as they begin.


def open_gate(cell: rnn.Cell, k: int, bias: float) -> rnn.Cell:
    """The cell with the biases of its k-th gate set, so that it holds on to its state."""
    rows = slice(k * H, (k + 1) * H)
    cell.bias_ih.data = cell.bias_ih.detach().at[rows].set(bias)
    cell.bias_hh.data = cell.bias_hh.detach().at[rows].set(0)
    return cell


CELLS: dict[str, Callable[[], rnn.Cell]] = {
    "Elman": lambda: rnn.RNNCell(I, H),
    "IRNN": lambda: rnn.IRNNCell(I, H),
    "LSTM": lambda: rnn.LSTMCell(I, H),
    "GRU": lambda: rnn.GRUCell(I, H),
    "simplified GRU": lambda: rnn.SimplifiedGRUCell(I, H),
    "LSTM, f = sig(5)": lambda: rnn.LSTMCell(I, H, forget_bias=5),
    "GRU, z = sig(5)": lambda: open_gate(rnn.GRUCell(I, H), 1, 5),
    "simplified GRU, u = sig(-5)": lambda: open_gate(rnn.SimplifiedGRUCell(I, H), 0, -5),
}


class ThroughTime(NamedTuple):
    """What one backward pass says of every step."""

    state: np.ndarray  # |dL/dh_t|, for t = 1 ... T
    cell: np.ndarray  # |dL/dc_t| of a c, for t = 1 ... T
    weight: np.ndarray  # |contribution of step t to dL/dW_hh|
    missing: float  # by how much the contributions do not add up to dL/dW_hh


def fields(state: Any) -> tuple[tg.Tensor, ...]:
    """The tensors of a state, h first."""
    return tuple(state) if isinstance(state, tuple) else (state,)


def through_time(cell: rnn.Cell, device: str) -> ThroughTime:
    """The gradient of L = sum(v * h_T), v random, by every state and by the use of W at each step.

    W is used at step t to make state_t from state_{t-1}, so what that use contributes to dL/dW is
    (dL/dstate_t) (dstate_t/dW) with state_{t-1} held.
    """
    layer = rnn.Recurrent(cell).to("float64").to(device)
    x = tg.randn(T, B, I, dtype="float64").to(device)
    v = tg.randn(B, H, dtype="float64").to(device)

    def loss() -> tg.Tensor:
        return tg.sum(v * layer(x)[0][-1])

    (flow,) = lab.gradient_flow(layer, loss, row=None).layers.values()
    parts = lab.contributions(layer, loss, cell.weight_hh)
    missing = np.abs(parts.values.sum(0) - parts.gradient).max() / np.abs(parts.gradient).max()
    norms = [*flow.norms.values()]
    return ThroughTime(norms[0], norms[-1], *parts.norms.values(), missing)


# The LSTM's two kinds of paths.


LSTMS = ("LSTM", "LSTM, f = sig(5)")


class CellPath(rnn.LSTMCell):
    """An LSTM whose gates are constants to the gradient: dc_T/dc_0 is the product of all f."""

    def step(self, x: tg.Tensor, state: rnn.LSTMState) -> tuple[tg.Tensor, rnn.LSTMState]:
        return super().step(x, rnn.LSTMState(state.h.detach(), state.c))


def first_gradient(cell: rnn.Cell, x: tg.Tensor, v: tg.Tensor) -> np.ndarray:
    """dL/dstate_0 of L = sum(v * state_T), where the state of an LSTM means c."""
    start = cell.initial_state(x.shape[1])
    fields(start)[-1].requires_grad = True
    _, last = rnn.Recurrent(cell)(x, start)
    tg.sum(v * fields(last)[-1]).backward()
    return fields(start)[-1].grad.numpy()


def growths(gain: float, device: str) -> dict[str, float]:
    """|dL/dstate_0| / |dL/dstate_T| at one random start, W_hh being ``gain`` times the default."""
    x = tg.randn(T, 1, I, dtype="float64").to(device)
    v = tg.randn(1, H, dtype="float64").to(device)
    found: dict[str, np.ndarray] = {}
    for name in ("Elman", "GRU", "simplified GRU", *LSTMS):
        cell = CELLS[name]().to("float64").to(device)
        cell.weight_hh.data = gain * cell.weight_hh.detach()
        found[name] = first_gradient(cell, x, v)
        if name in LSTMS:
            path = CellPath(I, H).to("float64").to(device)
            path.load_state_dict(cell.state_dict())
            found[f"{name}: cell path"] = first_gradient(path, x, v)
            found[f"{name}: other paths"] = found[name] - found[f"{name}: cell path"]
    return {name: float(np.linalg.norm(g)) / tg.norm(v).item() for name, g in found.items()}


# What was found, and its pictures.


class Results(NamedTuple):
    """What is drawn: lists of runs, one for each random start."""

    powers: dict[float, float]  # w^999 by w

    times: dict[str, list[ThroughTime]]
    starts: dict[float, list[dict[str, float]]]  # by the gain of W_hh
    remedies: dict[str, list[np.ndarray]]
    layers: dict[tuple[bool, float], list[np.ndarray]]  # by whether shared, and the gain


def shares_exploded(results: Results) -> dict[str, list[float]]:
    """For every kind of path the share of starts that exploded, at each gain."""
    of_gain = results.starts.values()
    names = next(iter(of_gain))[0]
    return {
        name: [float(np.mean([start[name] > EXPLODED for start in starts])) for starts in of_gain]
        for name in names
    }


BLUE, ORANGE, GREEN, PINK, SKY, RED = (
    lab.COLOURS[name] for name in ("blue", "orange", "green", "purple", "sky", "vermilion")
)
STYLES: dict[str, dict[str, Any]] = {  # a wide line can be seen under the thin one upon it
    "Elman": {"color": RED},
    "IRNN": {"color": PINK},
    "LSTM": {"color": BLUE},
    "GRU": {"color": GREEN, "linewidth": 8, "alpha": 0.6},
    "simplified GRU": {"color": ORANGE, "linestyle": "--"},
}
BACK = "steps back from the loss"


def kept(runs: list[ThroughTime], field: str = "state") -> np.ndarray:
    """The share of a gradient that is left, the last step first: the median over starts."""
    sizes = [getattr(run, field)[::-1] for run in runs]
    return np.median([size / size[0] for size in sizes], axis=0)


def from_steps(runs: list[ThroughTime], a: int, b: int) -> float:
    """The share of dL/dW_hh that a + 1 to b steps from the end add: the mean over starts."""
    return float(np.mean([run.weight[::-1][a:b].sum() / run.weight.sum() for run in runs]))


def plain(name: str) -> str:
    """A name with the bias itself: "LSTM, f = sig(5)" is "LSTM, bias 5" in a picture."""
    return re.sub(r"\w = sig\((.*?)\)", r"bias \1", name)


def short(value: float) -> str:
    """One digit and a power of ten: 3e-24.

    >>> short(0.00004), short(27.0)
    ('4e-5', '27')
    """
    return (
        f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
        if not 0.01 < value < 1000
        else f"{value:.2g}"
    )


def time_picture(results: Results) -> lab.Picture:
    """Six panels on recurrent networks."""
    times = results.times
    closed = [name for name in times if "sig" not in name and name != "IRNN"]
    holding = ["IRNN", *(name for name in times if "sig" in name and name not in LSTMS)]
    gains = list(results.starts)
    starts = len(results.starts[gains[0]])
    share = {name: np.array(found) for name, found in shares_exploded(results).items()}

    def style(name: str) -> dict[str, Any]:
        return {"label": plain(name)} | STYLES[name.partition(",")[0]]

    def half_open(axes: Any) -> None:
        for name in closed:
            axes.semilogy(kept(times[name]), **style(name))
        axes.set(xlabel=BACK, ylabel="|dL/dh_t| / |dL/dh_T|")
        axes.legend()

    def held(axes: Any) -> None:
        for name in holding:
            axes.plot(kept(times[name]), **style(name))
        axes.set(xlabel=BACK, ylabel="|dL/dh_t| / |dL/dh_T|", ylim=0)
        axes.legend(loc="lower left")

    def cell(axes: Any) -> None:
        for name, colour in zip(LSTMS, (SKY, BLUE), strict=True):
            h, c = kept(times[name]), kept(times[name], "cell")
            axes.semilogy(
                h, "--", color=colour, linewidth=5, alpha=0.7, label=f"{plain(name)}: dL/dh"
            )
            axes.semilogy(c, color=colour, label=f"{plain(name)}: dL/dc")
        axes.set(xlabel=BACK, ylabel="share that is left")
        axes.legend()

    def weight(axes: Any) -> None:
        names = list(times)[::-1]
        begin = np.zeros(len(names))
        bounds = (0, NEAR, T // 2, T)
        for k, (a, b) in enumerate(itertools.pairwise(bounds)):
            parts = np.array([100 * from_steps(times[name], a, b) for name in names])
            label = f"{a + 1} to {b} steps back"
            axes.barh(
                range(len(names)), parts, left=begin, color=(SKY, ORANGE, RED)[k], label=label
            )
            begin += parts
        axes.set_yticks(range(len(names)), [plain(name) for name in names], fontsize=12)
        axes.set(
            xlabel="share of dL/dW_hh, %, mean of the starts",
            xlim=(0, 100),
            ylim=(-0.5, len(names) + 2.5),
        )
        axes.legend(loc="upper center")

    def paths(axes: Any) -> None:
        for name, colour in zip(LSTMS, (SKY, BLUE), strict=True):
            for path, line in (("cell path", "o-"), ("other paths", "s--")):
                found = [[start[f"{name}: {path}"] for start in results.starts[g]] for g in gains]
                low, middle, high = np.quantile(found, (0.05, 0.5, 0.95), axis=1)
                axes.loglog(gains, middle, line, color=colour, label=f"{plain(name)}: {path}")
                axes.fill_between(gains, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.set_xticks(gains, [f"{gain:g}" for gain in gains])
        axes.minorticks_off()
        axes.set(xlabel="W_hh, times the default (band: 90 % of the starts)")
        axes.set(ylabel="|dL/dc_0| / |dL/dc_T|", ylim=(None, 1e22))
        axes.legend(loc="upper left")

    def exploded(axes: Any) -> None:
        rows = [name for name in share if "other" not in name]  # or as good as all paths
        table = np.array([100 * share[name] for name in rows])
        axes.imshow(table, cmap="Oranges", vmin=0, vmax=100, aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            colour = "white" if value > 70 else "black"
            axes.text(column, row, f"{value:.0f} %", ha="center", va="center", color=colour)
        axes.set_xticks(range(len(gains)), [f"{gain:g}" for gain in gains])
        axes.set_yticks(range(len(rows)), [plain(row).replace(": ", ":\n") for row in rows])
        axes.set_xlabel(f"W_hh, times the default ({starts} starts each)")
        axes.grid(False)

    left = {name: float(kept(runs)[-1]) for name, runs in times.items()}
    cells = [float(kept(times[name], "cell")[-1]) for name in LSTMS]
    near = min(from_steps(times[name], 0, NEAR) for name in closed)
    far = [from_steps(times[name], T // 2, T) for name in times if name not in closed]
    cell_path, other = (round(starts * share[f"LSTM: {kind} path{s}"][-1])
                        for kind, s in (("cell", ""), ("other", "s")))  # fmt: skip
    return lab.Picture(
        [
            lab.Panel(
                "half-open",
                f"With gates half open an LSTM leaves {short(left['LSTM'])} of the gradient after "
                f"{T} steps, a GRU {short(left['GRU'])}, Elman's network {short(left['Elman'])}",
                half_open,
            ),
            lab.Panel(
                "held",
                f"A GRU whose gate begins with a bias of 5 keeps {left[holding[1]]:.2f}, an "
                f"identity for W_hh {left['IRNN']:.2f}",
                held,
            ),
            lab.Panel(
                "cell",
                f"{T} steps back an LSTM's dL/dc is {short(cells[1])} times as large with a forget "
                f"bias of 5, and {short(cells[0])} times without",
                cell,
            ),
            lab.Panel(
                "weight",
                f"{100 * near:.0f} % or more of dL/dW_hh come from {NEAR} steps; where gates "
                f"hold, {100 * min(far):.0f} to {100 * max(far):.0f} % from beyond {T // 2}",
                weight,
            ),
            lab.Panel(
                "paths",
                f"At {gains[-1]:g} times W_hh an LSTM's cell path grows {EXPLODED}-fold in "
                f"{cell_path} of {starts} starts, its other paths in {other}",
                paths,
            ),
            lab.Panel(
                "exploded",
                f"Every network may explode, to {EXPLODED} times the gradient in {T} steps; an "
                "LSTM's cell path may not",
                exploded,
            ),
        ],
        columns=3,
    )


def layers_picture(results: Results) -> lab.Picture:
    """Four panels on products of numbers and of matrices."""
    ends = [[run[-1] for run in results.layers[shared, 1.0]] for shared in (True, False)]
    limits = (min(map(min, ends)) / 2, max(map(max, ends)) * 2)

    def powers(axes: Any) -> None:
        steps = np.arange(1000)
        for w, colour in ((1.01, RED), (1.0, GREEN), (0.99, BLUE)):
            axes.semilogy(steps, w**steps, color=colour, label=f"w = {w:g}")
        axes.set(xlabel="n", ylabel="w^n")
        axes.legend()

    def remedies(axes: Any) -> None:
        for row, runs in enumerate(reversed(results.remedies.values())):
            shares = [run[0] / run[-1] for run in runs]
            axes.plot([min(shares), max(shares)], [row, row], color=SKY, linewidth=5)
            axes.semilogx(np.median(shares), row, "o", color=BLUE)
        axes.set_yticks(range(len(results.remedies)), list(results.remedies)[::-1])
        axes.set_xlabel("|dL/dx_1| / |dL/dx_last| (line: all starts, dot: median)")

    def growing(shared: bool, colour: str) -> Callable[[Any], None]:
        def draw(axes: Any) -> None:
            for run in results.layers[shared, 1.0]:
                axes.semilogy(run, color=colour, linewidth=1.2)
            axes.set(xlabel="layers", ylabel="length of the gradient", ylim=limits)

        return draw

    middle = {name: np.median([run[0] / run[-1] for run in runs])
              for name, runs in results.remedies.items()}  # fmt: skip
    good = [name for name, share in middle.items() if share > 0.05]
    return lab.Picture(
        [
            lab.Panel(
                "powers",
                f"After 999 steps a factor of 0.99 leaves {short(results.powers[0.99])}, and 1.01 "
                f"makes {results.powers[1.01]:,.0f} of 1",
                powers,
            ),
            lab.Panel(
                "remedies",
                f"{DEPTH} layers of sigmoids leave {short(middle['sigmoid'])} of a gradient; "
                f"{len(good)} of {len(middle) - 1} remedies keep more than 0.05",
                remedies,
            ),
            lab.Panel(
                "shared",
                f"One matrix used {LAYERS} times makes a length of 1 anything from "
                f"{short(min(ends[0]))} to {short(max(ends[0]))}",
                growing(True, RED),
            ),
            lab.Panel(
                "independent",
                f"{LAYERS} independent matrices leave {short(min(ends[1]))} to "
                f"{short(max(ends[1]))} of it, on the same scale",
                growing(False, BLUE),
            ),
        ]
    )


# The story.


def spread(values: list[float]) -> str:
    """The median, and the smallest and the largest."""
    return f"{np.median(values):8.1e}  ({min(values):.0e} to {max(values):.0e})"


def tell(options: argparse.Namespace) -> None:
    """Compute, print and draw."""
    device, seeds = options.device, 1 if options.quick else 10
    starts = options.starts or (2 if options.quick else 200)
    gains = (1.0, 8.0) if options.quick else (1.0, 2.0, 4.0, 8.0)

    print("w^999 and its gradient 999 w^998, the power computed as 999 steps of a linear unit:\n")
    powers: dict[float, float] = {}
    for w in (0.01, 0.99, 1.0, 1.01):
        value, gradient = power(w, 999, device)
        powers[w] = value
        print(f"  w = {w:<4}  {value:12.6g}  {gradient:12.6g}")

    ys, gradient = chain_of_sigmoids()
    print("\nThree sigmoids in a chain, w = 1, x = 0, b = 0: y =", *(f"{y:.4f}" for y in ys))
    print(f"and dy3/db1 = {gradient:.5f}: each factor is at most 1/4. Made wide and deep, {WIDTH}")
    print(f"units, {DEPTH} layers: |dL/dx| at the first layer by the last's, {seeds} starts:\n")
    tg.manual_seed(options.seed)
    remedies = {r.name: [gradient_by_layer(r, device) for _ in range(seeds)] for r in REMEDIES}
    for name, runs in remedies.items():
        print(f"  {name:22}{spread([run[0] / run[-1] for run in runs])}")

    print(f"\nThe length of a gradient after {LAYERS} linear layers, {2 * seeds} starts:\n")
    print(f"  {'gain':6}{'one matrix, shared':36}independent matrices")
    layers = {
        (shared, gain): [growth(shared, gain, device) for _ in range(2 * seeds)]
        for gain in (0.9, 1.0, 1.1)
        for shared in (True, False)
    }
    for gain in (0.9, 1.0, 1.1):
        found = [spread([run[-1] for run in layers[shared, gain]]) for shared in (True, False)]
        print(f"  {gain:<6}{found[0]:36}{found[1]}")

    print(f"\nThrough {T} steps of recurrent networks with {H} units, {seeds} random starts:")
    print(f"|dL/dh_1| / |dL/dh_T|, the share of dL/dW_hh from the {NEAR} nearest steps, and from")
    print(f"those more than {T // 2} steps back (medians):\n")
    times = {
        name: [through_time(make(), device) for _ in range(seeds)] for name, make in CELLS.items()
    }
    for name, runs in times.items():
        shares = [run.weight / run.weight.sum() for run in runs]
        near = np.median([share[-NEAR:].sum() for share in shares])
        far = np.median([share[: T // 2].sum() for share in shares])
        ratio = spread([run.state[0] / run.state[-1] for run in runs])
        print(f"  {name:28}{ratio:36}{100 * near:6.1f} %{100 * far:9.1e} %")
    missing = max(run.missing for runs in times.values() for run in runs)
    print(f"\nThe contributions of the steps add up to dL/dW_hh within {missing:.0e} of it.")

    print(f"\nHow often it explodes, |dL/dstate_0| > {EXPLODED} |dL/dstate_T|, in {starts} random")
    print("starts, with W_hh so many times the default; and the median growth (of an LSTM's c):\n")
    found = {gain: [growths(gain, device) for _ in range(starts)] for gain in gains}
    results = Results(powers, times, found, remedies, layers)
    print(f"  {'':30}" + "".join(f"{f'x {gain:g}':>17}" for gain in gains))
    for name, shares in shares_exploded(results).items():
        medians = [np.median([start[name] for start in found[gain]]) for gain in gains]
        cells = zip(shares, medians, strict=True)
        print(f"  {name:30}" + "".join(f"{round(s * starts):7} {m:9.0e}" for s, m in cells))

    folder = Path("runs", "vanishing")
    print("\npictures  ", end="")
    print(lab.draw_picture(time_picture(results), folder / "vanishing", options))
    print("          ", end="")
    print(lab.draw_picture(layers_picture(results), folder / "layers", options))


def main() -> None:
    """Read the options; what is wrong with them is said in one sentence."""
    parser = argparse.ArgumentParser(description="Why gradients vanish or explode, and what helps.")
    parser.add_argument("--quick", action="store_true", help="few random starts, in a few seconds")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<number>")
    parser.add_argument("--seed", type=int, default=1, help="decides all weights and inputs")
    parser.add_argument("--starts", type=int, help="random starts that may explode (200)")
    lab.add_picture_options(parser)
    try:
        tell(parser.parse_args())
    except KeyboardInterrupt:
        sys.exit("vanishing: aborted")
    except (OSError, ValueError, tg.DeviceError) as error:
        sys.exit(f"vanishing: {error}")


if __name__ == "__main__":
    main()
