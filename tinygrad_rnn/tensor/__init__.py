"""The notation: Tensor with its operators, creation, derivatives as functions, the checker.

Imports ops/, tape/ and backends/ only. A Tensor is written in layers, each a class on top of the
one before: values.py, operators.py, methods.py, overwriting.py, tensor.py.
"""

from tinygrad_rnn.tensor.check import GradientError, check_gradients
from tinygrad_rnn.tensor.checkpoint import checkpoint
from tinygrad_rnn.tensor.creation import (
    arange,
    eye,
    from_dlpack,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    tensor,
    zeros,
    zeros_like,
)
from tinygrad_rnn.tensor.random import bernoulli, categorical, normal, rand, randint, randn
from tinygrad_rnn.tensor.tensor import Tensor
from tinygrad_rnn.tensor.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp

__all__ = [
    "GradientError",
    "Tensor",
    "arange",
    "bernoulli",
    "categorical",
    "check_gradients",
    "checkpoint",
    "eye",
    "from_dlpack",
    "from_numpy",
    "full",
    "full_like",
    "grad",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "linspace",
    "normal",
    "ones",
    "ones_like",
    "rand",
    "randint",
    "randn",
    "tensor",
    "value_and_grad",
    "vjp",
    "zeros",
    "zeros_like",
]
