"""What each emitter writes for a loop, to be read: its text alone, nothing is compiled.

So it is there for every emitter on every machine, with a card or Numba and without.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tinygrad_rnn.backends import Backend
from tinygrad_rnn.backends.blas import openblas
from tinygrad_rnn.replay.emit import array_calls
from tinygrad_rnn.replay.emit.choice import numba_emitter
from tinygrad_rnn.replay.emit.common import Unsupported
from tinygrad_rnn.replay.emit.cuda.preamble import PREAMBLE
from tinygrad_rnn.replay.emit.cuda.source import cuda_kernel
from tinygrad_rnn.replay.emit.numba.source import HEADER, RUN, module_source
from tinygrad_rnn.replay.program.loop import Call, Kernel, Loop, Product, Ref, Step

_VARIABLE = re.compile(r"\b([va]\d+)(?:_\d+)*_(\d+)\b")


class Text(NamedTuple):
    """What one emitter writes.

    ``steps`` are the lines of source of each step of the loop, ``around`` those that call them.
    What every source begins with is left out.
    """

    emitter: str
    steps: list[list[str]]
    around: list[str]


def texts(loop: Loop, backend: Backend) -> list[Text]:
    """Those of Numba, CUDA and NumPy."""
    calls = _numpy(loop, backend)
    return [_numba(loop, calls), _cuda(loop), calls]


def variables(text: str) -> list[tuple[str, int]]:
    """The lines and reductions of a kernel that a line of source computes, or else reads.

    Of each its name, without what follows a point in it, and the number of its phase.
    """
    target, equals, _ = text.partition(" = ")
    found = _VARIABLE.findall(target) if equals else []
    return [(name, int(phase)) for name, phase in found or _VARIABLE.findall(text)]


def place(ref: Ref, loop: Loop) -> str:
    """A Ref as it is written: ``state0[t+1]``."""
    at = "" if ref.time is None else "[t]" if ref.time == 0 else f"[t+{ref.time}]"
    return f"{loop.arrays[ref.array].name}{at}"


def _numba(loop: Loop, calls: Text) -> Text:
    library, emitter = openblas(), numba_emitter()
    bits = library.bits if library else 64
    compiled: list[Kernel | Product] = []
    found: list[list[str]] = []
    for step, instead in zip(loop.steps, calls.steps, strict=True):
        why = emitter.why_no_source(step, loop)
        if why is not None or isinstance(step, Call):
            found.append([f"# by NumPy: {why}", *instead])
            continue
        compiled.append(step)
        kernel, _, run = _module([step], loop, bits).partition(RUN)
        call, _, _ = run.partition("\n        t += step")
        found.append((kernel or call).strip().splitlines())
    _, head, run = _module(compiled, loop, bits).partition(RUN)
    return Text("Numba", found, f"{head}{run}".strip().splitlines() if compiled else [])


def _module(steps: list[Kernel | Product], loop: Loop, bits: int) -> str:
    return module_source(steps, loop.arrays, bits).removeprefix(HEADER)


def _cuda(loop: Loop) -> Text:
    found: list[list[str]] = []
    around = [f"for t in {'reversed(range(T))' if loop.reverse else 'range(T)'}:"]
    for k, step in enumerate(loop.steps):
        if isinstance(step, Kernel):
            try:
                made = cuda_kernel(step, loop.arrays)
            except Unsupported as problem:
                found.append([f"// none: {problem}"])
                continue
            found.append(made.source.removeprefix(PREAMBLE).strip().splitlines())
            arrays = ", ".join(loop.arrays[k].name for k in made.arrays)
            launch = f"step_{k}<<<{made.grid}, {made.block}>>>({arrays}, n, t)"
        else:
            launch = _launch(step, loop)
            found.append([launch])
        around.append(f"    {launch}")
    return Text("CUDA", found, around)


def _launch(step: Step, loop: Loop) -> str:
    """What is not a kernel of ours, in words."""
    if isinstance(step, Product):
        a, b, out = (place(ref, loop) for ref in (step.a, step.b, step.out))
        return f"matmul({a}, {b}, out={out})"
    assert isinstance(step, Call)
    return f"{step.primitive.name}, as it is"


def _numpy(loop: Loop, backend: Backend) -> Text:
    lines, steps, refs = array_calls.source(loop, backend)
    seen = [
        f"# views[{k}] is {place(ref, loop)} {ref.shape}{f' from {ref.offset}' * (ref.offset > 0)}"
        for k, ref in enumerate(refs)
    ]
    return Text("NumPy", steps, [*seen, *lines[: len(lines) - sum(map(len, steps))]])
