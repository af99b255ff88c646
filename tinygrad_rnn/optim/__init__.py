"""Optimizers with clipping built in, and schedules of the learning rate.

Imports nn/ and what stands to its left.
"""

from tinygrad_rnn.optim import schedules
from tinygrad_rnn.optim.algorithms import SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop
from tinygrad_rnn.optim.clipping import (
    Clip,
    ClipAdaptive,
    ClipNorm,
    ClipPerParameter,
    ClipValue,
    clip_grad_norm,
)
from tinygrad_rnn.optim.groups import Group
from tinygrad_rnn.optim.loss_scale import LossScale
from tinygrad_rnn.optim.norms import global_norm
from tinygrad_rnn.optim.optimizer import Optimizer
from tinygrad_rnn.optim.report import NonFiniteGradientError, StepReport
from tinygrad_rnn.optim.schedules import Schedule

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "Clip",
    "ClipAdaptive",
    "ClipNorm",
    "ClipPerParameter",
    "ClipValue",
    "Group",
    "LossScale",
    "NonFiniteGradientError",
    "Optimizer",
    "RMSprop",
    "Schedule",
    "StepReport",
    "clip_grad_norm",
    "global_norm",
    "schedules",
]
