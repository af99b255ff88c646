"""Optimizers with clipping built in.

Imports nn/ and what stands to its left.
"""

from tinygrad_rnn.optim.algorithms import SGD, Adam
from tinygrad_rnn.optim.clipping import Clip, ClipNorm, ClipValue, clip_grad_norm, global_norm
from tinygrad_rnn.optim.optimizer import NonFiniteGradientError, Optimizer, StepReport

__all__ = [
    "SGD",
    "Adam",
    "Clip",
    "ClipNorm",
    "ClipValue",
    "NonFiniteGradientError",
    "Optimizer",
    "StepReport",
    "clip_grad_norm",
    "global_norm",
]
