"""What the flow of gradients says of one loop, of one layer in one direction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tinygrad_rnn.lab.flow.gates import Saturation


@dataclass(frozen=True)
class LayerFlow:
    """The flow of gradients through one loop: one layer, one direction.

    All arrays over time have the layout of inputs and outputs, t = 0 first, also in a loop that
    runs from the last step to the first. "Before" and "after" below mean the order of the loop.

    Attributes
    ----------
    name, cell : the path of names to the layer, and the kind of its cell.
    reverse : whether the loop runs from the last step to the first.
    fields : the names of what is floating in the state, in its order; ``h`` for a state that is one
        Tensor.
    gradients : by field, dL/ds_t (T, B, ...), in the unit of the loss by that of the state: the
        total, through all that is made of it: in step t itself (as an LSTM makes h of c), in its
        output, and at later steps. Past a sequence's length it is 0. What ``probe=`` gives leaves
        out step t itself; for h, which is the output, it is the same.
    alone : by field, for states of several fields: the same along this field alone, with the other
        fields held as constants where the next step reads them. For an LSTM, alone["c"] is the
        gradient along the cell's path, whose factor at each step is the forget gate.
    contributions : by parameter that is not frozen, the norm of what step t adds to dL/dW, (T,).
    jacobians : ds_t/ds_{t-1} (T, S, S) of one sequence, where s is all fields one after the other
        and s_{t-1} the state before step t; None where ``row=None`` was given.
    saturation : by gate, the shares of saturated elements.
    """

    name: str
    cell: str
    reverse: bool
    fields: tuple[str, ...]
    gradients: dict[str, np.ndarray]
    alone: dict[str, np.ndarray]
    contributions: dict[str, np.ndarray]
    jacobians: np.ndarray | None
    saturation: dict[str, Saturation]

    @property
    def steps(self) -> int:
        """T."""
        return len(self.gradients[self.fields[0]])

    @property
    def norms(self) -> dict[str, np.ndarray]:
        """By field, |dL/ds_t| over batch and units, (T,)."""
        return {name: _norms(g) for name, g in self.gradients.items()}

    @property
    def norms_alone(self) -> dict[str, np.ndarray]:
        """By field, the norm along this field alone, (T,)."""
        return {name: _norms(g) for name, g in self.alone.items()}

    @cached_property
    def back(self) -> np.ndarray:
        """How many steps each step is before the last one whose state the loss depends on, (T,).

        Negative at steps after that one.
        """
        some = np.nonzero(np.sum([*self.norms.values()], axis=0))[0]
        times = np.arange(self.steps)
        if self.reverse:
            return times - (some.min() if len(some) else 0)
        return (some.max() if len(some) else self.steps - 1) - times

    @property
    def cosines(self) -> dict[str, np.ndarray]:
        """By field, the direction: the cosine between dL/ds_t and that at the last step whose state
        the loss depends on, batch and units taken as one vector, (T,); nan where a gradient is 0.
        """
        last = int(np.nonzero(self.back == 0)[0][0])
        return {name: _cosines(g, g[last]) for name, g in self.gradients.items()}

    @property
    def shares(self) -> dict[str, np.ndarray]:
        """By parameter, each contribution's norm by the sum of all norms, (T,)."""
        with np.errstate(invalid="ignore"):  # inf by inf
            return {name: n / (n.sum() or 1.0) for name, n in self.contributions.items()}

    @cached_property
    def singular_values(self) -> np.ndarray:
        """The singular values of each step's Jacobian, (T, S), the largest first: its norm is the
        first; nan where the Jacobian holds inf or nan.
        """
        return _of_finite(_singular, self._jacobians())

    @cached_property
    def eigenvalues(self) -> np.ndarray:
        """The eigenvalues of each step's Jacobian, (T, S), complex, in no order; nan where that
        holds inf or nan.
        """
        return _of_finite(np.linalg.eigvals, self._jacobians())

    def products(self, *steps: int) -> np.ndarray:
        """The singular values (S,) of ds_n/ds_{n-k}, the product of the last k Jacobians, the
        largest first, for each k (len(steps), S). n is the last step whose state the loss depends
        on.

        They are computed in float64; those that are 1e-16 of the largest are rounding.
        """
        many = int(self.back.max()) + 1
        if not steps or not 1 <= min(steps) <= max(steps) <= many:
            raise ValueError(f"products: expected numbers of steps from 1 to {many}, got {steps}")
        jacobians, found = self._jacobians(), {}
        product = np.eye(jacobians.shape[1])
        for k in range(max(steps)):
            with np.errstate(over="ignore", invalid="ignore"):
                product = product @ jacobians[self.back == k][0].astype(np.float64)
            if k + 1 in steps:
                found[k + 1] = _of_finite(_singular, product[None])[0]
        return np.array([found[k] for k in steps])

    def product_lengths(self) -> list[int]:
        """Some k from 1 to all steps, evenly on a logarithmic scale."""
        many = int(self.back.max()) + 1
        return sorted({round(float(k)) for k in np.geomspace(1, many, min(many, 9))})

    def _jacobians(self) -> np.ndarray:
        if self.jacobians is None:
            raise ValueError("gradient_flow: row=None was given, so there are no Jacobians")
        return self.jacobians


def _singular(matrices: np.ndarray) -> np.ndarray:
    return np.linalg.svd(matrices, compute_uv=False)


def _of_finite(values_of: Callable[[np.ndarray], np.ndarray], matrices: np.ndarray) -> np.ndarray:
    """Values (T, S) of matrices (T, S, S), in float64; nan for those that hold inf or nan."""
    finite = np.asarray(np.isfinite(matrices).all(axis=(1, 2)))
    wide = np.where(finite[:, None, None], matrices, 0).astype(np.float64)
    return np.where(finite[:, None], values_of(wide), np.nan)


def _norms(g: np.ndarray) -> np.ndarray:
    return np.linalg.norm(g.reshape(len(g), -1).astype(np.float64), axis=1)


def _cosines(g: np.ndarray, other: np.ndarray) -> np.ndarray:
    flat, vector = g.reshape(len(g), -1).astype(np.float64), other.reshape(-1).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (flat @ vector) / (np.linalg.norm(flat, axis=1) * np.linalg.norm(vector))
