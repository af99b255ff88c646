"""The table of docs/autograd.md: where our answers differ from PyTorch's on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parity import torch

import tinygrad_rnn as tg

pytestmark = pytest.mark.parity

PAGE = (Path(__file__).parent.parent / "docs" / "autograd.md").read_text(encoding="utf-8")
LINES = [
    [cell.strip().strip("`") for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if line.startswith("| `")
]


def our_slope(function: Callable[..., Any], values: Any) -> Any:
    return tg.grad(lambda x: function(x).sum())(tg.tensor(values)).tolist()


def their_slope(function: Callable[..., Any], values: Any) -> Any:
    x = torch.tensor(values, requires_grad=True)
    function(x).sum().backward()
    return x.grad.tolist()


def equal(found: Any, said: str) -> bool:
    wanted = eval(said, {"inf": math.inf, "nan": math.nan})
    if isinstance(wanted, str | tuple):
        return found == wanted
    found = found.tolist() if hasattr(found, "tolist") else found
    return np.allclose(found, wanted, rtol=1e-4, atol=1e-6, equal_nan=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_both_give_what_the_table_says(line: list[str]) -> None:
    here, gives, there, theirs, because = line
    names = {"tg": tg, "torch": torch, "F": torch.nn.functional, "inf": math.inf, "nan": math.nan}
    assert equal(eval(here, names | {"slope": our_slope}), gives)
    assert equal(eval(there, names | {"slope": their_slope}), theirs)
    assert gives != theirs
    assert because


def test_the_table_was_found() -> None:
    assert len(LINES) == 14


# Everything else is as there: elementwise operations and reductions at special values

inf, nan = math.inf, math.nan
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 1e20, -1e20, 100.0, -100.0, inf, -inf, nan]
ONE = {
    name: (getattr(tg, name), getattr(torch, name))
    for name in ("exp", "expm1", "log", "log1p", "sqrt", "square", "sin", "cos", "erf", "tanh",
                 "sigmoid", "floor", "ceil", "round", "isnan", "isfinite")
} | {
    "softplus": (tg.softplus, torch.nn.functional.softplus),
    "leaky_relu": (tg.leaky_relu, torch.nn.functional.leaky_relu),
    "clip": (lambda x: tg.clip(x, -1, 1), lambda x: torch.clamp(x, -1, 1)),
    **{f"power {p}": (lambda x, p=p: x**p, lambda x, p=p: x**p) for p in (0, 1, 2, 3, -1, 2.5)},
    **{f"{p} to a power": (lambda x, p=p: p**x, lambda x, p=p: p**x) for p in (0.0, 1.0, 2.5)},
}  # fmt: skip
TWO = {
    name: (getattr(tg.ops, name), getattr(torch, theirs))
    for name, theirs in {"add": "add", "subtract": "subtract", "multiply": "mul", "divide": "div",
                         "power": "pow", "remainder": "remainder"}.items()
}  # fmt: skip
ROWS = {
    "sum": (tg.sum, torch.sum),
    "mean": (tg.mean, torch.mean),
    "prod": (tg.prod, torch.prod),
    "max": (tg.max, torch.amax),
    "min": (tg.min, torch.amin),
    "cumsum": (tg.cumsum, torch.cumsum),
    "std": (tg.std, lambda x, axis: torch.std(x, axis, correction=0)),
    "softmax": (tg.softmax, torch.softmax),
    "log_softmax": (tg.log_softmax, torch.log_softmax),
    "logsumexp": (tg.logsumexp, torch.logsumexp),
}


def compare(ours: Callable[..., Any], theirs: Callable[..., Any], *values: np.ndarray) -> None:
    """Values and gradients, in float64."""
    xs = [tg.tensor(v, requires_grad=True) for v in values]
    us = [torch.tensor(v, requires_grad=True) for v in values]
    y, v = ours(*xs), theirs(*us)
    np.testing.assert_allclose(y.detach().numpy(), v.detach().numpy(), 1e-12, 1e-300)
    if not y.requires_grad:
        return
    y.backward(tg.ones_like(y))
    v.backward(torch.ones_like(v))
    for x, u in zip(xs, us, strict=True):
        found = np.zeros(x.shape) if x.grad is None else x.grad.numpy()
        np.testing.assert_allclose(found, u.grad.numpy(), 1e-12, 1e-14)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ONE)
def test_functions_at_special_values(name: str) -> None:
    compare(*ONE[name], np.array(SPECIAL))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", TWO)
def test_pairs_of_special_values(name: str) -> None:
    pairs = np.array([[a, b] for a in SPECIAL for b in SPECIAL])
    compare(*TWO[name], pairs[:, 0].copy(), pairs[:, 1].copy())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", ROWS)
def test_reductions_of_special_values(name: str) -> None:
    ours, theirs = ROWS[name]
    rows = np.array([[a, b, 1.0] for a in SPECIAL for b in SPECIAL])
    if name == "logsumexp":
        rows = rows[(abs(rows) != 1e20).all(1)]  # where the gradient is as the table says
    compare(lambda x: ours(x, -1), lambda u: theirs(u, -1), rows)
