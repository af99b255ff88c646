"""Loops cut into loops over some of their rows."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from programs import run_python

import tinygrad_rnn as tg
from tinygrad_rnn import replay, rnn
from tinygrad_rnn.backends import mkl_threads
from tinygrad_rnn.backends.blas import mkl
from tinygrad_rnn.replay.emit.independent_rows import divided, independent_rows
from tinygrad_rnn.replay.program.loop import ArraySpec, Kernel, Line, Loop, Phase, Product, Ref
from tinygrad_rnn.replay.scan import trace

B, H = 6, 4
F8 = np.dtype(np.float64)

needs_threads = pytest.mark.skipif(
    mkl_threads.thread_count() < 2, reason="needs MKL with two threads or more"
)


def array(name: str, *shape: int) -> ArraySpec:
    return ArraySpec(name, shape, F8, False)


def row_major(number: int, *shape: int, offset: int = 0, pitch: int | None = None) -> Ref:
    return Ref(number, None, shape, (shape[1] if pitch is None else pitch, 1), offset)


def double(read: Ref, write: Ref) -> Kernel:
    line = Line("y", "multiply", ("x", 2), F8, F8)
    return Kernel(
        (read.shape[0],), (Phase(read.shape[1], (("x", read),), (line,), (("y", write),)),)
    )


def loop(*steps: Any, arrays: Any = None) -> Loop:
    return Loop(arrays or (array("a", B, H), array("b", B, H), array("w", H, H)), steps, False)


def flat(read: int, write: int | None, sum_of: int | None = None) -> Kernel:
    """A kernel over single numbers, which may add them up."""
    place = Ref(read, None, (B,), (1,))
    line = Line("y", "multiply", ("x", 2), F8, F8)
    writes = () if write is None else (("y", Ref(write, None, (B,), (1,))),)
    sums: Any = () if sum_of is None else (("y", "sum", Ref(sum_of, None, (B,), (0,))),)
    return Kernel((), (Phase(B, (("x", place),), (line,), writes, sums),))


A, W, OUT = row_major(0, B, H), row_major(2, H, H), row_major(1, B, H)
SQUARE, SQUARES = row_major(0, B, B), (array("a", B, B), array("b", B, B))
FLIPPED = Ref(0, None, (B, H), (-H, 1), (B - 1) * H)


@pytest.mark.parametrize(
    ("found", "rows"),
    [
        (loop(double(A, A), Product(A, W, OUT, True)), B),
        (loop(Product(A, W, OUT, True), double(OUT, A)), B),
        # what each row reads of a constant is its own matter
        (loop(double(Ref(2, None, (B, H), (0, 1)), A)), B),
        (loop(double(row_major(0, B, 2, pitch=H), row_major(0, B, 2, offset=2, pitch=H))), B),
        # a row reads another's part, or two rows write one
        (loop(double(FLIPPED, OUT), double(OUT, A)), None),
        (loop(double(A, Ref(1, None, (B, H), (0, 1)))), None),
        (loop(double(row_major(0, B, 2, offset=3, pitch=H), row_major(0, B, 2, pitch=H))), None),
        # rows without a further axis
        (Loop((array("a", B), array("b", B)), (flat(0, 1), flat(1, 0)), False), B),
        (Loop((array("a", B), array("b", 1)), (flat(0, None, 1),), False), None),
        # the matrix changes
        (
            loop(
                double(SQUARE, SQUARE),
                Product(row_major(1, B, B), SQUARE, row_major(1, B, B), False),
                arrays=SQUARES,
            ),
            None,
        ),
        (loop(double(W, W), Product(A, W, OUT, False)), None),
        # different numbers of rows
        (loop(double(A, A), double(row_major(1, H, B), row_major(1, H, B))), None),
    ],
)
def test_which_rows_are_independent(found: Loop, rows: int | None) -> None:
    assert independent_rows(found) == rows


def test_the_parts_are_all_rows_once() -> None:
    whole = loop(double(A, A), Product(A, W, OUT, True))
    parts = divided(whole, 4)
    assert parts is not None
    covered = [(p.steps[1].a.offset // H, p.steps[1].a.shape[0]) for p in parts]  # pyright: ignore
    assert covered == [(0, 1), (1, 2), (3, 1), (4, 2)]
    for part in parts:
        kernel, product = part.steps
        assert kernel.lead == (product.a.shape[0],)  # pyright: ignore
        assert product.out.offset == product.a.offset  # pyright: ignore
        assert product.b == W  # pyright: ignore
    assert divided(whole, B + 1) is None


def test_the_parts_of_single_numbers() -> None:
    parts = divided(Loop((array("a", B), array("b", B)), (flat(0, 1),), False), 2)
    assert parts is not None
    places = [part.steps[0].phases[0] for part in parts]  # pyright: ignore
    assert [(p.width, p.reads[0][1].shape, p.reads[0][1].offset) for p in places] == [
        (3, (3,), 0),
        (3, (3,), 3),
    ]


CELLS: dict[str, Callable[[], Any]] = {
    name: lambda name=name: getattr(rnn, name)(3, 8)
    for name in ("RNNCell", "LSTMCell", "GRUCell", "PeepholeLSTMCell", "LayerNormLSTMCell")
} | {"clockwork": lambda: rnn.ClockworkRNNCell(3, 8, (1, 2))}


@pytest.mark.parametrize("name", CELLS)
def test_cells_have_independent_rows_in_both_directions(name: str) -> None:
    cell = CELLS[name]()
    x, state = tg.randn((5, B, 3)), cell.initial_state(B)
    for value in (x, *tg.tape.leaves(state)):
        value.requires_grad = value.dtype.kind == "f"
    recipe, _ = trace(cell.step, x, state, 5, False)
    wanted = replay.wanted_of(recipe.replay, [*recipe.captured, x, *tg.tape.leaves(state)])
    assert wanted is not None
    _, backward = recipe.replay.backward_program(wanted, wanted)
    for compiled in (recipe.replay.training(wanted).forward, backward):
        assert independent_rows(compiled.plan.loop) == B


@needs_threads
@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_threads_divide_the_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from tinygrad_rnn.replay.emit.numba import emitter as numba_emitter

    layer = getattr(rnn, name)(5, 64)
    x = tg.randn((40, 33, 5))
    x.requires_grad = True
    runs: list[int] = []

    def counted(jobs: Any) -> None:
        runs.append(len(jobs))
        mkl_threads.run_in_threads(jobs)

    monkeypatch.setattr(numba_emitter, "run_in_threads", counted)
    found = []
    for jit in (True, False):
        layer.zero_grad()
        x.grad = None
        with replay.using(jit=jit):
            y, _ = layer(x)
            tg.sum(tg.square(y)).backward()
        found.append([y.numpy(), x.grad.numpy(), *(p.grad.numpy() for p in layer.parameters())])
    assert len(runs) == 2  # forward and backward
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@needs_threads
def test_an_error_in_one_thread_is_raised() -> None:
    done: list[int] = []

    def job(k: int) -> None:
        if k == 2:
            raise ValueError("the third")
        done.append(k)

    with pytest.raises(ValueError, match="the third"):
        mkl_threads.run_in_threads([lambda k=k: job(k) for k in range(4)])
    assert 0 in done


def test_an_interrupt_that_got_lost_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops what a handler raises before the first line of a callback."""
    deaf = SimpleNamespace(GOMP_parallel=lambda *_: None)
    monkeypatch.setattr(mkl_threads, "_openmp", lambda: deaf)
    with pytest.raises(KeyboardInterrupt):
        mkl_threads.run_in_threads([lambda: None] * 2)


TRAINING = """
import tinygrad_rnn as tg
from tinygrad_rnn.backends import mkl_threads
from tinygrad_rnn.backends.blas import mkl
layer = tg.rnn.LSTM(5, 64)
layer(tg.randn((40, 33, 5)))[0].sum().backward()
print(mkl_threads.thread_count())
"""


@needs_threads
def test_a_copy_of_openmp_that_is_there_already(tmp_path: Path) -> None:
    """Two copies in one process would end it."""
    blas = mkl()
    assert blas is not None
    copy = shutil.copy(Path(blas.library._name).parent / "libiomp5.so", tmp_path)
    assert int(run_python("-c", TRAINING, LD_PRELOAD=str(copy)).stdout) > 1


@needs_threads
def test_the_number_of_threads_is_left_as_it_was() -> None:
    before = mkl_threads.thread_count()
    layer = rnn.LSTM(5, 64)
    layer(tg.randn((40, 33, 5)))[0].sum().backward()
    assert mkl_threads.thread_count() == before
