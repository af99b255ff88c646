"""What the generated source is written in: loads and stores by address, products by pointer, and
the few functions that neither Python nor Numba has. Imports Numba: for generated source only.

Loads and stores carry LLVM's ``alias.scope`` and ``noalias``: within a phase the source says which
places cannot overlap, so that inner loops become vector code without checks at run time.
"""

from __future__ import annotations

import importlib
import platform
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


WIDE = '"prefer-vector-width"="512"'
"""Where there are 512-bit vectors LLVM avoids them by default; kernels of tanh gain from them."""


def _text(literal: Any) -> list[str]:
    return str(literal.literal_value).split()


def _mark(builder: Any, instruction: Any, phase: str, scope: str, others: list[str]) -> None:
    """Say that the instruction's place is ``scope``, and that it is none of ``others``."""
    module = builder.module
    unique = f"{builder.function.name}.{phase}"
    domain = module.add_metadata([ir.MetaDataString(module, unique)])

    def scopes(names: list[str]) -> Any:
        return module.add_metadata(
            [
                module.add_metadata([ir.MetaDataString(module, f"{unique}.{name}"), domain])
                for name in names
            ]
        )

    instruction.set_metadata("alias.scope", scopes([scope]))
    if others:
        instruction.set_metadata("noalias", scopes(others))


def _place(builder: Any, kind: str, base: Any, index: Any) -> Any:
    pointer = builder.inttoptr(base, ir.PointerType(KINDS[kind][1]))
    return builder.gep(pointer, [index])


@extending.intrinsic(prefer_literal=True)
def load(typing: Any, how: Any, base: Any, index: Any) -> Any:
    """The element ``index`` behind an address. ``how``: dtype, phase, scope and what it is not."""
    kind, phase, scope, *others = _text(how)

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = builder.load(_place(builder, kind, values[1], values[2]))
        _mark(builder, value, phase, scope, others)
        return builder.icmp_unsigned("!=", value, BYTE(0)) if kind == "b1" else value

    return KINDS[kind][0](how, types.intp, types.intp), write


@extending.intrinsic(prefer_literal=True)
def store(typing: Any, how: Any, base: Any, index: Any, value: Any) -> Any:
    """Write the element ``index`` behind an address; ``how`` as in ``load``."""
    kind, phase, scope, *others = _text(how)

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = builder.zext(values[3], BYTE) if kind == "b1" else values[3]
        done = builder.store(value, _place(builder, kind, values[1], values[2]))
        _mark(builder, done, phase, scope, others)
        return context.get_dummy_value()

    return types.void(how, types.intp, types.intp, KINDS[kind][0]), write


def _entry(builder: Any, table: Any, place: int) -> Any:
    """An integer of the table, which no store of a kernel changes."""
    value = builder.load(_place(builder, "i8", table, WORD(place)))
    value.set_metadata("invariant.load", builder.module.add_metadata([]))
    return value


@extending.intrinsic(prefer_literal=True)
def number(typing: Any, table: Any, index: Any) -> Any:
    """The integer at a place of the table of addresses, sizes and strides."""
    position = index.literal_value

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return _entry(builder, values[0], position)

    return types.intp(types.intp, index), write


@extending.intrinsic(prefer_literal=True)
def constant(typing: Any, how: Any, table: Any, index: Any) -> Any:
    """The number of the dtype ``how`` at a place of the table."""
    (kind,) = _text(how)
    position = index.literal_value

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        value = builder.load(_place(builder, kind, values[1], _first(position, kind)))
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    return KINDS[kind][0](how, types.intp, index), write


def _first(position: int, kind: str) -> Any:
    """Where an entry of 8 bytes begins, counted in elements of the dtype."""
    return WORD(position * 8 // int(kind[1]))


@extending.intrinsic(prefer_literal=True)
def place(typing: Any, table: Any, index: Any, *indices: Any) -> Any:
    """The address of a run: its start, and for t and each leading index the bytes per unit."""
    position = index.literal_value

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        start, _, moves = values
        address = _entry(builder, start, position)
        for k in range(len(indices)):
            step = _entry(builder, start, position + 1 + k)
            move = builder.extract_value(moves, k)
            address = builder.add(address, builder.mul(move, step))
        return address

    kinds = types.StarArgTuple.from_types([types.intp] * len(indices))
    return types.intp(types.intp, index, kinds), write


@extending.intrinsic
def apart(typing: Any) -> Any:
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


@extending.intrinsic
def accumulate(typing: Any, total: Any, x: Any) -> Any:
    """The sum of two floats, which may be taken in another order with the others of a row."""

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.fadd(*values, flags=("contract", "reassoc", "nsz"))

    return x(x, x), write


def _of_llvm(name: str, arguments: int, flags: tuple[str, ...] = ()) -> Any:
    @extending.intrinsic
    def unary(typing: Any, x: Any) -> Any:
        def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind = values[0].type
            shape = ir.FunctionType(kind, [kind] * len(values))
            function = builder.module.declare_intrinsic(name, [kind], shape)
            return builder.call(function, values)

        return x(x), write

    @extending.intrinsic
    def binary(typing: Any, x: Any, y: Any) -> Any:
        def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind = values[0].type
            shape = ir.FunctionType(kind, [kind] * len(values))
            function = builder.module.declare_intrinsic(name, [kind], shape)
            return builder.call(function, values, fastmath=flags)

        return x(x, y), write

    return unary if arguments == 1 else binary


floor, ceil, rint = (_of_llvm(f"llvm.{name}", 1) for name in ("floor", "ceil", "rint"))
sqrt, fabs = _of_llvm("llvm.sqrt", 1), _of_llvm("llvm.fabs", 1)
maximum, minimum = _of_llvm("llvm.maximum", 2), _of_llvm("llvm.minimum", 2)
greatest, least = (_of_llvm(f"llvm.{name}", 2, ("nsz",)) for name in ("maximum", "minimum"))


INT = ir.IntType(32)
X86 = platform.machine() in ("x86_64", "AMD64")


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


@extending.intrinsic
def fmod(typing: Any, x: Any, y: Any) -> Any:
    """The remainder with the sign of x, as C's fmod."""

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.frem(*values)

    return x(x, y), write


@extending.intrinsic(prefer_literal=True)
def gemm(typing: Any, how: Any, table: Any, t: Any) -> Any:
    """One matrix product. ``how``: dtype and the bits of the library's integers.

    The table holds the functions ``gemm`` and ``compute`` (or 0), then what cblas takes:
    transpositions of the left and the right matrix, m, n, k, for each matrix address, bytes per
    time step and leading dimension, and the code under which ``compute`` takes its right matrix.
    Then ``gemv`` (or 0), for one row times a matrix, how the matrix lies for it, its sizes, and the
    distance of the row's elements.
    """
    kind, bits = _text(how)
    real, whole = KINDS[kind][1], ir.IntType(int(bits))

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, start, step = values

        def entry(place: int) -> Any:
            return _entry(builder, start, place)

        def pointer(place: int) -> Any:
            address = builder.add(entry(place), builder.mul(step, entry(place + 1)))
            return builder.inttoptr(address, ir.PointerType(real))

        def short(value: Any) -> Any:
            return builder.trunc(value, ir.IntType(32))

        def long(value: Any) -> Any:
            return value if bits == "64" else builder.trunc(value, whole)

        def call(place: int, arguments: list[Any]) -> None:
            shape = ir.FunctionType(ir.VoidType(), [x.type for x in arguments])
            builder.call(builder.inttoptr(entry(place), ir.PointerType(shape)), arguments)

        sizes = [long(entry(place)) for place in (4, 5, 6)]
        a, b, out = pointer(7), pointer(10), pointer(13)
        lda, ldb, ldc = (long(entry(place)) for place in (9, 12, 15))
        one, zero = real(1.0), real(0.0)
        order, left = ir.IntType(32)(101), short(entry(2))
        packed = builder.icmp_unsigned("!=", entry(1), WORD(0))
        one_row = builder.icmp_unsigned("!=", entry(17), WORD(0))
        with builder.if_else(packed) as (then, otherwise):
            with then:
                head = [order, left, short(entry(16)), *sizes]
                call(1, [*head, a, lda, b, ldb, zero, out, ldc])
            with otherwise, builder.if_else(one_row) as (row, matrix):
                with row:
                    rows, columns, distance = (long(entry(place)) for place in (19, 20, 21))
                    head = [order, short(entry(18)), rows, columns]
                    call(17, [*head, one, b, ldb, a, distance, zero, out, long(WORD(1))])
                with matrix:
                    head = [order, left, short(entry(3)), *sizes]
                    call(0, [*head, one, a, lda, b, ldb, zero, out, ldc])
        return context.get_dummy_value()

    return types.void(how, types.intp, types.intp), write
