"""The panels of a gradient's flow: states, weights, Jacobians, gates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.lab.flow.layer_flow import LayerFlow
from tinygrad_rnn.lab.picture import COLOURS, Panel

ORDER = ("blue", "vermilion", "green", "orange", "purple", "sky", "black")
ROWS = 16
"""How many gates a map shows."""
LINES = ("-", "--", ":", "-.")
BACK = "steps back from the last one that the loss sees"


def flow_panels(flows: Sequence[LayerFlow]) -> list[Panel]:
    """What there is to show of these layers, the most telling first."""
    panels = [_states(flows)]
    if any(map(_matrix_of, flows)):
        panels.append(_weights([flow for flow in flows if _matrix_of(flow)]))
    if all(flow.jacobians is not None for flow in flows):
        panels.append(_products(flows))
    gated = [
        flow for flow in flows if any(np.isfinite(g.low).any() for g in flow.saturation.values())
    ]
    if gated:
        panels.append(_gates(gated[0]) if len(gated) == 1 else _many_gates(gated))
    return panels


def _colour(k: int) -> str:
    return COLOURS[ORDER[k % len(ORDER)]]


def _sorted(flow: LayerFlow, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(steps back from the loss, values), of the steps that the loss depends on."""
    order = [t for t in np.argsort(flow.back) if flow.back[t] >= 0]
    return flow.back[order], values[order]


def _states(flows: Sequence[LayerFlow]) -> Panel:
    """The norms of dL/dh and dL/dc, and of dL/dc along c alone."""
    kept: dict[str, tuple[float, int]] = {}
    level = True
    for flow in flows:
        _, norms = _sorted(flow, flow.norms[flow.fields[0]])
        shares = norms / (norms[0] or 1.0)
        kept[flow.name] = float(shares[-1]), len(norms) - 1
        level = level and bool(0.1 < shares.min() <= shares.max() < 10)
    least = min(kept, key=lambda name: kept[name][0])
    ratio, steps = kept[least]
    where = f"{least}: " if len(flows) > 1 else ""
    state = f"dL/d{flows[0].fields[0]}"
    title = f"{where}{steps} steps back {state} is {_short(ratio)} times the last one"
    if level:
        title = f"{state} keeps its size over {steps} steps" + " in every layer" * (len(flows) > 1)

    def draw(axes: Any) -> None:
        for k, flow in enumerate(flows):
            curves = [(f"dL/d{name}", n) for name, n in flow.norms.items()]
            curves += [(f"dL/d{n}, {n} alone", v) for n, v in [*flow.norms_alone.items()][1:]]
            for j, (name, values) in enumerate(curves[:1] if len(flows) > 2 else curves):
                label = f"{flow.name}: {name}" if len(flows) > 1 else name
                line = LINES[int(flow.reverse)] if len(flows) > 2 else LINES[j % 4]
                back, shown = _sorted(flow, np.where(values > 0, values, np.nan))
                colour = _colour(k if len(flows) > 1 else j)
                axes.semilogy(back, shown, line, color=colour, label=label)
        axes.set(xlabel=BACK, ylabel="norm over batch and units")
        _legend(axes, len(flows))

    return Panel("states", title, draw)


def _short(value: float) -> str:
    """Two digits, and a power of ten where there are many zeros."""
    return f"{value:.2g}" if value < 10 or value >= 1e4 else f"{value:.0f}"


def _legend(axes: Any, count: int, loc: str = "best") -> None:
    """A legend, beside the panel where it has many lines."""
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0), "fontsize": 12}
    axes.legend(**(beside if count > 2 else {"loc": loc}))


def _matrix_of(flow: LayerFlow) -> str | None:
    """The weight whose parts are shown: the recurrent one, as far as names tell."""
    names = [name for name in flow.contributions if flow.contributions[name].any()]
    return next((name for name in names if "hh" in name), names[0] if names else None)


def _weights(flows: Sequence[LayerFlow]) -> Panel:
    """The share of dL/dW from the nearest steps."""
    curves = []
    for flow in flows:
        name = _matrix_of(flow) or ""
        back, share = _sorted(flow, flow.shares[name])
        curves.append((name, back + 1, 100 * np.cumsum(share)))
    found: dict[str, tuple[int, float]] = {}
    longest = max(len(steps) for _, steps, _ in curves)
    for name, steps, share in curves:
        if len(steps) < longest:
            continue  # of a layer that the loss sees few steps of there is little to say
        most = int(np.argmax(share >= 90))
        found[name] = int(steps[most]), float(share[most])
    name = min(found, key=lambda name: found[name][0])
    nearest, part = found[name]
    some = f"The {nearest} nearest steps give" if nearest > 1 else "The nearest step alone gives"
    title = f"{some} {part:.0f} % of the gradient of {name}"

    def draw(axes: Any) -> None:
        for k, (name, steps, share) in enumerate(curves):
            line = LINES[int(flows[k].reverse)]
            axes.plot(steps, share, line, color=_colour(k), label=name)
        axes.set(xlabel="nearest steps", ylabel="share of the sum of norms, %", ylim=(0, 102))
        _legend(axes, len(flows), "lower right")

    return Panel("weights", title, draw)


def _products(flows: Sequence[LayerFlow]) -> Panel:
    """The singular values of the products of Jacobians."""
    found = []
    for flow in flows:
        lengths = flow.product_lengths()
        found.append((flow.name, lengths, flow.products(*lengths)))
    many, largest = max((lengths[-1], values[-1, 0]) for _, lengths, values in found)
    steps, change = f"{many} step{'s' * (many > 1)}", "a small change of the state"
    title = f"After {steps} at most {_short(largest)} of {change} is left"
    if largest > 1:
        title = f"{change.capitalize()} can grow {_short(largest)}-fold in {steps}"

    def draw(axes: Any) -> None:
        for k, (name, lengths, values) in enumerate(found):
            rounding = 1e-15 * values[:, :1]
            shown = np.where(values > rounding, values, np.nan)
            parts = [("largest", 0, "o-"), ("median", values.shape[1] // 2, "s--")]
            for j, (which, place, mark) in enumerate(parts if len(flows) == 1 else parts[:1]):
                label = which if len(flows) == 1 else name
                mark = "s--" if flows[k].reverse else mark
                axes.loglog(lengths, shown[:, place], mark, color=_colour(k + j), label=label)
        axes.axhline(1, color=COLOURS["grey"], linewidth=1)
        axes.set(xlabel="steps k", ylabel="singular value of the product")
        if len(flows) > 1:
            axes.set_ylabel("largest singular value of the product")
        _legend(axes, len(flows))

    return Panel("products", title, draw)


def _gates(flow: LayerFlow) -> Panel:
    """The shares of saturated elements of each gate."""
    sums = {n: float(np.nanmean(gate.low + gate.high)) for n, gate in flow.saturation.items()}
    most = max(sums, key=lambda name: sums[name])
    title = _saturated(most, 100 * sums[most], len(sums))
    highest = max(float(np.nanmax([g.low, g.high])) for g in flow.saturation.values())

    def draw(axes: Any) -> None:
        for k, (name, gate) in enumerate(flow.saturation.items()):
            axes.plot(100 * gate.high, color=_colour(k), label=f"{name} near its top")
            axes.plot(100 * gate.low, "--", color=_colour(k), label=f"{name} near its bottom")
        axes.set(xlabel="step t", ylabel="of the elements, %")
        axes.set_ylim(-0.5, min(102, max(10, 140 * highest)))
        _legend(axes, 2 * len(flow.saturation))

    return Panel("gates", title, draw)


def _saturated(name: str, percent: float, gates: int) -> str:
    """Which gate is saturated most, as a sentence."""
    if percent < 0.5:
        return "No gate is saturated"
    return f"{percent:.0f} % of {name} is saturated" + ", the most of all gates" * (gates > 1)


def _many_gates(flows: Sequence[LayerFlow]) -> Panel:
    """The same as rows of a map."""
    rows = [
        (f"{flow.name} {name}", 100 * (gate.low + gate.high))
        for flow in flows
        for name, gate in flow.saturation.items()
    ]
    means = [float(np.nanmean(values)) for _, values in rows]
    name, most = rows[int(np.argmax(means))][0], max(means)
    shown = sorted(np.argsort(means)[::-1][:ROWS])
    title = _saturated(name, most, len(rows))
    if len(shown) < len(rows):
        title += f" (the first {ROWS} of {len(rows)} gates)"
    rows = [rows[k] for k in shown]
    width = max(len(values) for _, values in rows)

    def draw(axes: Any) -> None:
        cells = [np.pad(v, (0, width - len(v)), constant_values=np.nan) for _, v in rows]
        image = axes.imshow(
            cells, aspect="auto", cmap="cividis", vmin=0, vmax=100, interpolation="nearest"
        )
        axes.figure.colorbar(image, ax=axes, label="saturated, %")
        axes.set_yticks(range(len(rows)), [name for name, _ in rows])
        axes.tick_params(axis="y", labelsize=12)
        axes.set(xlabel="step t")
        axes.grid(visible=False)

    return Panel("gates", title, draw)
