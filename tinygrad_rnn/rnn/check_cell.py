"""Checking a cell: that its replay is its unrolled run, also after something has changed."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tinygrad_rnn.ops import generator, generator_state, set_generator_state
from tinygrad_rnn.replay import UnrolledWarning
from tinygrad_rnn.rnn.cells import Cell
from tinygrad_rnn.rnn.recurrent import Recurrent
from tinygrad_rnn.tape import enable_grad, leaves
from tinygrad_rnn.tensor import Tensor, tensor


class CellError(AssertionError):
    """A cell that gives other numbers replayed than unrolled."""


def check_cell(cell: Cell, steps: int = 5, batch_size: int = 3) -> bool:
    """Compare a cell replayed with the same cell unrolled; True, or CellError.

    Outputs, the last state and all gradients are compared, at first and after each of these changes
    alone, which are undone again: other values of a parameter, a parameter that wants no gradient,
    evaluation in place of training, and another number in any attribute, global, closed-over
    variable, list or dict that the cell's methods can see. So a cell that says ``pure = True`` and
    depends on something else than its own plain attributes is found.

    Parameters
    ----------
    steps, batch_size : T and B of the random inputs.

    Raises
    ------
    CellError
        naming the change after which the two runs differ.

    >>> from tinygrad_rnn import rnn
    >>> rnn.check_cell(rnn.LSTMCell(3, 5))
    True
    """
    if not isinstance(cell, Cell):
        raise TypeError(f"check_cell: expected a Cell, got {type(cell).__name__}")
    like = cell.some_tensor()
    values = generator().standard_normal((steps, batch_size, cell.input_size))
    dtype, device = (np.float32, None) if like is None else (like.dtype, like.device)
    x = tensor(values, dtype, device, requires_grad=True)
    layers = Recurrent(cell), Recurrent(cell, unroll=True)
    _compare(*layers, x, "as it is")
    for name, change, undo in [*_changes_of(cell), *_numbers_of(cell)]:
        _run(layers[0], x)  # what might be used again is of just before the change
        change()
        try:
            _compare(*layers, x, f"after a change of {name}")
        finally:
            undo()
    _compare(*layers, x, "after all changes were undone")
    return True


def _compare(replayed: Recurrent, unrolled: Recurrent, x: Tensor, when: str) -> None:
    cell, before = replayed.cell, generator_state()
    try:
        expected = _run(unrolled, x)
    except Exception:
        return  # a cell that this change breaks says nothing
    after = generator_state()
    set_generator_state(before)
    found = _run(replayed, x)
    set_generator_state(after)
    for (name, a), (_, b) in zip(found, expected, strict=True):
        limit = 1e-10 if b.dtype == np.float64 else 1e-4 if b.dtype == np.float32 else 2e-2
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        if not np.allclose(a / scale, b / scale, rtol=0, atol=limit, equal_nan=True):
            worst = float(np.max(np.abs(a - b)))
            raise CellError(
                f"check_cell: {type(cell).__name__} {when}: {name} differs by {worst:.3g} between "
                "the replayed and the unrolled run"
                + ("; it says pure = True, which seems not to be so" if cell.is_pure else "")
            )


def _run(layer: Recurrent, x: Tensor) -> list[tuple[str, np.ndarray]]:
    """Outputs, last state and gradients, by name."""
    wanted = {"the input": x} | {
        f"parameter {name}": p for name, p in layer.cell.named_parameters() if p.requires_grad
    }
    kept = [p.grad for p in wanted.values()]
    for p in wanted.values():
        p.grad = None
    try:
        with enable_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UnrolledWarning)
            output, state = layer(x)
            results = [y for y in leaves((output, state)) if y.requires_grad]
            loss: Any = sum((y * (k + 1.5)).sum() for k, y in enumerate(results))
            if results:
                loss.backward()
        found = [("an output or state", y.numpy()) for y in leaves((output, state))]
        return found + [
            (f"the gradient of {name}", np.zeros(p.shape) if p.grad is None else p.grad.numpy())
            for name, p in wanted.items()
        ]
    finally:
        for p, grad in zip(wanted.values(), kept, strict=True):
            p.grad = grad


Change = tuple[str, Callable[[], Any], Callable[[], Any]]


def _changes_of(cell: Cell) -> Iterator[Change]:
    """New values of parameters, frozen parameters, and the other mode."""
    modes = [(module, module.training) for module in cell.modules()]

    def restore() -> None:
        for module, mode in modes:
            module.training = mode

    yield "the mode", (lambda: cell.train(not cell.training)), restore
    for name, p in cell.named_parameters():
        old, noise = p.numpy().copy(), generator().standard_normal(p.shape)
        moved, put = (old + 0.25 * noise).astype(p.dtype), partial(setattr, p, "data")
        yield f"parameter {name}", partial(put, moved), partial(put, old)
        if p.requires_grad:
            want = partial(setattr, p, "requires_grad")
            yield f"what is wanted of parameter {name}", partial(want, False), partial(want, True)


def _numbers_of(cell: Cell) -> Iterator[Change]:
    """Another number, or another array, in each place that the cell's methods can see."""
    for owner, items, put in _places(cell):
        for key, value in items:
            other: Any = None
            if isinstance(value, float) or (
                isinstance(value, np.ndarray) and value.dtype.kind == "f"
            ):
                other = value * 1.5 + 0.25
            elif type(value) is bool:
                other = not value
            elif type(value) is int:
                other = value + 1
            if other is not None:
                yield f"{owner} {key}", partial(put, key, other), partial(put, key, value)


Place = tuple[str, list[tuple[Any, Any]], Callable[[Any, Any], Any]]


def _places(cell: Cell) -> Iterator[Place]:
    for module in cell.modules():
        held = vars(module)
        yield "attribute", [*held.items()], held.__setitem__
        yield from (place for value in [*held.values()] for place in _inside(value))
        for kind in type(module).__mro__:
            if kind.__module__.partition(".")[0] == __name__.partition(".")[0]:
                break
            yield (
                f"attribute of class {kind.__name__}",
                [(n, v) for n, v in vars(kind).items() if not n.startswith("__")],
                partial(setattr, kind),
            )
            for member in [*vars(kind).values()]:
                function = getattr(member, "fget", None) or member
                if isinstance(function, types.FunctionType):
                    yield from _around(function)


def _inside(value: Any) -> Iterator[Place]:
    """The numbers in a list, a dict or an object that is no part of this package."""
    if isinstance(value, list):
        yield "entry", [*enumerate(value)], value.__setitem__
    elif isinstance(value, dict):
        yield "entry", [*value.items()], value.__setitem__
    elif hasattr(value, "__dict__") and not callable(value):
        yield (
            f"attribute of a {type(value).__name__}",
            [*vars(value).items()],
            vars(value).__setitem__,
        )


def _around(function: types.FunctionType) -> Iterator[Place]:
    """What a function closes over, and the globals that its code names."""
    for name, held in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        content = held.cell_contents
        put = partial(setattr, held, "cell_contents")
        yield "variable", [(name, content)], lambda _, value, put=put: put(value)
        yield from _inside(content)
    around = function.__globals__
    named = [(n, around[n]) for n in function.__code__.co_names if n in around]
    yield "global", named, around.__setitem__
    for _, value in named:
        if not isinstance(value, type | types.ModuleType | types.FunctionType):
            yield from _inside(value)
