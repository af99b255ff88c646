"""Losses, as functions and as modules.

``reduction`` is ``"mean"`` (the default), ``"sum"`` or ``"none"``. A ``mask`` of the shape of the
single losses leaves elements out (False, 0) of sum and mean, such as the padding of sequences.
Where PyTorch has another order of arguments, they are given by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn import ops
from tinygrad_rnn.nn.checks import beside, check_device, check_floating, fit
from tinygrad_rnn.nn.module import Module
from tinygrad_rnn.nn.parameter import Buffer
from tinygrad_rnn.ops.shaping import normalise_axis
from tinygrad_rnn.tensor import Tensor, tensor


def _reduce(
    losses: Tensor, mask: Any, reduction: str, who: str, shares: Tensor | None = None
) -> Tensor:
    """Their sum or mean; each counts as 1 in the mean, or as much as ``shares`` says."""
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
    count = ops.sum(mask if shares is None else ops.where(mask, shares, 0.0))
    return total / ops.where(count == 0, 1, count).astype(losses.dtype)


def _fit_mask(losses: Tensor, mask: Any, who: str) -> Tensor:
    """The mask beside the single losses, as bools."""
    return fit(who, "the mask", mask, losses.shape, losses, "the losses").astype(np.bool_)


def _fit_targets(predictions: Tensor, targets: Any, who: str) -> Tensor:
    """The targets beside the predictions, in their dtype."""
    check_floating(who, predictions, "predictions")
    targets = beside(predictions, targets)
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
    weight: Any = None,
    *,
    axis: int | None = None,
    mask: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(logits)[label] in nats, for logits with an axis of classes and integer labels.

    ``axis`` names the classes: -1 for logits (..., C), such as those of a sequence, (T, B, C), and
    1 for logits (N, C, d1, ...), as PyTorch has them; the labels have the other axes. Without it
    the shape of the labels decides, where only one of the two fits.

    Parameters
    ----------
    weight : (C,), by which the loss of each label is multiplied; the mean is over the sum of them.
    ignore_index : labels equal to it count neither in the sum nor in the mean, which is 0 where
        none is left.
    label_smoothing : the share s of the target that is spread over all classes: the loss is
        (1 - s) times that of the label and s times the mean of those of all classes.

    >>> import math, tinygrad_rnn as tg
    >>> loss = tg.nn.cross_entropy(tg.zeros((3, 40)), [1, 2, 3], reduction="sum")
    >>> math.isclose(loss.item(), 3 * math.log(40), rel_tol=1e-6)
    True

    Raises
    ------
    IndexError
        where a label lies outside 0 ... C - 1 and is not ``ignore_index``.
    ValueError
        where the shapes do not fit, or fit with the classes on either axis.
    """
    check_floating("cross_entropy", logits, "logits")
    given = labels if isinstance(labels, Tensor) else tensor(labels).array
    if given.dtype.kind not in "iu":
        raise TypeError(f"cross_entropy: labels must be integers, got {given.dtype}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(
            f"cross_entropy: label_smoothing must lie in 0 ... 1, got {label_smoothing}"
        )
    logits = _classes_last(logits, given, axis)
    if isinstance(given, Tensor):
        check_device("cross_entropy", given, logits, "labels", "the logits")
    counted = given != ignore_index  # on the host, if they come from there
    labels = beside(logits, ops.where(counted, given, 0))
    counted = beside(logits, counted)
    mask = counted if mask is None else counted & _fit_mask(labels, mask, "cross_entropy")
    losses = ops.cross_entropy(logits, labels)
    shares = None
    if weight is not None:
        classes = logits.shape[-1:]
        weight = fit("cross_entropy", "the weight", weight, classes, logits, "the logits")
        weight = weight.astype(logits.dtype)
        shares = ops.take(weight, labels, 0)
        losses = losses * shares
    if label_smoothing:
        every = -ops.log_softmax(logits) if weight is None else -ops.log_softmax(logits) * weight
        losses = (1 - label_smoothing) * losses + label_smoothing * ops.mean(every, -1)
    return _reduce(losses, mask, reduction, "cross_entropy", shares)


def _classes_last(logits: Tensor, labels: Any, axis: int | None) -> Tensor:
    """The logits with their classes on the last axis, which nobody has to guess."""
    shape, wanted = tuple(logits.shape), tuple(labels.shape)
    if axis is None:
        last = shape[:-1] == wanted
        second = len(shape) > 2 and (shape[0], *shape[2:]) == wanted
        if last and second:
            raise ValueError(
                f"cross_entropy: logits {shape} and labels {wanted} fit with the classes on axis "
                "1, as in PyTorch, and on the last, as in (T, B, C); write axis=1 or axis=-1"
            )
        if len(shape) == 0 or not (last or second):
            raise ValueError(
                f"cross_entropy: logits (..., C) and labels (...) do not fit: {shape} and {wanted}"
            )
        axis = 1 if second else -1
    k = normalise_axis(axis, logits, "cross_entropy")
    if shape[:k] + shape[k + 1 :] != wanted:
        raise ValueError(
            f"cross_entropy: logits with classes on axis {axis} and labels do not fit: {shape} "
            f"and {wanted}"
        )
    return logits if k == len(shape) - 1 else ops.moveaxis(logits, k, -1)


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
    """:func:`cross_entropy` as a module, whose ``weight`` is a buffer."""

    def __init__(
        self,
        weight: Any = None,
        *,
        axis: int | None = None,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        self.weight = None if weight is None else Buffer(weight)
        self.axis, self.ignore_index = axis, ignore_index
        self.reduction, self.label_smoothing = reduction, label_smoothing

    def forward(self, logits: Tensor, labels: Any) -> Tensor:
        return cross_entropy(
            logits,
            labels,
            self.weight,
            axis=self.axis,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class BCEWithLogitsLoss(Module):
    """:func:`binary_cross_entropy_with_logits` as a module."""

    def __init__(self, *, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, logits: Tensor, targets: Any) -> Tensor:
        return binary_cross_entropy_with_logits(logits, targets, reduction=self.reduction)


class MSELoss(Module):
    """:func:`mse_loss` as a module."""

    def __init__(self, *, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, predictions: Tensor, targets: Any) -> Tensor:
        return mse_loss(predictions, targets, reduction=self.reduction)


class L1Loss(Module):
    """:func:`l1_loss` as a module."""

    def __init__(self, *, reduction: str = "mean") -> None:
        self.reduction = reduction

    def forward(self, predictions: Tensor, targets: Any) -> Tensor:
        return l1_loss(predictions, targets, reduction=self.reduction)


class HuberLoss(Module):
    """:func:`huber_loss` as a module."""

    def __init__(self, *, delta: float = 1.0, reduction: str = "mean") -> None:
        self.delta, self.reduction = delta, reduction

    def forward(self, predictions: Tensor, targets: Any) -> Tensor:
        return huber_loss(predictions, targets, delta=self.delta, reduction=self.reduction)
