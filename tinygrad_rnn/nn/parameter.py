"""The Tensors that a Module owns: parameters and buffers."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.tensor import Tensor, tensor


class Parameter(Tensor):
    """A leaf Tensor that a Module owns and an optimizer changes."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(tensor(data).array, requires_grad)
        if requires_grad and self.dtype.kind != "f":
            raise TypeError(f"Parameter: expected floating values, got {self.dtype}")


class Buffer(Tensor):
    """A leaf Tensor that belongs to the state of a Module and that no optimizer changes."""

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        super().__init__(tensor(data).array)


KEPT = (Parameter, Buffer)
"""What is saved with a Module."""
