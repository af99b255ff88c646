"""The strict backend: NumPy arrays that behave as CuPy's do where it hurts.

What runs here runs on a GPU as far as Python can tell without one. A strict array never becomes a
NumPy array by itself, mixes with nothing but Python numbers, is never a scalar, wraps an integer
array index that is out of range, and leaves an assignment with repeated indices undefined (the
first one wins, where NumPy lets the last one win). Values reach the host only through
``to_host``, which is counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import EllipsisType
from typing import Any

import numpy as np

from tinygrad_rnn import backends


def _operand(value: Any, who: str) -> Any:
    """The NumPy value of an operand; TypeError for what CuPy or this project refuses."""
    if isinstance(value, StrictArray):
        return value._values
    if type(value) in (bool, int, float):
        return value
    raise TypeError(f"{who}: a strict array does not mix with {type(value).__name__}")


def _static(value: Any, who: str) -> Any:
    """An argument that is no array: an axis, a shape, a dtype."""
    for item in value if isinstance(value, list | tuple) else (value,):
        if isinstance(item, StrictArray | np.ndarray | np.generic):
            raise TypeError(f"{who}: expected a plain number or tuple, got {type(item).__name__}")
    return value


def _result(values: Any, *operands: Any) -> Any:
    """What came out: always an array, and the operand itself where NumPy returned its memory."""
    if isinstance(values, tuple | list):
        return type(values)(_result(v, *operands) for v in values)
    for operand in operands:
        if isinstance(operand, StrictArray) and operand._values is values:
            return operand
    values = np.asarray(values)
    if values.base is None:
        STRICT.arrays_made += 1
        STRICT.bytes_made += values.nbytes
    return StrictArray(values)


def _refuse(what: str) -> Callable[..., Any]:
    def refused(self: StrictArray, *args: Any, **options: Any) -> Any:
        raise TypeError(f"{what} would read a strict array on the host; use Backend.to_host")

    return refused


def _leaves_it_to(other: Any) -> bool:
    """Whether the other operand's class has operators of its own, as Tensor has."""
    return hasattr(type(other), "__array_ufunc__") and not isinstance(
        other, StrictArray | np.ndarray | np.generic
    )


def _binary(function: Any, swapped: bool = False) -> Callable[..., Any]:
    def operator(self: StrictArray, other: Any) -> Any:
        if _leaves_it_to(other):
            return NotImplemented
        a, b = _operand(self, function.__name__), _operand(other, function.__name__)
        return _result(function(b, a) if swapped else function(a, b))

    return operator


def _in_place(function: Any) -> Callable[..., Any]:
    def operator(self: StrictArray, other: Any) -> Any:
        if _leaves_it_to(other):
            return NotImplemented
        own = _operand(self, function.__name__)
        function(own, _operand(other, function.__name__), out=own)
        return self

    return operator


def _unary(function: Any) -> Callable[..., Any]:
    return lambda self: _result(function(_operand(self, function.__name__)))


def _method(name: str) -> Callable[..., Any]:
    """The array method that is the namespace function with the array first."""
    return lambda self, *args, **options: getattr(XP, name)(self, *args, **options)


class StrictArray:
    """One array on the device ``"strict"``."""

    __slots__ = ("__weakref__", "_values")
    __array_ufunc__ = None
    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    # What is known without reading a value

    shape = property(lambda self: self._values.shape)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    dtype = property(lambda self: self._values.dtype)
    nbytes = property(lambda self: self._values.nbytes)
    itemsize = property(lambda self: self._values.itemsize)
    strides = property(lambda self: self._values.strides)
    flags = property(lambda self: self._values.flags)
    T = property(lambda self: _result(self._values.T))

    @property
    def base(self) -> StrictArray | None:
        """The array whose memory this one looks into."""
        return None if self._values.base is None else StrictArray(np.asarray(self._values.base))

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<strict {self.dtype} {self.shape}>"

    # What would wait for the device without saying so

    __array__ = _refuse("a NumPy conversion")
    __array_function__ = _refuse("a NumPy function")
    __bool__ = _refuse("bool()")
    __int__ = _refuse("int()")
    __float__ = _refuse("float()")
    __complex__ = _refuse("complex()")
    __index__ = _refuse("use as an index")
    __iter__ = _refuse("iteration")
    __contains__ = _refuse("`in`")
    item = _refuse("item()")
    tolist = _refuse("tolist()")
    tobytes = _refuse("tobytes()")
    get = _refuse("get()")

    # Copies and shapes

    def astype(
        self, dtype: Any, order: str = "K", casting: str | None = None, copy: bool = True
    ) -> StrictArray:
        values = self._values.astype(dtype, order, casting or "unsafe", copy=copy)
        return _result(values, self)

    def copy(self, order: str = "C") -> StrictArray:
        return _result(self._values.copy(order))

    def fill(self, value: float) -> None:
        self._values.fill(_operand(value, "fill"))

    def reshape(self, *shape: Any, order: str = "C") -> StrictArray:
        return _result(self._values.reshape(*_static(shape, "reshape"), order=order), self)

    def transpose(self, *axes: Any) -> StrictArray:
        return _result(self._values.transpose(*_static(axes, "transpose")))

    def flatten(self, order: str = "C") -> StrictArray:
        return _result(self._values.flatten(order))

    # Indexing

    def _index(self, index: Any) -> tuple[Any, ...]:
        """The index for NumPy, with integer arrays wrapped into range."""
        items = index if isinstance(index, tuple) else (index,)
        used = sum(
            item.ndim if isinstance(item, StrictArray) and item.dtype.kind == "b" else 1
            for item in items
            if item is not None and not isinstance(item, EllipsisType | bool)
        )
        axis = 0
        found: list[Any] = []
        for item in items:
            if item is None or isinstance(item, bool):
                found.append(item)
            elif isinstance(item, EllipsisType):
                found.append(item)
                axis += self.ndim - used
            elif isinstance(item, StrictArray) and item.dtype.kind == "b":
                found.append(item._values)
                axis += item.ndim
            elif isinstance(item, StrictArray):
                size = self.shape[axis] if axis < self.ndim else 0
                wrap = item.dtype.kind in "iu" and size > 0
                found.append(item._values.astype(np.int64) % size if wrap else item._values)
                axis += 1
            elif type(item) in (int, slice):
                found.append(item)
                axis += 1
            else:
                raise IndexError(f"a strict array is not indexed by {type(item).__name__}")
        return tuple(found)

    def __getitem__(self, index: Any) -> StrictArray:
        found = self._index(index)
        if not any(isinstance(item, EllipsisType) for item in found):
            found = (*found, ...)  # an element is a 0-d view, not a scalar
        return _result(self._values[found], self)

    def __setitem__(self, index: Any, value: Any) -> None:
        found = self._index(index)
        values = _operand(value, "assignment")
        if any(isinstance(item, np.ndarray) and item.dtype.kind in "iu" for item in found):
            places = np.arange(self.size).reshape(self.shape)[found]
            spread = np.broadcast_to(np.asarray(values), places.shape)
            backwards = np.s_[::-1]
            self._values.flat[places.ravel()[backwards]] = spread.ravel()[backwards]
        else:
            self._values[found] = values


for _name in (
    *("sum", "mean", "prod", "max", "min", "any", "all", "argmax", "argmin", "cumsum", "argsort"),
    *("clip", "ravel", "squeeze", "swapaxes", "take", "dot", "var", "std"),
):
    setattr(StrictArray, _name, _method(_name))

for _name, _ufunc in {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "truediv": np.true_divide,
    "floordiv": np.floor_divide,
    "mod": np.remainder,
    "pow": np.power,
    "matmul": np.matmul,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}.items():
    setattr(StrictArray, f"__{_name}__", _binary(_ufunc))
    setattr(StrictArray, f"__r{_name}__", _binary(_ufunc, swapped=True))
    if _name != "matmul":
        setattr(StrictArray, f"__i{_name}__", _in_place(_ufunc))

for _name, _ufunc in {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}.items():
    setattr(StrictArray, f"__{_name}__", _binary(_ufunc))

for _name, _ufunc in {
    "neg": np.negative,
    "pos": np.positive,
    "abs": np.absolute,
    "invert": np.invert,
}.items():
    setattr(StrictArray, f"__{_name}__", _unary(_ufunc))


# The namespace: what CuPy 14 has, with the keywords that it takes

_UFUNCS = """
    abs absolute add arctan arctan2 bitwise_and bitwise_or bitwise_xor cbrt ceil copysign cos cosh
    deg2rad divide equal exp exp2 expm1 fabs floor floor_divide fmax fmin fmod greater
    greater_equal hypot invert isfinite isinf isnan ldexp less less_equal log log10 log1p log2
    logaddexp logaddexp2 logical_and logical_not logical_or logical_xor maximum minimum multiply
    negative nextafter not_equal power reciprocal remainder rint sign signbit sin sinh sqrt square
    subtract tan tanh true_divide trunc
"""

# x, y and condition are arrays (or Python numbers, after the first), xs a sequence of arrays, out
# an array to write to. Every other argument is a plain value.
_SIGNATURES = """
    sum(x, axis, dtype, out, keepdims)
    mean(x, axis, dtype, out, keepdims)
    prod(x, axis, dtype, out, keepdims)
    max(x, axis, out, keepdims)
    min(x, axis, out, keepdims)
    amax(x, axis, out, keepdims)
    amin(x, axis, out, keepdims)
    any(x, axis, out, keepdims)
    all(x, axis, out, keepdims)
    var(x, axis, dtype, out, ddof, keepdims)
    std(x, axis, dtype, out, ddof, keepdims)
    frexp(x)
    argmax(x, axis, out, keepdims)
    argmin(x, axis, out, keepdims)
    cumsum(x, axis, dtype, out)
    cumprod(x, axis, dtype, out)
    argsort(x, axis, kind)
    sort(x, axis, kind)
    searchsorted(x, y, side)
    flatnonzero(x)
    diff(x, n, axis)
    clip(x, y, condition, out)
    where(condition, x, y)
    reshape(x, shape, order)
    ravel(x, order)
    transpose(x, axes)
    swapaxes(x, axis1, axis2)
    moveaxis(x, source, destination)
    flip(x, axis)
    roll(x, shift, axis)
    expand_dims(x, axis)
    squeeze(x, axis)
    broadcast_to(x, shape)
    repeat(x, repeats, axis)
    tile(x, reps)
    pad(x, pad_width, mode, constant_values)
    concatenate(xs, axis, out, dtype, casting)
    stack(xs, axis, out, dtype, casting)
    split(x, parts, axis)
    take(x, y, axis, out)
    matmul(x, y, out, dtype)
    dot(x, y, out)
    outer(x, y, out)
    tensordot(x, y, axes)
    triu(x, k)
    tril(x, k)
    diagonal(x, offset, axis1, axis2)
    zeros_like(x, dtype)
    ones_like(x, dtype)
    empty_like(x, dtype)
    full_like(x, fill_value, dtype)
    zeros(shape, dtype)
    ones(shape, dtype)
    empty(shape, dtype)
    full(shape, fill_value, dtype)
    arange(start, stop, step, dtype)
    linspace(start, stop, num)
    eye(N, M, k, dtype)
    ascontiguousarray(x, dtype)
    copyto(x, y)
"""


def _strict(name: str, parameters: tuple[str, ...]) -> Callable[..., Any]:
    """A function of the namespace, refusing whatever the signature does not name."""
    function = getattr(np, name)

    def convert(parameter: str, value: Any, first: bool) -> Any:
        if parameter == "xs":
            if not isinstance(value, list | tuple):
                raise TypeError(f"{name}: expected a sequence of arrays")
            return [convert("x", item, True) for item in value]
        if parameter == "out" and value is None:
            return None
        if parameter in ("x", "y", "condition", "out"):
            if (first or parameter == "out") and not isinstance(value, StrictArray):
                raise TypeError(f"{name}: expected a strict array, got {type(value).__name__}")
            return _operand(value, name)
        return _static(value, name)

    @functools.wraps(function)
    def called(*args: Any, **options: Any) -> Any:
        unknown = set(options) - set(parameters)
        if unknown or len(args) > len(parameters):
            raise TypeError(f"{name}: CuPy takes no {', '.join(unknown) or 'further argument'}")
        plain = [convert(p, v, k == 0) for k, (p, v) in enumerate(zip(parameters, args))]  # noqa: B905
        named = {p: convert(p, v, False) for p, v in options.items()}
        return _result(function(*plain, **named), *args, *options.values())

    return called


def _ufunc_call(name: str) -> Callable[..., Any]:
    function = getattr(np, name)

    @functools.wraps(function)
    def called(*args: Any, out: Any = None, dtype: Any = None, casting: str = "same_kind") -> Any:
        plain = [_operand(value, name) for value in args]
        if not any(isinstance(value, StrictArray) for value in args):
            raise TypeError(f"{name}: expected a strict array")
        if out is not None and not isinstance(out, StrictArray):
            raise TypeError(f"{name}: out must be a strict array, got {type(out).__name__}")
        into = {} if out is None else {"out": out._values}
        return _result(function(*plain, dtype=dtype, casting=casting, **into), out)

    return called


class Namespace:
    """The functions of CuPy; asking for another one says so."""

    float16, float32, float64 = np.float16, np.float32, np.float64
    int8, int32, int64, bool_ = np.int8, np.int32, np.int64, np.bool_
    ndarray = StrictArray
    nan, inf, pi, e, newaxis = np.nan, np.inf, np.pi, np.e, None

    def __init__(self) -> None:
        for name in _UFUNCS.split():
            setattr(self, name, _ufunc_call(name))
        for line in _SIGNATURES.strip().splitlines():
            name, _, rest = line.strip().partition("(")
            parameters = tuple(p.strip() for p in rest.rstrip(")").split(","))
            setattr(self, name, _strict(name, parameters))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the strict namespace has no {name!r}; if CuPy has it, add it there")

    def asarray(self, value: Any, dtype: Any = None) -> StrictArray:
        """Python numbers and lists of them; NumPy arrays come by ``from_host`` only."""
        if isinstance(value, StrictArray):
            return value if dtype in (None, value.dtype) else value.astype(dtype)
        if isinstance(value, np.ndarray | np.generic):
            raise TypeError(f"asarray: a {type(value).__name__} must come through from_host")
        return _result(np.array(value, dtype=dtype))

    def array(self, value: Any, dtype: Any = None) -> StrictArray:
        return self.asarray(value, dtype).copy()

    def einsum(self, equation: str, *operands: Any) -> StrictArray:
        return _result(np.einsum(equation, *(_operand(x, "einsum") for x in operands)))


class StrictBackend(backends.Backend):
    """Counts what a test may want to know: reads by the host, waits for a copy that was under way,
    arrays made and their bytes.
    """

    name = "strict"
    array_type = StrictArray
    native_half = True
    checks_indices = False

    def __init__(self) -> None:
        self.host_reads = 0
        self.waits = 0
        self.arrays_made = 0
        self.bytes_made = 0

    @property
    def xp(self) -> Any:
        return XP

    def devices(self) -> list[str]:
        return ["strict"]

    def device_of(self, array: StrictArray) -> str:
        return "strict"

    def from_host(self, array: np.ndarray, device: str) -> StrictArray:
        if device != "strict":
            raise backends.DeviceError(f"device {device!r} does not exist; there is 'strict'")
        return StrictArray(np.array(array))

    def owner(self, array: StrictArray) -> Any:
        return backends.backend_for("cpu").owner(array._values)

    def to_host(self, array: StrictArray) -> np.ndarray:
        self.host_reads += 1
        return array._values.copy()

    def fetch(self, array: StrictArray) -> Callable[[], np.ndarray]:
        """A copy that is under way: nothing is read, but somebody may wait for it later."""
        values = array._values.copy()

        def wait() -> np.ndarray:
            self.waits += 1
            return values

        return wait

    def scatter_add(self, target: StrictArray, index: Any, values: StrictArray) -> None:
        np.add.at(target._values, target._index(index), _operand(values, "scatter_add"))

    def strided(
        self,
        array: StrictArray,
        shape: tuple[int, ...],
        strides: tuple[int, ...],
        offset: int = 0,
    ) -> StrictArray:
        values = array._values
        steps = [values.itemsize * stride for stride in _static(strides, "strided")]
        start = values.itemsize * offset
        return StrictArray(
            np.ndarray(_static(shape, "strided"), values.dtype, values, start, steps)
        )

    @contextmanager
    def counting(self) -> Iterator[Count]:
        """Count what happens within the block."""
        count = Count()
        before = self.host_reads, self.arrays_made, self.bytes_made, self.waits
        yield count
        count.host_reads = self.host_reads - before[0]
        count.arrays_made = self.arrays_made - before[1]
        count.bytes_made = self.bytes_made - before[2]
        count.waits = self.waits - before[3]


class Count:
    """The counters of :meth:`StrictBackend.counting`, filled in at the end of its block."""

    host_reads = 0
    waits = 0
    arrays_made = 0
    bytes_made = 0


STRICT = StrictBackend()
XP = Namespace()
