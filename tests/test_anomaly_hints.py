"""What is said about each kind of nan and infinity: the verdict's half, the values, the remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from networks import draw

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, rnn

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def given(*values: Any, dtype: Any = np.float32) -> tg.Tensor:
    return tg.tensor(np.array(values, dtype), requires_grad=True)


def half(*values: Any) -> tg.Tensor:
    return given(*values, dtype=np.float16)


MASK = tg.tensor([0.0, 1.0])

CASES: list[tuple[Callable[[], Any], str, str, str]] = [
    # forward
    (lambda: tg.log(given(0.0, 1.0)), "log", "-inf", "log of 0 is -inf: tg.log(tg.maximum(x, "),
    (lambda: tg.log(given(-1.0)), "log", "nan", "log of a number below 0 is nan"),
    (lambda: tg.log1p(given(-1.0)), "log1p", "-inf", "log1p wants numbers above -1"),
    (lambda: tg.sqrt(given(-1e-9)), "sqrt", "nan", "sqrt of a number below 0 is nan: where that "),
    (lambda: given(1.0) / given(0.0), "divide", "inf", "division by 0: divide by tg.where(b == 0,"),
    (lambda: given(0.0) / given(0.0), "divide", "nan", "0 / 0, as where a mask counts nothing"),
    (lambda: 1.0 / given(0.0), "divide", "inf", "division by 0: divide by tg.where(b == 0, 1, b)"),
    (lambda: given(1.0) % given(0.0), "remainder", "nan", "division by 0: divide by tg.where("),
    (lambda: tg.exp(given(1.0, 100.0)), "exp", "inf", "exp overflows float32 above 88.72"),
    (
        lambda: tg.exp(given(800.0, dtype=np.float64)),
        "exp",
        "inf",
        "exp overflows float64 above 709.8: subtract the largest value first, as tg.softmax",
    ),
    (lambda: tg.exp(half(12.0)), "exp", "inf", "exp overflows float16 above 11.09"),
    (lambda: tg.expm1(given(100.0)), "expm1", "inf", "exp overflows float32"),
    (lambda: given(0.0) ** -0.5, "power", "inf", "0 to a negative power is inf"),
    (lambda: given(-2.0) ** 0.5, "power", "nan", "a negative base to a power that is no integer"),
    (lambda: given(1e30) ** 2, "power", "inf", "it overflows float32, in which values or weights"),
    (lambda: tg.square(given(1e30)), "square", "inf", "it overflows float32"),
    (lambda: half(300.0) * half(300.0), "multiply", "inf", "float16 holds no more than 65504"),
    (lambda: tg.sum(half(6e4, 6e4)), "sum", "inf", "float16 holds no more than 65504"),
    (lambda: given(7e4).astype(np.float16), "cast", "inf", "float16 holds no more than 65504"),
    (lambda: given(1e30, 1e30) @ given(1e30, 1e30), "matmul", "inf", "it overflows float32"),
    (lambda: (1 - MASK) * -math.inf + given(1.0), "multiply", "nan", "0 times inf is nan: a mask"),
    (
        lambda: tg.where(MASK > 1, given(1.0), -math.inf)
        - tg.max(tg.where(MASK > 1, given(1.0), -math.inf)),
        "subtract",
        "nan",
        "inf - inf is nan: all of a row is masked; tg.softmax and tg.logsumexp take",
    ),
    (
        lambda: tg.softmax(tg.where(MASK > 0, given(1.0), math.inf)),
        "softmax",
        "nan",
        "a score of +inf leaves nothing to divide: masks are -inf",
    ),
    (
        lambda: nn.cross_entropy(tg.where(MASK > 0, given(1.0), -math.inf), 0).mean(),
        "cross_entropy",
        "inf",
        "the logit of a label is -inf, in a row or a class that is masked",
    ),
    (
        lambda: -tg.logsumexp(tg.where(MASK > 1, given(1.0), -math.inf)),
        "logsumexp",
        "-inf",
        "all of a row is masked with -inf",
    ),
    (lambda: tg.mean(given()), "mean", "nan", "the mean of nothing is nan"),
    (lambda: tg.exp(given(90.0)) / tg.exp(given(90.0)), "exp", "inf", "exp overflows float32"),
    # backward
    (lambda: tg.sqrt(given(0.0)), "sqrt", "inf", "the derivative of sqrt at 0 is infinite"),
    (
        lambda: tg.sqrt(tg.sum(tg.square(given(0.0, 0.0)))),
        "sqrt",
        "inf",
        "the derivative of sqrt at 0 is infinite: tg.sqrt(x + 1e-12); a root of a sum of squares",
    ),
    (lambda: given(0.0) ** 0.5, "power", "inf", "the derivative of x ** p with p < 1 is infinite"),
    (
        lambda: given(-2.0) ** given(2.0),
        "power",
        "nan",
        "the derivative by the exponent takes the log of the base: nan where that is below 0",
    ),
    (lambda: 1 / (1 + tg.exp(given(100.0))), "exp", "inf", "exp overflows float32 above 88.72"),
    (lambda: tg.log(given(1e-30)) * 1e10, "log", "inf", "it overflows float32"),
]  # fmt: skip


def anomaly(function: Callable[[], Any]) -> lab.AnomalyError:
    with pytest.raises(lab.AnomalyError) as error, lab.detect_anomaly():
        function()
    return error.value


@pytest.mark.parametrize(("function", "operation", "value", "hint"), CASES)
def test_a_remedy_is_named(function: Any, operation: str, value: str, hint: str) -> None:
    found = anomaly(lambda: tg.sum(function()).backward())
    assert (found.operation, found.value) == (operation, value)
    assert found.hint is not None
    assert found.hint.startswith(hint)
    assert str(found).endswith(f"\n  hint: {found.hint}")
    verdict = str(found).partition("\n")[0]
    assert verdict.startswith(operation)
    assert ("of finite operands" in verdict) == all(one.is_finite for one in found.ranges)


# Sums of gradients, of which no single one is to blame


def test_a_gradient_that_is_given() -> None:
    x = given(1.0, 2.0)
    error = anomaly(lambda: tg.tanh(x).backward(tg.tensor([1.0, math.inf])))
    assert str(error).startswith("tanh, backwards: is given a gradient that holds inf (")
    assert error.index == (1,)


def test_a_sum_over_uses() -> None:
    x = given(0.0)

    def run() -> None:
        y = tg.tanh(x)
        (y * 3e38 + y * 3e38).sum().backward()

    error = anomaly(run)
    assert str(error).startswith(
        "tanh, backwards: its gradient holds inf: what its uses send is finite, and its sum"
    )
    w = given(1.0)
    w.name = "gain"
    error = anomaly(lambda: (w * 3e38 - 1).sum().backward() or (w * 3e38).sum().backward())
    assert error.parameter == "gain"
    assert "the shares of all its uses are finite, and their sum holds inf" in str(error)


@pytest.mark.parametrize("unroll", [False, True])
def test_a_sum_over_time(unroll: bool) -> None:
    """Each step adds something finite to the gradient of a weight."""
    w = given(0.0)
    w.name = "gain"
    x = tg.full(4, 1e38)
    error = anomaly(
        lambda: (
            tg.scan(lambda x, h: (w * x, h), x, tg.tensor(0.0), unroll=unroll)[0].sum().backward()
        )
    )
    assert error.parameter == "gain"
    assert error.value == "inf"
    assert "finite, and their sum holds inf" in str(error)


class Product(rnn.Cell):
    """A user's cell that is a product."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        self.input_size, self.hidden_size = input_size, hidden_size
        self.w = nn.Parameter(np.zeros((hidden_size, input_size)))

    def step(self, x: Any, h: Any) -> Any:
        return tg.linear(x, self.w), h


@pytest.mark.parametrize("unroll", [False, True])
def test_a_weight_whose_share_is_too_large_at_one_step(unroll: bool) -> None:
    layer = rnn.Recurrent(Product(3, 4), unroll=unroll)
    x = draw(5, 2, 3)
    x.array[2] = 1e200
    error = anomaly(lambda: (layer(x)[0] * 1e200).sum().backward())
    assert (error.operation, error.step, error.backward) == ("linear", 2, True)
    assert (error.layer, error.parameter) == ("cell", "cell.w")


def test_a_hook() -> None:
    x = given(1.0)

    def run() -> None:
        y = tg.tanh(x)
        y.register_hook(lambda g: g * math.nan)
        (y * 2).sum().backward()

    assert str(anomaly(run)).startswith(
        "tanh, backwards: its gradient is nan since a hook made it "
    )


def test_a_rule_that_fails_beside_an_infinity_that_does_no_harm() -> None:
    """Sqrt and its rule are sound at inf, and the rule is not at 0."""
    x, zero = given(100.0), given(0.0)

    def run() -> None:
        y = tg.sqrt(tg.concat([tg.exp(x), zero]))
        (1 / (1 + y)).sum().backward()

    error = anomaly(run)
    verdict = "sqrt, backwards: its gradient rule gives -inf where its operands are finite ("
    assert str(error).startswith(verdict)
    assert error.index == (1,)
    assert error.ranges[0].inf == 1
    assert error.hint.startswith("the derivative of sqrt at 0 is infinite")


def test_a_result_that_fails_beside_an_infinity_that_does_no_harm() -> None:
    x = given(100.0, 1.0)
    error = anomaly(lambda: tg.log(tg.exp(x) - tg.tensor([0.0, 9.0])).sum().backward())
    assert str(error).startswith("log: gives nan where its operands are finite (")
    assert error.index == (1,)


# Loops of every kind


@pytest.mark.parametrize("options", [{}, {"checkpoint": 2}, {"reverse": True}, {"unroll": True}])
def test_backwards_in_any_loop_the_step_is_named(options: dict[str, Any]) -> None:
    x = given(1.0, 4.0, 0.0, 1.0, 1.0, dtype=np.float64)
    error = anomaly(
        lambda: (
            tg.scan(lambda x, h: (tg.sqrt(x) + h, h), x, tg.tensor(0.0), **options)[0]
            .sum()
            .backward()
        )
    )
    assert (error.operation, error.step, error.backward) == ("sqrt", 2, True)
    assert error.reverse == bool(options.get("reverse"))


def test_a_loop_within_a_loop() -> None:
    x = tg.tensor(np.array([[1.0, 2.0], [3.0, 0.0], [1.0, 1.0]]), requires_grad=True)

    def outer(row: Any, h: Any) -> Any:
        y, _ = tg.scan(lambda v, g: (tg.sqrt(v) + g, g), row, h)
        return y, h

    error = anomaly(lambda: tg.scan(outer, x, tg.tensor(0.0))[0].sum().backward())
    assert (error.operation, error.step, error.finding.origin.around) == ("sqrt", 1, (1,))

    def forward(row: Any, h: Any) -> Any:
        y, _ = tg.scan(lambda v, g: (tg.log(v) + g, g), row, h)
        return y, h

    error = anomaly(lambda: tg.scan(forward, x, tg.tensor(0.0)))
    assert (error.operation, error.step, error.finding.origin.around) == ("log", 1, (1,))
    assert "log in a replayed loop, time step 1 within time step 1: gives -inf" in str(error)


@pytest.mark.parametrize("loop", ["no", "replayed", "unrolled"])
def test_a_backward_pass_that_can_be_differentiated(loop: str) -> None:
    x = given(4.0, 1.0, 0.0, dtype=np.float64)

    def run() -> Any:
        if loop == "no":
            return tg.sqrt(x)
        start = tg.tensor(0.0)
        return tg.scan(lambda x, h: (tg.sqrt(x), h), x, start, unroll=loop == "unrolled")[0]

    error = anomaly(lambda: tg.sum(run()).backward(create_graph=True))
    assert str(error).startswith("sqrt")
    assert "its gradient rule gives inf of finite operands" in str(error)
    assert error.backward
    assert error.step == (None if loop == "no" else 2)


@pytest.mark.parametrize("loop", ["no", "replayed", "unrolled"])
def test_gradients_of_gradients(loop: str) -> None:
    """X ** 1.5 has a derivative at 0, which has none."""
    x = given(4.0, 1.0, 0.0, dtype=np.float64)

    def run() -> None:
        y = x**1.5
        if loop != "no":
            start = tg.tensor(0.0)
            step: Any = lambda x, h: (x**1.5, h)  # noqa: E731
            y, _ = tg.scan(step, x, start, unroll=loop == "unrolled")
        tg.sum(y).backward(create_graph=True)
        slope: Any = x.grad
        x.grad = None
        tg.sum(slope).backward()

    error = anomaly(run)
    assert error.operation == "power"
    assert error.backward
    assert error.step == (None if loop == "no" else 2)


def test_a_checkpointed_function() -> None:
    x = given(4.0, 0.0)
    error = anomaly(lambda: tg.sum(tg.checkpoint(lambda x: tg.sqrt(x) * 2)(x)).backward())
    assert str(error).startswith("sqrt, backwards: its gradient rule gives inf")
    error = anomaly(lambda: tg.sum(tg.checkpoint(lambda x: tg.log(x) * 2)(x)).backward())
    assert str(error).startswith("log: gives -inf of finite operands")


def test_gradients_that_nobody_wants_are_not_looked_for() -> None:
    """In a loop that is run again, too: x is data, whose gradient would be infinite."""
    x, w = tg.tensor([1.0, 4.0, 0.0]), given(1.0)
    start = tg.tensor(0.0)
    with lab.detect_anomaly():
        tg.scan(lambda x, h: (w * x**0.5, h), x, start)[0].sum().backward()
    error = anomaly(
        lambda: tg.scan(lambda x, h: (tg.sqrt(w - 1) + x**0.5, h), x, start)[0].sum().backward()
    )
    assert (error.operation, error.step, error.index) == ("sqrt", 2, (0,))


def test_a_primitive_of_the_users_own() -> None:
    half_true = tg.primitive(
        "half_true", lambda xp, x: x + 0, [lambda g, y, x: g * math.nan], kernel="x0 + 0"
    )
    error = anomaly(lambda: half_true(given(1.0)).sum().backward())
    assert str(error).startswith("half_true, backwards: its gradient rule gives nan of finite oper")
    assert error.hint is None


def test_on_any_device(device: str) -> None:
    x = tg.tensor([1.0, 0.0], device=device, requires_grad=True)
    error = anomaly(lambda: tg.sum(tg.sqrt(x)).backward())
    assert (error.operation, error.index) == ("sqrt", (1,))
    error = anomaly(lambda: tg.sum(tg.log(x)))
    assert (error.operation, error.index) == ("log", (1,))


def test_a_pole_is_no_overflow() -> None:
    """A primitive of the user's that divides by 0 is not told to clip."""
    pole = tg.primitive("pole", lambda xp, x: 1 / x, [lambda g, y, x: -g * y * y])
    back = tg.primitive("back", lambda xp, x: x + 0, [lambda g, y, x: g / (x - x)])
    assert anomaly(lambda: pole(given(0.0, 1.0)).sum().backward()).hint is None
    assert anomaly(lambda: back(given(0.0, 1.0)).sum().backward()).hint is None
    assert pole(given(1e-39)).item() == math.inf
    error = anomaly(lambda: 1 / given(1e-39))
    assert error.hint.startswith("division by a number that is nearly 0")
    assert anomaly(lambda: tg.prod(given(*[2.0] * 200))).hint.startswith("a product of many")


def test_a_loss_scale_that_overflows_is_lowered() -> None:
    x = half(1.0, 2.0)
    error = anomaly(lambda: ((x * x).astype(np.float32) * 1e6).sum().backward())
    assert error.backward
    assert error.hint.endswith("lower the loss scale")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nan_is_told_before_an_infinity_of_the_same_operation(dtype: Any) -> None:
    """Whichever comes first among the elements."""
    error = anomaly(lambda: tg.log(given(0.0, -1.0, 2.0, dtype=dtype)).sum().backward())
    assert (error.value, error.index) == ("nan", (1,))
    assert error.hint.startswith("log of a number below 0")


def test_nan_of_infinities_is_not_blamed_on_what_overflows_beside_it() -> None:
    x = given(1.0, 1.0)
    top, below = tg.tensor([math.inf, 1.0]), tg.tensor([math.inf, 0.0])

    def run() -> Any:
        y = x * (top / below)
        return tg.where(tg.tensor([True, False]), y, 0.0).sum().backward()

    error = anomaly(run)
    assert error.came_in == "the variable top of run"
    assert "nan comes of it in divide" in str(error)


def test_which_element_has_spoilt_a_gradient() -> None:
    """0 / 0 at the zero, and not at the number below it."""
    x = given(0.0, -1.0, 2.0)
    error = anomaly(lambda: tg.where(x > 0, tg.log(x), 0.0).sum().backward())
    assert (error.operation, error.value, error.index) == ("log", "-inf", (0,))
    assert "does not take it, but 0 times -inf is nan" in str(error)


def test_what_stands_in_the_model_is_not_to_be_replaced_by_a_where() -> None:
    model = rnn.LSTM(3, 4)
    x = draw(5, 2, 3).astype(np.float32)
    model.weight_ih_l0.array[0, 1] = math.inf
    error = anomaly(lambda: model(tg.tensor(x.numpy(), requires_grad=True))[0].sum().backward())
    assert error.parameter == "weight_ih_l0"
    assert error.backward
    assert error.hint.startswith("an update or a file made it so: load a checkpoint from before")


@pytest.mark.parametrize("name", ["running_mean", "running_var"])
@pytest.mark.parametrize("training", [False, True])
def test_statistics_are_a_buffer(name: str, training: bool) -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))
    model.train() if training else model.eval()
    getattr(model[0], name).array[1] = math.nan
    error = anomaly(lambda: model(tg.randn(5, 3)).sum().backward())
    assert str(error).startswith(f"the buffer layers.0.{name} holds nan: float32 (3,) 1 of 3 nan")
    assert error.parameter is None
    assert error.hint.startswith("it is made of what was seen before")


def test_a_parameter_that_is_read_without_a_gradient() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            self.gain = nn.Parameter([1.0, math.nan])

        def forward(self, x: Any) -> Any:
            return x * self.gain.detach()

    error = anomaly(lambda: Scaled()(given(1.0, 2.0)).sum().backward())
    assert str(error).startswith("the parameter gain holds nan")
    assert error.parameter == "gain"


class Tied(nn.Module):
    """A table of embeddings that gives the logits, too."""

    def __init__(self) -> None:
        self.embedding = nn.Embedding(7, 4)
        self.out = nn.Linear(4, 7)
        self.out.weight = self.embedding.weight

    def forward(self, numbers: Any) -> Any:
        return self.out(tg.tanh(self.embedding(numbers)))


@pytest.mark.parametrize(("row", "operation"), [(3, "take"), (6, "linear")])
def test_of_a_tied_table_the_reader_of_the_row_is_named(row: int, operation: str) -> None:
    model, numbers = Tied(), np.array([[0, 1], [2, 3]])
    model.embedding.weight.array[row, 1] = math.nan
    error = anomaly(lambda: nn.cross_entropy(model(numbers), numbers, axis=-1).backward())
    assert (error.parameter, error.operation) == ("embedding.weight", operation)
    assert error.layer == ("embedding" if row == 3 else "out")


def test_attributes_of_objects_and_fields_of_a_batch() -> None:
    @dataclass
    class Batch:
        x: Any

    class Weighed:
        def __init__(self) -> None:
            self.w = nn.Parameter([1.0, math.nan])

        def loss(self) -> Any:
            return (self.w * 2).sum()

    model, batch = Weighed(), Batch(np.array([1.0, math.nan]))
    error = anomaly(lambda: model.loss().backward())
    assert error.came_in == "the variable self.w of loss"

    def run(given: Any) -> Any:
        return tg.tensor(given[0].x) * 2

    assert anomaly(lambda: run([batch])).came_in == "the variable given[0].x of run"


class Agreeable:
    """Answers whatever it is asked with a function that gives None."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def test_objects_that_answer_whatever_they_are_asked() -> None:
    """Those of a test runner do, and of the user's."""

    class Holder:
        def __init__(self) -> None:
            self.log = Agreeable()

    def run(x: Any) -> Any:
        holder, alone = Holder(), Agreeable()
        return tg.tensor(x) * 2, holder, alone

    def outer() -> Any:
        holder, alone = Holder(), Agreeable()
        return run(np.array([1.0, math.nan])), holder, alone

    assert anomaly(outer).came_in == "the variable x of run"


@pytest.mark.parametrize("operation", [tg.log, lambda x: tg.exp(1000 + x)])
def test_losses_that_are_differentiated_in_another_order(operation: Any) -> None:
    """The forward operation is told, though a backward pass came further before."""
    x, y = given(0.0), given(1.0)

    def run() -> None:
        first, second = operation(x), tg.square(y)
        second.backward()
        first.backward()

    error = anomaly(run)
    assert not error.backward
    assert error.notes == ()


def test_a_gradient_that_is_assigned() -> None:
    """Finite shares have no sum that is nan."""
    w = nn.Parameter([1.0, 2.0])

    def run() -> None:
        tg.square(w).sum().backward()
        w.grad = tg.tensor([math.nan, 0.0])

    error = anomaly(run)
    assert "its .grad holds nan, which a hook or an assignment has put there" in str(error)
    assert error.hint is None


def test_a_masked_class_in_a_log_softmax() -> None:
    scores, mask = draw(2, 3, requires_grad=True), tg.tensor([True, False, True])
    error = anomaly(lambda: tg.log_softmax(tg.where(mask, scores, -math.inf)).sum().backward())
    assert str(error).startswith("log_softmax: gives -inf, since a row or a label is masked")
    assert error.hint.startswith("what is masked with -inf stays so: choose what is not, tg.where(")
    with lab.detect_anomaly():
        logs = tg.log_softmax(tg.where(mask, scores, -math.inf))
        tg.where(mask, logs, 0.0).sum().backward()
