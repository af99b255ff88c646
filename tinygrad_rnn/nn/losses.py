"""Losses, as functions and as modules.

``reduction`` is ``"mean"`` (the default), ``"sum"`` or ``"none"``. A ``mask`` of the shape of the
single losses leaves elements out (False, 0) of sum and mean, such as the padding of sequences.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.nn.module import Module, check_device, check_floating
from tinygrad_rnn.tensor import Tensor, tensor


def _beside(x: Tensor, value: Any) -> Tensor:
    """``value`` as a Tensor on the device of ``x``."""
    return value if isinstance(value, Tensor) else tensor(value, device=x.device)


def _reduce(losses: Tensor, mask: Any, reduction: str, who: str) -> Tensor:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{who}: reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    if mask is None:
        if reduction == "none":
            return losses
        return ops.mean(losses) if reduction == "mean" else ops.sum(losses)
    mask = _fit_mask(losses, mask, who)
    kept = ops.where(mask, losses, 0.0)
    if reduction == "none":
        return kept
    total = ops.sum(kept)
    if reduction == "sum":
        return total
    count = ops.sum(mask)
    return total / ops.maximum(count, 1).astype(losses.dtype)


def _fit_mask(losses: Tensor, mask: Any, who: str) -> Tensor:
    """The mask beside the single losses, as bools."""
    mask = _beside(losses, mask)
    check_device(who, mask, losses, "the mask", "the losses")
    if tuple(mask.shape) != tuple(losses.shape):
        raise ValueError(f"{who}: the mask must have shape {losses.shape}, got {mask.shape}")
    return mask.astype(np.bool_)


def _fit_targets(predictions: Tensor, targets: Any, who: str) -> Tensor:
    """The targets beside the predictions, in their dtype."""
    check_floating(who, predictions, "predictions")
    targets = _beside(predictions, targets)
    check_device(who, targets, predictions, "targets", "the predictions")
    if tuple(predictions.shape) != tuple(targets.shape):
        raise ValueError(
            f"{who}: predictions and targets must have one shape, got {predictions.shape} and "
            f"{targets.shape}"
        )
    return targets.astype(predictions.dtype)


def cross_entropy(
    logits: Tensor,
    labels: Any,
    *,
    mask: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """-log softmax(logits)[label] in nats, for logits (..., C) and integer labels (...).

    The classes are the last axis, so that logits of a sequence are (T, B, C). Labels equal to
    ``ignore_index`` count neither in the sum nor in the mean, which is 0 where none is left.

    >>> import math, tinygrad_rnn as tg
    >>> loss = tg.nn.cross_entropy(tg.zeros((3, 40)), [1, 2, 3], reduction="sum")
    >>> math.isclose(loss.item(), 3 * math.log(40), rel_tol=1e-6)
    True

    Raises
    ------
    IndexError
        where a label lies outside 0 ... C - 1 and is not ``ignore_index``.
    """
    check_floating("cross_entropy", logits, "logits")
    labels = _beside(logits, labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers, got {labels.dtype}")
    if logits.ndim == 0 or tuple(logits.shape[:-1]) != tuple(labels.shape):
        raise ValueError(
            f"cross_entropy: logits (..., C) and labels (...) do not fit: {logits.shape} and "
            f"{labels.shape}"
        )
    check_device("cross_entropy", labels, logits, "labels", "the logits")
    counted = labels != ignore_index
    mask = counted if mask is None else counted & _fit_mask(labels, mask, "cross_entropy")
    labels = ops.where(counted, labels, 0)
    return _reduce(ops.cross_entropy(logits, labels), mask, reduction, "cross_entropy")


def binary_cross_entropy_with_logits(
    logits: Tensor, targets: Any, *, mask: Any = None, reduction: str = "mean"
) -> Tensor:
    """-t log s - (1 - t) log(1 - s) with s = sigmoid(logit), for targets t in [0, 1]."""
    targets = _fit_targets(logits, targets, "binary_cross_entropy_with_logits")
    losses = ops.softplus(logits) - logits * targets
    return _reduce(losses, mask, reduction, "binary_cross_entropy_with_logits")


def mse_loss(
    predictions: Tensor, targets: Any, *, mask: Any = None, reduction: str = "mean"
) -> Tensor:
    """(p - t)^2."""
    targets = _fit_targets(predictions, targets, "mse_loss")
    return _reduce(ops.square(predictions - targets), mask, reduction, "mse_loss")


def l1_loss(
    predictions: Tensor, targets: Any, *, mask: Any = None, reduction: str = "mean"
) -> Tensor:
    """|p - t|."""
    targets = _fit_targets(predictions, targets, "l1_loss")
    return _reduce(ops.abs(predictions - targets), mask, reduction, "l1_loss")


def huber_loss(
    predictions: Tensor,
    targets: Any,
    *,
    delta: float = 1.0,
    mask: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), with e = p - t. Huber 1964."""
    if delta <= 0:
        raise ValueError(f"huber_loss: delta must be positive, got {delta}")
    targets = _fit_targets(predictions, targets, "huber_loss")
    error = ops.abs(predictions - targets)
    inner = ops.minimum(error, delta)
    return _reduce(inner * (error - 0.5 * inner), mask, reduction, "huber_loss")


class CrossEntropyLoss(Module):
    """:func:`cross_entropy` as a module."""

    def __init__(self, ignore_index: int = -100, reduction: str = "mean") -> None:
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, logits: Tensor, labels: Any) -> Tensor:
        return cross_entropy(
            logits, labels, ignore_index=self.ignore_index, reduction=self.reduction
        )


class BCEWithLogitsLoss(Module):
    """:func:`binary_cross_entropy_with_logits` as a module."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, logits: Tensor, targets: Any) -> Tensor:
        return binary_cross_entropy_with_logits(logits, targets, reduction=self.reduction)


class MSELoss(Module):
    """:func:`mse_loss` as a module."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, predictions: Tensor, targets: Any) -> Tensor:
        return mse_loss(predictions, targets, reduction=self.reduction)


class L1Loss(Module):
    """:func:`l1_loss` as a module."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, predictions: Tensor, targets: Any) -> Tensor:
        return l1_loss(predictions, targets, reduction=self.reduction)


class HuberLoss(Module):
    """:func:`huber_loss` as a module."""

    def __init__(self, delta: float = 1.0, reduction: str = "mean") -> None:
        self.delta, self.reduction = delta, reduction

    def forward(self, predictions: Tensor, targets: Any) -> Tensor:
        return huber_loss(predictions, targets, delta=self.delta, reduction=self.reduction)
