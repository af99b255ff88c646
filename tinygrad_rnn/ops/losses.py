"""The one loss that is worth a primitive: cross entropy in one pass over the logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.ops.elementwise import exp
from tinygrad_rnn.ops.indexing import check_range
from tinygrad_rnn.ops.promotion import as_floats
from tinygrad_rnn.ops.reductions import sum
from tinygrad_rnn.ops.shaping import dimensions, expand_dims
from tinygrad_rnn.tape import Primitive, Traced


def _float_logits(who: str, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    logits, labels = inputs
    return (*as_floats(who, (logits,)), labels)


def _one_hot_forward(xp: Any, labels: Array, classes: int, dtype: Any) -> Array:
    return (labels[..., None] == xp.arange(classes)).astype(dtype)


def _forward(xp: Any, logits: Array, labels: Array) -> tuple[Array, Array]:
    check_range(labels, logits.shape[-1], "cross_entropy", names=("label", "classes"))
    wide = logits.astype(np.float32) if logits.dtype == np.float16 else logits
    rows = wide.reshape(-1, wide.shape[-1])
    top = xp.max(rows, axis=-1)
    likelihood = rows - top[:, None]
    xp.exp(likelihood, out=likelihood)
    total = xp.log(xp.sum(likelihood, axis=-1)) + top
    picked = rows[xp.arange(len(rows)), labels.reshape(-1)]
    total, loss = (v.reshape(labels.shape).astype(logits.dtype) for v in (total, total - picked))
    return loss, total


def _rule(
    needed: Sequence[bool], gs: Sequence[Any], ys: Sequence[Array], logits: Array, labels: Array
) -> list[Any]:
    """softmax(logits) - one_hot(labels), weighted by the cotangents of loss and total."""
    g_loss, g_total = gs
    if g_loss is None:
        return [exp(logits - expand_dims(ys[1], -1)) * expand_dims(g_total, -1), None]
    weight = g_loss if g_total is None else g_loss + g_total
    return [cross_entropy_cotangent_p(logits, ys[1], labels, weight, g_loss), None]


def _cotangent_forward(
    xp: Any, logits: Array, total: Array, labels: Array, weight: Array, g: Array
) -> Array:
    """exp(logits - total) * weight - one_hot(labels) * g, in one array."""
    found = logits.reshape(-1, logits.shape[-1]) - total.reshape(-1, 1)
    xp.exp(found, out=found)
    found *= weight.reshape(-1, 1)
    found[xp.arange(len(found)), labels.reshape(-1)] -= g.reshape(-1)
    return found.reshape(logits.shape)


def _cotangent_rule(
    needed: Sequence[bool],
    gs: Sequence[Any],
    ys: Sequence[Array],
    logits: Array,
    total: Array,
    labels: Array,
    weight: Array,
    g: Array,
) -> list[Any]:
    (outer,) = gs
    slope = outer * exp(logits - expand_dims(total, -1))
    to_logits = slope * expand_dims(weight, -1)
    hot = one_hot_p(labels, classes=logits.shape[-1], dtype=logits.dtype)
    return [to_logits, -sum(to_logits, -1), None, sum(slope, -1), -sum(outer * hot, -1)]


one_hot_p = Primitive("one_hot", _one_hot_forward, [None])
cross_entropy_p = Primitive(
    "cross_entropy", _forward, joint_rule=_rule, multiple=True, promote=_float_logits
)
cross_entropy_cotangent_p = Primitive(
    "cross_entropy_cotangent", _cotangent_forward, joint_rule=_cotangent_rule
)


def _check_labels(labels: Array, who: str) -> None:
    dimensions(labels, who)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{who}: labels must be integers, got {labels.dtype}")


def one_hot(labels: Array, classes: int, dtype: Any = np.float32) -> Array:
    """1 at the label and 0 elsewhere, along a new last axis of size ``classes``."""
    _check_labels(labels, "one_hot")
    raw = labels.array if isinstance(labels, Traced) else labels
    check_range(raw, classes, "one_hot", names=("label", "classes"))
    return one_hot_p(labels, classes=classes, dtype=np.dtype(dtype))


def cross_entropy(logits: Array, labels: Array) -> Array:
    """-log softmax(logits)[label], in nats, for logits (..., C) and integer labels (...)."""
    _check_labels(labels, "cross_entropy")
    if dimensions(logits, "cross_entropy") == 0 or logits.shape[:-1] != labels.shape:
        raise ValueError(
            "cross_entropy: logits (..., C) and labels (...) do not fit: "
            f"{tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    return cross_entropy_p(logits, labels)[0]
