"""The Tensors that a Module owns: parameters and buffers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.nn import init
from tinygrad_rnn.tensor import Tensor, tensor


class Parameter(Tensor):
    """A leaf Tensor that a Module owns and an optimizer changes."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(tensor(data).array, requires_grad)
        if requires_grad and self.dtype.kind != "f":
            raise TypeError(f"Parameter: expected floating values, got {self.dtype}")

    def extend_name(self, name: str) -> None:
        """Be called by a dotted name, unless it has one that this is no longer form of."""
        if self.name is None or name.endswith(f".{self.name}"):
            self.name = name


class Buffer(Tensor):
    """A leaf Tensor that belongs to the state of a Module and that no optimizer changes."""

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        super().__init__(tensor(data).array)


def drawn(size: int, *shape: int) -> Parameter:
    """A Parameter uniform on +-1 / sqrt(size)."""
    parameter = Parameter(np.zeros(shape, np.float32))
    bound = 1 / math.sqrt(size)
    init.uniform_(parameter, -bound, bound)
    return parameter


KEPT = (Parameter, Buffer)
"""What is saved with a Module."""
