"""What a row of the table of operations is made of: its call, and how its inputs are drawn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

Domain = Callable[[np.random.Generator, tuple[int, ...], int], np.ndarray]
"""Values for the k-th argument. Floats are cast to the drawn dtype, indices and bools stay."""

FLOATS = "efd"
NUMBERS = "efdil"
ANY = "efdil?"


# Domains


def real(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> np.ndarray:
    return rng.normal(0, 1.5, shape)


def positive(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> np.ndarray:
    return rng.uniform(0.5, 2.5, shape)


def nonzero(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> np.ndarray:
    return rng.uniform(0.5, 1.5, shape) * rng.choice([-1, 1], shape)


def apart(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> np.ndarray:
    """All different, of different arguments too, and away from multiples of one half."""
    size = math.prod(shape)
    return ((rng.permutation(size) - size // 2) * 0.25 + 0.06 + 0.1 * k).reshape(shape)


def ties(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> np.ndarray:
    return rng.integers(-2, 3, shape) / 2


def special(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> np.ndarray:
    return rng.choice([math.nan, math.inf, -math.inf, 0.0, 1.5], shape)


def numerator(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> np.ndarray:
    """With ``divisor`` below it, never close to a whole quotient."""
    return rng.integers(-4, 5, shape) * 0.5 + 0.25 + rng.uniform(-0.02, 0.02, shape)


def divisor(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> np.ndarray:
    return rng.choice([0.5, 1.0, 2.0, -0.5, -1.0], shape)


def condition(rng: np.random.Generator, shape: tuple[int, ...], k: int) -> np.ndarray:
    return np.asarray(rng.random(shape) < 0.5)


def below(size: int) -> Domain:
    """Indices into ``size`` entries, repetitions among them."""
    return lambda rng, shape, k: rng.integers(0, size, shape)


def around(size: int) -> Domain:
    """Indices into ``size`` entries, counted from either end."""
    return lambda rng, shape, k: rng.integers(-size, size, shape)


def unique(size: int) -> Domain:
    """Different indices into ``size`` entries."""
    return lambda rng, shape, k: rng.permutation(size)[: math.prod(shape)].reshape(shape)


# Examples and how they are drawn


@dataclass(frozen=True)
class Example:
    """The shapes and domains of the arrays of one call, and its parameters."""

    shapes: tuple[tuple[int, ...], ...]
    domains: tuple[Domain, ...]
    params: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Draw:
    """A typical example, always tried, and the strategy for all others."""

    typical: Example
    strategy: st.SearchStrategy[Example]


def elementwise(*domains: Domain) -> Draw:
    """Shapes that broadcast against each other, 0-d and 0-size among them."""
    shapes = hnp.mutually_broadcastable_shapes(
        num_shapes=len(domains), min_side=0, max_side=3, max_dims=3
    )
    typical = ((2, 1, 3), (4, 1), (2, 4, 3))[: len(domains)]
    return Draw(
        Example(typical, domains),
        shapes.map(lambda drawn: Example(tuple(drawn.input_shapes), domains)),
    )


def either_sign(draw: Any, axis: int, ndim: int) -> int:
    return axis - ndim if draw(st.booleans()) else axis


def any_shape(min_dims: int = 0, min_side: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    return hnp.array_shapes(min_dims=min_dims, max_dims=3, min_side=min_side, max_side=3)


def any_axes(draw: Any, ndim: int) -> Any:
    """None, one axis, or several, counted from either end."""
    if not ndim or draw(st.booleans()):
        return None
    if draw(st.booleans()):
        return draw(st.integers(-ndim, ndim - 1))
    chosen = draw(st.lists(st.integers(0, ndim - 1), unique=True))
    return tuple(either_sign(draw, k, ndim) for k in chosen)


def reduction(domain: Domain, min_side: int = 0) -> Draw:
    """Any shape, any axes, keepdims or not."""

    @st.composite
    def examples(draw: Any) -> Example:
        shape = draw(any_shape(min_side=min_side))
        params = {"axis": any_axes(draw, len(shape)), "keepdims": draw(st.booleans())}
        return Example((shape,), (domain,), params)

    typical = Example(((2, 3, 2),), (domain,), {"axis": (-1, 0), "keepdims": False})
    return Draw(typical, examples())


def along(domain: Domain, min_side: int = 0) -> Draw:
    """Any shape of at least one axis, and one axis."""

    @st.composite
    def examples(draw: Any) -> Example:
        shape = draw(any_shape(1, min_side))
        return Example(
            (shape,), (domain,), {"axis": draw(st.integers(-len(shape), len(shape) - 1))}
        )

    return Draw(Example(((2, 3, 2),), (domain,), {"axis": -2}), examples())


def listed(*examples: Example) -> Draw:
    """These and no others, the first one typical."""
    return Draw(examples[0], st.sampled_from(examples))


def one(shape: tuple[int, ...], /, **params: Any) -> Example:
    """One real array."""
    return Example((shape,), (real,), params)


def drawn(typical: Example) -> Callable[[Callable[[Any], Example]], Draw]:
    """A function that draws an example, as a :class:`Draw`."""
    return lambda function: Draw(typical, st.composite(function)())


# A row of the table


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes
    ----------
    name : what the test is called; by default the primitive that it covers.
    covers : the names of the primitives that the call, or its gradient, reaches.
    call, reference : ``call(*arrays, **params)`` and what it gives in NumPy.
    draw : the inputs.
    dtypes : NumPy's codes of the dtypes for inputs that are not indices.
    order : how many times it can be differentiated: 2 stands for any number.
    of_floats : whether integers and bools count as float32.
    reads_host : whether it checks indices, which a GPU must wait for, or moves between devices.
    """

    name: str
    covers: tuple[str, ...]
    call: Callable[..., Any]
    reference: Callable[..., Any]
    draw: Draw
    dtypes: str = FLOATS
    order: int = 2
    of_floats: bool = False
    reads_host: bool = False

    def __str__(self) -> str:
        return self.name.replace(" ", "-")


def row(
    name: str, call: Any, reference: Any, draw: Draw, dtypes: str = FLOATS, **rest: Any
) -> Case:
    """A row that covers the primitive of its first word, unless it says otherwise."""
    covers = rest.pop("covers", (name.replace(",", "").split()[0],))
    return Case(name, tuple(covers), call, reference, draw, dtypes, **rest)
