"""grad, value_and_grad, vjp, jvp, jacobian, hessian, hvp: closed forms and central differences."""

from __future__ import annotations

import gc
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_rnn as tg

RNG = np.random.default_rng(0)
EPS = 1e-6


def array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def value(*shape: int) -> tg.Tensor:
    return tg.tensor(array(*shape))


def numeric_jacobian(function: Any, x: np.ndarray) -> np.ndarray:
    """Central differences, one column per element of x."""
    columns = []
    for k in range(x.size):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved.reshape(-1)[k] += sign * EPS
            ends.append(function(tg.tensor(moved)).numpy())
        columns.append((ends[0] - ends[1]) / (2 * EPS))
    shape = (*columns[0].shape, *x.shape)
    return np.stack(columns, -1).reshape(shape)


def close(found: Any, expected: Any, rtol: float = 1e-10) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=rtol, atol=rtol)


class State(NamedTuple):
    h: Any
    c: Any


# grad and value_and_grad


def test_grad_of_a_scalar_function() -> None:
    x = value(3)
    gradient = tg.grad(lambda x: (x**3).sum())(x)
    close(gradient, 3 * x.numpy() ** 2)
    assert gradient.is_leaf
    assert not gradient.requires_grad
    assert x.grad is None


def test_grad_of_grad_of_grad() -> None:
    assert tg.grad(tg.grad(tg.grad(lambda x: x**4)))(2.0).item() == 48
    assert tg.grad(lambda x: x**2)(3.0).dtype == np.float32


def test_value_and_grad() -> None:
    x = value(2, 3)
    found, gradient = tg.value_and_grad(lambda x: tg.sin(x).sum())(x)
    close(found, np.sin(x.numpy()).sum())
    close(gradient, np.cos(x.numpy()))
    assert found.is_leaf


def test_argnums_and_options() -> None:
    def function(a: Any, b: Any, power: int = 1) -> Any:
        return (a * b**power).sum()

    a, b = value(3), value(3)
    close(tg.grad(function, argnums=1)(a, b, power=3), 3 * a.numpy() * b.numpy() ** 2)
    for argnums in ((0, 1), (-2, -1)):
        g_a, g_b = tg.grad(function, argnums=argnums)(a, b)
        close(g_a, b.numpy())
        close(g_b, a.numpy())
    (only,) = tg.grad(function, argnums=[1])(a, b)
    close(only, a.numpy())
    with pytest.raises(IndexError, match=r"^grad: argnums names argument 2, the function got 2"):
        tg.grad(function, argnums=2)(a, b)


def test_containers_come_back_as_they_went_in() -> None:
    tree = {"state": State(value(2), [value(3), (value(1),)]), "none": None}

    def function(tree: Any) -> Any:
        state = tree["state"]
        assert tree["none"] is None
        return (state.h**2).sum() + (state.c[0] * 3).sum() + (state.c[1][0] * state.h).sum()

    found = tg.grad(function)(tree)
    assert list(found) == ["state", "none"]
    assert isinstance(found["state"], State)
    assert isinstance(found["state"].c, list)
    h, last = tree["state"].h.numpy(), tree["state"].c[1][0].numpy()
    close(found["state"].h, 2 * h + last)
    close(found["state"].c[0], np.full(3, 3.0))
    close(found["state"].c[1][0], [h.sum()])


def test_what_nothing_depends_on_gets_zeros() -> None:
    a, b = value(3), value(2)
    g_a, g_b = tg.grad(lambda a, b: a.sum(), argnums=(0, 1))(a, b)
    close(g_a, np.ones(3))
    close(g_b, np.zeros(2))
    close(tg.grad(lambda a: tg.tensor(1.0))(a), np.zeros(3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x, r"^grad: the function must return a scalar Tensor, got \(3,\)$"),
        (lambda x: (x.sum(), x), "^grad: the function must return a scalar Tensor, got tuple"),
        (lambda x: 1.0, "^grad: the function must return Tensors, got float"),
        (lambda x: x.numpy().sum(), "^grad: the function must return Tensors, got float64"),
        (lambda x: (x > 0).sum(), "^grad: int64 values carry no gradient"),
    ],
)
def test_grad_wants_a_scalar(function: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        tg.grad(function)(value(3))


@pytest.mark.parametrize("argument", [2, True, np.arange(3), tg.arange(3), [1.0, 2]])
def test_integers_are_no_point_to_differentiate_at(argument: Any) -> None:
    with pytest.raises(TypeError, match=r"^grad: cannot differentiate with respect to"):
        tg.grad(lambda x: tg.stack(x).sum() if isinstance(x, list) else x.sum())(argument)


def test_integer_arguments_are_held_fixed_by_argnums() -> None:
    table, rows = value(4, 2), tg.tensor([1, 1, 3])
    gradient = tg.grad(lambda table, rows: table[rows].sum())(table, rows)
    close(gradient, [[0, 0], [2, 2], [0, 0], [1, 1]])


def test_arrays_are_taken_as_they_are() -> None:
    x = array(3)
    gradient = tg.grad(lambda x: (x * x).sum())(x)
    assert gradient.dtype == np.float64
    close(gradient, 2 * x)


# Nesting, and what a function closes over


def test_no_perturbation_is_confused_with_another() -> None:
    def outer(x: Any) -> Any:
        return x * tg.grad(lambda y: x + y)(1.0)

    assert tg.grad(outer)(1.0).item() == 1
    inner = tg.grad(lambda x: x * tg.grad(lambda y: x * y * y)(3.0))
    assert inner(2.0).item() == 2 * 2 * 2 * 3
    same = tg.grad(lambda x: tg.grad(lambda y: x * x * y)(x) * x)
    assert same(2.0).item() == 12


def test_gradients_of_gradients_reach_parameters() -> None:
    weight = tg.tensor(array(3), requires_grad=True)
    x = value(3)
    penalty = (tg.grad(lambda x: tg.sin(x * weight).sum())(x) ** 2).sum()
    penalty.backward()
    w, p = weight.numpy(), x.numpy()
    close(weight.grad, 2 * w * np.cos(p * w) ** 2 - 2 * w**2 * p * np.cos(p * w) * np.sin(p * w))
    assert x.grad is None


def test_values_reach_parameters() -> None:
    weight = tg.tensor(array(3), requires_grad=True)
    found, _ = tg.value_and_grad(lambda x: (x * weight).sum())(value(3))
    found.backward()
    assert weight.grad is not None


def test_gradients_reach_an_argument_that_wants_one() -> None:
    x = tg.tensor(array(3), requires_grad=True)
    gradient = tg.grad(lambda x: (x**3).sum())(x)
    assert gradient.requires_grad
    gradient.sum().backward()
    close(x.grad, 6 * x.numpy())


def test_gradients_reach_an_interior_value() -> None:
    x = tg.tensor(array(3), requires_grad=True)
    h = tg.tanh(x)
    (tg.grad(lambda v: (v * h).sum())(value(3)) ** 2).sum().backward()
    t = np.tanh(x.numpy())
    close(x.grad, 2 * t * (1 - t * t))


def test_a_function_that_returns_what_it_closes_over() -> None:
    weight = tg.tensor(2.0, requires_grad=True)
    found, gradient = tg.value_and_grad(lambda x: weight)(value(3))
    found.backward()
    assert weight.grad.item() == 1
    close(gradient, np.zeros(3))


def test_the_cost_of_an_inner_gradient_does_not_depend_on_the_tape_outside() -> None:
    h = tg.tensor(array(2), requires_grad=True)
    calls: list[int] = []
    for steps in (1, 1, 1000):
        for _ in range(steps):
            h = h + 0.0
        events: list[str] = []
        gc.collect()  # or it may begin meanwhile, and call what waits for its garbage
        sys.setprofile(lambda frame, event, argument, events=events: events.append(event))
        try:
            gradient = tg.grad(lambda v, h=h: (v * v * h).sum())(tg.ones(2, dtype="float64"))
        finally:
            sys.setprofile(None)
        assert gradient.requires_grad
        calls.append(len(events))
    assert calls[2] == calls[1]


def test_under_no_grad_derivatives_are_plain_values() -> None:
    x = tg.tensor(array(3), requires_grad=True)
    with tg.no_grad():
        found, gradient = tg.value_and_grad(lambda v: (v * x).sum())(x)
        hessian = tg.hessian(lambda v: (v**3).sum())(x)
        _, pushed = tg.jvp(lambda v: v * x, [x], [x])
    close(gradient, x.numpy())
    close(hessian, np.diag(6 * x.numpy()))
    close(pushed, x.numpy() ** 2)
    for made in (found, gradient, hessian, pushed):
        assert not made.requires_grad
        assert made.is_leaf


def test_no_grad_within_the_function_counts() -> None:
    def function(x: Any) -> Any:
        with tg.no_grad():
            fixed = x * 2
        return (fixed * x).sum()

    x = value(3)
    close(tg.grad(function)(x), 2 * x.numpy())


# vjp


def test_vjp_of_containers_may_be_pulled_many_times() -> None:
    x, s = value(3), State(value(3), value(2))

    def function(x: Any, s: State) -> Any:
        return {"a": x * s.h, "b": (s.c.sum(), [x.sum()])}

    result, pullback = tg.vjp(function, x, s)
    assert list(result) == ["a", "b"]
    close(result["a"], x.numpy() * s.h.numpy())
    for scale in (1.0, 2.0):
        g_x, g_s = pullback({"a": scale * np.ones(3), "b": (1.0, [scale])})
        close(g_x, scale * (s.h.numpy() + 1))
        close(g_s.h, scale * x.numpy())
        close(g_s.c, np.ones(2))


def test_vjp_of_a_cotangent_that_wants_a_gradient() -> None:
    x = value(3)
    v = tg.tensor(array(3), requires_grad=True)
    (pulled,) = tg.vjp(tg.sin, x)[1](v)
    pulled.sum().backward()
    close(v.grad, np.cos(x.numpy()))


def test_a_cotangent_that_does_not_fit() -> None:
    pullback = tg.vjp(lambda x: (x, x.sum()), value(3))[1]
    with pytest.raises(ValueError, match=r"^vjp: expected 2 cotangents, got 1"):
        pullback(np.ones(3))
    with pytest.raises(ValueError, match=r"^vjp: the gradient must be float64 \(3,\) as the value"):
        pullback((np.ones(2), 1.0))


# jvp


def test_jvp_in_several_directions_and_outputs() -> None:
    x, y = array(3), array(3)
    u, v = array(3), array(3)

    def function(x: Any, y: Any) -> Any:
        return State(x * y, (tg.sin(x).sum(), y))

    result, pushed = tg.jvp(function, [x, y], [u, v])
    close(result.h, x * y)
    assert isinstance(pushed, State)
    close(pushed.h, u * y + x * v)
    close(pushed.c[0], (np.cos(x) * u).sum())
    close(pushed.c[1], v)


def test_jvp_equals_central_differences() -> None:
    weight = value(3, 3)
    x, v = array(4, 3), array(4, 3)

    def function(x: Any) -> Any:
        return tg.softmax(tg.tanh(x @ weight)[:, ::-1]) * tg.logsumexp(x, axis=0)

    _, pushed = tg.jvp(function, [x], [v])
    ends = [function(tg.tensor(x + s * EPS * v)).numpy() for s in (1, -1)]
    close(pushed, (ends[0] - ends[1]) / (2 * EPS), rtol=1e-6)


def test_jvp_of_what_does_not_depend_is_zero() -> None:
    x = value(3)
    _, pushed = tg.jvp(lambda x: (tg.ones(2), (x > 0), x.detach()), [x], [x])
    close(pushed[0], np.zeros(2))
    close(pushed[2], np.zeros(3))


def test_jvp_takes_numbers() -> None:
    result, pushed = tg.jvp(lambda x: x * x, [tg.tensor(3.0, dtype="float64")], [1.0])
    assert (result.item(), pushed.item(), pushed.dtype) == (9, 6, np.float64)


def test_jvp_is_differentiable_in_point_and_direction() -> None:
    x = tg.tensor(array(3), requires_grad=True)
    v = tg.tensor(array(3), requires_grad=True)
    tg.jvp(tg.sin, [x], [v])[1].sum().backward()
    close(x.grad, -np.sin(x.numpy()) * v.numpy())
    close(v.grad, np.cos(x.numpy()))
    fixed = x.detach()
    v.grad = None
    tg.jvp(tg.sin, [fixed], [v])[1].sum().backward()
    close(v.grad, np.cos(x.numpy()))


def test_tangents_that_do_not_fit() -> None:
    x = value(3)
    with pytest.raises(ValueError, match=r"^jvp: expected 1 tangents, got 2"):
        tg.jvp(tg.sin, [x], [x, x])
    with pytest.raises(ValueError, match=r"^jvp: tangents must have the shapes of the primals"):
        tg.jvp(tg.sin, [x], [value(2)])
    with pytest.raises(ValueError, match=r"^jvp: the gradient must be float64"):
        tg.jvp(tg.sin, [x], [x.astype("float32")])


# jacobian, hessian, hvp


def test_jacobian_of_a_function() -> None:
    weight = value(2, 3)
    x = array(4, 3)

    def function(x: Any) -> Any:
        return tg.tanh(x @ weight.T)

    found = tg.jacobian(function)(x)
    assert found.shape == (4, 2, 4, 3)
    close(found, numeric_jacobian(function, x), rtol=1e-7)


def test_jacobian_of_several_arguments() -> None:
    a, b = value(2), value(3)
    j_a, j_b = tg.jacobian(lambda a, b: tg.outer(a, b), argnums=(0, 1))(a, b)
    close(j_a, np.einsum("ik,j->ijk", np.eye(2), b.numpy()))
    close(j_b, np.einsum("i,jk->ijk", a.numpy(), np.eye(3)))
    tree = tg.jacobian(lambda t: t["a"] * 2)({"a": a, "b": b})
    close(tree["a"], 2 * np.eye(2))
    close(tree["b"], np.zeros((2, 3)))


def test_jacobian_of_a_scalar_and_of_nothing() -> None:
    x = value(3)
    close(tg.jacobian(lambda x: x.sum())(x), np.ones(3))
    assert tg.jacobian(lambda x: x[:0])(x).shape == (0, 3)
    assert tg.jacobian(lambda x: x * 2)(x[:0]).shape == (0, 0)
    with pytest.raises(TypeError, match=r"^jacobian: the function must return one Tensor"):
        tg.jacobian(lambda x: (x, x))(x)


def test_jacobian_between_values_of_one_tape_keeps_it() -> None:
    weight = tg.tensor(array(3, 3), requires_grad=True)
    states = [tg.tensor(array(3), requires_grad=True)]
    for _ in range(4):
        states.append(tg.tanh(weight @ states[-1]))
    expected = np.eye(3)
    for t in (4, 3, 2, 1):
        s = states[t].numpy()
        expected = expected @ (np.diag(1 - s * s) @ weight.numpy())
        close(tg.jacobian(states[4], states[t - 1]), expected)
    assert weight.grad is None
    states[4].sum().backward()
    close(states[0].grad, expected.sum(0))


def test_jacobian_between_values_that_are_not_connected() -> None:
    a, b = (tg.tensor(array(2), requires_grad=True) for _ in range(2))
    close(tg.jacobian(a * 2, b), np.zeros((2, 2)))
    with pytest.raises(RuntimeError, match=r"^jacobian: x does not require a gradient"):
        tg.jacobian(a * 2, b.detach())
    with pytest.raises(RuntimeError, match=r"^jacobian: the value does not depend on anything"):
        tg.jacobian(b.detach(), a)
    with pytest.raises(TypeError, match=r"^jacobian: jacobian\(y, x\) takes the value x"):
        tg.jacobian(a * 2)


def test_hessian() -> None:
    x = array(2, 2)

    def function(x: Any) -> Any:
        return (tg.sin(x) * x[::-1]).sum() + tg.prod(x)

    found = tg.hessian(function)(x)
    assert found.shape == (2, 2, 2, 2)
    close(found, numeric_jacobian(tg.grad(function), x), rtol=1e-6)
    matrix = found.numpy().reshape(4, 4)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    mixed = tg.hessian(lambda a, b: (a * b**3).sum(), argnums=1)(value(2), tg.ones(2))
    assert mixed.shape == (2, 2)


def test_hvp_is_the_hessian_times_a_vector() -> None:
    x, v = array(3), array(3)

    def function(x: Any) -> Any:
        return tg.exp(tg.sin(x).sum()) + (x**4).sum()

    close(tg.hvp(function, x, v), tg.hessian(function)(x).numpy() @ v)
    a, b = array(2), array(2)
    h_a, h_b = tg.hvp(lambda a, b: (a * a * b).sum(), (a, b), (a, b))
    close(h_a, 2 * b * a + 2 * a * b)
    close(h_b, 2 * a * a)


# The checker


def test_the_checker_finds_a_wrong_first_and_a_wrong_second_derivative() -> None:
    first = tg.primitive("first", lambda xp, x: x**3, [lambda g, y, x: g * x * x])

    def constant(x: Any) -> Any:
        return x.detach() if isinstance(x, tg.Tensor) else x

    second = tg.primitive("second", lambda xp, x: x**3, [lambda g, y, x: g * 3 * x * constant(x)])
    third = tg.primitive("third", lambda xp, x: x**3, [lambda g, y, x: g * 3 * x * x])
    x = value(3)
    with pytest.raises(tg.GradientError, match=r"^check_gradients: first-order .* input 0 \(3,\)"):
        tg.check_gradients(first, x, order=1)
    with pytest.raises(tg.GradientError, match="second-order"):
        tg.check_gradients(second, x, order=2)
    assert tg.check_gradients(third, x, order=3)


def test_the_checker_finds_randomness_and_refuses_float32() -> None:
    with pytest.raises(tg.GradientError, match="is it random"):
        tg.check_gradients(lambda x: x * tg.rand(3, dtype="float64"), value(3))
    with pytest.raises(TypeError, match=r"^check_gradients: input 0 must be float64, got float32"):
        tg.check_gradients(tg.sin, tg.ones(3))


# dicts


def weighted(tree: Any) -> Any:
    return 10 * tree["a"] + tree["b"] * tree["b"]


def test_fault_6_dicts_are_matched_by_key() -> None:
    primal = {"a": 1.0, "b": 1.0}
    for tangent in ({"b": 0.0, "a": 1.0}, {"a": 1.0, "b": 0.0}):
        assert tg.jvp(weighted, [primal], [tangent])[1].item() == 10
    found = tg.hvp(weighted, primal, {"b": 3.0, "a": 1.0})
    assert (found["a"].item(), found["b"].item()) == (0, 6)
    pullback = tg.vjp(lambda x: {"b": x, "a": [3 * x]}, 1.0)[1]
    assert pullback({"a": [1.0], "b": 0.0})[0].item() == 3
    assert pullback({"b": 0.0, "a": (1.0,)})[0].item() == 3
    back = {"b": tg.tensor(2.0), "a": tg.tensor(1.0)}
    assert list(tg.grad(weighted)(back)) == ["b", "a"]
    assert [g.item() for g in tg.grad(weighted)(back).values()] == [4, 10]


@pytest.mark.parametrize(
    ("who", "call"),
    [
        ("jvp: tangents", lambda p, t: tg.jvp(weighted, [p], [t])),
        ("hvp: tangents", lambda p, t: tg.hvp(weighted, p, t)),
        ("vjp: cotangents", lambda p, t: tg.vjp(lambda x: p | {"a": x}, 1.0)[1](t)),
    ],
)
def test_fault_6_other_keys_are_refused(who: str, call: Any) -> None:
    primal = {"a": tg.tensor(1.0), "b": tg.tensor(1.0)}
    for other, got in (
        ({"a": 1.0, "c": 0.0}, r"\['a', 'b'\], got \['a', 'c'\]"),
        ([1.0, 0.0], r"\['a', 'b'\], got a list"),
    ):
        with pytest.raises(ValueError, match=rf"^{who} must have the form .* the keys {got}$"):
            call(primal, other)


def test_containers_of_another_form_are_refused() -> None:
    x = value(2)
    for tangent in ({"a": x, "b": x}, ({"a": x}, x), (x, (x, None), None)):
        with pytest.raises(ValueError, match=r"^jvp: tangents must have the form of what they bel"):
            tg.jvp(lambda pair: pair[0] * pair[1], [(x, x)], [tangent])
    assert tg.jvp(lambda pair: pair[0] * pair[1], ((x, x),), [[x, x]])[1].shape == (2,)
    with pytest.raises(ValueError, match="expected None"):
        tg.jvp(lambda t: t[0] * 1.0, [(x, None, x)], [(x, x, None)])


def test_keys_that_cannot_be_compared() -> None:
    found = tg.grad(lambda d: 2 * d[1] + 3 * d["one"] + 4 * d[None])(
        {1: 1.0, "one": 1.0, None: 1.0}
    )
    assert {key: g.item() for key, g in found.items()} == {1: 2, "one": 3, None: 4}


@pytest.mark.parametrize("unroll", [False, True])
def test_fault_6_the_state_of_a_scan_is_matched_by_key(unroll: bool) -> None:
    def step(x: Any, state: Any) -> Any:
        return {"z": x, "y": state["a"]}, {"b": state["b"] + x, "a": state["a"] * 2}

    start = {"a": tg.tensor(1.0), "b": tg.tensor(0.0)}
    ys, last = tg.scan(step, tg.ones(3), start, unroll=unroll)
    assert (last["a"].item(), last["b"].item()) == (8, 3)
    assert ys["y"].tolist() == [1, 2, 4]
    assert ys["z"].tolist() == [1, 1, 1]
    with pytest.raises(TypeError, match=r"^scan: the step must return a state like"):
        tg.scan(lambda x, s: (x, {"a": s["a"], "c": s["b"]}), tg.ones(3), start, unroll=unroll)
