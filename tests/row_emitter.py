"""Emitters for tests: one takes the contract of loop.py by its word, one runs parts of the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import loop_cases
import numpy as np

from tinygrad_rnn.replay.emit import array_calls
from tinygrad_rnn.replay.emit.independent_rows import divided
from tinygrad_rnn.replay.program.loop import Call, Loop, Product, Ref


def row_by_row(loop: Loop, *_: Any) -> Any:
    """A slow emitter that keeps to the letter of loop.py: all phases of a kernel at one element of
    its leading axes, then all of them at another, the last one first.
    """

    def at(ref: Ref, index: tuple[int, ...]) -> Ref:
        start = sum(i * s for i, s in zip(index, ref.strides, strict=False))
        return ref._replace(
            shape=((1,) * len(index) + ref.shape[len(index) :]), offset=ref.offset + start
        )

    def run(arrays: Sequence[np.ndarray], steps: int) -> None:
        for t in reversed(range(steps)) if loop.reverse else range(steps):

            def look(ref: Ref, t: int = t) -> np.ndarray:
                return loop_cases.view(ref, loop, arrays, t)

            for step in loop.steps:
                if isinstance(step, Product):
                    look(step.out)[...] = look(step.a) @ look(step.b)
                elif isinstance(step, Call):
                    operands = [look(x) if isinstance(x, Ref) else x for x in step.operands]
                    found = step.primitive.forward(np, *operands, **step.params)
                    results = found if step.primitive.multiple else (found,)
                    for out, result in zip(step.outputs, results, strict=True):
                        if out is not None:
                            look(out)[...] = result
                else:
                    for index in [*np.ndindex(*step.lead)][::-1]:
                        for phase in step.phases:
                            loop_cases._phase(  # pyright: ignore[reportPrivateUsage]
                                phase,
                                (1,) * len(index),
                                lambda ref, index=index, look=look: look(at(ref, index)),
                            )

    return run


def in_parts(loop: Loop, backend: Any, _: Any) -> Any:
    """The last rows through all time, then those before them: what they need of each other is not
    there yet.
    """
    parts = divided(loop, 3) or divided(loop, 2) or [loop]
    runs = [array_calls.compile_loop(part, backend) for part in reversed(parts)]

    def run(arrays: Sequence[np.ndarray], steps: int) -> None:
        for part in runs:
            part(arrays, steps)

    return run
