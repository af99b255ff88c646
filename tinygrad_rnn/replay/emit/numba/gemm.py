"""A matrix product within generated source: a call of C's BLAS by address. Imports Numba."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.replay.emit.numba.intrinsics import (
    KINDS,
    WORD,
    entry,
    extending,
    ir,
    literals,
    types,
)


@extending.intrinsic(prefer_literal=True)
def gemm(typing: Any, how: Any, table: Any, t: Any) -> Any:
    """One matrix product. ``how``: dtype and the bits of the library's integers.

    The table holds the functions ``gemm`` and ``compute`` (or 0), then what cblas takes:
    transpositions of the left and the right matrix, m, n, k, for each matrix address, bytes per
    time step and leading dimension, and the code under which ``compute`` takes its right matrix.
    Then ``gemv`` (or 0), for one row times a matrix, how the matrix lies for it, its sizes, and the
    distance of the row's elements.
    """
    kind, bits = literals(how)
    real, whole = KINDS[kind][1], ir.IntType(int(bits))

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, start, step = values

        def at(position: int) -> Any:
            return entry(builder, "i8", start, position)

        def flag(position: int) -> Any:
            return builder.trunc(at(position), ir.IntType(32))

        def size(position: int) -> Any:
            return at(position) if bits == "64" else builder.trunc(at(position), whole)

        def pointer(position: int) -> Any:
            address = builder.add(at(position), builder.mul(step, at(position + 1)))
            return builder.inttoptr(address, ir.PointerType(real))

        def call(position: int, arguments: list[Any]) -> None:
            shape = ir.FunctionType(ir.VoidType(), [x.type for x in arguments])
            builder.call(builder.inttoptr(at(position), ir.PointerType(shape)), arguments)

        sizes = [size(position) for position in (4, 5, 6)]
        a, b, out = pointer(7), pointer(10), pointer(13)
        lda, ldb, ldc = size(9), size(12), size(15)
        one, zero = real(1.0), real(0.0)
        by_rows, left = ir.IntType(32)(101), flag(2)  # CblasRowMajor
        packed = builder.icmp_unsigned("!=", at(1), WORD(0))
        one_row = builder.icmp_unsigned("!=", at(17), WORD(0))
        with builder.if_else(packed) as (then, otherwise):
            with then:
                head = [by_rows, left, flag(16), *sizes]
                call(1, [*head, a, lda, b, ldb, zero, out, ldc])
            with otherwise, builder.if_else(one_row) as (row, matrix):
                with row:
                    rows, columns, distance = size(19), size(20), size(21)
                    head = [by_rows, flag(18), rows, columns]
                    call(17, [*head, one, b, ldb, a, distance, zero, out, whole(1)])
                with matrix:
                    head = [by_rows, left, flag(3), *sizes]
                    call(0, [*head, one, a, lda, b, ldb, zero, out, ldc])
        return context.get_dummy_value()

    return types.void(how, types.intp, types.intp), write
