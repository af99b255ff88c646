"""Evaluation in the midst of training, of which training does not notice."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from tinygrad_rnn.nn import Module
from tinygrad_rnn.ops import generator_state, set_generator_state
from tinygrad_rnn.tape import no_grad


@contextmanager
def evaluation(model: Module) -> Generator[None]:
    """Within the block all of the model is in evaluation mode, and nothing is recorded.

    Afterwards every part of it is in the mode in which it was, and random numbers go on as if
    none had been drawn.
    """
    generator = generator_state()
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        set_generator_state(generator)
