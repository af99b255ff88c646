"""Modules: the tree of parameters, hooks, what is saved and loaded, moving, copies."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from networks import assert_equal, close, draw, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn

# The tree


class Branch(nn.Module):
    hidden = ("_hidden",)

    def __init__(self) -> None:
        self.weight = nn.Parameter([1.0, 2.0])
        self.steps = nn.Buffer([3])
        self._hidden = nn.Parameter([4.0])


class Tree(nn.Module):
    hidden = ("_secret",)

    def __init__(self) -> None:
        self.first = Branch()
        self.many = [Branch(), (Branch(), 7)]
        self.named = {"left": Branch(), "right": nn.Parameter([5.0])}
        self.size = 3
        self._secret = Branch()


NAMES = [
    "named.right",
    "first.weight",
    "many.0.weight",
    "many.1.0.weight",
    "named.left.weight",
]


def test_the_tree_is_walked_through_attributes_and_containers() -> None:
    tree = Tree()
    assert [name for name, _ in tree.named_parameters()] == NAMES
    assert [p.name for p in tree.parameters()] == NAMES
    assert [name for name, _ in tree.named_modules()] == [
        *("", "first", "many.0", "many.1.0", "named.left"),
    ]
    assert len(list(tree.modules())) == 5
    assert set(tree.state_dict()) == {
        *NAMES,
        *(f"{n}.steps" for n in ("first", "many.0", "many.1.0", "named.left")),
    }


def test_a_module_that_refers_to_the_one_above_it() -> None:
    tree = Tree()
    tree.named["left"] = tree
    assert [name for name, _ in tree.named_parameters()] == NAMES[:-1]
    assert next(tree.modules()) is tree
    assert repr(tree).startswith("Tree()")


def test_errors_call_a_parameter_by_its_longest_name() -> None:
    model = nn.Sequential(rnn.LSTM(2, 3), nn.Linear(3, 2))
    model[1].parameters()
    model[0](tg.ones((2, 1, 2)))
    assert [p.name for p in model.parameters()] == [n for n, _ in model.named_parameters()]
    assert model[1].weight.name == "layers.1.weight"


class Tied(nn.Module):
    def __init__(self) -> None:
        self.embedding = nn.Embedding(5, 3)
        self.head = nn.Linear(3, 5)
        self.head.weight = self.embedding.weight
        self.again = self.head


TIED = ["embedding.weight", "head.weight", "again.weight"]


def test_tied_parameters() -> None:
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["embedding.weight", "head.bias"]
    state = model.state_dict()
    assert set(state) == {*TIED, "head.bias", "again.bias"}
    for name in TIED:
        state[name] = state[name] + 1
    model.load_state_dict(state)
    close(model.embedding.weight, state["head.weight"], 0)
    assert model.head.weight is model.embedding.weight

    state["again.weight"] = state["again.weight"] * 2
    before = model.state_dict()
    message = "Tied.load_state_dict: embedding.weight and again.weight are tied, the given values"
    with pytest.raises(ValueError, match=message):
        model.load_state_dict(state)
    assert_equal(model.state_dict(), before)

    loss = nn.cross_entropy(model.head(model.embedding([1, 2])), [2, 3])
    loss.backward()
    optim.SGD(model.parameters(), lr=0.1).step()
    assert model.head.weight is model.embedding.weight


def test_a_head_tied_to_the_embedding_trains() -> None:
    """Its gradient is the sum of those of both uses."""
    tokens, labels = [1, 2, 1], [2, 3, 2]

    def gradient(tied: bool, use: str) -> np.ndarray:
        model = randomise(Tied())
        if not tied:
            model.head.weight = nn.Parameter(model.embedding.weight.detach())
        nn.cross_entropy(model.head(model.embedding(tokens)), labels).backward()
        return getattr(model, use).weight.grad.numpy()

    close(
        gradient(True, "head"), gradient(False, "head") + gradient(False, "embedding"), rtol=1e-14
    )
    model = randomise(Tied())
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    losses = []
    for _ in range(60):
        model.zero_grad()
        loss = nn.cross_entropy(model.head(model.embedding(tokens)), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    again = Tied().to(np.float64)
    again.load_state_dict(model.state_dict())
    assert again.head.weight is again.embedding.weight
    assert_equal(again.state_dict(), model.state_dict())


# Hooks


def test_forward_hooks() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    layer = model[0]
    seen: list[Any] = []
    x = draw(4, 3).to(np.float32)
    plain, inner = model(x), layer(x)

    before = layer.register_forward_pre_hook(lambda *given: seen.append(given))
    after = layer.register_forward_hook(lambda *given: seen.append(given))
    close(model(x), plain, 0)
    (module, inputs), (same, again, output) = seen
    assert module is same is layer
    assert inputs[0] is again[0] is x
    close(output, inner, 0)

    twice = layer.register_forward_pre_hook(lambda module, inputs: 2 * inputs[0])
    close(layer(x), nn.Linear.forward(layer, 2 * x), 0)
    as_tuple = layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] + 1,))
    negative = layer.register_forward_hook(lambda module, inputs, output: -output)
    close(layer(x), -nn.Linear.forward(layer, 2 * x + 1), 0)

    for handle in (before, after, twice, as_tuple, negative, negative):
        handle.remove()
    seen.clear()
    close(layer(x), inner, 0)
    assert not seen
    with layer.register_forward_hook(lambda module, inputs, output: output * 0):
        assert np.all(layer(x).numpy() == 0)
    close(layer(x), inner, 0)


def test_hooks_of_one_module_are_not_those_of_another() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    calls: list[Any] = []
    handle = first.register_forward_hook(lambda module, inputs, output: calls.append(module))
    copied = copy.deepcopy(first)
    for module in (first, second, copied):
        module(tg.ones((1, 2)))
    assert calls == [first, copied]
    handle.remove()
    first(tg.ones((1, 2)))
    assert len(calls) == 2
    assert list(first.state_dict()) == ["weight", "bias"]


def test_a_hook_sees_recurrent_layers_whole() -> None:
    layer = rnn.Stacked([rnn.LSTM(2, 3), nn.Linear(3, 1)])
    shapes: list[Any] = []
    for module in (layer, *layer.layers):
        module.register_forward_hook(
            lambda module, inputs, output: shapes.append(type(module).__name__)
        )
    layer(tg.ones((4, 1, 2)), lengths=[2])
    assert shapes == ["LSTM", "Linear", "Stacked"]


# State


def test_the_state_is_a_copy() -> None:
    model = nn.Linear(3, 2)
    state = model.state_dict()
    before = model.weight.numpy().copy()
    state["weight"] += 1
    assert np.array_equal(model.weight.numpy(), before)
    model.load_state_dict(state)
    state["weight"] += 1
    assert np.array_equal(model.weight.numpy(), before + 1)


def test_loading_takes_other_float_dtypes_tensors_and_devices() -> None:
    model = nn.Linear(3, 2).to("strict")
    weight = model.weight
    given = {"weight": draw(2, 3), "bias": np.arange(2.0)}
    model.load_state_dict(given)
    assert model.weight is weight
    assert (weight.dtype, weight.device) == (np.float32, "strict")
    close(model.weight, given["weight"].numpy().astype(np.float32), 0)
    close(model.bias, [0, 1], 0)


def test_loading_between_forward_and_backward_is_noticed() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    model.parameters()
    loss = model(tg.ones((1, 3))).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match=r"layers\.[01]\.weight.*overwritten"):
        loss.backward()


def test_loading_part_of_a_state() -> None:
    model: Any = nn.Linear(3, 2)
    before = model.state_dict()
    model.load_state_dict({"bias": [5, 6.0], "other": [1.0]}, strict=False)
    assert np.array_equal(model.bias.numpy(), [5, 6])
    assert np.array_equal(model.weight.numpy(), before["weight"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"weight": None}, KeyError, r"names do not match: missing \['weight'\]"),
        ({"extra": np.ones(2)}, KeyError, r"names do not match: unknown \['extra'\]"),
        (
            {"bias": None, "b": np.ones(2)},
            KeyError,
            r"Linear.load_state_dict: names do not match: missing \['bias'\]; unknown \['b'\]",
        ),
        (
            {"bias": np.ones(3)},
            ValueError,
            r"Linear.load_state_dict: bias has shape \(2,\), the given values have \(3,\)",
        ),
        (
            {"bias": np.ones(2, np.complex64)},
            ValueError,
            "Linear.load_state_dict: bias is float32, the given values are complex64",
        ),
        ({"bias": np.ones(2, int)}, ValueError, "bias is float32, the given values are int64"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(
    changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = nn.Linear(3, 2)
    before = model.state_dict()
    state = {name: value + 1 for name, value in before.items()}
    for name, value in changes.items():
        if value is None:
            del state[name]
        else:
            state[name] = value
    with pytest.raises(error, match=message):
        model.load_state_dict(state)
    assert_equal(model.state_dict(), before)


def test_moving_and_casting() -> None:
    tree = Tree()
    parameters: list[Any] = tree.parameters()
    (parameters[0] * 2).sum().backward()
    assert tree.to(np.float64) is tree
    assert all(a is b for a, b in zip(tree.parameters(), parameters, strict=True))
    assert {p.dtype for p in parameters} == {np.dtype(np.float64)}
    assert parameters[0].grad.dtype == np.float64
    assert tree.first.steps.dtype == np.int64
    tree.to("float16")
    assert {p.dtype for p in parameters} == {np.dtype(np.float16)}
    assert tree.first.steps.dtype == np.int64
    tree.to("strict")
    assert {p.device for p in parameters} == {"strict"}
    assert tree.first.steps.device == "strict"
    assert parameters[0].grad.device == "strict"
    assert tree.named["right"].tolist() == [5.0]


def test_casting_between_forward_and_backward_is_noticed() -> None:
    model = nn.Linear(3, 2)
    loss = (model(tg.ones((1, 3), requires_grad=True))).sum()
    model.to(np.float32)
    loss.backward(retain_graph=True)
    model.parameters()
    model.to(np.float64)
    with pytest.raises(RuntimeError, match=r"parameter 'weight'.*overwritten"):
        loss.backward()


def test_modes_reach_every_module() -> None:
    tree = Tree()
    assert tree.eval() is tree
    assert not any(module.training for module in tree.modules())
    assert tree.train() is tree
    assert all(module.training for module in tree.modules())


def test_zero_grad() -> None:
    model = nn.Linear(3, 2)
    model(tg.ones((1, 3))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_the_printed_tree() -> None:
    model = nn.Sequential(nn.Linear(2, 3), rnn.Stacked([rnn.Recurrent(rnn.GRUCell(3, 4))]))
    assert repr(model) == (
        "Sequential()\n"
        "  (layers.0) Linear(2, 3, bias=True), 9 parameters\n"
        "  (layers.1) Stacked()\n"
        "    (layers.0) Recurrent()\n"
        "      (cell) GRUCell(3, 4), 108 parameters"
    )


def test_the_table_of_parameters() -> None:
    model = Tied()
    model.head.bias.requires_grad = False
    assert model.parameter_table() == (
        "name              shape   dtype    elements\n"
        "embedding.weight  (5, 3)  float32        15\n"
        "head.weight       (5, 3)  float32            tied to embedding.weight\n"
        "head.bias         (5,)    float32         5  no gradient\n"
        "again.weight      (5, 3)  float32            tied to embedding.weight\n"
        "again.bias        (5,)    float32            tied to head.bias\n"
        "total                                    20"
    )
    model = nn.Linear(1000, 2).to(np.float64)
    assert "weight  (2, 1000)  float64     2,000\n" in model.parameter_table()
    assert nn.Dropout().parameter_table().split()[-2:] == ["total", "0"]


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
def test_copies(how: str) -> None:
    model = Tied()
    model.to(np.float64)
    made = copy.deepcopy(model) if how == "deepcopy" else pickle.loads(pickle.dumps(model))
    assert made.head.weight is made.embedding.weight
    assert type(made.head.weight) is nn.Parameter
    assert made.head.weight is not model.head.weight
    assert_equal(made.state_dict(), model.state_dict())
    made.head.weight.array[:] = 0
    assert np.all(model.head.weight.numpy() != 0)


def test_parameters_and_buffers_are_copies_of_what_they_are_given() -> None:
    values = np.ones(3)
    parameter, buffer = nn.Parameter(values), nn.Buffer(values)
    values[:] = 0
    assert parameter.tolist() == buffer.tolist() == [1, 1, 1]
    assert parameter.requires_grad
    assert not buffer.requires_grad
    assert not nn.Parameter([1, 2], requires_grad=False).requires_grad
    assert type(parameter + 1) is tg.Tensor
