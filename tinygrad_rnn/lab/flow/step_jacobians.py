"""The Jacobians of single steps, the new state of one sequence by the old one."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinygrad_rnn.backends import to_host
from tinygrad_rnn.lab.flow.followed import Run, Step
from tinygrad_rnn.ops import broadcast_to, identity
from tinygrad_rnn.tape import differentiate, enable_grad, leaves, rebuild
from tinygrad_rnn.tensor import Tensor, tensor


def step_jacobians(run: Run, row: int) -> list[np.ndarray]:
    """ds_t/ds_{t-1} (S, S) of one sequence, for each step of a run in its order.

    s is all that is floating of the state, its fields one after the other. A row that does not
    count at a step keeps its state: the identity.
    """
    sizes = [int(np.prod(s.shape[1:])) for s in run.steps[0].before]
    repeats = run.cell.is_pure
    found: list[np.ndarray] = []
    for step in run.steps:
        if step.valid is not None and not step.valid[row]:
            found.append(np.eye(sum(sizes), dtype=step.after[0].dtype))
            continue
        jacobian = _of_copies(run, step, row, sizes) if repeats else None
        if jacobian is None:  # then the rows are not independent, or draws differ from row to row
            repeats, jacobian = False, _row_by_row(step, row, sizes)
        found.append(jacobian)
    return found


def _seeds(step: Step, matrix: np.ndarray) -> list[Tensor]:
    """Rows of cotangents of the whole new state, as those of its fields."""
    ends = np.cumsum([int(np.prod(s.shape[1:])) for s in step.after])[:-1]
    parts = np.split(matrix, ends, axis=1)
    return [
        tensor(part.reshape(len(part), *s.shape[1:]).astype(s.dtype), device=s.device)
        for part, s in zip(parts, step.after, strict=True)
    ]


def _of_copies(run: Run, step: Step, row: int, sizes: list[int]) -> np.ndarray | None:
    """One step of as many copies of the row as the state has elements; None if it is another one.

    That is quick, and holds for cells whose rows do not meet and that draw nothing.
    """
    count = sum(sizes)

    def copies(v: Any) -> Any:
        return broadcast_to(v.detach()[row : row + 1], (count, *v.shape[1:]))

    state = [copies(s) for s in leaves(step.state)]
    floats = [k for k, s in enumerate(state) if s.dtype.kind == "f"]
    with enable_grad():
        before = [Tensor(state[k].array, True) for k in floats]
        for k, s in zip(floats, before, strict=True):
            state[k] = s
        _, new = run.cell.step(copies(step.x), rebuild(step.state, state))
        after = [identity(s) for s in leaves(new) if s.dtype.kind == "f"]
    for s, seen in zip(after, step.after, strict=True):
        like = to_host(seen.array)[row]
        size = float(np.abs(like[np.isfinite(like)]).max(initial=1.0))
        small = 1e3 * np.finfo(like.dtype).eps * size
        if not np.allclose(to_host(s.array), like, rtol=0, atol=small, equal_nan=True):
            return None
    found = differentiate(after, _seeds(step, np.eye(count)), before)
    return _joined(found, before, slice(None))


def _row_by_row(step: Step, row: int, sizes: list[int]) -> np.ndarray:
    """From the step's own tape, once for every element of the new state."""
    one, found = np.zeros((step.after[0].shape[0], sum(sizes))), []
    for k in range(sum(sizes)):
        one[row] = np.arange(sum(sizes)) == k
        seeds = _seeds(step, one)
        by = differentiate(step.after, seeds, step.before, retain_graph=True, since=step.start)
        found.append(_joined(by, step.before, slice(row, row + 1)))
    return np.concatenate(found)


def _joined(cotangents: list[Any], before: list[Tensor], rows: slice) -> np.ndarray:
    """Cotangents of the fields of a state, side by side."""
    pairs = zip(cotangents, before, strict=True)
    parts = [np.zeros(s.shape, s.dtype) if g is None else to_host(g) for g, s in pairs]
    return np.concatenate([p[rows].reshape(len(p[rows]), -1) for p in parts], axis=1)
