"""The compiled loop against NumPy: whole loops, places, every primitive, accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
from loop_cases import (
    BOOL,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    allocate,
    fused,
    layer_norm,
    line,
    lstm,
    phase,
    run_call,
    run_reference,
    softmax,
    spec,
    view,
    whole,
)
from threads import at_once

from tinygrad_rnn.backends import blas
from tinygrad_rnn.replay.emit.numba import cache as numba_cache
from tinygrad_rnn.replay.emit.numba import table as numba_table
from tinygrad_rnn.replay.emit.numba.emitter import compile_loop, reason
from tinygrad_rnn.replay.emit.numba.source import apart, module_source
from tinygrad_rnn.replay.program.loop import ArraySpec, Call, Kernel, Loop, Product, Ref, Step
from tinygrad_rnn.tape import Primitive

pytest.importorskip("numba")

TOLERANCE = {FLOAT: 2e-6, DOUBLE: 1e-14}
inf, nan = np.inf, np.nan

pytestmark = pytest.mark.usefixtures("own_cache")


def check(loop: Loop, T: int, tolerance: float = 2e-6, **options: Any) -> list[np.ndarray]:
    """The arrays behind the loop, compared with NumPy's."""
    arrays = allocate(loop, T)
    found = [array.copy() for array in arrays]
    compile_loop(loop, **options)(found, T)
    run_reference(loop, arrays, T)
    for array, have, want in zip(loop.arrays, found, arrays, strict=True):
        np.testing.assert_allclose(have, want, tolerance, tolerance, err_msg=array.name)
    return found


# Whole loops


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE], ids=str)
@pytest.mark.parametrize(("T", "B", "H"), [(5, 3, 4), (1, 1, 1), (3, 2, 300), (60, 1, 33)])
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "packed"])
def test_lstm(T: int, B: int, H: int, dtype: Any, reverse: bool, packed: bool) -> None:
    loop = lstm(B, H, dtype, reverse)
    arrays = allocate(loop, T)
    found = [array.copy() for array in arrays]
    compile_loop(loop, packed=packed)(found, T)
    wide = lstm(B, H, DOUBLE, reverse)
    want = [array.astype(DOUBLE) for array in arrays]
    run_reference(wide, want, T)
    for place in (3, 4):
        np.testing.assert_allclose(
            found[place], want[place], 8 * TOLERANCE[dtype], 8 * TOLERANCE[dtype]
        )


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE], ids=str)
@pytest.mark.parametrize("make", [layer_norm, softmax])
@pytest.mark.parametrize(("T", "B", "H"), [(3, 2, 5), (1, 1, 1), (2, 3, 700)])
def test_reductions_and_phases(make: Any, T: int, B: int, H: int, dtype: Any) -> None:
    check(make(B, H, dtype), T, 8 * TOLERANCE[dtype])


def test_nan_and_infinity_in_reductions() -> None:
    loop = softmax(4, 40)
    arrays = allocate(loop, 1)
    arrays[0][0, 0, 33] = nan
    arrays[0][0, 1, 0] = nan
    arrays[0][0, 2, 1] = -inf
    arrays[0][0, 3] = inf
    found = [array.copy() for array in arrays]
    compile_loop(loop)(found, 1)
    with np.errstate(invalid="ignore"):
        run_reference(loop, arrays, 1)
    for have, want in zip(found, arrays, strict=True):
        np.testing.assert_allclose(have, want, 4e-6)
    assert np.isnan(found[2]).tolist() == [True, True, False, False]
    assert found[4][2] == -inf


def test_integer_and_bool_reductions() -> None:
    """Numbers whose sum no float32 holds, and bools that are counted."""
    row, flags = Ref(0, None, (2, 9), (9, 1)), Ref(1, None, (2, 9), (9, 1))
    totals = [Ref(k, None, (2, 9), (1, 0)) for k in (2, 3, 4, 5, 6)]
    how = [("x", "sum"), ("x", "max"), ("x", "min"), ("b", "sum"), ("b", "max")]
    part = phase(
        reads={"x": row, "b": flags},
        reduces=[(*item, total) for item, total in zip(how, totals, strict=True)],
    )
    names = ("sum", "max", "min", "count")
    arrays = (
        spec("x", (2, 9), LONG),
        spec("b", (2, 9), BOOL),
        *(spec(name, (2,), LONG) for name in names),
        spec("any", (2,), BOOL),
    )
    x = np.arange(18).reshape(2, 9) - 2**60
    b = x % 3 == 0
    given = [x, b, *(np.zeros(2, LONG) for _ in names), np.zeros(2, BOOL)]
    compile_loop(Loop(arrays, (Kernel((2,), (part,)),), False))(given, 1)
    wanted = (x.sum(1), x.max(1), x.min(1), b.sum(1), b.max(1))
    for have, want in zip(given[2:], wanted, strict=True):
        assert have.tolist() == want.tolist()


# Places


def test_strides() -> None:
    """Two leading axes, repeated elements along each axis, a transposed matrix, every other one."""
    shape = (2, 3, 4)
    arrays = (
        spec("a", (3, 4)),
        spec("b", (4, 3), stacked=True),
        spec("c", (2, 1)),
        spec("d", (50,)),
        spec("y", (5, *shape), stacked=True),
    )
    kernel = fused(
        line("s", "x0 + 2 * x1", "a", "b"),
        line("y", "x0 * x1 - x2", "s", "c", "d"),
        reads={
            "a": Ref(0, None, shape, (0, 4, 1)),
            "b": Ref(1, 1, shape, (0, 1, 3)),
            "c": Ref(2, None, shape, (1, 0, 0)),
            "d": Ref(3, None, shape, (24, 8, 2), 1),
        },
        writes={"y": Ref(4, 0, shape, (12, 4, 1), 24)},
    )
    check(Loop(arrays, (kernel,), False), 3)
    check(Loop(arrays, (kernel,), True), 1)


def test_state_in_place() -> None:
    """A fixed state that each step reads and overwrites, and writes of plain numbers."""
    arrays = (spec("x", (2, 3), stacked=True), spec("s", (2, 3)), spec("k", (3,), INT))
    kernel = fused(
        line("s", "0.5 * x0 + x1", "s", "x"),
        reads={"s": whole(1, (2, 3)), "x": whole(0, (2, 3), 0)},
        writes={"s": whole(1, (2, 3)), 7: Ref(2, None, (2, 3), (0, 1))},
    )
    forward = check(Loop(arrays, (kernel,), False), 4)
    reverse = check(Loop(arrays, (kernel,), True), 4)
    assert not np.allclose(forward[1], reverse[1])
    assert forward[2].tolist() == [7, 7, 7]


def test_two_states_exchanged() -> None:
    """Each element is read through one Ref and written through another, in vector code too."""
    arrays = (spec("s", (3, 2, 40)),)
    a, b = (Ref(0, None, (3, 40), (80, 1), 40 * k) for k in range(2))
    kernel = fused(
        line("c", "x0 + 1", "a"),
        line("d", "x0 * 2", "b"),
        reads={"a": a, "b": b},
        writes={"c": b, "d": a},
    )
    check(Loop(arrays, (kernel,), False), 3)


@pytest.mark.parametrize("width", [1, 7, 64, 100])
def test_places_that_may_overlap(width: int) -> None:
    """One row read from its start and written behind it: nothing may be moved past the writes."""
    arrays = (spec("s", (300,)),)
    kernel = fused(
        line("y", "x0 + 1", "x"),
        reads={"x": Ref(0, None, (2, width), (150, 1))},
        writes={
            "y": Ref(0, None, (2, width), (150, 1)),
            3.0: Ref(0, None, (2, width), (1, 0), 149),
        },
    )
    check(Loop(arrays, (kernel,), False), 3)


@pytest.mark.parametrize(
    ("offset", "strides", "time", "array", "want"),
    [
        (0, (12, 1), 0, 0, False),  # the place itself
        (2, (12, 1), 0, 0, False),  # half of it
        (3, (12, 1), 0, 0, True),  # the next columns
        (10, (12, 1), 0, 0, False),  # columns that go on in the next row
        (24, (12, 1), 0, 0, True),  # the rows behind it
        (12, (12, 1), 0, 0, False),  # one row is shared
        (3, (4, 1), 0, 0, False),  # other strides
        (1, (12, 2), 0, 0, False),  # every other column
        (0, (12, 1), 1, 0, True),  # the next time step
        (0, (12, 1), 0, 1, True),  # another array
    ],
)
def test_what_lies_apart(
    offset: int, strides: tuple[int, int], time: int, array: int, want: bool
) -> None:
    """Only what certainly shares no element may be called so, or LLVM reorders what it must not."""
    first = Ref(0, 0, (2, 3), (12, 1))
    second = Ref(array, time, (2, 3), strides, offset)
    assert apart(first, second, (2,), 3) is want
    assert apart(second, first, (2,), 3) is want


@pytest.mark.parametrize("B", [1, 2, 5])
def test_joined_axes(B: int) -> None:
    """Contiguous leading axes run as one; a bias that repeats along one of them forbids it."""
    for strides in ((4, 1), (0, 1), (4, 0), (0, 0)):
        arrays = (spec("x", (2, B, 4), stacked=True), spec("b", (B, 4)), spec("y", (2, B, 4)))
        kernel = fused(
            line("z", "x0 * x1", "x", "b"),
            reads={"x": whole(0, (2, B, 4), 1), "b": Ref(1, None, (2, B, 4), (0, *strides))},
            writes={"z": whole(2, (2, B, 4))},
        )
        check(Loop(arrays, (kernel,), False), 2)


def test_nothing_to_do() -> None:
    check(lstm(0, 3), 2)
    check(lstm(2, 0), 2)
    check(layer_norm(0, 3), 2)
    check(lstm(2, 3), 0)
    check(Loop((spec("x", (2,)),), (), False), 3)
    empty = softmax(2, 0)
    arrays = allocate(empty, 1)
    compile_loop(empty)(arrays, 1)  # reductions of nothing
    assert [a[0] for a in arrays[2:]] == [-inf, 0, inf]


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE], ids=str)
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("T", [2, 30])
def test_products(constant: bool, T: int, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Transposed, strided and stacked operands, a transposed result, and an inner size of 0."""
    packed = counted_packing(monkeypatch)
    monkeypatch.setattr(numba_table, "SMALL", 0)
    shapes = ((3, 8), (5, 8), (4, 7), (3, 10), (3, 5), (3, 0), (0, 5), (5, 3))
    arrays = tuple(spec(f"a{k}", shape, dtype, k in (0, 3)) for k, shape in enumerate(shapes))
    out = whole(4, (3, 5))
    left, right = Ref(0, 1, (3, 4), (8, 1), 1), Ref(2, None, (4, 5), (7, 1), 2)
    steps = (
        Product(whole(0, (3, 8), 0), Ref(1, None, (8, 5), (1, 8)), out, constant),
        Product(left, right, Ref(3, 0, (3, 5), (10, 1), 3), constant),
        Product(left, right, Ref(7, None, (3, 5), (1, 3)), constant),
        Product(whole(5, (3, 0)), whole(6, (0, 5)), out, constant),
        Product(
            Ref(0, 0, (1, 8), (0, 1)), Ref(1, None, (8, 1), (1, 0)), Ref(4, None, (1, 1), (1, 1)),
            constant,
        ),
    )  # fmt: skip
    for step in steps:
        assert reason(step, Loop(arrays, (step,), False)) is None
        found = check(Loop(arrays, (step,), False), T, 4 * TOLERANCE[dtype])
        if step is steps[3]:
            assert not found[4].any()
    # Two of them with enough rows, and neither a transposed result nor nothing to add up
    assert len(packed) == (2 if constant and T == 30 and blas.mkl() else 0)


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE], ids=str)
@pytest.mark.parametrize("apart", [1, 5])
@pytest.mark.parametrize("transposed", [False, True])
def test_one_row_times_a_matrix(
    transposed: bool, apart: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large ones are a matrix times a vector for OpenBLAS, whose elements may lie apart."""
    monkeypatch.setattr(numba_table, "ONE_ROW", 0)
    arrays = tuple(
        spec(f"a{k}", shape, dtype, k != 1) for k, shape in enumerate(((4, 5), (7, 9), (3, 6)))
    )
    matrix = Ref(1, None, (4, 6), (1, 9), 2) if transposed else Ref(1, None, (4, 6), (9, 1), 2)
    step = Product(Ref(0, 1, (1, 4), (20, apart)), matrix, Ref(2, 0, (1, 6), (6, 1), 6), False)
    loop = Loop(arrays, (step,), False)
    library = blas.openblas()
    assert library is not None
    table = numba_table.Table((step,), loop, print, packed=False)
    assert library.gemv[dtype.str[1:]] in table._template
    check(loop, 3, TOLERANCE[dtype], packed=False)


@pytest.mark.parametrize(
    ("strides", "dtype", "message"),
    [((6, 2), FLOAT, "strides"), ((0, 1), FLOAT, "strides"), ((3, 1), INT, "float32 or float64")],
)
def test_what_is_no_product(strides: tuple[int, int], dtype: Any, message: str) -> None:
    arrays = tuple(spec(name, (6, 6), dtype) for name in "abc")
    step = Product(Ref(0, None, (3, 3), strides), whole(1, (3, 3)), whole(2, (3, 3)), False)
    assert message in str(reason(step, Loop(arrays, (step,), False)))


def counted_packing(patch: pytest.MonkeyPatch) -> list[blas.Packing]:
    """Every matrix that is packed from now on."""
    made: list[blas.Packing] = []
    pack = blas.Packing.pack

    def counted(self: blas.Packing, library: blas.Blas, source: int, target: int) -> None:
        made.append(self)
        pack(self, library, source, target)

    patch.setattr(blas.Packing, "pack", counted)
    return made


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_packed_products(reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near those that are not packed, and bit-equal for arrays at other addresses."""
    if blas.mkl() is None:
        pytest.skip("needs the package mkl")
    made = counted_packing(monkeypatch)
    loop = lstm(16, 100, FLOAT, reverse)
    arrays = allocate(loop, 10)
    arrays[1] *= np.float32(0.1)
    plain = [array.copy() for array in arrays]
    compile_loop(loop, packed=False)(plain, 10)
    assert not made
    run = compile_loop(loop, packed=True)
    found = [array.copy() for array in arrays]
    run(found, 10)
    again = [np.empty(array.size + 3, array.dtype)[3:].reshape(array.shape) for array in arrays]
    for target, array in zip(again, arrays, strict=True):
        target[...] = array
    run(again, 10)
    assert len(made) == 2
    for a, b, c in zip(found, again, plain, strict=True):
        assert a.tobytes() == b.tobytes()
        np.testing.assert_allclose(a, c, 1e-4, 1e-5)
    run(found, 2)
    assert len(made) == 2  # too short to be worth it


def test_threads_are_given_back() -> None:
    providers = [p for p in (blas.openblas(), blas.mkl()) if p is not None]
    before = [p.threads() for p in providers]
    for packed in (False, True):
        for B, H, T in ((4, 16, 6), (8, 90, 6), (20, 200, 6), (20, 200, 20)):
            loop = lstm(B, H)
            compile_loop(loop, packed=packed)(allocate(loop, T), T)
    assert [p.threads() for p in providers] == before


# Steps that are not compiled


def total_of(loop_arrays: Sequence[ArraySpec]) -> Call:
    total = Primitive("total", lambda xp, x, scale: xp.sum(x, axis=1) * scale, [None])
    return Call(total, (whole(0, (2, 3), 0),), {"scale": 0.5}, (whole(1, (2,)),))


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
@pytest.mark.parametrize("order", ["ca", "ac", "aca", "c"])
def test_calls(reverse: bool, order: str) -> None:
    """What is not compiled goes through the fallback, in its place among the steps."""
    arrays = (spec("x", (2, 3), stacked=True), spec("y", (2,)))
    add = fused(
        line("z", "x0 + x1", "x", "y"),
        reads={"x": whole(0, (2, 3), 1), "y": Ref(1, None, (2, 3), (1, 0))},
        writes={"z": whole(0, (2, 3), 1)},
    )
    call = total_of(arrays)
    loop = Loop(arrays, tuple({"c": call, "a": add}[letter] for letter in order), reverse)
    assert "total" in str(reason(call, loop))
    given = allocate(loop, 3)
    found = [array.copy() for array in given]
    seen: list[int] = []

    def fallback(step: Step) -> Any:
        assert isinstance(step, Call)

        def start(arrays: Sequence[np.ndarray]) -> Any:
            def run(t: int) -> None:
                seen.append(t)
                run_call(step, lambda ref: view(ref, loop, arrays, t))

            return run

        return start

    compile_loop(loop, fallback)(found, 3)
    run_reference(loop, given, 3)
    assert seen == ([2, 1, 0] if reverse else [0, 1, 2])
    for have, want in zip(found, given, strict=True):
        np.testing.assert_allclose(have, want, 2e-6)


# What the emitter promises


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.__setitem__(0, a[0].astype(DOUBLE)), "given must be a contiguous float32"),
        (lambda a: a.__setitem__(0, a[0][:, :, ::-1]), "given must be a contiguous"),
        (lambda a: a.__setitem__(1, a[1][:, :-1].copy()), r"weight .* \(3, 12\)"),
        (lambda a: a.__setitem__(3, a[3][:-1]), "h must have 5 rows for 4 steps, got 4"),
        (lambda a: a[4].setflags(write=False), "c is written, but it is read-only"),
        (lambda a: a.pop(), "5 arrays, got 4"),
    ],
)
def test_arrays_are_checked(change: Callable[[list[Any]], Any], message: str) -> None:
    """Machine code would write anywhere."""
    loop = lstm(2, 3)
    arrays = allocate(loop, 4)
    change(arrays)
    with pytest.raises(ValueError, match=message):
        compile_loop(loop)(arrays, 4)


@pytest.mark.parametrize(
    "ref",
    [
        Ref(0, None, (2, 3), (3, 1), 1),
        Ref(0, None, (2, 3), (3, -1)),
        Ref(0, 0, (2, 3), (3, 1)),
        Ref(1, None, (2, 3), (3, 1)),
    ],
)
def test_places_are_checked(ref: Ref) -> None:
    arrays = (spec("x", (2, 3)), spec("y", (2, 3), stacked=True))
    kernel = fused(line("z", "x0 + 1", "x"), reads={"x": ref}, writes={"z": whole(0, (2, 3))})
    with pytest.raises(ValueError, match="leaves the array"):
        compile_loop(Loop(arrays, (kernel,), False))


@pytest.mark.parametrize("make", [lstm, softmax])
def test_one_source_for_every_size(make: Any) -> None:
    loops = [make(B, H) for B, H in ((2, 3), (1, 1), (7, 600))]
    assert len({module_source(loop.steps, loop.arrays, 64) for loop in loops}) == 1
    before = numba_cache.compiled_here()
    for loop in loops:
        compile_loop(loop)(allocate(loop, 2), 2)
    assert numba_cache.compiled_here() <= before + 1


def test_one_function_in_many_threads() -> None:
    loop = lstm(4, 32)
    arrays = allocate(loop, 50)
    run = compile_loop(loop)
    want = [array.copy() for array in arrays]
    run(want, 50)
    found = [[array.copy() for array in arrays] for _ in range(4)]
    at_once([partial(run, each, 50) for each in found])
    for each in found:
        np.testing.assert_array_equal(each[3], want[3])
