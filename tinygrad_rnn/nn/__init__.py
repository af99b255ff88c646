"""Modules: parameters in a tree, layers without time, losses, initialisers.

Imports tensor/ and what stands to its left.
"""

from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.batch_norm import BatchNorm1d
from tinygrad_rnn.nn.checks import check_device, check_floating, check_like, check_size
from tinygrad_rnn.nn.layers import Dropout, Embedding, LayerNorm, Linear, Sequential
from tinygrad_rnn.nn.losses import (
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    l1_loss,
    mse_loss,
)
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.parameter import Buffer, Parameter
from tinygrad_rnn.nn.weights import WeightsError

__all__ = [
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "Buffer",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "HuberLoss",
    "L1Loss",
    "LayerNorm",
    "Linear",
    "MSELoss",
    "Module",
    "Parameter",
    "Sequential",
    "WeightsError",
    "binary_cross_entropy_with_logits",
    "check_device",
    "check_floating",
    "check_like",
    "check_size",
    "cross_entropy",
    "huber_loss",
    "init",
    "l1_loss",
    "mse_loss",
]
