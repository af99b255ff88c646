"""What one step of a loop costs a card: launches, operations of products, bytes."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any, NamedTuple

from tinygrad_rnn.replay.emit.cuda.source import cuda_kernel
from tinygrad_rnn.replay.program.loop import Call, Kernel, Loop, Product, Ref, read, written


class Work(NamedTuple):
    """What is done at each time step.

    An element that a kernel or a product reads counts once for it, however often it is repeated,
    and so does one that it writes; what two steps read counts for both. Nothing is taken to lie in
    a cache, a weight neither.
    """

    kernels: int
    products: int
    calls: int
    multiplications: int  # in the products; each goes with an addition
    read: int  # bytes
    written: int


def work_of(loop: Loop) -> Work:
    """The work of one step; of a call only that there is one."""
    kernels = [s for s in loop.steps if isinstance(s, Kernel) and cuda_kernel(s, loop.arrays).grid]
    products = [s for s in loop.steps if isinstance(s, Product) and prod(s.out.shape)]
    return Work(
        len(kernels),
        len(products),
        sum(isinstance(step, Call) for step in loop.steps),
        sum(prod(product.out.shape) * product.a.shape[1] for product in products),
        sum(moved_bytes(loop, read(step)) for step in (*kernels, *products)),
        sum(moved_bytes(loop, written(step)) for step in (*kernels, *products)),
    )


def moved_bytes(loop: Loop, refs: Iterable[Ref]) -> int:
    """The bytes of all places that are named, each place once."""
    places: dict[Any, int] = {}
    for ref in refs:
        axes = [(n, s) for n, s in zip(ref.shape, ref.strides, strict=True) if s and n > 1]
        count = prod(n for n, _ in axes) if prod(ref.shape) else 0
        places[ref.array, ref.time, ref.offset, *axes] = (
            count * loop.arrays[ref.array].dtype.itemsize
        )
    return sum(places.values())
