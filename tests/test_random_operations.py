"""Random numbers in a step: drawn at every step, replayed or not."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from effects import B, H, assert_same, compare, run

import tinygrad_rnn as tg
from tinygrad_rnn.replay import UnrolledWarning

pytestmark = pytest.mark.usefixtures("by_numpy_and_numba")


def test_fault_13_generators_of_others() -> None:
    def own() -> Any:
        rng = np.random.default_rng(5)

        def step(x: Any, h: Any) -> Any:
            h = tg.tanh(h + x * float(rng.random()))
            return h, h

        return step

    def python() -> Any:
        random.seed(5)

        def step(x: Any, h: Any) -> Any:
            h = tg.tanh(h + x * random.random())
            return h, h

        return step

    def numpy() -> Any:
        np.random.seed(5)  # noqa: NPY002

        def step(x: Any, h: Any) -> Any:
            h = tg.tanh(h + x * float(np.random.rand()))  # noqa: NPY002
            return h, h

        return step

    compare(own)
    for make in (python, numpy):
        with pytest.warns(UnrolledWarning, match="random numbers"):
            found = run(make(), unroll=False)
        assert_same(found, run(make(), unroll=True))


DRAWS: dict[str, Callable[[Any, Any], Any]] = {
    "rand": lambda x, h: tg.rand(B, H, dtype=np.float64),
    "randn": lambda x, h: tg.randn((B, H), dtype=np.float64),
    "randint": lambda x, h: tg.randint(0, 5, (B, H)).astype(np.float64),
    "bernoulli": lambda x, h: tg.bernoulli(tg.sigmoid(h)),
    "normal": lambda x, h: tg.normal(x, tg.exp(h)),
    "categorical": lambda x, h: tg.categorical(h)[:, None].astype(np.float64),
    "several": lambda x, h: tg.rand(B, H, dtype=np.float64) * tg.normal(h, 0.5),
}


@pytest.mark.parametrize("name", DRAWS)
def test_fault_12_random_operations(name: str) -> None:
    """A draw per step, equal to the unrolled run's, and no warning."""
    draw = DRAWS[name]

    def step(x: Any, h: Any) -> Any:
        noise = draw(x, h)
        h = tg.tanh(h + noise + x)
        return noise + 0 * h, h

    results = []
    for unroll in (False, True):
        tg.manual_seed(7)
        results.append([*run(step, unroll), np.array(tg.rand(1).numpy())])
    assert_same(*results)
    if name != "bernoulli":
        assert len(np.unique(results[0][0][:, 0, 0])) > 1


def test_draws_that_are_not_alike_are_not_exchanged() -> None:
    count = itertools.count()

    def step(x: Any, h: Any) -> Any:
        draw = tg.rand if next(count) % 2 == 0 else tg.randn
        h = tg.tanh(h * x + draw(B, H, dtype=np.float64))
        return h, h

    results = []
    for unroll in (False, True):
        count = itertools.count()
        tg.manual_seed(7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnrolledWarning)
            results.append(run(lambda x, h: step(x, h), unroll))
    assert_same(*results)


def test_what_the_random_operations_draw() -> None:
    tg.manual_seed(0)
    p = tg.tensor(np.full(20_000, 0.3, np.float32), requires_grad=True)
    hits = tg.bernoulli(p)
    assert hits.dtype == np.float32
    assert not hits.requires_grad
    assert abs(hits.numpy().mean() - 0.3) < 0.02
    logits = tg.log(tg.tensor([[0.2, 0.3, 0.5]])) * tg.ones((20_000, 1))
    found = tg.categorical(logits).numpy()
    np.testing.assert_allclose(np.bincount(found) / 20_000, [0.2, 0.3, 0.5], atol=0.02)
    assert tg.categorical(tg.tensor([-np.inf, 0.0, -np.inf])).item() == 1
    mean, std = tg.tensor([1.0, 2.0], requires_grad=True), tg.tensor(0.5, requires_grad=True)
    drawn = tg.normal(mean, std)
    drawn.sum().backward()
    assert mean.grad.tolist() == [1.0, 1.0]
    assert abs(std.grad.item() - ((drawn.detach() - mean.detach()) / 0.5).sum().item()) < 1e-5
    for wrong in (lambda: tg.bernoulli(tg.arange(3)), lambda: tg.categorical(tg.arange(3))):
        with pytest.raises(TypeError, match="expected floating values, got int64"):
            wrong()
    with pytest.raises(TypeError, match="mean or std must be a Tensor"):
        tg.normal(0.0, 1.0)
