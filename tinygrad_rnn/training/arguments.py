"""What a Trainer is given, and what the functions that it is given return: checked."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.nn import Module
from tinygrad_rnn.optim import Optimizer
from tinygrad_rnn.tape import leaves, tree_map
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.training.callbacks import Callback


def check_parts(model: Any, optimizer: Any, callbacks: Any) -> None:
    """Refuse what is no model, no optimizer, no list of callbacks."""
    if not isinstance(model, Module):
        raise TypeError(f"Trainer: model must be a Module, got {type(model).__name__}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"Trainer: optimizer must be an Optimizer, got {type(optimizer).__name__}")
    if not isinstance(callbacks, list | tuple):
        raise TypeError(
            f"Trainer: callbacks must be a list of Callbacks, got {type(callbacks).__name__}"
        )
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise TypeError(f"Trainer: a callback must be a Callback, got {callback!r:.80}")


def check_functions(**functions: Any) -> None:
    """Refuse what cannot be called."""
    for name, function in functions.items():
        if not callable(function):
            raise TypeError(f"Trainer: {name} must be a function, got {function!r:.80}")


def check_numbers(who: str, lowest: int, **numbers: Any) -> None:
    """Refuse what is neither None nor an integer from ``lowest``, 0 or 1."""
    for name, number in numbers.items():
        if number is None:
            continue
        if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < lowest:
            wanted = "a positive integer" if lowest else "an integer >= 0"
            raise ValueError(f"{who}: {name} must be {wanted}, got {number!r}")


def loss_state_count(answer: Any) -> tuple[Tensor, Any, float | None]:
    """What ``loss`` returned: one number, a state made of Tensors, which is detached, and what the
    number counts, None where that is not said.
    """
    if not (isinstance(answer, tuple) and len(answer) in (2, 3) and isinstance(answer[0], Tensor)):
        got = type(answer).__name__
        if isinstance(answer, tuple):
            got = f"({', '.join(type(part).__name__ for part in answer)})"
        raise TypeError(
            "Trainer: loss(batch, state) must return (loss, state), a Tensor and the state, or "
            f"None where there is none, got {got}"
        )
    loss, state, *rest = answer
    if loss.size != 1:
        raise ValueError(f"Trainer: the loss must be one number, got shape {loss.shape}")
    return loss, tree_map(_detached, state), _count(rest[0]) if rest else None


def _count(given: Any) -> float:
    """How much a batch counts, such as the number of its tokens."""
    try:
        count = math.nan if isinstance(given, bool | str) else float(given)
    except (TypeError, ValueError):
        count = math.nan
    if not (math.isfinite(count) and count >= 0):
        raise ValueError(
            "Trainer: the count in (loss, state, count) must be a finite number >= 0, got "
            f"{given!r:.80}"
        )
    return count


def check_counts(batches: Sequence[Any], counts: Sequence[float | None]) -> None:
    """Refuse counts for some batches of one update; warn where counts are needed and not given."""
    told = [count is not None for count in counts]
    if any(told) and not all(told):
        raise ValueError(
            "Trainer: loss(batch, state) must return a count for each batch of an update or for "
            f"none, got one for {sum(told)} of {len(told)}"
        )
    if len(batches) > 1 and not any(told) and len({_shapes(batch) for batch in batches}) > 1:
        warnings.warn(
            "Trainer: the batches of one update have different shapes and count alike; return "
            "(loss, state, count) where the loss is a mean over count elements, count = 1 where "
            "that is wanted",
            stacklevel=2,
        )


def _shapes(batch: Any) -> tuple[Any, ...]:
    return tuple(tuple(leaf.shape) for leaf in leaves(batch) if hasattr(leaf, "shape"))


def _detached(leaf: Any) -> Tensor:
    if not isinstance(leaf, Tensor):
        raise TypeError(f"Trainer: a state is made of Tensors, got {type(leaf).__name__}")
    return leaf.detach()


def metrics_by_name(answer: Any) -> dict[str, float]:
    """What ``evaluate`` returned: at least one number with a name."""
    if not isinstance(answer, Mapping) or not answer:
        raise TypeError(f"Trainer: evaluate() must return metrics by name, got {answer!r:.80}")
    metrics: dict[str, float] = {}
    for name, value in answer.items():
        try:
            metrics[name] = float(value)
        except (TypeError, ValueError):
            raise TypeError(
                f"Trainer: the metric {name} must be a number, got {value!r:.80}"
            ) from None
    return metrics
