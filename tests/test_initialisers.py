"""Initialisers, and what layers begin with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import close

import tinygrad_rnn as tg
from tinygrad_rnn import nn

INITIALISERS: dict[str, tuple[Callable[[Any], Any], float, float]] = {
    "uniform_": (lambda p: nn.init.uniform_(p, -1, 3), 1, 16 / 12),
    "normal_": (lambda p: nn.init.normal_(p, 2, 0.5), 2, 0.25),
    "xavier_uniform_": (lambda p: nn.init.xavier_uniform_(p, 2), 0, 4 * 2 / 500),
    "xavier_normal_": (lambda p: nn.init.xavier_normal_(p, 2), 0, 4 * 2 / 500),
    "kaiming_uniform_": (nn.init.kaiming_uniform_, 0, 2 / 200),
    "kaiming_normal_": (nn.init.kaiming_normal_, 0, 2 / 200),
    "orthogonal_": (lambda p: nn.init.orthogonal_(p, 3), 0, 9 / 300),
    "constant_": (lambda p: nn.init.constant_(p, 4), 4, 0),
    "zeros_": (nn.init.zeros_, 0, 0),
    "ones_": (nn.init.ones_, 1, 0),
    "identity_": (lambda p: nn.init.identity_(p, 300), 1, 299),
}


@pytest.mark.parametrize("name", INITIALISERS)
def test_initialisers(name: str) -> None:
    fill, mean, variance = INITIALISERS[name]
    tg.manual_seed(0)
    parameter = nn.Parameter(np.full((300, 200), 9.0, np.float32))
    assert fill(parameter) is parameter
    values = parameter.numpy()
    spread = math.sqrt(variance / values.size) if variance else 0
    assert values.mean() == pytest.approx(mean, abs=5 * spread + 1e-6)
    assert values.var() == pytest.approx(variance, rel=0.02, abs=1e-9)
    tg.manual_seed(0)
    again = nn.Parameter(np.zeros((300, 200)))
    fill(again)
    close(again, values, 1e-6)
    assert again.dtype == np.float64
    far = nn.Parameter(np.zeros((3, 2), np.float16)).detach().to("strict")
    fill(far)
    assert (far.dtype, far.device) == (np.float16, "strict")


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4), (1, 3)])
def test_orthogonal_rows_or_columns(shape: tuple[int, int]) -> None:
    q = nn.init.orthogonal_(nn.Parameter(np.zeros(shape)), 2).numpy() / 2
    small = q.T @ q if shape[0] >= shape[1] else q @ q.T
    close(small, np.eye(min(shape)), 1e-12)


def test_identity() -> None:
    close(nn.init.identity_(nn.Parameter(np.zeros((2, 3))), 2), [[2, 0, 0], [0, 2, 0]], 0)


def test_uniform_bounds() -> None:
    values = nn.init.uniform_(nn.Parameter(np.zeros((100, 100))), 2, 3).numpy()
    assert 2 <= values.min() < 2.01
    assert 2.99 < values.max() < 3


def test_layers_begin_as_pytorchs_do() -> None:
    tg.manual_seed(0)
    linear: Any = nn.Linear(64, 500)
    for values in (linear.weight.numpy(), linear.bias.numpy()):
        assert np.abs(values).max() <= 1 / 8
        assert values.std() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.1)
    embedding = nn.Embedding(200, 50).weight.numpy()
    assert embedding.mean() == pytest.approx(0, abs=0.05)
    assert embedding.std() == pytest.approx(1, rel=0.05)
    norm: Any = nn.LayerNorm(4)
    assert norm.weight.tolist() == [1] * 4
    assert norm.bias.tolist() == [0] * 4


def test_filling_a_parameter_is_noticed_by_backward() -> None:
    p = nn.Parameter([1.0, 2.0])
    p.name = "p"
    loss = (p * p).sum()
    nn.init.zeros_(p)
    with pytest.raises(RuntimeError, match=r"parameter 'p'.*overwritten"):
        loss.backward()
