"""What scan is given and what a step returns, said in one sentence where it will not do."""

from __future__ import annotations

from typing import Any, cast

from tinygrad_rnn import tape
from tinygrad_rnn.tensor import Tensor


def checked_step(found: Any, state: Any) -> tuple[Any, Any]:
    """What a step returned, if it is (y, state) with a state like the one that it was given."""
    kind: Any = type(found)  # pyright: ignore[reportUnknownVariableType]
    if kind is not tuple or len(found) != 2:
        raise TypeError(f"scan: the step must return (y, state), got {kind.__name__}")
    y, end = cast("tuple[Any, Any]", found)
    for value in (*tape.leaves(y), *tape.leaves(end)):
        if not isinstance(value, Tensor):
            raise TypeError(f"scan: the step must return Tensors, got a {type(value).__name__}")
    if _form(end) != _form(state):
        raise TypeError(
            f"scan: the step must return a state like the one that it was given, {_form(state)}, "
            f"got {_form(end)}"
        )
    return y, end


def _form(tree: Any) -> Any:
    """The containers, shapes and dtypes of a tree, to be compared and shown."""
    if isinstance(tree, tape.Traced):
        return f"{tree.array.dtype} {tuple(tree.array.shape)}"
    if isinstance(tree, dict):
        inner = ", ".join(f"{key}: {_form(tree[key])}" for key in tape.in_order(tree))  # pyright: ignore
        return f"dict({inner})"
    if isinstance(tree, tuple | list):
        return f"{type(tree).__name__}({', '.join(map(_form, tree))})"  # pyright: ignore
    return type(tree).__name__


def check_arguments(xs: Any, state: Any) -> int:
    """T, if the arguments of scan are what they should be."""
    inputs = tape.leaves(xs)
    if not inputs:
        raise ValueError("scan: expected at least one Tensor over time")
    for what, values in (("xs", inputs), ("state", tape.leaves(state))):
        for value in values:
            if not isinstance(value, Tensor):
                kind = type(value).__name__
                raise TypeError(f"scan: {what} must be Tensors in containers, got a {kind}")
    lengths = {x.shape[0] if x.ndim else 0 for x in inputs}
    if len(lengths) > 1 or min(lengths) < 1:
        shapes = ", ".join(str(x.shape) for x in inputs)
        raise ValueError(
            f"scan: xs must have one leading axis of at least one time step, got {shapes}"
        )
    return lengths.pop()
