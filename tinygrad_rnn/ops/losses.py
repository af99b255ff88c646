"""The one loss that is worth a primitive: cross entropy in one pass over the logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.arrays import A, AnyArray, raw
from tinygrad_rnn.ops.promotion import as_floats
from tinygrad_rnn.ops.ranges import check_range
from tinygrad_rnn.ops.reductions import sum
from tinygrad_rnn.ops.shaping import dimensions, expand_dims
from tinygrad_rnn.ops.whole_axis import softmax
from tinygrad_rnn.tape import Primitive


def _float_logits(who: str, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    logits, labels = inputs
    return (*as_floats(who, (logits,)), labels)


def _one_hot_forward(xp: Any, labels: Array, classes: int, dtype: Any) -> Array:
    return (labels[..., None] == xp.arange(classes)).astype(dtype)


def _forward(xp: Any, logits: Array, labels: Array) -> tuple[Array, Array, Array]:
    """The losses, and for the gradient the largest logit and the sum of exp(logit - largest).

    The two stay apart: their rounded total, log sum exp, would cost large logits their digits.
    """
    check_range(labels, logits.shape[-1], "cross_entropy", names=("label", "classes"))
    rows = logits.reshape(labels.size, logits.shape[-1])
    rows = rows.astype(np.float32) if rows.dtype == np.float16 else rows
    top = xp.max(rows, axis=-1) if rows.size else xp.zeros(len(rows), dtype=rows.dtype)
    top = xp.where(top == -math.inf, 0, top)
    with np.errstate(invalid="ignore", over="ignore"):
        likelihood = rows - top[:, None]
        picked = likelihood[xp.arange(len(rows)), labels.reshape(-1)]
        xp.exp(likelihood, out=likelihood)
        mass = xp.sum(likelihood, axis=-1)
        mass = xp.where(mass == 0, 1, mass)
        loss = (xp.log(mass) - picked).astype(logits.dtype)
    return loss.reshape(labels.shape), top.reshape(labels.shape), mass.reshape(labels.shape)


def _rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    ys: Sequence[AnyArray],
    logits: AnyArray,
    labels: AnyArray,
) -> list[Any]:
    """(softmax(logits) - one_hot(labels)) g."""
    return [cross_entropy_cotangent_p(logits, labels, gs[0], *ys[1:]), None]


def _cotangent_forward(
    xp: Any, logits: Array, labels: Array, g: Array, top: Array, mass: Array
) -> Array:
    """exp(logits - top) * (g / mass) - one_hot(labels) * g, in one array."""
    with np.errstate(invalid="ignore", over="ignore"):
        found = logits.reshape(labels.size, logits.shape[-1]) - top.reshape(-1, 1)
    xp.exp(found, out=found)
    found *= (g / mass).reshape(-1, 1)
    found[xp.arange(len(found)), labels.reshape(-1)] -= g.reshape(-1)
    return found.reshape(logits.shape).astype(logits.dtype, copy=False)


def _cotangent_rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    ys: Sequence[AnyArray],
    logits: AnyArray,
    labels: AnyArray,
    g: AnyArray,
    top: AnyArray,
    mass: AnyArray,
) -> list[Any]:
    """Top and mass say nothing that the logits do not, which get the whole cotangent."""
    share = softmax(logits)
    slope = gs[0] * share
    total = sum(slope, -1, keepdims=True)
    hot = one_hot_p(labels, classes=logits.shape[-1], dtype=logits.dtype)
    to_logits = (slope - share * total) * expand_dims(g, -1)
    return [to_logits, None, sum(slope - gs[0] * hot, -1), None, None]


one_hot_p = Primitive("one_hot", _one_hot_forward, [None])
cross_entropy_p = Primitive(
    "cross_entropy", _forward, joint_rule=_rule, multiple=True, promote=_float_logits
)
cross_entropy_cotangent_p = Primitive(
    "cross_entropy_cotangent", _cotangent_forward, joint_rule=_cotangent_rule
)


def _check_labels(labels: AnyArray, who: str) -> None:
    dimensions(labels, who)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{who}: labels must be integers, got {labels.dtype}")


def one_hot(labels: A, classes: int, dtype: Any = np.float32) -> A:
    """1 at the label and 0 elsewhere, along a new last axis of size ``classes``."""
    _check_labels(labels, "one_hot")
    check_range(raw(labels), classes, "one_hot", names=("label", "classes"))
    return one_hot_p(labels, classes=classes, dtype=np.dtype(dtype))


def cross_entropy(logits: A, labels: AnyArray) -> A:
    """-log softmax(logits)[label], in nats, for logits (..., C) and integer labels (...)."""
    _check_labels(labels, "cross_entropy")
    if dimensions(logits, "cross_entropy") == 0 or logits.shape[:-1] != labels.shape:
        raise ValueError(
            "cross_entropy: logits (..., C) and labels (...) do not fit: "
            f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    return cross_entropy_p(logits, labels)[0]
