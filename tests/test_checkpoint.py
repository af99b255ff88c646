"""checkpoint: the values and gradients of the function, whatever it takes and closes over."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import ops

RNG = np.random.default_rng(0)


def leaf(*shape: int) -> tg.Tensor:
    return tg.tensor(RNG.standard_normal(shape), requires_grad=True)


def gradients(build: Callable[[Callable[..., Any]], tg.Tensor], *leaves: tg.Tensor) -> list[Any]:
    """The loss and the gradients of the leaves, without and with checkpoints: both must agree."""
    found: list[list[np.ndarray]] = []
    for wrap in (lambda function: function, tg.checkpoint):
        for x in leaves:
            x.grad = None
        loss = build(wrap)
        loss.backward()
        found.append([loss.numpy(), *(x.grad.numpy() for x in leaves)])
    for plain, saved in zip(*found, strict=True):
        np.testing.assert_allclose(saved, plain, rtol=1e-12)
    return found[1]


def test_the_tape_holds_one_record_for_each_call() -> None:
    x = leaf(3)

    def inner(x: tg.Tensor) -> tg.Tensor:
        return tg.tanh(tg.sin(x) * x)

    y = tg.checkpoint(inner)(tg.checkpoint(inner)(x))
    assert [record.primitive.name for record in tg.Tape.of(y)] == ["checkpoint"] * 2
    assert "checkpoint(%0, call=inner)" in str(tg.Tape.of(y))
    assert tg.checkpoint(inner).__name__ == "inner"


def test_gradients_of_arguments_and_parameters() -> None:
    weight, x = leaf(3, 3), leaf(2, 3)

    def step(h: tg.Tensor) -> tg.Tensor:
        return tg.tanh(h @ weight) + h

    gradients(lambda wrap: wrap(step)(wrap(step)(x)).sum(), x, weight)


def test_containers_options_and_what_is_no_tensor() -> None:
    x, s = leaf(3), leaf(3)

    def function(tree: Any, mode: str, scale: float = 1.0, mask: Any = None) -> Any:
        assert mode == "double"
        assert mask is None
        return {"y": [tree["x"] * tree["s"][0] * scale], "n": 7, "none": None}

    def build(wrap: Any) -> tg.Tensor:
        result = wrap(function)({"x": x, "s": (s, 3)}, "double", scale=2.0)
        assert list(result) == ["y", "n", "none"]
        assert result["n"] == 7
        return result["y"][0].sum()

    gradients(build, x, s)


def test_several_outputs_of_which_some_are_used() -> None:
    x = leaf(4)

    def function(x: tg.Tensor) -> Any:
        return tg.sin(x), (x > 0).sum(), (tg.cos(x), tg.exp(x))

    def build(wrap: Any) -> tg.Tensor:
        sine, count, (cosine, _) = wrap(function)(x)
        assert count.dtype.kind == "i"
        assert not count.requires_grad
        return (sine * cosine).sum() + float(count)

    gradients(build, x)


def test_an_output_that_is_an_argument_or_given_twice() -> None:
    x, h = leaf(3), leaf(3)
    gradients(lambda wrap: sum(((v * v).sum() for v in wrap(lambda a: (a, a, a * 2))(x)), 0.0), x)
    gradients(lambda wrap: (wrap(lambda a, b: (b, a))(x, h * 2)[0] * 3).sum() + x.sum(), x, h)


def test_closing_over_interior_values() -> None:
    x, y = leaf(3), leaf(3)

    def build(wrap: Any) -> tg.Tensor:
        hidden = tg.sin(x)
        return wrap(lambda v: (v * hidden * x).sum())(y)

    gradients(build, x, y)


def test_captured_values_that_depend_on_each_other_and_on_the_argument_count_once() -> None:
    x = leaf(3)

    def build(wrap: Any) -> tg.Tensor:
        a = tg.sin(x)
        b = a * a
        return wrap(lambda v: (v * a * b * x).sum())(b * 2)

    gradients(build, x)


def test_returning_what_is_closed_over() -> None:
    weight, x = leaf(3), leaf(3)

    def build(wrap: Any) -> tg.Tensor:
        hidden = weight * 2
        return sum(((v * v).sum() for v in wrap(lambda v: (weight, hidden, v * 1.0))(x)), 0.0)

    gradients(build, weight, x)


def test_nested() -> None:
    weight, x = leaf(3), leaf(3)

    def build(wrap: Any) -> tg.Tensor:
        def outer(v: tg.Tensor) -> tg.Tensor:
            shared = tg.sin(v * weight)
            return wrap(lambda u: tg.exp(u * shared) * weight)(v) + shared

        return wrap(outer)(x).sum()

    gradients(build, weight, x)


def test_dropout_draws_one_mask() -> None:
    x = leaf(50)

    def function(v: tg.Tensor) -> tg.Tensor:
        return tg.ops.dropout(tg.ops.dropout(v, 0.5) * v, 0.3)

    def build(wrap: Any) -> tg.Tensor:
        tg.manual_seed(3)
        loss = (wrap(function)(x) * wrap(function)(x)).sum()
        build.after = tg.rand(3).numpy()
        return loss

    gradients(build, x)
    tg.manual_seed(3)
    loss = tg.checkpoint(function)(x).sum()
    expected = tg.ops.generator_state()
    loss.backward()
    assert tg.ops.generator_state() == expected


@pytest.mark.parametrize("through", ["x", "weight"])
def test_second_derivatives_go_through(through: str) -> None:
    weight, x = leaf(3), leaf(3)
    target = {"x": x, "weight": weight}[through]

    def function(v: tg.Tensor) -> tg.Tensor:
        return (tg.sin(v * weight) * v).sum()

    found: list[list[np.ndarray]] = []
    for f in (function, tg.checkpoint(function)):
        for v in (x, weight):
            v.grad = None
        f(x).backward(create_graph=True)
        first = target.grad
        weight.grad = x.grad = None
        (first * first).sum().backward()
        found.append([first.numpy(), x.grad.numpy(), weight.grad.numpy()])
    for plain, saved in zip(*found, strict=True):
        np.testing.assert_allclose(saved, plain, rtol=1e-12)
    assert tg.check_gradients(tg.checkpoint(lambda v: tg.sin(v) * v), x.detach(), order=3)


def test_transforms_of_a_checkpoint() -> None:
    x = leaf(3).detach()

    def function(v: tg.Tensor) -> tg.Tensor:
        return (tg.sin(v) * v).sum()

    for transform in (tg.grad, tg.hessian, lambda f: tg.jvp(f, [x], [x])[1]):
        expected, found = transform(function), transform(tg.checkpoint(function))
        if callable(expected):
            expected, found = expected(x), found(x)
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-12)


def test_within_no_grad_it_is_the_function() -> None:
    x = leaf(3)
    with tg.no_grad():
        y = tg.checkpoint(tg.sin)(x)
    assert y.is_leaf
    assert not y.requires_grad
    z = tg.checkpoint(tg.sin)(x.detach())
    assert z.is_leaf


def test_no_grad_inside_counts_in_both_runs() -> None:
    x = leaf(3)

    def function(v: tg.Tensor) -> tg.Tensor:
        with tg.no_grad():
            fixed = tg.exp(v)
        return fixed * v

    gradients(lambda wrap: wrap(function)(x).sum(), x)


def test_backward_under_no_grad() -> None:
    x = leaf(3)
    y = tg.checkpoint(tg.sin)(x).sum()
    with tg.no_grad():
        y.backward()
    np.testing.assert_allclose(x.grad.numpy(), np.cos(x.numpy()))


def test_any_callable() -> None:
    class Doubling:
        def __call__(self, v: tg.Tensor) -> tg.Tensor:
            return v * 2

    x = leaf(3)
    for function in (Doubling(), partial(tg.ops.leaky_relu, slope=0.5)):
        y = tg.checkpoint(function)(x)
        assert "checkpoint" in str(tg.Tape.of(y))
        y.sum().backward()


def test_an_overwritten_parameter_is_caught() -> None:
    weight, x = leaf(3), leaf(3)
    loss = tg.checkpoint(lambda v: (v * weight).sum())(x)
    weight.data = np.zeros(3)
    with pytest.raises(RuntimeError, match="used by 'checkpoint' has been overwritten"):
        loss.backward()
    assert x.grad is None


def test_retain_graph_runs_it_again() -> None:
    x = leaf(3)
    runs: list[int] = []

    def function(v: tg.Tensor) -> tg.Tensor:
        runs.append(1)
        return (v * v).sum()

    loss = tg.checkpoint(function)(x)
    loss.backward(retain_graph=True)
    loss.backward()
    assert len(runs) == 3
    np.testing.assert_allclose(x.grad.numpy(), 4 * x.numpy())
    with pytest.raises(RuntimeError, match="freed"):
        loss.backward()


@pytest.mark.parametrize("unroll", [True, False])
def test_dropout_of_a_checkpoint_inside_a_time_step(unroll: bool) -> None:
    """Every step draws its part of one block, and draws the same when it is computed again."""

    def step(x: tg.Tensor, h: tg.Tensor) -> tuple[tg.Tensor, tg.Tensor]:
        y = tg.checkpoint(lambda a: ops.dropout(a, 0.5) * a)(x)
        return y, h + y

    x = tg.tensor(np.ones((4, 3, 5)), requires_grad=True)
    tg.manual_seed(1)
    y, _ = tg.scan(step, x, tg.zeros((3, 5), "float64"), unroll=unroll)
    y.sum().backward()
    assert 0 < np.count_nonzero(y.numpy()) < y.size
    np.testing.assert_array_equal(x.grad.numpy(), 2 * y.numpy())
