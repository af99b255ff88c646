"""The panels of a surface: a line, a plane from above, a plane from the side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.lab.picture import COLOURS, Panel

Paths = Mapping[str, np.ndarray]
Limits = tuple[float, float] | None
WAYS = (("vermilion", "o-"), ("sky", "s--"), ("yellow", "^-."), ("green", "D:"))
"""How paths are told apart, also without colours."""
SPREAD = 1e3
"""Where 19 of 20 points are spread over more than this ratio, their scale is logarithmic."""
BEYOND = (("inf", np.isinf, "///", "vermilion"), ("nan", np.isnan, "xxx", "black"))
"""How points are marked where the loss is not a number."""


class Plane(NamedTuple):
    """The loss (m, n) at y (m,) and x (n,), the names of the axes, the ends of the colour scale."""

    x: np.ndarray
    y: np.ndarray
    loss: np.ndarray
    names: Sequence[str]
    limits: Limits = None


def line_panel(
    title: str, x: np.ndarray, loss: np.ndarray, paths: Paths, names: Sequence[str]
) -> Panel:
    """The loss over the one direction."""

    def draw(axes: Any) -> None:
        finite = loss[np.isfinite(loss)]
        axes.plot(x, np.where(np.isfinite(loss), loss, np.nan), color=COLOURS["blue"])
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
        if low > 0 and np.quantile(finite, 0.05) * SPREAD < high:
            axes.set_yscale("log")
        axes.set(xlabel=names[0], ylabel="loss", xlim=(x[0], x[-1]))
        half = (x[1] - x[0]) / 2 if len(x) > 1 else 0.5
        for name, test, hatch, colour in BEYOND:
            for k, at in enumerate(x[test(loss)]):
                axes.axvspan(at - half, at + half, facecolor="none", edgecolor=COLOURS[colour],
                             hatch=hatch, linewidth=0, label=name if k == 0 else None)  # fmt: skip
        for (name, way), (colour, mark) in zip(paths.items(), _looks(len(paths)), strict=True):
            on = np.interp(way[:, 0], x, loss, left=np.nan, right=np.nan)
            axes.plot(way[:, 0], on, mark, color=COLOURS[colour], label=name)
        if axes.get_legend_handles_labels()[1]:
            axes.legend()

    return Panel("line", title, draw)


def plane_panel(title: str, plane: Plane, paths: Paths) -> Panel:
    """The plane from above."""
    x, y, loss, names, limits = plane

    def draw(axes: Any) -> None:
        from matplotlib.patches import Patch

        axes.grid(False)
        shown, levels, norm = _scale(loss, limits)
        if shown is not None:
            drawn = axes.contourf(x, y, shown, levels, norm=norm, cmap="viridis")
            axes.figure.colorbar(drawn, ax=axes, label="loss", format="%.2g")
        handles = []
        for name, test, hatch, colour in BEYOND:
            if (bad := test(loss)).any():
                _hatched(axes, x, y, bad, hatch, COLOURS[colour])
                look: dict[str, Any] = {
                    "facecolor": "white",
                    "edgecolor": COLOURS[colour],
                    "hatch": hatch,
                }
                handles.append(Patch(**look, label=name))
        drawn = [*zip(paths.items(), _looks(len(paths)), strict=True)]
        for k, ((name, way), (colour, mark)) in reversed([*enumerate(drawn)]):  # the first on top
            look = {"color": COLOURS[colour], "markevery": max(len(way) // 12, 1)}
            look["markersize"] = 9 + 4 * k  # so that equal ways are seen under each other
            axes.plot(*way.T, mark[1:], color="black", linewidth=4.5)
            handles += axes.plot(*way.T, mark, **look, markeredgecolor="black", label=name)
        starts = [way[0] for way in paths.values() if len(way)]
        if starts:
            look = {"color": "white", "markeredgecolor": "black", "markersize": 24}
            handles += axes.plot(*np.transpose(starts), "*", **look, label="start")
        axes.set(xlabel=names[0], ylabel=names[1], xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
        if handles:
            axes.legend(handles=handles, loc="upper right", framealpha=0.9)

    return Panel("above", title, draw)


def relief_panel(title: str, plane: Plane) -> Panel:
    """The plane from the side."""
    x, y, loss, names, limits = plane

    def draw(axes: Any) -> None:
        shown, _, norm = _scale(loss, limits)
        if shown is not None:
            fine = {"rcount": 100, "ccount": 100, "linewidth": 0, "antialiased": False}
            high = shown.filled(np.nan)
            axes.plot_surface(*np.meshgrid(x, y), high, cmap="viridis", norm=norm, **fine)
        axes.view_init(elev=38, azim=50)
        axes.set_xlabel(names[0], labelpad=12)
        axes.set_ylabel(names[1], labelpad=12)
        axes.set_zlabel("loss", labelpad=12)
        axes.set_box_aspect(None, zoom=0.88)

    return Panel("side", title, draw, projection="3d")


def _scale(loss: np.ndarray, limits: Limits) -> tuple[Any, np.ndarray, Any]:
    """The losses that are numbers, the levels of their contours, and a scale for their colours."""
    from matplotlib.colors import LogNorm, Normalize

    finite = loss[np.isfinite(loss)]
    if not finite.size:
        return None, np.zeros(0), None
    low, high = limits or (float(finite.min()), float(finite.max()))
    shown = np.ma.clip(np.ma.masked_invalid(loss), low, high)
    if low > 0 and np.quantile(finite, 0.05) * SPREAD < high:
        return shown, np.geomspace(low, high * (1 + 1e-9), 41), LogNorm(low, high)
    high = high if high > low else low + max(abs(low), 1.0) * 1e-3
    return shown, np.linspace(low, high, 41), Normalize(low, high)


def _hatched(
    axes: Any, x: np.ndarray, y: np.ndarray, bad: np.ndarray, hatch: str, colour: str
) -> None:
    """Points that are bad, each as the cell around it."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    width, height = (float(a[1] - a[0]) if len(a) > 1 else 1.0 for a in (x, y))
    # runs of cells beside each other are one rectangle: a hatch of many small ones is a grey
    cells = []
    for k, row in enumerate(bad):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        cells += [
            Rectangle((float(x[a]) - width / 2, float(y[k]) - height / 2), width * (b - a), height)
            for a, b in edges.reshape(-1, 2).tolist()
        ]
    axes.add_collection(
        PatchCollection(cells, facecolor="white", edgecolor=colour, hatch=hatch, linewidth=0)
    )


def _looks(count: int) -> list[tuple[str, str]]:
    return [WAYS[k % len(WAYS)] for k in range(count)]
