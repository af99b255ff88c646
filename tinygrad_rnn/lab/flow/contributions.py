"""What each time step adds to the gradient of a weight."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn.lab.flow.followed import Followed
from tinygrad_rnn.lab.flow.uses import Sums, Uses, by_loop, norm_of
from tinygrad_rnn.lab.undisturbed import undisturbed
from tinygrad_rnn.lab.written import write_csv
from tinygrad_rnn.nn import Module, Parameter
from tinygrad_rnn.tape import observe

LIMIT = 2**30
"""Bytes of contributions beyond which :func:`contributions` asks whether norms will do."""


@dataclass(frozen=True)
class Contributions:
    """What each use of a parameter adds to dL/dW.

    Attributes
    ----------
    name : that of the parameter.
    parts : by the loop in which it is used, one entry per time step, (T, *W.shape), in the order of
        time; None where norms alone were asked for. What is used outside of loops has an entry per
        use, in the order of the forward pass, under the name of the layer that uses it. A weight
        that two layers share, or both directions, has a part for each; those of several
        ``tg.scan`` of one layer are added step by step. There are none where the loss does not
        depend on the parameter.
    norms : the Euclidean norm of each entry, in the unit of the loss by that of W.
    gradient : dL/dW, the sum of all entries of all parts.
    """

    name: str
    parts: dict[str, np.ndarray] | None
    norms: dict[str, np.ndarray]
    gradient: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The entries of the only part, (T, *W.shape)."""
        if self.parts is None:
            raise ValueError("contributions: norms=True was given, so there are norms alone")
        if not self.parts:
            raise ValueError(
                f"contributions: the loss does not depend on {self.name}, so nothing adds to its "
                "gradient"
            )
        if len(self.parts) != 1:
            raise ValueError(
                f"contributions: {self.name} is used by {', '.join(self.parts)}: ask for one of "
                "them, as in found.parts[...]"
            )
        return next(iter(self.parts.values()))

    def shares(self) -> dict[str, np.ndarray]:
        """Each norm by the sum of the norms of all entries of all parts."""
        whole = sum(float(norms.sum()) for norms in self.norms.values()) or 1.0
        return {label: norms / whole for label, norms in self.norms.items()}

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Write the norms, one line per entry; returns where."""
        rows = [(x, t, norm) for x, norms in self.norms.items() for t, norm in enumerate(norms)]
        return write_csv(path, ("layer", "step", "norm"), rows, "contributions")

    def __str__(self) -> str:
        size = norm_of(self.gradient)
        lines = [
            f"what the steps add to dL/dW, W = {self.name}, |dL/dW| = {size:.3g}",
            f"  {'used by':32}{'entries':>8}{'first norm':>12}{'largest':>10}{'last':>10}",
        ]
        for label, norms in self.norms.items():
            numbers = f"{norms[0]:12.2e}{norms.max():10.2e}{norms[-1]:10.2e}"
            lines.append(f"  {label:32}{len(norms):8}{numbers}")
        return "\n".join(lines)


def contributions(
    model: Module,
    loss: Callable[[], Any],
    parameter: Parameter | str,
    *,
    norms: bool = False,
    limit: int = LIMIT,
) -> Contributions:
    """What each time step adds to the gradient of a parameter; their sum is the gradient.

    The loss is computed once, with every loop unrolled. All is as it was afterwards: gradients,
    buffers, modes, the random generator.

    Parameters
    ----------
    model : has the parameter.
    loss : a function without arguments that runs the model and returns a Tensor of one element.
    parameter : a Parameter of the model, or its name in ``named_parameters()``.
    norms : hold no contribution, which is as large as the parameter, but its norm.
    limit : how many bytes they may take together; above that this raises MemoryError, before the
        rest of them is computed. 1 GiB by default.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> model, x = tg.rnn.LSTM(3, 5), tg.ones((7, 2, 3))
    >>> found = lab.contributions(model, lambda: tg.sum(model(x)[0][-1]), "weight_hh_l0")
    >>> found.values.shape
    (7, 20, 5)
    """
    with undisturbed(model):
        followed = Followed("contributions", model, loss)
        name, target = _found(model, parameter)
        if not target.needs_grad:
            raise ValueError(
                f"contributions: {name} is frozen, so it has no gradient; give it "
                "requires_grad = True"
            )
        sums = Sums(norms, math.inf if norms else limit)
        with observe(Uses(followed, {name: target}, sums)):
            gradient = followed.gradients([target])[0]
    sizes = {place: norm_of(value) for (_, place), value in sums.sums.items()}
    sizes |= {place: size for (_, place), size in sums.sizes.items()}
    values = {place: value for (_, place), value in sums.sums.items()}
    parts = None if norms else by_loop(followed, values, np.zeros_like(gradient))
    return Contributions(name, parts, by_loop(followed, sizes, 0.0), gradient)


def _found(model: Module, parameter: Parameter | str) -> tuple[str, Parameter]:
    """The parameter that is meant, with its name."""
    named = dict(model.named_parameters())
    for name, value in named.items():
        if parameter is value or parameter == name:
            return name, value
    shown = repr(parameter) if isinstance(parameter, str) else type(parameter).__name__
    raise ValueError(
        f"contributions: expected a parameter of the model or its name, one of {sorted(named)}, "
        f"got {shown}"
    )
