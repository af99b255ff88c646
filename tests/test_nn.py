"""Modules, layers without time, losses and initialisers."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from networks import close, draw, functional, randomise
from strict import STRICT

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn

# Gradients on every device


LAYERS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Any]]] = {
    "Linear": (lambda: nn.Linear(3, 4), lambda: draw(2, 5, 3)),
    "Linear without bias": (lambda: nn.Linear(3, 4, bias=False), lambda: draw(3)),
    "Embedding": (lambda: nn.Embedding(5, 3), lambda: tg.tensor([[4, 0, 4], [1, 4, 0]])),
    "LayerNorm": (lambda: nn.LayerNorm(4), lambda: draw(3, 4)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(3), lambda: draw(3, 2, 3)),
    "BatchNorm1d in evaluation": (lambda: nn.BatchNorm1d(3).eval(), lambda: draw(2, 3)),
    "LayerNorm over two axes": (lambda: nn.LayerNorm((3, 4), bias=False), lambda: draw(2, 3, 4)),
    "Sequential": (
        lambda: nn.Sequential(nn.Linear(3, 4), tg.tanh, nn.LayerNorm(4), nn.Linear(4, 2)),
        lambda: draw(2, 3),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_of_layers(name: str, device: str) -> None:
    make, inputs = LAYERS[name]
    layer = randomise(make()).to(device)
    function, parameters = functional(layer, layer)
    assert tg.check_gradients(function, [*parameters, inputs().to(device)])


@pytest.mark.parametrize("p", [0.0, 0.3, 0.9])
def test_gradients_of_dropout(p: float, device: str) -> None:
    layer = nn.Dropout(p)

    def seeded(x: tg.Tensor) -> tg.Tensor:
        tg.manual_seed(0)
        return layer(x) ** 2

    assert tg.check_gradients(seeded, draw(4, 3, device=device))


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


# What a layer is, by hand


def test_linear_embedding_and_layer_norm_by_hand() -> None:
    x = draw(2, 5, 3)
    linear = randomise(nn.Linear(3, 4))
    close(linear(x), x.numpy() @ linear.weight.numpy().T + linear.bias.numpy())
    embedding = nn.Embedding(6, 3)
    indices = np.array([[5, 0], [5, 1]])
    close(embedding(indices), embedding.weight.numpy()[indices], 0)
    norm = randomise(nn.LayerNorm(3, eps=0.01))
    values = x.numpy()
    centred = values - values.mean(-1, keepdims=True)
    length = np.sqrt(values.var(-1, keepdims=True) + 0.01)
    close(norm(x), centred / length * norm.weight.numpy() + norm.bias.numpy())


def test_layer_norm_of_constant_rows_is_its_bias() -> None:
    norm = randomise(nn.LayerNorm(3))
    x = tg.full((2, 3), 7.0, np.float64, requires_grad=True)
    y = norm(x)
    close(y, np.broadcast_to(norm.bias.numpy(), (2, 3)))
    y.sum().backward()
    assert np.all(np.isfinite(x.grad.numpy()))


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (4, 0, 3)])
def test_empty_and_one_row_batches(shape: tuple[int, ...]) -> None:
    x = tg.zeros(shape, requires_grad=True)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Dropout())
    y = model(x)
    y.sum().backward()
    assert y.shape == (*shape[:-1], 4)
    assert x.grad.shape == shape
    assert nn.Embedding(5, 3)(np.zeros(shape, int)).shape == (*shape, 3)


def test_dropout_zeroes_a_share_and_keeps_the_mean() -> None:
    tg.manual_seed(0)
    x = tg.ones((200, 200))
    y = nn.Dropout(0.25)(x).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.01)
    assert y.dtype == np.float32


def test_dropout_follows_the_mode_and_the_seed() -> None:
    model = nn.Sequential(nn.Linear(3, 50), nn.Dropout(0.5))
    x = tg.ones((4, 3))

    def run(seed: int) -> np.ndarray:
        tg.manual_seed(seed)
        return model(x).numpy()

    assert np.array_equal(run(0), run(0))
    assert not np.array_equal(run(0), run(1))
    model.eval()
    assert np.array_equal(run(0), run(1))
    assert np.array_equal(run(0), model[0](x).numpy())
    model.train()
    assert not np.array_equal(run(0), run(1))


# On a device that reads nothing by itself


def test_layers_read_nothing_on_the_host() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Dropout(0.5), tg.relu)
    model.to("strict")
    x = draw(2, 3, device="strict").to(np.float32)
    target = draw(2, 4, seed=2, device="strict")
    with STRICT.counting() as count:
        nn.mse_loss(model(x), target).backward()
    assert count.host_reads == 0


def test_embedding_and_cross_entropy_read_their_range_checks_only() -> None:
    embedding = nn.Embedding(5, 3).to("strict")
    indices = tg.tensor([[4, 1], [1, 1]], device="strict")
    with STRICT.counting() as count:
        loss = nn.cross_entropy(embedding(indices), tg.tensor([[0, 2], [1, 2]], device="strict"))
        loss.backward()
    assert count.host_reads == 2


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
    assert_same(model.state_dict(), before)

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
    assert_same(again.state_dict(), model.state_dict())


# Batch normalisation


def test_batch_norm_by_hand() -> None:
    layer = nn.BatchNorm1d(2, momentum=0.5)
    y = layer(tg.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]]))
    r = 2 / math.sqrt(8 / 3 + 1e-5)
    close(y, np.array([[-r, 0], [0, 0], [r, 0]]), 1e-6)
    close(layer.running_mean, np.array([1, 0.5]))
    close(layer.running_var, np.array([0.5 + 4 / 2, 0.5]))
    assert layer.num_batches_tracked.item() == 1
    assert layer.num_batches_tracked.dtype == np.int64
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]
    layer.eval()
    close(layer(tg.tensor([[1.0, 0.5]])), np.zeros((1, 2)), 1e-6)


def test_batch_norm_follows_in_training_only_and_outside_the_tape(device: str) -> None:
    layer = randomise(nn.BatchNorm1d(3)).to(device)
    before = layer.state_dict()
    layer.eval()
    x = draw(4, 3, device=device, requires_grad=True)
    layer(x)
    assert_same(layer.state_dict(), before)
    layer.train()
    evaluated = layer.eval()(x)
    y = layer.train()(x)
    after = layer.state_dict()
    assert not np.array_equal(after["running_mean"], before["running_mean"])
    for buffer in (layer.running_mean, layer.running_var, layer.num_batches_tracked):
        assert buffer.is_leaf
        assert not buffer.requires_grad
        assert buffer.device == device
    # Neither tape minds that the running means have moved on.
    y.sum().backward()
    evaluated.sum().backward()
    assert_same(layer.state_dict(), after)


def test_batch_norm_where_nothing_or_little_counts() -> None:
    layer = nn.BatchNorm1d(2, momentum=1.0, axis=-1).to(np.float64)
    x = tg.tensor([[[np.nan, np.inf], [1.0, 2.0]]], requires_grad=True).to(np.float64)
    y = layer(x, mask=[[False, False]])
    assert np.all(y.numpy() == 0)
    assert layer.running_mean.tolist() == [0, 0]
    assert layer.running_var.tolist() == [1, 1]
    y = layer(x, mask=[[False, True]])
    assert np.all(y.numpy() == 0)
    assert layer.running_mean.tolist() == [1, 2]
    assert layer.running_var.tolist() == [0, 0]
    for steps in (0, 1):
        assert layer.eval()(x[:, :steps]).shape == (1, steps, 2)


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


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert list(a) == list(b)
    for name in a:
        assert np.array_equal(a[name], b[name])
        assert a[name].dtype == b[name].dtype


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
    assert_same(model.state_dict(), before)


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
    assert_same(made.state_dict(), model.state_dict())
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


# Initialisers

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
