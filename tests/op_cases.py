"""The table of operations: a row or several for every primitive, from which the tests are driven.

A row says how to call the operation, what NumPy gives for it, which inputs to draw, and how often
it can be differentiated. ``covers`` names the primitives that the call or its gradient reaches.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tinygrad_rnn import ops
from tinygrad_rnn.backends import device_of

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


def _either_sign(draw: Any, axis: int, ndim: int) -> int:
    return axis - ndim if draw(st.booleans()) else axis


def _shapes(min_dims: int = 0, min_side: int = 0) -> st.SearchStrategy[tuple[int, ...]]:
    return hnp.array_shapes(min_dims=min_dims, max_dims=3, min_side=min_side, max_side=3)


def _axes(draw: Any, ndim: int) -> Any:
    """None, one axis, or several, counted from either end."""
    if not ndim or draw(st.booleans()):
        return None
    if draw(st.booleans()):
        return draw(st.integers(-ndim, ndim - 1))
    chosen = draw(st.lists(st.integers(0, ndim - 1), unique=True))
    return tuple(_either_sign(draw, k, ndim) for k in chosen)


def reduction(domain: Domain, min_side: int = 0) -> Draw:
    """Any shape, any axes, keepdims or not."""

    @st.composite
    def examples(draw: Any) -> Example:
        shape = draw(_shapes(min_side=min_side))
        params = {"axis": _axes(draw, len(shape)), "keepdims": draw(st.booleans())}
        return Example((shape,), (domain,), params)

    typical = Example(((2, 3, 2),), (domain,), {"axis": (-1, 0), "keepdims": False})
    return Draw(typical, examples())


def along(domain: Domain, min_side: int = 0) -> Draw:
    """Any shape of at least one axis, and one axis."""

    @st.composite
    def examples(draw: Any) -> Example:
        shape = draw(_shapes(1, min_side))
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


@drawn(one((1, 3), shape=(2, 4, 3)))
def broadcasting(draw: Any) -> Example:
    shapes = draw(
        hnp.mutually_broadcastable_shapes(num_shapes=1, min_side=0, max_side=3, max_dims=3)
    )
    lead = draw(st.lists(st.integers(0, 2), max_size=1))
    (small,) = shapes.input_shapes
    full = tuple(draw(st.integers(0, 3)) if n == 1 else n for n in small)
    return one(small, shape=(*lead, *full))


@drawn(one((2, 4, 3), shape=(1, 3)))
def summing(draw: Any) -> Example:
    shape = draw(_shapes())
    lead = draw(st.integers(0, len(shape)))
    return one(shape, shape=tuple(draw(st.sampled_from((1, n))) for n in shape[lead:]))


@drawn(one((2, 6), shape=(3, -1, 2)))
def reshaping(draw: Any) -> Example:
    sizes = draw(st.lists(st.integers(0, 3), max_size=3))
    target = draw(st.permutations(sizes))
    if target and math.prod(sizes) and draw(st.booleans()):
        target[draw(st.integers(0, len(target) - 1))] = -1
    return one(tuple(sizes), shape=tuple(target))


@drawn(one((2, 3, 4), axes=(2, 0, -2)))
def permuting(draw: Any) -> Example:
    shape = draw(_shapes())
    order = draw(st.permutations(range(len(shape))))
    axes = tuple(_either_sign(draw, k, len(shape)) for k in order)
    return one(shape, axes=draw(st.sampled_from((None, axes))))


@drawn(one((2, 3, 4), a=0, b=-1))
def two_axes(draw: Any) -> Example:
    shape = draw(_shapes(1))
    axis = st.integers(-len(shape), len(shape) - 1)
    return one(shape, a=draw(axis), b=draw(axis))


@drawn(one((2, 3), axis=(0, -1)))
def some_axes(draw: Any) -> Example:
    shape = draw(_shapes())
    return one(shape, axis=_axes(draw, len(shape)))


@drawn(one((2, 3), axis=-2))
def new_axis(draw: Any) -> Example:
    shape = draw(_shapes())
    return one(shape, axis=draw(st.integers(-len(shape) - 1, len(shape))))


@drawn(one((1, 3, 1), axis=-1))
def unit_axes(draw: Any) -> Example:
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=2))
    units = [k for k, n in enumerate(shape) if n == 1]
    if not units or draw(st.booleans()):
        return one(shape, axis=None)
    return one(shape, axis=_either_sign(draw, draw(st.sampled_from(units)), len(shape)))


@drawn(Example(((2, 1, 3), (2, 2, 3), (2, 0, 3)), (real,) * 3, {"axis": -2}))
def joining(draw: Any) -> Example:
    shape = draw(_shapes(1))
    k = draw(st.integers(0, len(shape) - 1))
    sizes = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    shapes = tuple((*shape[:k], n, *shape[k + 1 :]) for n in sizes)
    return Example(shapes, (real,) * len(sizes), {"axis": _either_sign(draw, k, len(shape))})


@drawn(Example(((2, 3),) * 3, (real,) * 3, {"axis": -1}))
def piling(draw: Any) -> Example:
    shape = draw(_shapes())
    count = draw(st.integers(1, 3))
    axis = draw(st.integers(-len(shape) - 1, len(shape)))
    return Example((shape,) * count, (real,) * count, {"axis": axis})


@drawn(one((2, 6), sizes=(1, 0, 5), axis=-1))
def cutting(draw: Any) -> Example:
    shape = draw(_shapes(1))
    k = draw(st.integers(0, len(shape) - 1))
    if draw(st.booleans()):
        parts = draw(st.integers(1, 3))
        size, cut = parts * draw(st.integers(0, 2)), {"parts": parts}
    else:
        sizes = tuple(draw(st.lists(st.integers(0, 2), min_size=1, max_size=3)))
        size, cut = sum(sizes), {"sizes": sizes}
    shape = (*shape[:k], size, *shape[k + 1 :])
    return one(shape, **cut, axis=_either_sign(draw, k, len(shape)))


@drawn(one((2, 3), widths=((1, 0), (0, 2)), value=0.5))
def padding(draw: Any) -> Example:
    shape = draw(_shapes())
    pair = st.tuples(st.integers(0, 2), st.integers(0, 2))
    return one(shape, widths=tuple(draw(pair) for _ in shape), value=draw(st.sampled_from((0, 2))))


@drawn(one((2, 3), repeats=(2, 1, 2)))
def tiling(draw: Any) -> Example:
    counts = st.lists(st.integers(0, 2), max_size=3).map(tuple)
    return one(draw(_shapes()), repeats=draw(counts | st.integers(0, 2)))


@drawn(Example(((3, 1, 2, 3), (2, 3, 4)), (real, real)))
def multiplying(draw: Any) -> Example:
    shapes = draw(
        hnp.mutually_broadcastable_shapes(
            signature=np.matmul.signature, max_dims=2, min_side=0, max_side=3
        )
    )
    return Example(tuple(shapes.input_shapes), (real, real))


@drawn(Example(((2, 3, 4), (5, 4), (5,)), (real,) * 3))
def affine(draw: Any) -> Example:
    lead = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    inputs, outputs = draw(st.integers(0, 3)), draw(st.integers(0, 3))
    shapes = ((*lead, inputs), (outputs, inputs), (outputs,))[: draw(st.sampled_from((2, 3)))]
    return Example(shapes, (real,) * len(shapes))


def contraction(equation: str, *shapes: tuple[int, ...]) -> Example:
    return Example(shapes, (real,) * len(shapes), {"equation": equation})


@drawn(one((3, 4), index=(slice(None, None, -2), None, -1)))
def basic_index(draw: Any) -> Example:
    shape = draw(_shapes())
    return one(shape, index=draw(hnp.basic_indices(shape, allow_newaxis=True)))


def indexed(shape: tuple[int, ...], index: tuple[Any, ...], *arrays: Any) -> Example:
    """An index in which the letters "a", "b" stand for arrays given as (shape, domain)."""
    return Example(
        (shape, *(a[0] for a in arrays)), (real, *(a[1] for a in arrays)), {"index": index}
    )


def writing(shape: tuple[int, ...], index: Any, values: tuple[int, ...], *arrays: Any) -> Example:
    """The same with values to write at the index."""
    return Example(
        (shape, values, *(a[0] for a in arrays)),
        (real, real, *(a[1] for a in arrays)),
        {"index": index},
    )


def with_arrays(index: Any, arrays: Sequence[Any]) -> Any:
    """The index with its letters replaced."""
    if not isinstance(index, tuple):
        return index
    filled = tuple(arrays["ab".index(i)] if isinstance(i, str) else i for i in index)
    return filled[0] if len(filled) == 1 else filled


ALL = slice(None)
ARRAY_INDICES = listed(
    indexed((4, 3), ("a",), ((5,), around(4))),
    indexed((4, 3), (ALL, "a"), ((2, 2), around(3))),
    indexed((4, 3), ("a", "b"), ((2, 1), around(4)), ((3,), around(3))),
    indexed((4, 3, 2), ("a", ALL, "b"), ((3,), around(4)), ((3,), around(2))),
    indexed((4, 3, 2), ("a", slice(None, None, -1), 1), ((3,), around(4))),
    indexed((4, 3, 2), (..., "a"), ((3,), around(2))),
    indexed((4, 3), (None, "a", slice(1, None)), ((2,), around(4))),
    indexed((4, 3), ("a",), ((4,), condition)),
    indexed((4, 3), ("a",), ((4, 3), condition)),
    indexed((4, 3), (2, "a"), ((3,), condition)),
    indexed((4, 3), ("a",), ((0,), below(4))),
    indexed((4,), ("a",), ((), around(4))),
)
PLACES = listed(
    Example(((5, 2), (5,)), (real, below(3)), {"index": ("a",), "shape": (3, 2)}),
    Example(((2, 2), (2,)), (real, below(3)), {"index": (ALL, "a"), "shape": (2, 3)}),
    Example(((2,),), (real,), {"index": (slice(None, None, 2), 1), "shape": (3, 2)}),
    Example(((),), (real,), {"index": (-1, 1), "shape": (3, 2)}),
)
WRITES = listed(
    writing((4, 3), ("a",), (3,), ((2,), unique(4))),
    writing((4, 3), (slice(None, None, -2),), (2, 1)),
    writing((4, 3), (1, -1), ()),
    writing((4, 3), (..., "a"), (4, 2), ((2,), unique(3))),
    writing((4, 3), ("a",), (), ((4, 3), condition)),
    writing((4, 3), ("a", "b"), (3,), ((3,), unique(4)), ((3,), unique(3))),
    writing((0, 3), (ALL,), (3,)),
)
ADDITIONS = listed(
    writing((4, 3), ("a",), (6, 3), ((6,), below(4))),
    writing((4, 3), (ALL, "a"), (), ((2, 2), around(3))),
    writing((4, 3), (slice(1, 3),), (3,)),
    writing((4, 3), ("a",), (1,), ((4,), condition)),
)


@drawn(Example(((4, 3), (2, 5)), (real, below(4)), {"axis": 0}))
def taking(draw: Any) -> Example:
    shape = draw(_shapes(1))
    k = draw(st.integers(0, len(shape) - 1))
    shape = (*shape[:k], draw(st.integers(1, 4)), *shape[k + 1 :])
    indices = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    axis = _either_sign(draw, k, len(shape))
    return Example((shape, indices), (real, below(shape[k])), {"axis": axis})


@drawn(Example(((2, 3, 4), (2, 3)), (real, below(5)), {"rows": 5}))
def scattering(draw: Any) -> Example:
    indices = draw(hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=4))
    rest = draw(hnp.array_shapes(min_dims=0, max_dims=1, min_side=0, max_side=2))
    rows = draw(st.integers(1, 4))
    return Example(((*indices, *rest), indices), (real, below(rows)), {"rows": rows})


@drawn(Example(((2, 3, 4), (2, 3)), (real, below(4))))
def labelled(draw: Any) -> Example:
    lead = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3))
    classes = draw(st.integers(1, 4))
    return Example(((*lead, classes), lead), (real, below(classes)))


@drawn(Example(((2, 3),), (below(4),), {"classes": 4}))
def labels_alone(draw: Any) -> Example:
    classes = draw(st.integers(1, 4))
    return Example((draw(_shapes()),), (below(classes),), {"classes": classes})


# References that NumPy does not have under one name


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


def _erf(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.vectorize(math.erf, otypes=[float])(x)).astype(x.dtype)


def _round(x: np.ndarray) -> np.ndarray:
    return np.rint(x).astype(x.dtype)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _norm(x: np.ndarray, axis: Any, keepdims: bool) -> np.ndarray:
    return np.sqrt(np.sum(np.square(x), axis=axis, keepdims=keepdims))


def _logsumexp(x: np.ndarray, axis: int, keepdims: bool = False) -> np.ndarray:
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


def _sum_to(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    lead = x.ndim - len(shape)
    kept = tuple(k + lead for k, n in enumerate(shape) if n == 1)
    return np.sum(x, axis=tuple(range(lead)) + kept).reshape(shape)


def _split(x: np.ndarray, axis: int, parts: int = 1, sizes: Any = ()) -> list[np.ndarray]:
    return np.split(x, np.cumsum(sizes)[:-1] if sizes else parts, axis)


def _chunk(x: np.ndarray, chunks: int, axis: int) -> list[np.ndarray]:
    size = x.shape[axis]
    each = -(-size // chunks)
    return np.split(x, range(each, size, each) if size else chunks, axis)


def _scatter_add(values: np.ndarray, indices: np.ndarray, rows: int) -> np.ndarray:
    return _place(values, indices, index=("a",), shape=(rows, *values.shape[indices.ndim :]))


def _place(g: np.ndarray, *arrays: np.ndarray, index: Any, shape: Any) -> np.ndarray:
    return _add_at(np.zeros(shape, g.dtype), g, *arrays, index=index)


def _add_at(x: np.ndarray, values: np.ndarray, *arrays: np.ndarray, index: Any) -> np.ndarray:
    out = x.copy()
    np.add.at(out, with_arrays(index, arrays), values)
    return out


def _write(x: np.ndarray, values: np.ndarray, *arrays: np.ndarray, index: Any) -> np.ndarray:
    out = x.copy()
    out[with_arrays(index, arrays)] = values
    return out


def _cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    picked = np.take_along_axis(logits, labels[..., None], -1)[..., 0]
    return _logsumexp(logits, -1) - picked


def _hop(x: Any) -> Any:
    """To another device and back."""
    raw = getattr(x, "array", x)
    home = device_of(raw)
    return ops.to_device(ops.to_device(x, "cpu" if home == "strict" else "strict"), home)


# The table


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


CASES = [
    # Arithmetic
    row("add", ops.add, np.add, elementwise(real, real), NUMBERS),
    row("subtract", ops.subtract, np.subtract, elementwise(real, real), NUMBERS),
    row("multiply", ops.multiply, np.multiply, elementwise(real, real), NUMBERS),
    row("divide", ops.divide, np.divide, elementwise(real, nonzero), NUMBERS, of_floats=True),
    row("negative", ops.negative, np.negative, elementwise(real), NUMBERS),
    row("power", ops.power, np.power, elementwise(positive, real)),
    row("remainder", ops.remainder, np.remainder, elementwise(numerator, divisor), NUMBERS),
    row(
        "floor_divide", ops.floor_divide, np.floor_divide, elementwise(numerator, divisor), NUMBERS
    ),
    row("add a number", lambda x: ops.add(x, 2.5), lambda x: x + 2.5, elementwise(real)),
    row("subtract from a number", lambda x: ops.subtract(3, x), lambda x: 3 - x, elementwise(real)),
    row("multiply by a number", lambda x: ops.multiply(2, x), lambda x: 2 * x, elementwise(real)),
    row("divide a number", lambda x: ops.divide(3, x), lambda x: 3 / x, elementwise(nonzero)),
    row("power of three", lambda x: ops.power(x, 3), lambda x: x**3, elementwise(real)),
    row("power of one", lambda x: ops.power(x, 1), lambda x: x**1, elementwise(real)),
    row("power of -1.5", lambda x: ops.power(x, -1.5), lambda x: x**-1.5, elementwise(positive)),
    row("power of a number", lambda x: ops.power(2.5, x), lambda x: 2.5**x, elementwise(real)),
    row("remainder by a number", lambda x: x % 2.0, lambda x: x % 2.0, elementwise(numerator)),
    # Functions of one argument
    row("abs", ops.abs, np.abs, elementwise(apart), NUMBERS, covers=("abs", "sign")),
    row("exp", ops.exp, np.exp, elementwise(real), ANY, of_floats=True),
    row("expm1", ops.expm1, np.expm1, elementwise(real), ANY, of_floats=True),
    row("log", ops.log, np.log, elementwise(positive), ANY, of_floats=True),
    row("log1p", ops.log1p, np.log1p, elementwise(positive), ANY, of_floats=True),
    row("sqrt", ops.sqrt, np.sqrt, elementwise(positive), ANY, of_floats=True),
    row("square", ops.square, np.square, elementwise(real), NUMBERS),
    row("sin", ops.sin, np.sin, elementwise(real), ANY, of_floats=True),
    row("cos", ops.cos, np.cos, elementwise(real), ANY, of_floats=True),
    row("erf", ops.erf, _erf, elementwise(real), ANY, of_floats=True),
    row("tanh", ops.tanh, np.tanh, elementwise(real), ANY, of_floats=True),
    row("sigmoid", ops.sigmoid, _sigmoid, elementwise(real), ANY, of_floats=True),
    row("relu", ops.relu, lambda x: np.maximum(x, 0), elementwise(apart), NUMBERS),
    row(
        "softplus",
        ops.softplus,
        lambda x: np.log1p(np.exp(x)),
        elementwise(real),
        ANY,
        of_floats=True,
    ),
    row(
        "leaky_relu",
        ops.leaky_relu,
        lambda x: np.where(x > 0, x, 0.01 * x),
        elementwise(apart),
        ANY,
        of_floats=True,
    ),
    row(
        "leaky_relu steep",
        lambda x: ops.leaky_relu(x, 2.0),
        lambda x: np.where(x > 0, x, 2 * x),
        elementwise(apart),
    ),
    row(
        "gelu",
        ops.gelu,
        lambda x: 0.5 * x * (1 + _erf(x * 0.5**0.5)),
        elementwise(real),
        ANY,
        of_floats=True,
        covers=(),
    ),
    row(
        "gelu by tanh",
        lambda x: ops.gelu(x, "tanh"),
        _gelu_tanh,
        elementwise(real),
        ANY,
        of_floats=True,
        covers=(),
    ),
    row("identity", ops.identity, np.copy, elementwise(real), ANY),
    row("copy", ops.copy, np.copy, elementwise(real), ANY),
    row("sign", ops.sign, np.sign, elementwise(apart), NUMBERS),
    row("floor", ops.floor, np.floor, elementwise(apart), NUMBERS),
    row("ceil", ops.ceil, np.ceil, elementwise(apart), NUMBERS),
    row("round", ops.round, _round, elementwise(apart), NUMBERS),
    # Choice
    row("maximum", ops.maximum, np.maximum, elementwise(apart, apart), ANY),
    row("minimum", ops.minimum, np.minimum, elementwise(apart, apart), ANY),
    row("where", ops.where, np.where, elementwise(condition, real, real), ANY),
    row(
        "where or a number",
        lambda c, x: ops.where(c, x, 0.5),
        lambda c, x: np.where(c, x, 0.5),
        elementwise(condition, real),
    ),
    row("clip", lambda x: ops.clip(x, -1, 1), lambda x: x.clip(-1, 1), elementwise(apart), NUMBERS),
    row("clip below", lambda x: ops.clip(x, -1), lambda x: x.clip(-1), elementwise(apart), NUMBERS),
    row("clip above", lambda x: ops.clip(x, high=1), lambda x: x.clip(max=1), elementwise(apart)),
    # Comparison and logic
    row("equal", ops.equal, np.equal, elementwise(ties, ties), ANY, order=0),
    row("not_equal", ops.not_equal, np.not_equal, elementwise(ties, ties), ANY, order=0),
    row("less", ops.less, np.less, elementwise(ties, ties), ANY, order=0),
    row("less_equal", ops.less_equal, np.less_equal, elementwise(ties, ties), ANY, order=0),
    row("greater", ops.greater, np.greater, elementwise(ties, ties), ANY, order=0),
    row(
        "greater_equal", ops.greater_equal, np.greater_equal, elementwise(ties, ties), ANY, order=0
    ),
    row("isnan", ops.isnan, np.isnan, elementwise(special), order=0),
    row("isfinite", ops.isfinite, np.isfinite, elementwise(special), order=0),
    row("bitwise_and", ops.bitwise_and, np.bitwise_and, elementwise(real, real), "il?", order=0),
    row("bitwise_or", ops.bitwise_or, np.bitwise_or, elementwise(real, real), "il?", order=0),
    row("bitwise_xor", ops.bitwise_xor, np.bitwise_xor, elementwise(real, real), "il?", order=0),
    row("invert", ops.invert, np.invert, elementwise(real), "il?", order=0),
    # Dtypes and devices
    row("cast", lambda x: ops.cast(x, "d"), lambda x: x.astype("d"), elementwise(real), ANY),
    row("to_device", _hop, np.copy, elementwise(real), ANY, reads_host=True),
    # Reductions
    row("sum", ops.sum, np.sum, reduction(real), ANY),
    row("mean", ops.mean, np.mean, reduction(real), ANY, of_floats=True),
    row("max", ops.max, np.max, reduction(apart, 1), ANY),
    row("min", ops.min, np.min, reduction(apart, 1), ANY),
    row("prod", ops.prod, np.prod, reduction(nonzero), ANY, covers=("prod", "exponent", "ldexp")),
    row("norm", ops.norm, _norm, reduction(nonzero), ANY, of_floats=True),
    row(
        "var",
        ops.var,
        np.var,
        reduction(real),
        ANY,
        covers=("mean", "sum", "square"),
        of_floats=True,
    ),
    row("std", ops.std, np.std, reduction(apart), ANY, covers=("mean", "norm"), of_floats=True),
    row(
        "var, unbiased",
        lambda x: ops.var(x, 0, ddof=1),
        lambda x: np.var(x, 0, ddof=1),
        listed(one((3, 2)), one((2, 0)), one((4,))),
        covers=(),
    ),
    row("any", ops.any, np.any, reduction(ties), ANY, order=0),
    row("all", ops.all, np.all, reduction(ties), ANY, order=0),
    row("cumsum", ops.cumsum, np.cumsum, along(real), NUMBERS),
    row("argmax", ops.argmax, np.argmax, along(ties, 1), ANY, order=0),
    row("argmin", ops.argmin, np.argmin, along(ties, 1), ANY, order=0),
    row("argmax of all", ops.argmax, np.argmax, listed(one((2, 3)), one(())), ANY, order=0),
    row("logsumexp", ops.logsumexp, _logsumexp, along(real, 1), ANY, of_floats=True),
    row(
        "logsumexp, keepdims",
        lambda x: ops.logsumexp(x, 0, keepdims=True),
        lambda x: _logsumexp(x, 0, keepdims=True),
        listed(one((2, 3)), one((2, 0))),
        covers=("logsumexp",),
    ),
    row(
        "softmax",
        ops.softmax,
        lambda x, axis: np.exp(x - _logsumexp(x, axis, True)),
        along(real, 1),
        ANY,
        of_floats=True,
    ),
    row(
        "log_softmax",
        ops.log_softmax,
        lambda x, axis: x - _logsumexp(x, axis, True),
        along(real, 1),
        ANY,
        of_floats=True,
    ),
    # Shaping
    row("broadcast_to", ops.broadcast_to, np.broadcast_to, broadcasting, ANY),
    row("sum_to", ops.sum_to, _sum_to, summing, NUMBERS),
    row("reshape", ops.reshape, lambda x, shape: np.reshape(x, shape), reshaping, ANY),
    row("transpose", ops.transpose, np.transpose, permuting, ANY),
    row(
        "swapaxes",
        lambda x, a, b: ops.swapaxes(x, a, b),
        lambda x, a, b: np.swapaxes(x, a, b),
        two_axes,
        ANY,
        covers=("transpose",),
    ),
    row(
        "moveaxis",
        lambda x, a, b: ops.moveaxis(x, a, b),
        lambda x, a, b: np.moveaxis(x, a, b),
        two_axes,
        ANY,
        covers=("transpose",),
    ),
    row("flip", ops.flip, np.flip, some_axes, ANY),
    row("expand_dims", ops.expand_dims, np.expand_dims, new_axis, ANY, covers=("reshape",)),
    row("squeeze", ops.squeeze, np.squeeze, unit_axes, ANY, covers=("reshape",)),
    row(
        "concat",
        lambda *xs, axis: ops.concat(xs, axis),
        lambda *xs, axis: np.concatenate(xs, axis),
        joining,
        ANY,
        covers=("concat", "split"),
    ),
    row(
        "stack",
        lambda *xs, axis: ops.stack(xs, axis),
        lambda *xs, axis: np.stack(xs, axis),
        piling,
        ANY,
        covers=("stack", "unstack"),
    ),
    row("split", ops.split, _split, cutting, ANY, covers=("split", "concat", "zeros_like")),
    row(
        "chunk",
        ops.chunk,
        _chunk,
        listed(
            one((5, 2), chunks=3, axis=0),
            one((2, 7), chunks=5, axis=-1),
            one((3, 1), chunks=4, axis=0),
            one((2, 0), chunks=2, axis=1),
        ),
        ANY,
        covers=("split", "concat", "zeros_like"),
    ),
    row(
        "unstack",
        ops.unstack,
        lambda x, axis: list(np.moveaxis(x, axis, 0)),
        along(real, 1),
        ANY,
        covers=("unstack", "stack"),
    ),
    row(
        "pad",
        ops.pad,
        lambda x, widths, value: np.pad(x, widths, constant_values=value) if x.ndim else x,
        padding,
        NUMBERS,
        covers=("pad", "unpad"),
    ),
    row("tile", ops.tile, lambda x, repeats: np.tile(x, repeats), tiling, ANY, covers=("reshape",)),
    # Products
    row("matmul", ops.matmul, np.matmul, multiplying, NUMBERS),
    row(
        "linear",
        ops.linear,
        lambda x, w, b=0: x @ w.T + b,
        affine,
    ),
    row(
        "outer",
        ops.outer,
        np.outer,
        listed(Example(((3,), (2,)), (real, real)), Example(((0,), (2,)), (real, real))),
        covers=(),
    ),
    row(
        "einsum",
        lambda *xs, equation: ops.einsum(equation, *xs),
        lambda *xs, equation: np.einsum(equation, *xs),
        listed(
            contraction("tbi,oi->tbo", (2, 3, 4), (5, 4)),
            contraction("ij,jk,kl->il", (2, 3), (3, 2), (2, 4)),
            contraction("ij,ij", (2, 3), (2, 3)),
            contraction("bi, bj -> bij", (2, 3), (2, 2)),
            contraction("ij->ji", (2, 3)),
            contraction("ijk->j", (2, 3, 2)),
            contraction("i,j->", (2,), (3,)),
            contraction("ij,k->i", (2, 3), (4,)),
            contraction("ij,jk->ik", (2, 0), (0, 3)),
            contraction(",i->i", (), (3,)),
        ),
    ),
    # Indexing
    row(
        "getitem",
        lambda x, index: ops.getitem(x, index),
        lambda x, index: x[index],
        basic_index,
        ANY,
        covers=("getitem", "place"),
    ),
    row(
        "getitem, arrays",
        lambda x, *arrays, index: ops.getitem(x, with_arrays(index, arrays)),
        lambda x, *arrays, index: x[with_arrays(index, arrays)],
        ARRAY_INDICES,
        covers=("getitem", "place"),
        reads_host=True,
    ),
    row(
        "place",
        lambda g, *arrays, index, shape: ops.place(g, with_arrays(index, arrays), shape),
        _place,
        PLACES,
        covers=("place", "getitem"),
        reads_host=True,
    ),
    row(
        "take",
        ops.take,
        lambda x, i, axis: np.take(x, i, axis),
        taking,
        covers=("take", "scatter_add"),
        reads_host=True,
    ),
    row(
        "scatter_add",
        ops.scatter_add,
        _scatter_add,
        scattering,
        covers=("scatter_add", "take"),
        reads_host=True,
    ),
    row(
        "scatter",
        lambda x, v, *arrays, index: ops.scatter(x, with_arrays(index, arrays), v),
        _write,
        WRITES,
        covers=("at.set",),
        reads_host=True,
    ),
    row(
        "at add",
        lambda x, v, *arrays, index: ops.At(x)[with_arrays(index, arrays)].add(v),
        _add_at,
        ADDITIONS,
        covers=("place",),
        reads_host=True,
    ),
    # Losses
    row(
        "cross_entropy",
        ops.cross_entropy,
        _cross_entropy,
        labelled,
        covers=("cross_entropy", "cross_entropy_cotangent"),
        reads_host=True,
    ),
    row(
        "one_hot",
        ops.one_hot,
        lambda labels, classes: np.eye(classes, dtype=np.float32)[labels],
        labels_alone,
        order=0,
        reads_host=True,
    ),
]
