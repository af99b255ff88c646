"""What scan is given and what a step returns, said in one sentence where it will not do."""

from __future__ import annotations

from typing import Any, cast

from tinygrad_rnn import tape
from tinygrad_rnn.tensor import Tensor


def checked_step(found: Any, state: Any, who: str = "scan: the step") -> tuple[Any, Any]:
    """What a step returned, if it is (y, state) with a state like the one that it was given."""
    kind: Any = type(found)  # pyright: ignore[reportUnknownVariableType]
    if kind is not tuple or len(found) != 2:
        many = f" of {len(found)}" if kind in (tuple, list) else ""
        got = f"a {kind.__name__}{many}"
        raise TypeError(f"{who} must return (y, state), a tuple of two, got {got}")
    y, end = cast("tuple[Any, Any]", found)
    for value in (*tape.leaves(y), *tape.leaves(end)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{who} must return Tensors, got a {type(value).__name__}")
    if form_of(end) != form_of(state):
        raise TypeError(
            f"{who} must return a state like the one that it was given, {form_of(state)}, got "
            f"{form_of(end)}{_why(y, end, state)}"
        )
    return y, end


def _why(y: Any, end: Any, state: Any) -> str:
    """What may help to find the mistake."""
    if form_of(y) == form_of(state):
        return ": are y and the state exchanged? A step returns (y, state)"
    before, after = tape.leaves(state), tape.leaves(end)
    if [x.shape for x in before] != [x.shape for x in after]:
        return ""
    for old, new in zip(before, after, strict=True):
        if old.dtype != new.dtype:
            return _origin(new)
    return ""


def _origin(value: Tensor) -> str:
    """Which operation first met an operand of the dtype of ``value``, as far as the tape says."""
    for record in tape.collect([value]):
        for x in record.inputs:
            if isinstance(x, tape.Traced) and x.record is not None:
                continue
            array = x.array if isinstance(x, tape.Traced) else x
            if getattr(array, "dtype", None) == value.dtype:
                name = f" {x.name!r}" if isinstance(x, tape.Traced) and x.name else ""
                return (
                    f": {value.dtype} came in by {record.primitive.name}, with an operand{name} of "
                    f"shape {tuple(array.shape)}; convert that with .astype"
                )
    return ""


def form_of(tree: Any) -> str:
    """The containers, shapes and dtypes of a tree, to be compared and shown."""
    if isinstance(tree, tape.Traced):
        return f"{tree.array.dtype} {tuple(tree.array.shape)}"
    if isinstance(tree, dict):
        found = cast("dict[Any, Any]", tree)
        items = (f"{key}: {form_of(found[key])}" for key in tape.in_order(found))
        return f"dict({', '.join(items)})"
    if isinstance(tree, tuple | list):
        return f"{type(tree).__name__}({', '.join(map(form_of, tree))})"  # pyright: ignore
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
