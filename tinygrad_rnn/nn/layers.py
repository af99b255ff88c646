"""Layers without time: affine map, embedding, dropout, layer norm, and their composition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.nn import init
from tinygrad_rnn.nn.checks import beside, check_device, check_floating, check_like, check_size
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.parameter import Parameter, drawn
from tinygrad_rnn.tensor import Tensor


class Linear(Module):
    """y = x W^T + b, for x (..., I): W (O, I), b (O,), y (..., O).

    Both begin uniform on +-1 / sqrt(I).
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        check_size("Linear", in_features=in_features, out_features=out_features)
        self.in_features, self.out_features = in_features, out_features
        self.weight = drawn(in_features, out_features, in_features)
        self.bias = drawn(in_features, out_features) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        check_like("Linear", x, self.weight)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"Linear: inputs must have shape (..., {self.in_features}), got {x.shape}"
            )
        return ops.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Embedding(Module):
    """y = W[x] for integers x of any shape: W (V, D) with rows from N(0, 1), y (*x.shape, D)."""

    def __init__(self, num_embeddings: int, embedding_dim: int) -> None:
        check_size("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.weight = Parameter(np.zeros((num_embeddings, embedding_dim), np.float32))
        init.normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        indices = beside(self.weight, x)
        if indices.dtype.kind not in "iu":
            raise TypeError(f"Embedding: indices must be integers, got {indices.dtype}")
        check_device("Embedding", indices, self.weight, "indices", "its parameters")
        try:
            return ops.take(self.weight, indices, 0)
        except IndexError as error:
            raise IndexError(str(error).replace("take:", "Embedding:", 1)) from None

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"


class Dropout(Module):
    """In training each element becomes 0 with probability ``p``, the others x / (1 - p).

    Source: Srivastava et al. 2014. In evaluation nothing happens.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p must satisfy 0 <= p < 1, got {p}")
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        check_floating("Dropout", x)
        return ops.dropout(x, self.p) if self.training and self.p else x

    def extra_repr(self) -> str:
        return f"p={self.p}"


class LayerNorm(Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias over the last axes. Source: Ba et al. 2016.

    Parameters
    ----------
    normalized_shape : the sizes of the last axes that are normalised together.
    eps : added to the variance.
    elementwise_affine : whether there are weight, ones at the start, and bias, zeros.
    bias : whether there is a bias beside the weight.
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        shape = normalized_shape if isinstance(normalized_shape, Sequence) else [normalized_shape]
        if not shape:
            raise ValueError("LayerNorm: normalized_shape must have at least one axis, got none")
        for size in shape:
            check_size("LayerNorm", normalized_shape=size)
        self.normalized_shape = tuple(shape)
        self.eps = eps
        ones, zeros = (f(self.normalized_shape, np.float32) for f in (np.ones, np.zeros))
        self.weight = Parameter(ones) if elementwise_affine else None
        self.bias = Parameter(zeros) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None:
            check_floating("LayerNorm", x)
        else:
            check_like("LayerNorm", x, self.weight)
        axes = tuple(range(-len(self.normalized_shape), 0))
        if tuple(x.shape[len(x.shape) - len(axes) :]) != self.normalized_shape:
            sizes = ", ".join(map(str, self.normalized_shape))
            raise ValueError(f"LayerNorm: inputs must have shape (..., {sizes}), got {x.shape}")
        centred = x - ops.mean(x, axes, keepdims=True)
        variance = ops.mean(ops.square(centred), axes, keepdims=True)
        y = centred * (1 / ops.sqrt(variance + self.eps))
        if self.weight is not None:
            y = y * self.weight
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}"


class Sequential(Module):
    """Layers or functions applied one after the other.

    ``mask`` says which elements count, to the layers that ask for it, such as BatchNorm1d.
    """

    def __init__(self, *layers: Callable[..., Any]) -> None:
        for layer in layers:
            if not callable(layer):
                raise TypeError(f"Sequential: expected layers, got {type(layer).__name__}")
        self.layers = list(layers)

    @property
    def takes_mask(self) -> bool:
        """Whether any of the layers asks which elements count."""
        return any(getattr(layer, "takes_mask", False) for layer in self.layers)

    def forward(self, x: Any, mask: Any = None) -> Any:
        for layer in self.layers:
            takes_mask = mask is not None and getattr(layer, "takes_mask", False)
            x = layer(x, mask=mask) if takes_mask else layer(x)
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, k: int) -> Any:
        return self.layers[k]
