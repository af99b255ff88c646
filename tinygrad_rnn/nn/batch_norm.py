"""Batch normalisation: per feature, over rows and time steps."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.nn.checks import check_floating, check_like, check_size, fit
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.parameter import Buffer, Parameter
from tinygrad_rnn.tensor import Tensor


class BatchNorm1d(Module):
    """y = weight (x - mean) / sqrt(var + eps) + bias for each of C features; x is (..., C).

    In training, mean and var are those of the inputs over every axis but that of the features:
    over the N rows of (N, C), and over all steps of all rows of a sequence (T, B, C). Running means
    of mean and of the unbiased variance, n / (n - 1) var, move towards those of each call by
    ``momentum``; evaluation uses them, so that there each step of each row is normalised on its
    own. Source: Ioffe, Szegedy 2015.

    Parameters
    ----------
    num_features : C.
    eps : added to the variance.
    momentum : the weight of the newest call in the running means, None for the mean of all calls.
    affine : whether there are weight (C,), ones at the start, and bias (C,), zeros.
    track_running_stats : whether there are running_mean, running_var and num_batches_tracked;
        without them evaluation normalises as training does.
    axis : where the features are: -1, or 1 for (N, C, L), as PyTorch reads three axes. Without it
        the sizes decide; where three axes fit both, a call is refused.
    """

    takes_mask = True

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        axis: int | None = None,
    ) -> None:
        check_size("BatchNorm1d", num_features=num_features)
        if axis not in (None, 1, -1):
            raise ValueError(f"BatchNorm1d: axis must be 1, -1 or None, got {axis!r}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(
                f"BatchNorm1d: momentum must satisfy 0 <= momentum <= 1 or be None, got {momentum}"
            )
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.axis = axis
        ones, zeros = np.ones(num_features, np.float32), np.zeros(num_features, np.float32)
        self.weight = Parameter(ones) if affine else None
        self.bias = Parameter(zeros) if affine else None
        self.running_mean = Buffer(zeros) if track_running_stats else None
        self.running_var = Buffer(ones) if track_running_stats else None
        self.num_batches_tracked = Buffer(np.array(0)) if track_running_stats else None

    def forward(self, x: Tensor, mask: Any = None) -> Tensor:
        """``mask``, of the shape of x without its features, says which rows or steps count.

        Where it is False, x is not read, be it nan, and y is 0.
        """
        check_floating("BatchNorm1d", x)
        like = self.some_tensor()
        if like is not None:
            check_like("BatchNorm1d", x, like)
        if self._features_second(x):
            return ops.swapaxes(self._normalised(ops.swapaxes(x, 1, 2), mask), 1, 2)
        return self._normalised(x, mask)

    def _features_second(self, x: Tensor) -> bool:
        """Whether x is (N, C, L) and not (..., C), which nobody has to guess."""
        size, three = self.num_features, x.ndim == 3
        second = three and self.axis != -1 and x.shape[1] == size
        last = x.ndim > 1 and not (three and self.axis == 1) and x.shape[-1] == size
        if second and last:
            raise ValueError(
                f"BatchNorm1d: inputs {x.shape} fit with the {size} features on axis 1, as in "
                "PyTorch, and on the last, as in (T, B, C); write BatchNorm1d(..., axis=1) or "
                "axis=-1"
            )
        if not (second or last):
            wanted = f"(N, {size}, L)" if three and self.axis == 1 else f"(..., {size})"
            raise ValueError(
                f"BatchNorm1d: inputs must have shape {wanted} with at least two axes, got "
                f"{x.shape}"
            )
        return second

    def _normalised(self, x: Tensor, mask: Any) -> Tensor:
        if mask is not None:
            mask = fit("BatchNorm1d", "the mask", mask, x.shape[:-1], x, "the inputs")
            mask = ops.expand_dims(mask.astype(np.bool_), -1)
            x = ops.where(mask, x, 0.0)
        if self.running_mean is None or self.running_var is None or self.training:
            centred, variance = self._of_the_call(x, mask)
        else:
            centred, variance = x - self.running_mean.detach(), self.running_var.detach()
        y = centred / ops.sqrt(variance + self.eps)
        if self.weight is not None and self.bias is not None:
            y = y * self.weight + self.bias
        return y if mask is None else ops.where(mask, y, 0.0)

    def _of_the_call(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The centred inputs and their variance; the running means follow in training."""
        axes = tuple(range(x.ndim - 1))
        if mask is None:
            count: Any = x.size // self.num_features
            if count < 2:
                raise ValueError(
                    "BatchNorm1d: the statistics of a call need at least two rows, got inputs of "
                    f"shape {x.shape}; switch to evaluation with .eval()"
                )
            divisor: Any = count
        else:
            count = ops.sum(mask).astype(x.dtype)
            divisor = ops.maximum(count, 1)
        mean = ops.sum(x, axes) / divisor
        centred = x - mean
        if mask is not None:
            centred = ops.where(mask, centred, 0.0)
        variance = ops.sum(ops.square(centred), axes) / divisor
        if self.training:
            self._follow(mean.detach(), variance.detach(), count)
        return centred, variance

    def _follow(self, mean: Tensor, variance: Tensor, count: Any) -> None:
        """Move the running means towards those of a call of ``count`` rows, if there are any."""
        tracked = self.num_batches_tracked
        if tracked is None or self.running_mean is None or self.running_var is None:
            return
        tracked.data = tracked.detach() + 1
        some, others = 1, count - 1
        if isinstance(count, Tensor):
            some, others = ops.minimum(count, 1), ops.maximum(others, 1)
        share = self.momentum
        if share is None:
            share = 1 / tracked.detach().astype(mean.dtype)
        for running, new in (
            (self.running_mean, mean),
            (self.running_var, variance * (count / others)),
        ):
            old = running.detach()
            running.data = old + share * some * (new - old)

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
