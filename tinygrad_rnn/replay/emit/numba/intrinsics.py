"""What the generated source is written in: loads and stores by address, and the few functions that
neither Python nor Numba has. Imports Numba: for generated source only.

Loads and stores carry LLVM's ``alias.scope`` and ``noalias``: within a phase the source says which
places cannot overlap, so that inner loops become vector code without checks at run time.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from typing import Any

from tinygrad_rnn.backends.subnormal import FLUSH

ir: Any = importlib.import_module("llvmlite.ir")
extending: Any = importlib.import_module("numba.core.extending")
types: Any = importlib.import_module("numba.core.types")

BYTE, WORD = ir.IntType(8), ir.IntType(64)
KINDS: dict[str, tuple[Any, Any]] = {
    "f4": (types.float32, ir.FloatType()),
    "f8": (types.float64, ir.DoubleType()),
    "i4": (types.int32, ir.IntType(32)),
    "i8": (types.int64, WORD),
    "b1": (types.boolean, BYTE),
}

INT = KINDS["i4"][1]
X86 = platform.machine() in ("x86_64", "AMD64")
WIDE = '"prefer-vector-width"="512"'
"""Where there are 512-bit vectors LLVM avoids them by default; kernels of tanh gain from them."""


def literals(literal: Any) -> list[str]:
    return str(literal.literal_value).split()


def _mark(builder: Any, instruction: Any, phase: str, scope: str, others: list[str]) -> None:
    """Say that the instruction's place is ``scope``, and that it is none of ``others``."""
    module = builder.module
    unique = f"{builder.function.name}.{phase}"
    domain = module.add_metadata([ir.MetaDataString(module, unique)])

    def scopes(*names: str) -> Any:
        texts = [ir.MetaDataString(module, f"{unique}.{name}") for name in names]
        return module.add_metadata([module.add_metadata([text, domain]) for text in texts])

    instruction.set_metadata("alias.scope", scopes(scope))
    if others:
        instruction.set_metadata("noalias", scopes(*others))


def _element(builder: Any, kind: str, base: Any, index: Any) -> Any:
    pointer = builder.inttoptr(base, ir.PointerType(KINDS[kind][1]))
    return builder.gep(pointer, [index])


@extending.intrinsic(prefer_literal=True)
def load(typing: Any, how: Any, base: Any, index: Any) -> Any:
    """The element ``index`` behind an address. ``how``: dtype, phase, scope and what it is not."""
    kind, phase, scope, *others = literals(how)

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = builder.load(_element(builder, kind, values[1], values[2]))
        _mark(builder, value, phase, scope, others)
        return builder.icmp_unsigned("!=", value, BYTE(0)) if kind == "b1" else value

    return KINDS[kind][0](how, types.intp, types.intp), write


@extending.intrinsic(prefer_literal=True)
def store(typing: Any, how: Any, base: Any, index: Any, value: Any) -> Any:
    """Write the element ``index`` behind an address; ``how`` as in ``load``."""
    kind, phase, scope, *others = literals(how)

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = builder.zext(values[3], BYTE) if kind == "b1" else values[3]
        done = builder.store(value, _element(builder, kind, values[1], values[2]))
        _mark(builder, done, phase, scope, others)
        return context.get_dummy_value()

    return types.void(how, types.intp, types.intp, KINDS[kind][0]), write


def entry(builder: Any, kind: str, table: Any, position: int) -> Any:
    """A number of the table, each in 8 bytes; no store of a kernel changes it."""
    index = WORD(position * 8 // int(kind[1]))
    value = builder.load(_element(builder, kind, table, index))
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


@extending.intrinsic(prefer_literal=True)
def number(typing: Any, how: Any, table: Any, index: Any) -> Any:
    """The number of the dtype ``how`` at a place of the table of addresses, sizes and strides."""
    (kind,) = literals(how)
    position = index.literal_value

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return entry(builder, kind, values[1], position)

    return KINDS[kind][0](how, types.intp, index), write


@extending.intrinsic(prefer_literal=True)
def address(typing: Any, table: Any, index: Any, *indices: Any) -> Any:
    """The address of a run: its start, and for t and each leading index the bytes per unit."""
    position = index.literal_value

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start, _, moves = values
        total = entry(builder, "i8", start, position)
        for k in range(len(indices)):
            step = entry(builder, "i8", start, position + 1 + k)
            total = builder.add(total, builder.mul(builder.extract_value(moves, k), step))
        return total

    kinds = types.StarArgTuple.from_types([types.intp] * len(indices))
    return types.intp(types.intp, index, kinds), write


@extending.intrinsic
def noinline(typing: Any) -> Any:
    """Keep the function that it stands in a function of its own.

    What its loads and stores say of each other holds within one call only.
    """

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        attributes = builder.function.attributes
        attributes.add("noinline")
        set[str].add(attributes, WIDE)
        return context.get_dummy_value()

    return types.void(), write


@extending.intrinsic
def select(typing: Any, condition: Any, a: Any, b: Any) -> Any:
    """A where the condition holds, else b, without a branch."""
    if condition != types.boolean or a != b:
        return None

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.select(*values)

    return a(condition, a, b), write


def of_floats(arguments: int) -> Callable[[Callable[..., Any]], Any]:
    """A function of one float or of two of one type, written by ``write(builder, *floats)``."""

    def made(write: Callable[..., Any]) -> Any:
        def lower(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            return write(builder, *values)

        def of_one(typing: Any, x: Any) -> Any:
            return x(x), lower

        def of_two(typing: Any, x: Any, y: Any) -> Any:
            return x(x, y), lower

        return extending.intrinsic(of_one if arguments == 1 else of_two)

    return made


def _of_llvm(arguments: int, name: str, *flags: str) -> Any:
    @of_floats(arguments)
    def write(builder: Any, *values: Any) -> Any:
        kind = values[0].type
        shape = ir.FunctionType(kind, [kind] * arguments)
        function = builder.module.declare_intrinsic(f"llvm.{name}", [kind], shape)
        return builder.call(function, values, fastmath=flags)

    return write


floor, ceil, rint = (_of_llvm(1, name) for name in ("floor", "ceil", "rint"))
sqrt, fabs = _of_llvm(1, "sqrt"), _of_llvm(1, "fabs")
maximum, minimum = _of_llvm(2, "maximum"), _of_llvm(2, "minimum")
greatest, least = _of_llvm(2, "maximum", "nsz"), _of_llvm(2, "minimum", "nsz")


@of_floats(2)
def accumulate(builder: Any, total: Any, x: Any) -> Any:
    """The sum of two floats, which may be taken in another order with the others of a row."""
    return builder.fadd(total, x, flags=("contract", "reassoc", "nsz"))


@of_floats(2)
def fmod(builder: Any, x: Any, y: Any) -> Any:
    """The remainder with the sign of x, as C's fmod."""
    return builder.frem(x, y)


def _mxcsr(builder: Any, name: str, place: Any) -> None:
    """Store what says how this thread computes (MXCSR), or load it."""
    shape = ir.FunctionType(ir.VoidType(), [ir.PointerType(BYTE)])
    function = builder.module.declare_intrinsic(f"llvm.x86.sse.{name}", (), shape)
    builder.call(function, [builder.bitcast(place, ir.PointerType(BYTE))])


@extending.intrinsic
def flush(typing: Any) -> Any:
    """Count subnormal numbers as 0 from now on in this thread; the mode before. See subnormal.py.

    On other processors than x86 nothing is changed.
    """

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if not X86:
            return INT(0)
        place = builder.alloca(INT)
        _mxcsr(builder, "stmxcsr", place)
        before = builder.load(place)
        builder.store(builder.or_(before, INT(FLUSH)), place)
        _mxcsr(builder, "ldmxcsr", place)
        return before

    return types.int32(), write


@extending.intrinsic
def set_mode(typing: Any, mode: Any) -> Any:
    """Compute as before ``flush``."""

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        if X86:
            place = builder.alloca(INT)
            builder.store(values[0], place)
            _mxcsr(builder, "ldmxcsr", place)
        return context.get_dummy_value()

    return types.void(types.int32), write
