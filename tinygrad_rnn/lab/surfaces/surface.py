"""The loss on a line or a plane through the space of parameters, with the paths of descent."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn.lab.picture import Picture
from tinygrad_rnn.lab.surfaces.directions import Directions, as_point, positions, random_directions
from tinygrad_rnn.lab.surfaces.picture import Plane, line_panel, plane_panel, relief_panel
from tinygrad_rnn.lab.undisturbed import Weights, moved, parameters_of, undisturbed
from tinygrad_rnn.lab.written import write_csv
from tinygrad_rnn.nn import Module, check_size
from tinygrad_rnn.tape import no_grad
from tinygrad_rnn.tensor import Tensor

MARGIN = 0.15
"""How much further than the paths the surface goes, as a share of their extent."""


@dataclass(frozen=True)
class Surface:
    """What :func:`surface` found.

    Attributes
    ----------
    loss : in the unit of the loss: (n,) on a line; (m, n) on a plane, row k at ``y[k]`` and column
        j at ``x[j]``. It is inf or nan where the loss is.
    x, y : how far along the first and the second direction, in lengths of these; y is None on a
        line.
    paths : by name, (k, 1) or (k, 2): where the points of a path are on the line or plane, those
        nearest to them.
    distances : by name, (k,): how far these points are from it, in the unit of the parameters. A
        path that is far away is not drawn where it went. Both are nan for a point with inf or nan
        in it.
    names : what the axes are called.
    """

    loss: np.ndarray
    x: np.ndarray
    y: np.ndarray | None = None
    paths: Mapping[str, np.ndarray] = field(default_factory=dict)
    distances: Mapping[str, np.ndarray] = field(default_factory=dict)
    names: tuple[str, ...] = ("along the first direction", "along the second direction")

    @property
    def lowest(self) -> tuple[float, ...]:
        """Where the smallest loss is that is a number: (x,) or (x, y)."""
        if not np.isfinite(self.loss).any():
            return (math.nan,) * self.loss.ndim
        at = np.unravel_index(
            np.argmin(np.where(np.isfinite(self.loss), self.loss, np.inf)), self.loss.shape
        )
        axes = (self.x,) if self.y is None else (self.y, self.x)
        return tuple(float(axis[k]) for axis, k in zip(axes, at, strict=True))[::-1]

    def __str__(self) -> str:
        """Ranges, the lowest point, what is not finite, and how far the paths are away."""
        finite = self.loss[np.isfinite(self.loss)]
        rows = [
            f"{'loss':12} {'x'.join(map(str, self.loss.shape))} points"
            + (f", {finite.min():.6g} to {finite.max():.6g}" if finite.size else "")
        ]
        for name, axis in zip(self.names, (self.x, self.y), strict=False):
            if axis is not None:
                rows.append(f"{name:12} {axis[0]:.6g} to {axis[-1]:.6g}")
        rows.append(f"{'lowest':12} at " + ", ".join(f"{v:.6g}" for v in self.lowest))
        for what, bad in (("inf", np.isinf(self.loss)), ("nan", np.isnan(self.loss))):
            if bad.any():
                rows.append(f"{what:12} at {bad.sum():,} of {bad.size:,} points")
        for name, far in self.distances.items():
            known = far[np.isfinite(far)]
            rows.append(f"path {name}: {len(far)} points, up to {known.max(initial=0):.3g} away")
            if len(known) < len(far):
                rows[-1] += f", {len(far) - len(known)} with inf or nan in them"
        return "\n".join(rows)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write a row for each point: x, y (on a plane) and the loss."""
        if self.y is None:
            points = [*zip(self.x.tolist(), self.loss.tolist(), strict=True)]
        else:
            pairs = zip(self.y.tolist(), self.loss.tolist(), strict=True)
            points = [
                (x, y, v) for y, row in pairs for x, v in zip(self.x.tolist(), row, strict=True)
            ]
        return write_csv(path, [*self.names, "loss"], points, "Surface.to_csv")

    def picture(
        self,
        title: str | None = None,
        relief: bool = False,
        limits: tuple[float, float] | None = None,
    ) -> Picture:
        """The line, or the plane from above with its contours and paths.

        Colours stand for the loss on the bar beside them; where that of 19 in 20 points is spread
        over more than three orders of magnitude, their scale is logarithmic. Points where it is
        inf are hatched ``///``, those where it is nan ``xxx``.

        Parameters
        ----------
        title : the statement, by default where the loss is lowest.
        relief : whether a plane is drawn from the side, too, which is worth it where there is a
            wall or a ridge.
        limits : the ends of the colour scale, to compare two planes.
        """
        if min(self.loss.shape) < 2:
            raise ValueError(
                "Surface.picture: one point is no line and no plane; give surface points=2 or more"
            )
        finite = self.loss[np.isfinite(self.loss)]
        where = " and ".join(f"{v:.3g}" for v in self.lowest)
        lowest = f"The lowest loss is {finite.min():.3g}, at {where}" if finite.size else ""
        said = title or lowest or "The loss is nowhere a number"
        if self.y is None:
            return Picture([line_panel(said, self.x, self.loss, self.paths, self.names)])
        plane = Plane(self.x, self.y, self.loss, self.names, limits)
        panels = [plane_panel(said, plane, self.paths)]
        if relief:
            panels = [relief_panel("The same from the side", plane), *panels]
        return Picture(panels)


def surface(
    loss: Callable[[], Any],
    weights: Weights,
    directions: Directions | None = None,
    *,
    span: Sequence[Any] | None = None,
    points: int = 41,
    paths: Mapping[str, Sequence[Any]] | None = None,
    names: Sequence[str] = (),
) -> Surface:
    """The loss on a line or a plane through the present parameters p: L(p + x d + y e).

    It is computed once per point, without a tape, each time with the same random numbers, buffers
    and attributes of modules. Whatever happens, these, parameters, gradients and the random
    generator are as they were. Modes stay: dropout is on in a model that trains.

    Parameters
    ----------
    loss : a function without arguments, which gives a Tensor of one element, or a number.
    weights : the model, or those of its parameters that are to be moved.
    directions : one of them (a line) or two (a plane); each is an array for every parameter, in
        their order, or a dict of them by the model's names, in which those missing are 0. Numbers
        stand for arrays full of them. By default two of :func:`random_directions`;
        :func:`path_directions` has those of a path.
    span : from where to where along each direction, ``(-1, 1)`` or ``((-1, 1), (0, 8))``; by
        default as far as the paths go and a little further, without paths ``(-1, 1)``.
    points : how many along each direction.
    paths : ways through the space of parameters by name, each a sequence of points: arrays for
        every parameter, or what ``model.state_dict()`` gave.
    names : what to call the axes.

    Source: Goodfellow, Vinyals, Saxe 2015 (lines); Li, Xu, Taylor, Studer, Goldstein 2018.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> w, b = tg.nn.Parameter(3.0), tg.nn.Parameter(1.0)
    >>> print(lab.surface(lambda: (w - 1) ** 2 + b**2, [w, b], [[1, 0], [0, 1]], span=(-2, 2),
    ...                   points=5, names=("w", "b")))
    loss         5x5 points, 0 to 25
    w            -2 to 2
    b            -2 to 2
    lowest       at -2, -1
    """
    who = "surface"
    if not callable(loss):
        raise TypeError(
            f"{who}: loss must be a function without arguments, such as lambda: loss_of(model), "
            f"got {type(loss).__name__}"
        )
    check_size(who, points=points)
    parameters = parameters_of(who, weights)
    weights = weights if isinstance(weights, Module) else parameters
    if directions is None:
        directions = random_directions(weights)
    if isinstance(directions, Mapping) or not isinstance(directions, Iterable):
        raise TypeError(
            f"{who}: directions must be a list of one or two, each a list or a dict of arrays, got "
            f"{type(directions).__name__}"
        )
    axes = [as_point(f"{who}: a direction", weights, each) for each in directions]
    if not all(np.isfinite(d).all() for axis in axes for d in axis):
        raise ValueError(f"{who}: a direction holds inf or nan")
    if len(axes) not in (1, 2):
        raise ValueError(f"{who}: expected one direction or two, got {len(axes)}")
    names = tuple(names) or ("along the first direction", "along the second direction")
    names = names[: len(axes)]
    if len(names) < len(axes):
        raise ValueError(f"{who}: expected {len(axes)} names of axes, got {list(names)}")
    start = [p.numpy() for p in parameters]
    if not isinstance(paths or {}, Mapping):
        raise TypeError(f"{who}: paths must be a dict by name, got {type(paths).__name__}")
    found = {
        name: [as_point(f"{who}: path {name}", weights, point, start) for point in path]
        for name, path in (paths or {}).items()
    }
    places = {name: positions(path, start, axes) for name, path in found.items()}
    grid = _grid(who, span, [at for at, _ in places.values()], len(axes), points)
    along = [np.array(ds) for ds in zip(*axes, strict=True)]
    quiet = np.errstate(all="ignore")
    with undisturbed(weights) as before, moved(parameters) as moving, no_grad(), quiet:

        def at(*steps: float) -> float:
            moving.to([np.tensordot(steps, ds, 1) for ds in along])
            before.restore()
            return _number(who, loss())

        values = [[at(x, y) for x in grid[0]] for y in grid[1]] if axes[1:] else map(at, grid[0])
        values = np.array([*values])
    return Surface(
        values,
        *grid,
        paths={name: at for name, (at, _) in places.items()},
        distances={name: far for name, (_, far) in places.items()},
        names=names,
    )


def _number(who: str, value: Any) -> float:
    if isinstance(value, Tensor) and value.size == 1:
        return float(value.item())
    if isinstance(value, int | float | np.number):
        return float(value)
    kind = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
    raise TypeError(f"{who}: loss() must give a Tensor of one element or a number, got {kind}")


def _grid(
    who: str, span: Any, places: Sequence[np.ndarray], count: int, points: int
) -> list[np.ndarray]:
    """The coordinates along each direction."""
    if span is None:
        ranges = [(-1.0, 1.0)] * count
        places = [at[np.isfinite(at).all(axis=1)] for at in places]
        places = [at for at in places if len(at)]
        if places:
            low, high = (f([f(at, axis=0) for at in places], axis=0) for f in (np.min, np.max))
            low, high = np.minimum(low, 0), np.maximum(high, 0)
            more = MARGIN * np.where(high > low, high - low, 1)
            ranges = [*zip(low - more, high + more, strict=True)]
    else:
        try:
            given: Any = np.asarray(span, np.float64)
        except (TypeError, ValueError):
            given = np.empty(0)
        if given.shape == (2,):
            given = np.tile(given, (count, 1))
        fits = given.shape == (count, 2) and np.isfinite(given).all()
        if not fits or not np.all(given[:, 0] < given[:, 1]):
            raise ValueError(
                f"{who}: span must be two rising numbers, or two for each of the {count} "
                f"directions, got {span!r:.80}"
            )
        ranges = given.tolist()
    return [np.linspace(low, high, points) for low, high in ranges]
