"""Functions of arrays by each emitter: in a loop of one step, with their gradients."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_cuda import HostCUDA
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import backends, replay
from tinygrad_rnn.replay.emit.choice import has_numba

EMITTERS = [
    "array",
    "strict",
    pytest.param("numba", marks=pytest.mark.skipif(not has_numba(), reason="needs the extra jit")),
    pytest.param("cuda", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")),
]
"""Array calls of NumPy's and of a strict namespace, compiled loops, CUDA kernels on the host."""


COMPILED = tempfile.TemporaryDirectory()
"""What is compiled for the host is used again, until the process ends."""


@contextmanager
def running(emitter: str) -> Generator[str]:
    """Loops run by an emitter, on the device that is given."""
    if emitter != "cuda":
        with replay.using(jit=emitter == "numba"):
            yield "strict" if emitter == "strict" else "cpu"
        return
    backends.register(HostCUDA(Path(COMPILED.name)))
    try:
        yield "strict"
    finally:
        backends.register(STRICT)


def in_a_loop(
    functions: Mapping[str, Callable[..., Any]],
    arrays: Sequence[np.ndarray],
    emitter: str,
    gradients: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What each function gives for the arrays, all in one loop, and the derivative of each by the
    first array, which costs a loop for each.
    """
    found: dict[str, np.ndarray] = {}
    slopes: dict[str, np.ndarray] = {}
    with running(emitter) as device, np.errstate(all="ignore"):
        xs = tuple(tg.tensor(array[None], device=device) for array in arrays)
        start = tg.zeros(1, device=device)

        def step(x: Any, h: Any) -> Any:
            return tuple(function(*x) for function in functions.values()), h

        ys, _ = tg.scan(step, xs, start)
        found = {name: y.numpy()[0] for name, y in zip(functions, ys, strict=True)}
        for name, function in functions.items() if gradients else ():
            xs[0].requires_grad = True
            xs[0].grad = None

            def one(x: Any, h: Any, function: Any = function) -> Any:
                return function(*x), h

            y, _ = tg.scan(one, xs, start)
            tg.sum(y).backward()
            slopes[name] = xs[0].grad.numpy()[0]
    return found, slopes
