"""Directions through the space of parameters, and where a path is along them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.lab.undisturbed import Weights, parameters_of
from tinygrad_rnn.nn import Module, check_size
from tinygrad_rnn.tensor import Tensor

Point = list[np.ndarray]
"""An array for every parameter."""
Directions = Sequence[Any]
"""Of a surface: see :func:`tinygrad_rnn.lab.surfaces.surface`."""


def as_point(who: str, weights: Weights, given: Any, start: Point | None = None) -> Point:
    """Arrays of the shapes of the parameters; those that a dict lacks are ``start``'s, or 0."""
    parameters = parameters_of(who, weights)
    arrays = start or [np.zeros(p.shape, p.dtype) for p in parameters]
    if isinstance(given, Mapping):
        if not isinstance(weights, Module):
            raise TypeError(f"{who}: a dict needs a model, whose names it has; give a list")
        known = {name: k for k, (name, _) in enumerate(weights.named_parameters())}
        if not known.keys() & given.keys():
            raise KeyError(f"{who}: expected names of parameters, {[*known]}, got {[*given]}")
        names = known.keys() | weights.state_dict().keys()
        wrong = [name for name in given if name not in names]
        if wrong:
            raise KeyError(f"{who}: the model has no parameter {wrong[0]!r}, only {[*known]}")
        values: list[Any] = [given.get(name, arrays[k]) for name, k in known.items()]
    else:
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise TypeError(
                f"{who}: expected a list or a dict of arrays, got {type(given).__name__}"
            )
        values = [*given]
    if len(values) != len(parameters):
        raise ValueError(
            f"{who}: expected an array for each of the {len(parameters)} parameters, got "
            f"{len(values)}"
        )
    found: Point = []
    for p, value in zip(parameters, values, strict=True):
        array = np.asarray(value.numpy() if isinstance(value, Tensor) else value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"{who}: expected numbers, got {array.dtype}")
        if array.ndim and array.shape != p.shape:
            raise ValueError(
                f"{who}: expected {tuple(p.shape)} for {p.name or 'a parameter'}, got {array.shape}"
            )
        found.append(np.broadcast_to(array.astype(np.result_type(p.dtype, np.float32)), p.shape))
    return found


def random_directions(weights: Weights, count: int = 2, seed: int = 0) -> list[Point]:
    """Random directions, filter by filter as long as the parameters are.

    Every direction is drawn from a normal distribution; then each of its filters, the rows of a
    weight (out, in) or a vector as a whole, is given the norm of the same filter of the parameter.
    So 1 along a direction means a change as large as the weights themselves, whatever their scale,
    and surfaces of two networks can be compared. ``seed`` decides them; the random generator is
    left alone. Source: Li, Xu, Taylor, Studer, Goldstein 2018, section 4.
    """
    check_size("random_directions", count=count)
    random = np.random.default_rng(seed)
    return [
        [_like(random, p.numpy()) for p in parameters_of("random_directions", weights)]
        for _ in range(count)
    ]


def _like(random: np.random.Generator, values: np.ndarray) -> np.ndarray:
    axes = tuple(range(min(values.ndim - 1, 1), values.ndim))  # a vector is one filter
    drawn = random.standard_normal(values.shape)
    size = np.sqrt(np.sum(drawn**2, axis=axes, keepdims=True)) if axes else np.abs(drawn)
    wanted = np.sqrt(np.sum(np.square(values, dtype=np.float64), axis=axes, keepdims=True))
    return drawn / np.where(size > 0, size, 1) * wanted


def path_directions(weights: Weights, path: Sequence[Any], count: int = 2) -> list[Point]:
    """The principal directions of a path: of length 1, at right angles, most of it along the first.

    They are those of the differences between its points and the present parameters, where the path
    has ended. ``path`` is a sequence of points, each as ``model.state_dict()`` or an array for
    every parameter. Source: Li, Xu, Taylor, Studer, Goldstein 2018, section 7.
    """
    check_size("path_directions", count=count)
    start = [p.numpy() for p in parameters_of("path_directions", weights)]
    points = [as_point("path_directions", weights, point, start) for point in path]
    rows = np.array([_flat([a - b for a, b in zip(p, start, strict=True)]) for p in points])
    if not np.isfinite(rows).all():
        raise ValueError("path_directions: a point of the path holds inf or nan")
    # With k points and n parameters, k far below n: eigenvectors of (k, k), not of (n, n).
    values, vectors = np.linalg.eigh(rows @ rows.T) if len(rows) else (np.zeros(0), np.zeros(0))
    if np.sum(values > 1e-12 * values.max(initial=0.0)) < count:
        raise ValueError(
            f"path_directions: the path has fewer than {count} directions; give more of its points"
        )
    found = [vectors[:, -1 - k] @ rows for k in range(count)]
    return [_parted(each / np.linalg.norm(each), start) for each in found]


def positions(
    path: Sequence[Point], start: Point, axes: Sequence[Point]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each point the coordinates of the nearest one on the plane, and how far that is; nan for
    points that hold inf or nan.
    """
    basis = np.array([_flat(d) for d in axes]).T
    rows = [_flat([a - b for a, b in zip(p, start, strict=True)]) for p in path]
    rows = np.reshape(np.array(rows), (len(rows), len(basis)))
    finite = np.isfinite(rows).all(axis=1)
    rows[~finite] = np.nan
    at = np.full((len(rows), len(axes)), np.nan)
    at[finite] = np.linalg.lstsq(basis, rows[finite].T, rcond=None)[0].T
    return at, np.linalg.norm(rows - at @ basis.T, axis=1)


def _flat(point: Point) -> np.ndarray:
    return np.concatenate([np.ravel(a).astype(np.float64) for a in point])


def _parted(row: np.ndarray, like: Point) -> Point:
    ends = np.cumsum([a.size for a in like])[:-1]
    return [part.reshape(a.shape) for part, a in zip(np.split(row, ends), like, strict=True)]
