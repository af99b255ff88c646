"""What a Trainer is given, and what the functions that it is given return: checked."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinygrad_rnn.nn import Module
from tinygrad_rnn.optim import Optimizer
from tinygrad_rnn.tape import leaves, tree_map
from tinygrad_rnn.tensor import Tensor


def check_parts(model: Any, optimizer: Any, callbacks: Any, kind: type) -> None:
    """Refuse what is no model, no optimizer, no list of callbacks, which are of that kind."""
    if not isinstance(model, Module):
        raise TypeError(f"Trainer: model must be a Module, got {type(model).__name__}")
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"Trainer: optimizer must be an Optimizer, got {type(optimizer).__name__}")
    if not isinstance(callbacks, list | tuple):
        raise TypeError(
            f"Trainer: callbacks must be a list of Callbacks, got {type(callbacks).__name__}"
        )
    for callback in callbacks:
        if not isinstance(callback, kind):
            raise TypeError(f"Trainer: a callback must be a Callback, got {callback!r:.80}")


def check_functions(optional: bool = False, **functions: Any) -> None:
    """Refuse what cannot be called, nor is None where it may be left out."""
    for name, function in functions.items():
        if not (callable(function) or (optional and function is None)):
            raise TypeError(f"Trainer: {name} must be a function, got {function!r:.80}")


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a checkpoint gives them back."""
    try:
        return json.loads(json.dumps(dict(settings)))
    except TypeError as error:
        raise TypeError(
            f"Trainer: settings must be strings, numbers, lists and dicts ({error})"
        ) from None


def check_numbers(who: str, lowest: int, **numbers: Any) -> None:
    """Refuse what is neither None nor an integer from ``lowest``, 0 or 1."""
    for name, number in numbers.items():
        if number is None:
            continue
        if not isinstance(number, int | np.integer) or isinstance(number, bool) or number < lowest:
            wanted = "a positive integer" if lowest else "an integer >= 0"
            raise ValueError(f"{who}: {name} must be {wanted}, got {number!r}")


def limits(epochs: Any, updates: Any, minutes: Any) -> tuple[float, float, float]:
    """How many epochs, updates and seconds to train at most, inf where that is not said."""
    if epochs is None and updates is None and minutes is None:
        raise ValueError("Trainer.fit: expected epochs, updates or minutes, got none of them")
    check_numbers("Trainer.fit", 0, epochs=epochs, updates=updates)
    if minutes is not None and not (isinstance(minutes, int | float) and minutes >= 0):
        raise ValueError(f"Trainer.fit: minutes must be a number >= 0, got {minutes!r}")
    most = [math.inf if number is None else number for number in (epochs, updates, minutes)]
    return most[0], most[1], most[2] * 60


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
