"""The Tensors that a Module owns: parameters and buffers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_rnn.nn import init
from tinygrad_rnn.tensor import Tensor, tensor


class GivenName(str):
    """A name that a module gave, and not the user."""

    __slots__ = ()


class Parameter(Tensor):
    """A leaf Tensor that a Module owns and an optimizer changes."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(tensor(data).array, requires_grad)
        if requires_grad and self.dtype.kind != "f":
            raise TypeError(f"Parameter: expected floating values, got {self.dtype}")

    def called(self, name: str) -> None:
        """Take the name that a module has for it.

        It stands in place of one that another module gave, of which this one may be a copy or a new
        home; not of a longer one that ends in it, nor of the user's, unless it ends in that.
        """
        old = self.name
        other = isinstance(old, GivenName) and not old.endswith(f".{name}")
        if old is None or other or name.endswith(f".{old}"):
            self.name = GivenName(name)


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
