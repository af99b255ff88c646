"""Losses: gradients on every device, by hand, masks and labels that are ignored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from networks import close, draw

import tinygrad_rnn as tg
from tinygrad_rnn import nn


def pair_losses() -> list[Any]:
    return [
        *(nn.binary_cross_entropy_with_logits, nn.mse_loss, nn.l1_loss, nn.huber_loss),
        lambda x, t, **options: nn.huber_loss(x, t, delta=0.3, **options),
    ]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients_of_losses(reduction: str, device: str) -> None:
    x = 2 * draw(3, 4, device=device)
    mask = [[True, False, True, True], [False] * 4, [True] * 4]
    for loss in pair_losses():
        for kept in (None, mask):
            assert tg.check_gradients(
                lambda x, t, loss=loss, kept=kept: loss(x, t, mask=kept, reduction=reduction),
                [x, draw(3, 4, seed=2, device=device)],
            )
    for kept in (None, [True, False, True]):
        assert tg.check_gradients(
            lambda x, kept=kept: nn.cross_entropy(x, [3, 0, -100], mask=kept, reduction=reduction),
            x,
        )


# What a loss is, by hand


def test_uniform_outputs_cost_the_logarithm_of_the_classes() -> None:
    logits = tg.zeros((3, 40), np.float64)
    assert nn.cross_entropy(logits, [1, 2, 3], reduction="sum").item() == pytest.approx(
        3 * math.log(40), rel=1e-14
    )
    assert nn.cross_entropy(logits, [1, 2, 3]).item() == pytest.approx(math.log(40), rel=1e-14)


def test_losses_of_pairs_by_hand() -> None:
    p, t = np.array([0.5, -3.0, 1.0]), np.array([1.0, 0.0, 1.0])
    s = 1 / (1 + np.exp(-p))
    likelihood = -t * np.log(s) - (1 - t) * np.log(1 - s)
    for loss, expected in (
        (nn.mse_loss, [0.25, 9, 0]),
        (nn.l1_loss, [0.5, 3, 0]),
        (nn.huber_loss, [0.125, 2.5, 0]),
        (nn.binary_cross_entropy_with_logits, likelihood),
    ):
        close(loss(tg.tensor(p), t, reduction="none"), expected)
        close(loss(tg.tensor(p), t, reduction="sum"), np.sum(expected))
        close(loss(tg.tensor(p), t), np.mean(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.uint64])
def test_labels_of_any_integer_dtype(dtype: Any) -> None:
    logits = draw(3, 4)
    labels = np.array([3, 0, 2], dtype)
    close(nn.cross_entropy(logits, labels), nn.cross_entropy(logits, [3, 0, 2]), 0)


def test_masks_and_ignored_labels_leave_elements_out() -> None:
    logits = draw(5, 4, requires_grad=True)
    labels = [0, 3, -100, 1, 2]
    mask = [1, 0, 1, 1, 1]
    loss = nn.cross_entropy(logits, labels, mask=mask)
    close(loss, nn.cross_entropy(logits[[0, 3, 4]], [0, 1, 2]))
    loss.backward()
    assert np.all(logits.grad.numpy()[1:3] == 0)
    assert np.all(logits.grad.numpy()[[0, 3, 4]] != 0)

    x, t = draw(4), draw(4, seed=2)
    keep = np.array([True, False, True, True])
    for loss_of in pair_losses():
        close(loss_of(x, t, mask=keep), loss_of(x[keep], t[keep]))
        none = loss_of(x, t, mask=keep, reduction="none")
        assert none.shape == (4,)
        assert none.numpy()[1] == 0


def test_a_mean_of_nothing_is_zero_and_has_no_gradient() -> None:
    logits = draw(2, 3, requires_grad=True)
    loss = nn.cross_entropy(logits, [-100, -100])
    loss.backward()
    assert loss.item() == 0
    assert np.all(logits.grad.numpy() == 0)


def test_losses_of_extreme_logits_are_finite() -> None:
    x = tg.tensor([[1e4, -1e4], [-1e4, 1e4]], np.float64, requires_grad=True)
    loss = nn.cross_entropy(x, [0, 0], reduction="none")
    close(loss, [0, 2e4])
    binary = nn.binary_cross_entropy_with_logits(x, [[1, 0], [1, 0]], reduction="none")
    close(binary, [[0, 0], [1e4, 1e4]])
    (loss.sum() + binary.sum()).backward()
    assert np.all(np.isfinite(x.grad.numpy()))


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (nn.CrossEntropyLoss(ignore_index=2, reduction="sum"), lambda x, t: nn.cross_entropy(
            x, t, ignore_index=2, reduction="sum")),
        (nn.HuberLoss(delta=0.5, reduction="none"), lambda x, t: nn.huber_loss(
            x, t, delta=0.5, reduction="none")),
        (nn.L1Loss(reduction="sum"), lambda x, t: nn.l1_loss(x, t, reduction="sum")),
        (nn.MSELoss(), nn.mse_loss),
        (nn.BCEWithLogitsLoss(), nn.binary_cross_entropy_with_logits),
    ],
)  # fmt: skip
def test_losses_as_modules(module: Any, function: Any) -> None:
    x = draw(4, 3)
    t = np.array([0, 2, 1, 2]) if isinstance(module, nn.CrossEntropyLoss) else draw(4, 3, seed=2)
    close(module(x, t), function(x, t), 0)
