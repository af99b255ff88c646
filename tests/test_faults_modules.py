"""Modules: no Parameter is lost by assignment, nothing is left out of the tree, and nothing hangs
where modules refer to each other.
"""

from __future__ import annotations

import copy
import itertools
import pickle
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn


class Net(nn.Module):
    """A module with one of everything that can be lost."""

    def __init__(self) -> None:
        self.gain = nn.Parameter([1.0, 2.0])
        self.steps = nn.Buffer([3])
        self.many = [nn.Parameter([1.0]), nn.Parameter([2.0])]
        self.pair = (nn.Parameter([3.0]), nn.Buffer([4.0]))
        self.named = {
            "a": nn.Parameter([5.0]),
            "c": nn.Parameter([0.0]),
            "b": [nn.Parameter([6.0])],
        }


NAMES = ["gain", "many.0", "many.1", "pair.0", "named.a", "named.c", "named.b.0"]


def names(module: nn.Module) -> list[str]:
    return [name for name, _ in module.named_parameters()]


# A Parameter is not lost by assignment


@pytest.mark.parametrize("value", [tg.ones(2), np.ones(2), [1.0, 2.0], 0.5, nn.Linear(1, 1)])
def test_fault_20_what_takes_a_parameters_place_is_refused(value: Any) -> None:
    net = Net()
    with pytest.raises(
        TypeError,
        match=rf"^Net: gain is a Parameter, and a {type(value).__name__} in its place would be "
        r"neither trained nor saved; assign to gain.data for new values, or put "
        r"nn.Parameter\(...\) there$",
    ):
        net.gain = value  # pyright: ignore[reportAttributeAccessIssue]
    assert names(net) == NAMES
    assert net.gain.tolist() == [1, 2]


def test_fault_20_pretrained_vectors() -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    embedding = nn.Embedding(3, 2)
    with pytest.raises(TypeError, match=r"^Embedding: weight is a Parameter, and a Tensor in"):
        embedding.weight = tg.tensor(vectors)  # pyright: ignore[reportAttributeAccessIssue]
    embedding.weight.data = vectors.copy()
    other = nn.Embedding(3, 2)
    other.weight = nn.Parameter(vectors)
    for one in (embedding, other):
        assert one.state_dict()["weight"].tolist() == vectors.tolist()
        optimizer = optim.SGD(one.parameters(), lr=1.0)
        one([0]).sum().backward()
        optimizer.step()
        assert one.weight.tolist() == [[-1, 0], [2, 3], [4, 5]]


def test_fault_20_a_buffer_is_not_lost_either() -> None:
    net = Net()
    message = (
        r"^Net: steps is a Buffer, and a Tensor in its place would not be saved; assign to "
        r"steps.data for new values, or put nn.Buffer\(...\) there$"
    )
    with pytest.raises(TypeError, match=message):
        net.steps = net.steps + 1
    net.steps = nn.Buffer([7])
    assert net.state_dict()["steps"].tolist() == [7]


def test_fault_20_arithmetic_that_puts_a_result_in_the_place_of_its_parameter() -> None:
    net = Net()
    with pytest.raises(TypeError, match=r"^Net: gain is a Parameter, and a Tensor in its"):
        net.gain = net.gain * 2
    for change in ("net.gain += 1", "net.gain *= 3", "net.gain **= 2"):
        with pytest.raises(RuntimeError, match="a leaf that requires a gradient changes in place"):
            exec(change, {"net": net})
    assert names(net) == NAMES


@pytest.mark.parametrize(
    ("name", "change", "key", "kind"),
    [
        ("many", lambda old: [2 * old[0], old[1]], "many.0", "Parameter"),
        ("many", lambda old: [old[0], old[1].numpy()], "many.1", "Parameter"),
        ("pair", lambda old: (old[0], old[1] + 1), "pair.1", "Buffer"),
        ("named", lambda old: {**old, "a": old["a"] + 1}, "named.a", "Parameter"),
        ("named", lambda old: {**old, "b": [tg.ones(1)]}, "named.b.0", "Parameter"),
    ],
)
def test_fault_20_containers_are_replaced_with_care(
    name: str, change: Any, key: str, kind: str
) -> None:
    net = Net()
    with pytest.raises(TypeError, match=f"^Net: {key} is a {kind}, and a .* in its place would"):
        setattr(net, name, change(getattr(net, name)))
    assert names(net) == NAMES


@pytest.mark.parametrize("change", ["net.many[0] = 2 * net.many[0]", "net.named['a'] = tg.ones(1)"])
@pytest.mark.parametrize("use", [nn.Module.parameters, nn.Module.state_dict, nn.Module.zero_grad])
def test_fault_20_an_item_that_was_replaced_is_found_when_the_tree_is_used(
    change: str, use: Any
) -> None:
    net = Net()
    exec(change, {"net": net, "tg": tg})
    with pytest.raises(
        TypeError,
        match=r"^Net: (many.0|named.a) is a Tensor among others that are Parameters, and would be "
        r"neither trained nor saved; assign to \1.data for new values, or put nn.Parameter\(...\) "
        r"there$",
    ):
        use(net)


def test_fault_20_what_stays_allowed() -> None:
    """Another Parameter, None, fewer or more of them, a place made free, plain values beside."""
    net = Net()
    net.gain = nn.Parameter([9.0])
    net.many = [*net.many, nn.Parameter([8.0])]
    net.many = net.many[:1]
    net.named = {}
    net.pair = (net.pair[0], None)
    assert names(net) == ["gain", "many.0", "pair.0"]
    net.gain = None
    assert names(net) == ["many.0", "pair.0"]
    net.gain = tg.ones(2)
    net.many = None
    del net.pair
    net.pair = (tg.ones(1), tg.ones(1))
    net.state = (tg.ones(1), 3)
    net.state = [tg.ones(2)]
    assert names(net) == []


def test_fault_20_weights_computed_from_others_in_a_layer_of_cells() -> None:
    """A place that was made free takes a Tensor, and the cells within follow."""
    layer = rnn.LSTM(2, 3)
    x = tg.ones((4, 1, 2))
    free = layer.weight_hh_l0
    del layer.weight_hh_l0
    layer.weight_hh_l0 = 0 * free
    still = layer(x)[0]
    free.data = np.zeros((12, 3), np.float32)
    layer.weight_hh_l0 = free
    np.testing.assert_array_equal(still.numpy(), layer(x)[0].numpy())
    layer(x)[0].sum().backward()
    assert free.grad is not None


# Whatever an attribute is called, it belongs to the tree


class Named(nn.Module):
    hidden = ("_scratch",)

    def __init__(self) -> None:
        self._rnn = rnn.LSTM(2, 3)
        self.__head = nn.Linear(3, 1)
        self._gain = nn.Parameter([1.0])
        self._count = nn.Buffer([0])
        self._scratch = nn.Linear(1, 1)

    def forward(self, x: Any) -> tg.Tensor:
        return self._gain * self.__head(self._rnn(x)[0])


class More(Named):
    """What its class hides comes on top of what the class above hides."""

    hidden = ("_other",)

    def __init__(self) -> None:
        super().__init__()
        self._other = nn.Parameter([2.0])
        self._third = nn.Parameter([3.0])


def test_fault_21_names_that_begin_with_an_underscore(tmp_path: Any) -> None:
    model = Named()
    expected = {
        "_gain", "_count", "_Named__head.weight", "_Named__head.bias",
        *(f"_rnn.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")),
    }  # fmt: skip
    assert set(model.state_dict()) == expected
    assert set(More().state_dict()) == expected | {"_third"}
    assert [name for name, _ in model.named_modules()] == ["", "_rnn", "_Named__head"]
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    before = model.state_dict()
    model(tg.ones((4, 2, 2))).sum().backward()
    optimizer.step()
    after = model.state_dict()
    assert all(not np.array_equal(before[n], after[n]) for n in expected - {"_count"})
    model.save(tmp_path / "weights")
    again = Named().load(tmp_path / "weights")
    assert all(np.array_equal(v, after[n]) for n, v in again.state_dict().items())
    model.eval()
    assert not model._rnn.training
    assert model._scratch.training
    model.to(np.float64)
    assert model._gain.dtype == np.float64


@pytest.mark.parametrize("layer", [rnn.RNN(2, 3, 2), rnn.LSTM(2, 3, bidirectional=True)])
def test_fault_21_layers_name_each_weight_once(layer: Any) -> None:
    layer.register_forward_hook(lambda *_: None)
    layer.register_forward_pre_hook(nn.Linear(2, 2))  # a hook is no child, whatever it is
    layer.forward(tg.ones((3, 1, 2)))
    found = [id(value) for _, value in layer.named_parameters()]
    assert len(layer.state_dict()) == len(found) == 8
    assert [*layer.modules()] == [layer]


@pytest.mark.parametrize("value", [20, "units", ["_rnn"], property(lambda self: 3)])
def test_fault_21_an_attribute_of_the_users_that_is_called_hidden(value: Any) -> None:
    class Sized(nn.Module):
        hidden = value

        def __init__(self) -> None:
            self._rnn = rnn.GRU(2, 3)

    class Layered(nn.Module):
        def __init__(self) -> None:
            self.hidden = nn.Linear(2, 3)  # pyright: ignore[reportAttributeAccessIssue]

    assert len(Sized().parameters()) == 4
    assert names(Layered()) == ["hidden.weight", "hidden.bias"]


# Some Tensor of a module


class Hiding(nn.Module):
    hidden = ("first", "box")


WEIGHT, OTHER, BELOW = nn.Parameter([1.0]), tg.ones(2), nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("attributes", "plain", "hiding"),
    [
        ({"size": 3, "first": WEIGHT, "second": OTHER}, WEIGHT, OTHER),
        ({"first": OTHER}, OTHER, None),
        ({"count": nn.Buffer([3]), "second": WEIGHT}, WEIGHT, WEIGHT),
        ({"below": BELOW, "second": WEIGHT}, WEIGHT, WEIGHT),
        ({"count": tg.arange(3), "below": BELOW}, BELOW.weight, BELOW.weight),
        ({"many": [tg.arange(3), (OTHER,)], "second": WEIGHT}, OTHER, OTHER),
        ({"box": {"a": OTHER}, "second": WEIGHT}, OTHER, WEIGHT),
        ({"none": [], "names": {"a": 1}}, None, None),
    ],
)
def test_some_tensor_is_the_first_floating_one_of_the_tree(
    attributes: dict[str, Any], plain: Any, hiding: Any
) -> None:
    for module, expected in ((nn.Module(), plain), (Hiding(), hiding)):
        vars(module).update(attributes)
        assert module.some_tensor() is expected
        assert next((t for t in module.tensors() if t.dtype.kind == "f"), None) is expected


# Modules that refer to each other


class Part(nn.Module):
    def __init__(self, **others: Any) -> None:
        self.weight = nn.Parameter([1.0])
        vars(self).update(others)


def check_each_once(model: nn.Module, count: int) -> None:
    """Every weight is named once, and all that walks the tree comes to an end."""
    assert len(names(model)) == count
    assert set(model.state_dict()) == set(names(model))
    assert len([*model.modules()]) == count
    model.load_state_dict(model.state_dict())
    model.eval().to(np.float64).zero_grad()
    assert repr(model).count("Part(") == count
    twin = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert names(twin) == names(model)


@pytest.mark.parametrize("name", ["parent", "_parent", "root"])
def test_fault_21_children_that_refer_to_what_holds_them(name: str) -> None:
    root = Part()
    root.first, root.second = Part(), Part(inner=Part())
    for child in (root.first, root.second, root.second.inner):
        setattr(child, name, root)
    root.second.inner.above = [root.second]
    check_each_once(root, 4)
    assert names(root) == ["weight", "first.weight", "second.weight", "second.inner.weight"]
    check_each_once(root.second.inner, 4)


def test_fault_21_modules_that_all_know_each_other() -> None:
    """Twelve that hold all the others would have 12! ways down."""
    root = Part(parts=[Part() for _ in range(12)])
    for part in root.parts:
        part.others = root.parts
    check_each_once(root, 13)
    chain = [Part() for _ in range(300)]
    for left, right in itertools.pairwise(chain):
        left.right, right.left = right, left
    line = Part(parts=chain)
    assert len(names(line)) == len(line.state_dict()) == 301


def test_fault_21_a_module_shared_without_a_loop_keeps_all_its_names() -> None:
    shared = Part(inner=Part())
    root = Part(one=shared, two=shared)
    assert names(root) == ["weight", "one.weight", "one.inner.weight"]
    both = [f"{way}.{name}" for way in ("one", "two") for name in ("weight", "inner.weight")]
    assert list(root.state_dict()) == ["weight", *both]


def test_fault_21_modules_that_compare_by_their_values() -> None:
    @dataclass
    class Equal(nn.Module):
        size: int
        below: Any = None

    tree = Equal(1, [Equal(1, Equal(1)), Equal(1)])
    assert tree.below[0] == tree.below[0]
    assert [name for name, _ in tree.named_modules()] == [
        "", "below.0", "below.0.below", "below.1"
    ]  # fmt: skip
    unequal = Equal(2)
    unequal.below = Equal(2, np.ones(3))  # whose comparison is ambiguous
    assert len([*unequal.modules()]) == 2


def test_fault_21_modules_nested_as_deep_as_they_may_be() -> None:
    depth = 3000
    model = Part()
    for _ in range(depth - 1):
        model = Part(below=model)
    assert len([*model.modules()]) == depth
    assert len(model.eval().parameters()) == depth
    while "below" in vars(model):  # freed one by one
        model = vars(model).pop("below")
