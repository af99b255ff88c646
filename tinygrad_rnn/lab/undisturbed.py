"""Looking without a trace: what a function of the lab runs leaves the model as it was."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager

import numpy as np

from tinygrad_rnn.nn import Module, Parameter
from tinygrad_rnn.tape import mark_overwritten
from tinygrad_rnn.training.again import Moment

Weights = Module | Iterable[Parameter]
"""What has parameters: a model, or these themselves."""


def parameters_of(who: str, weights: Weights) -> list[Parameter]:
    """The parameters of a model, or those given, of which there must be one."""
    found = weights.parameters() if isinstance(weights, Module) else list(weights)
    for each in found:
        if not isinstance(each, Parameter):
            raise TypeError(
                f"{who}: expected a model or its parameters, got {type(each).__name__} among them"
            )
    if not found:
        raise ValueError(f"{who}: expected a model with parameters, this has none")
    return found


@contextmanager
def undisturbed(weights: Module | Sequence[Parameter]) -> Generator[Moment]:
    """Whatever runs within the block, afterwards all is as it was, also where that failed.

    That is the gradients of the parameters; of a model its buffers and the attributes of its
    modules, too, such as modes and a state that it keeps; and the random generator. It gives what
    they are at the beginning, to which the block may go back as often as it likes.
    """
    models = [weights] if isinstance(weights, Module) else []
    before = Moment.of(*models)
    own = [buffer.array for buffer, _ in before.buffers]
    parameters = weights.parameters() if isinstance(weights, Module) else weights
    kept = [(p, p.grad) for p in parameters]
    try:
        for p, _ in kept:  # what accumulates goes into new memory, not into the user's gradient
            p.grad = None
        for buffer, array in before.buffers:
            buffer.array = array.copy()
        yield before
    finally:
        for p, grad in kept:
            p.grad = grad
        before.restore()
        for (buffer, _), array in zip(before.buffers, own, strict=True):
            buffer.array = array


class Moved:
    """Parameters that stand elsewhere for a while: see :func:`moved`."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self.parameters = parameters
        self.start = [np.array(p.numpy()) for p in parameters]

    def to(self, offsets: Sequence[np.ndarray]) -> None:
        """Stand at the start plus these."""
        for p, start, offset in zip(self.parameters, self.start, offsets, strict=True):
            p.data = start + offset.astype(start.dtype, copy=False)


@contextmanager
def moved(parameters: Sequence[Parameter]) -> Generator[Moved]:
    """Within the block the parameters have other memory, which may be written to.

    Afterwards they have their own again, in which nothing has changed: a tape that was recorded
    before can still be walked.
    """
    own = [p.array for p in parameters]
    moving = Moved(parameters)
    try:
        for p in parameters:
            p.array = p.array.copy()
            mark_overwritten(p.array)
        yield moving
    finally:
        for p, array in zip(parameters, own, strict=True):
            p.array = array
