"""Calls that PyTorch has too, and what is to become of each here; test_ports.py makes them.

A row begins with a name, such as ``torch.sum`` or ``Tensor.sum``, behind which ours and PyTorch's
function are found. Its calls are tuples of positional arguments: NumPy arrays become Tensors of
either side, ``by`` holds arguments by name, ``then`` what the result is called with (a layer with
its inputs), and a ``does`` in the first place is a few lines for either side.
"""

from __future__ import annotations

import math
import operator
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class by(dict[str, Any]):
    """Arguments by name."""


class then(tuple[Any, ...]):
    """What the result is called with."""

    def __new__(cls, *args: Any) -> then:
        return super().__new__(cls, args)


@dataclass
class raw:
    """An array that stays NumPy's."""

    array: np.ndarray


@dataclass
class does:
    """Lines of code: they get the names of one side, and the arguments."""

    code: Callable[..., Any]


class Call(NamedTuple):
    """A call: ``outcome`` is that its result is the same, refused, of the same law, or differs."""

    name: str
    outcome: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    then: tuple[Any, ...] | None


CALLS: list[Call] = []


def _following(args: tuple[Any, ...]) -> then | None:
    return next((a for a in args if isinstance(a, then)), None)


def _rows(outcome: str) -> Callable[..., None]:
    def add(names: str, *calls: tuple[Any, ...]) -> None:
        for name in names.split():
            for args in calls:
                plain = tuple(a for a in args if not isinstance(a, by | then))
                options = next((a for a in args if isinstance(a, by)), by())
                CALLS.append(Call(name, outcome, plain, options, _following(args)))

    return add


same, refused, law, differs = map(_rows, ("same", "refused", "law", "differs"))


def _switched(s: Any, x: Any) -> list[bool]:
    found, x.requires_grad = [], True
    with s.torch.no_grad():
        found.append((x * 2).requires_grad)
        with s.torch.enable_grad():
            found.append((x * 2).requires_grad)
    return [*found, s.torch.no_grad()(lambda x: x * 2)(x).requires_grad]


def _watched(s: Any, x: Any) -> list[Any]:
    x.requires_grad = True
    y = x * x
    y.retain_grad()
    y.register_hook(lambda g: 2 * g)
    y.sum().backward()
    return [x.grad, y.grad]


def _in_place(change: Callable[[Any, Any], Any]) -> does:
    def code(s: Any, x: Any, y: Any) -> list[Any]:
        view = x.detach()
        with s.torch.no_grad():
            return [change(x, y) is x, x, view]

    return does(code)


def _drawn_gradient(s: Any, mean: Any) -> Any:
    mean.requires_grad = True
    s.torch.normal(mean, 2.0).sum().backward()
    return mean.grad


def _gradient(s: Any, x: Any, *args: Any) -> Any:
    x.requires_grad = True
    (x * x).backward(*args)
    return x.grad


def _doubling(s: Any) -> Any:
    return type("Doubling", (s.nn.Module,), {"forward": lambda self, x: 2 * x})


def _cell(s: Any, x: Any) -> str:
    """What kind of result a cell has: ours the output and the state, PyTorch's the state."""
    return type(s.nn.GRUCell(3, 5)(s.torch.zeros((2, 3)))).__name__


def _gram(q: Any) -> Any:
    return q.T @ q


def _clipped(s: Any, x: Any, *limits: float) -> list[Any]:
    p = s.nn.Parameter(x)
    (p * p).sum().backward()
    return [float(s.utils.clip_grad_norm([p], *limits)), p.grad]


def _trained(s: Any, x: Any) -> list[Any]:
    layer = s.nn.Dropout(0.5)
    found = [layer.eval().forward(x), layer.training, layer.train(False).training]
    layer.zero_grad()
    return [*found, layer.train().training]


def _counts(s: Any) -> list[Any]:
    layer = s.nn.Linear(3, 2).to("cpu")
    return [len(list(layer.parameters())), len(list(layer.modules()))]


def _names(s: Any) -> list[Any]:
    layer = s.nn.Linear(3, 2)
    return [[name for name, _ in f()] for f in (layer.named_modules, layer.named_parameters)]


def _reloaded(s: Any, x: Any) -> list[Any]:
    one, other = s.nn.LayerNorm(3), s.nn.LayerNorm(3)
    other.load_state_dict(one.state_dict())
    return sorted(other.state_dict())


def _hooked(s: Any, x: Any) -> Any:
    layer = _doubling(s)()
    layer.register_forward_pre_hook(lambda layer, inputs: (inputs[0] + 1,))
    layer.register_forward_hook(lambda layer, inputs, output: output - inputs[0])
    return layer(x)


def _optimizer(s: Any) -> Any:
    return s.optim.Adam([s.nn.Parameter(s.torch.ones((3,)))])


def _stepped(s: Any, x: Any) -> Any:
    p = s.nn.Parameter(x)
    first, second = s.optim.Adam([p], 0.1), s.optim.Adam([p], 0.1)
    for optimizer in (first, first, second):
        if optimizer is second:
            second.load_state_dict(deepcopy(first.state_dict()))
        optimizer.zero_grad()
        (p * p).sum().backward()
        optimizer.step()
    return p


_rng = np.random.default_rng(0)
X, Y = _rng.standard_normal((2, 4, 6))
X[0, 1] = X[2, 3] = 0.5
V, W = _rng.standard_normal((2, 5))
Z = _rng.standard_normal((2, 3, 4))
CUBE = _rng.standard_normal((2, 3, 3))
POSITIVE = np.abs(X) + 0.1
BOOLS = X > 0
INTEGERS = _rng.integers(-3, 4, (4, 6))
LABELS = np.array([5, 0, 2, 2])
TAGS = np.array([[0, 1, 2], [2, 1, 0]])
WEIGHTS = np.abs(_rng.standard_normal(6)) + 0.1
LIKELY = _rng.random((4, 6))
WIDE = np.ones((200, 200))
MATRIX = np.zeros((240, 160))
SEQUENCE = _rng.standard_normal((7, 2, 3))
ROWS = _rng.standard_normal((2, 3))
HIDDEN = _rng.standard_normal((2, 5))

# torch, elementwise

same("torch.abs torch.ceil torch.cos torch.erf torch.exp torch.expm1 torch.floor", (X,))
same("torch.isfinite torch.isnan torch.relu torch.sigmoid torch.sign torch.sin", (X,))
same("torch.square torch.tanh torch.round F.relu F.sigmoid F.tanh", (X,))
same("torch.log torch.log1p torch.sqrt", (POSITIVE,))
same("torch.abs torch.sign torch.square", (INTEGERS,))
same("torch.round", (np.array([0.5, 1.5, -2.5]),))
differs("torch.sign", (np.array([np.nan]),))
refused("torch.round", (X, by(decimals=1)))
refused("F.relu", (X, True))
same("torch.greater torch.greater_equal torch.less torch.less_equal torch.not_equal", (X, Y))
same("torch.greater torch.greater_equal torch.less torch.less_equal torch.not_equal", (X, 0.5))
same("torch.maximum torch.minimum", (X, Y), (X, X))
differs("torch.equal", (X, Y))
same("torch.clip", (X, -0.5, 0.5), (X, -0.5), (X, None, 0.5))
refused("torch.clip", (X, Y, POSITIVE), (X, 0.5, -0.5), (X, by(min=0.0)))
same("torch.where", (BOOLS, X, Y))
refused("torch.where", (BOOLS,))
same("F.gelu", (X,), (X, by(approximate="none")), (X, by(approximate="tanh")))
same("F.leaky_relu", (X,), (X, 0.2))
refused("F.leaky_relu", (X, 0.2, True))
same("F.softplus", (X,))
refused("F.softplus", (X, 2), (X, 2, 10))

# torch, reductions

same("torch.sum torch.mean", (X,), (X, 1), (X, -2, True), (Z, (0, 2)), (Z, [0, 2], True))
same("torch.sum torch.prod", (INTEGERS,), (INTEGERS, 1))
same("torch.prod", (X,), (X, 1), (X, 0, True))
same("torch.any torch.all", (BOOLS,), (BOOLS, 1), (BOOLS, 0, True))
same("torch.argmax torch.argmin", (X,), (X, 1), (X, -2))
refused("torch.argmax torch.argmin", (X, 1, True))
same("torch.max torch.min", (X,))
differs("torch.max torch.min", (X, 1), (X, 0, True))
refused("torch.max torch.min", (X, Y))
differs("torch.std torch.var", (X,), (X, 1), (Z, (0, 2)))
same("torch.std torch.var", (X, 0, True), (X, 1, False, True))
refused("torch.std torch.var", (X, True), (X, 1, by(correction=0)))
same("torch.cumsum", (X, 1), (Z, -2))
same("torch.logsumexp", (X, 1), (Z, 0, True))
refused("torch.logsumexp", (Z, (0, 1)))
same("torch.softmax torch.log_softmax F.softmax F.log_softmax", (X, 1), (Z, 0), (Z, -1))
same("F.softmax F.log_softmax", (X,), (V,))
differs("F.softmax F.log_softmax", (Z,))
differs("torch.softmax torch.log_softmax", (np.full(3, -np.inf), 0))
refused("F.softmax F.log_softmax", (X, 1, 3))
same("torch.norm", (X,), (Z,))
refused("torch.norm", (X, 2), (X, 1), (X, "fro", 1), (Z, 2, (0, 1), True), (X, by(p=2, dim=1)))
same("linalg.norm", (X,), (V,))
refused("linalg.norm", (X, 2), (X, 1, 0), (X, None, 1))
refused("torch.sum torch.mean torch.softmax torch.cumsum torch.std", (X, by(dim=1)))

# torch, products

same("torch.matmul linalg.matmul", (X, Y.T.copy()), (V, W), (X, WEIGHTS), (Z, Z.swapaxes(1, 2)))
same("torch.outer", (V, W))
same("torch.einsum", ("ij,kj->ik", X, Y), ("ba", X), ("aB", X), ("bij,bkj", Z, Z))
refused("torch.einsum", ("ii->i", CUBE[0]), ("...i->...", X), ("ij->i", [X]))
same("F.linear", (X, Y), (X, Y, np.arange(4.0)))

# torch, shapes

same("torch.broadcast_to", (V, (3, 5)))
refused("torch.broadcast_to", (V, (2, -1)))
same("torch.concat", ([X, Y],), ([X, Y], 1))
same("torch.stack", ([X, Y],), ([X, Y], -1))
same("torch.chunk", (X, 2), (X, 3), (X, 4, 1), (X, 5, -1))
refused("torch.split", (X, 2), (X, 2, 1), (X, [1, 3]), (X, [2, 4], 1), (X, 2, by(dim=1)))
same("torch.flip", (X, [0]), (X, (0, 1)))
same("torch.moveaxis", (Z, 0, 2), (Z, -1, 0))
refused("torch.moveaxis", (Z, (0, 1), (1, 2)))
same("torch.reshape", (X, (3, 8)), (X, (2, -1)))
same("torch.squeeze", (X[:, :1],), (X[None, :, :1], 0), (X[None, :, :1], (0, 2)))
refused("torch.squeeze", (X, 0))
same("torch.swapaxes", (Z, 0, 2))
refused("torch.transpose", (X, 0, 1), (Z, 0, 2), (Z, -1, 0))
same("torch.tile", (X, (2,)), (X, (2, 3)), (V, (2, 1, 2)))
same("torch.take", (V, LABELS[1:]))
refused("torch.take", (X, LABELS[1:]))
refused("torch.scatter", (X, 1, LABELS[:, None], Y), (X, 1, LABELS[:, None], 2.0))
refused("F.pad", (X, (1, 2)), (X, (1, 2, 0, 1), "constant", 3.0), (V, (1, 2), "constant"))
differs("F.one_hot", (LABELS, 7))
refused("F.one_hot", (LABELS,), (LABELS, -1))

# torch, creation

same("torch.arange", (5,), (2, 9), (9, 2, -3), (0.5, 2.0), (0.0, 1.0, 0.25))
same("torch.linspace", (0.0, 1.0, 5), (-1, 2, 7))
same("torch.eye", (3,), (2, 3))
same("torch.full", ((2, 3), 0.5), ((2,), 7))
same("torch.full_like", (X, 2.0))
same("torch.zeros_like torch.ones_like", (X,), (INTEGERS,))
same("torch.zeros torch.ones", ((2, 3),), (4,), ([2, 3],))
refused("torch.zeros torch.ones", (2, 3), (2, 3, 4))
same("torch.tensor", ([[1.0, 2.0]],), ([1, 2],), (True,), (raw(X),), (raw(INTEGERS),))
same("torch.from_numpy torch.from_dlpack", (raw(X),), (raw(INTEGERS),))
law("torch.rand torch.randn", (200, 200), ((200, 200),))
law("torch.bernoulli", (0.3 * WIDE,))
refused("torch.bernoulli", (LIKELY, 1.0))
law("torch.normal", (WIDE, 2.0), (3.0, WIDE), (WIDE, WIDE))
refused("torch.normal", (X,), (0.0, 1.0, (2, 3)))
differs("torch.normal", (does(_drawn_gradient), X))
law("torch.randint", (-3, 9, (200, 200)))
refused("torch.randint", (9, (200, 200)))
differs("torch.manual_seed", (does(lambda s: (s.torch.manual_seed(0), s.torch.rand(3))[1]),))
same("torch.no_grad torch.enable_grad", (does(_switched), X))
same(
    "torch.OutOfMemoryError", (does(lambda s: issubclass(s.torch.OutOfMemoryError, RuntimeError)),)
)
refused("torch.Tensor", ([1.0, 2.0],), (2, 3))
differs("torch.Tensor", (raw(X),))

# torch.func

same("func.grad", (lambda x: (x * x * x).sum(), then(X)))
same("func.grad", (lambda x, y: (x * y * y).sum(), 1, then(X, Y)))
same("func.grad", (lambda x, y: (x * y * y).sum(), (0, 1), then(X, Y)))
refused("func.grad", (lambda x: ((x * x).sum(), x), 0, True, then(X)))
same("func.hessian", (lambda x: (x * x * x).sum(), then(V)))
same("func.jvp", (lambda x: x * x * x, (V,), (W,)))
same("func.vjp", (does(lambda s, x, g: s.func.vjp(lambda x: x * x * x, x)[1](g)), V, W))

# Tensor

same("Tensor.__add__ Tensor.__sub__ Tensor.__mul__ Tensor.__truediv__", (X, Y), (X, 2.0), (X, 3))
same("Tensor.__radd__ Tensor.__rsub__ Tensor.__rmul__ Tensor.__rtruediv__", (X, 2.0))
same("Tensor.__floordiv__ Tensor.__mod__", (X, Y), (X, 0.7), (INTEGERS, 2))
same("Tensor.__rfloordiv__ Tensor.__rmod__", (X, 2.0))
same("Tensor.__pow__", (POSITIVE, Y), (X, 3), (X, -1))
same("Tensor.__rpow__", (X, 2.0))
same("Tensor.__matmul__", (X, Y.T.copy()))
same("Tensor.__rmatmul__", (X, Y.T.copy()))
for change in (
    operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.ifloordiv,
    operator.imod, operator.ipow,
):  # fmt: skip
    same(f"Tensor.__{change.__name__}__", (_in_place(change), POSITIVE, Y))
    same(f"Tensor.__{change.__name__}__", (_in_place(change), X, 2.0))
for change in (operator.iand, operator.ior, operator.ixor):
    same(f"Tensor.__{change.__name__}__", (_in_place(change), BOOLS, Y > 0))
    same(f"Tensor.__{change.__name__}__", (_in_place(change), INTEGERS, INTEGERS + 1))
same("Tensor.__neg__ Tensor.__pos__ Tensor.__abs__", (X,))
same("Tensor.__invert__", (BOOLS,), (INTEGERS,))
same("Tensor.__and__ Tensor.__or__ Tensor.__xor__", (BOOLS, Y > 0), (INTEGERS, INTEGERS + 1))
same("Tensor.__rand__ Tensor.__ror__ Tensor.__rxor__", (INTEGERS, 3))
same("Tensor.__eq__ Tensor.__ne__ Tensor.__lt__ Tensor.__le__", (X, Y), (X, 0.5))
same("Tensor.__gt__ Tensor.__ge__", (X, Y), (X, 0.5))
same("Tensor.__getitem__", (X, 1), (X, (slice(None), 2)), (X, (None, ..., slice(1, 4))))
same(
    "Tensor.__getitem__",
    (X, BOOLS),
    (X, LABELS[1:]),
    (Z, (LABELS[2:3] - 2, slice(None), LABELS[1:2])),
)
refused("Tensor.__setitem__", (X, 1, 0.0))
same("Tensor.__contains__", (INTEGERS, 3), (X, 7.0))
same("Tensor.__len__", (X,))
same("Tensor.__iter__", (does(lambda s, x: [row * 2 for row in x]), X))
same("Tensor.__bool__ Tensor.__float__ Tensor.__int__", (np.array([1.5]),))
same("Tensor.__index__", (np.array(3),))
same("Tensor.__array__", (BOOLS,))

same("Tensor.sum Tensor.mean", (X,), (X, 1), (X, 0, True), (X, -1, True), (Z, (0, 2)))
same("Tensor.prod", (X,), (X, 1), (X, 0, True))
same("Tensor.any Tensor.all", (BOOLS,), (BOOLS, 1), (BOOLS, 0, True))
same("Tensor.argmax Tensor.argmin", (X,), (X, 1))
refused("Tensor.argmax Tensor.argmin", (X, 1, True))
same("Tensor.max Tensor.min", (X,))
differs("Tensor.max Tensor.min", (X, 1), (X, 0, True))
refused("Tensor.max Tensor.min", (X, Y))
differs("Tensor.std Tensor.var", (X,), (X, 1))
same("Tensor.std Tensor.var", (X, 0, True), (X, 1, False, True))
refused("Tensor.std Tensor.var", (X, True))
refused("Tensor.sum Tensor.mean Tensor.max", (X, by(dim=1)), (X, by(dim=1, keepdim=True)))
same("Tensor.cumsum", (X, 1))
same("Tensor.clip", (X, -0.5, 0.5), (X, None, 0.5))
same("Tensor.exp Tensor.tanh Tensor.sigmoid Tensor.relu", (X,))
same("Tensor.log Tensor.sqrt", (POSITIVE,))
same("Tensor.chunk", (X, 3), (X, 4, 1))
refused("Tensor.split", (X, 2), (X, 2, 1), (X, [1, 3]), (X, [2, 4], 1))
same("Tensor.reshape", (X, 3, 8), (X, (2, -1)), (X, -1))
same("Tensor.flatten", (Z,), (np.array(2.0),))
refused("Tensor.flatten", (Z, 1), (Z, 0, 1))
same("Tensor.squeeze", (X[None, :, :1],), (X[None, :, :1], 0), (X[None, :, :1], (0, 2)))
refused("Tensor.squeeze", (X, 0))
same("Tensor.swapaxes", (Z, 0, 2))
same("Tensor.transpose", (X, 1, 0), (X, -1, 0), (X, 1, -2))
refused("Tensor.transpose", (X, 0, 1), (X, 0, -1), (X, -2, 1), (X, -2, -1), (X, 0, 0))
refused("Tensor.transpose", (Z, 0, 2), (Z, 1, 2), (Z, -1, 0))
same("Tensor.T Tensor.shape Tensor.ndim Tensor.nbytes Tensor.dtype Tensor.device", (X,))
same("Tensor.data Tensor.grad Tensor.is_leaf Tensor.requires_grad Tensor.name", (X,))
refused("Tensor.size", (does(lambda s, x: x.size()), X), (does(lambda s, x: x.size(0)), X))
same("Tensor.detach Tensor.tolist", (X,))
same("Tensor.numpy", (INTEGERS,), (does(lambda s, x: x.detach().numpy()), X))
refused("Tensor.numpy", (INTEGERS, by(force=True)))
same("Tensor.item", (np.array([1.5]),))
same("Tensor.to", (X, "cpu"), (does(lambda s, x, y: x.to(y)), X, INTEGERS))
refused("Tensor.to", (X, "cpu", None))
same("Tensor.backward", (does(_gradient), X, LIKELY))
refused("Tensor.backward", (does(_gradient), X, LIKELY, True))
same("Tensor.retain_grad Tensor.register_hook", (does(_watched), X))

# nn: layers

same("nn.Linear", (6, 3, then(X)), (6, 3, False, then(X)))
refused("nn.Linear", (6, 3, True, "cpu", then(X)))
same("nn.Embedding", (7, 3, then(np.abs(INTEGERS))))
refused("nn.Embedding", (7, 3, 0, then(np.abs(INTEGERS))))
law("nn.Dropout", (then(WIDE),), (0.3, then(WIDE)))
refused("nn.Dropout", (0.3, False, then(WIDE)))
same("nn.LayerNorm", (6, then(X)), ((4, 6), 0.1, then(X)), (6, 0.1, False, then(X)))
same("nn.LayerNorm", (6, 0.1, True, False, then(X)), (6, 0.1, False, True, then(X)))
refused("nn.LayerNorm", (6, 0.1, True, True, "cpu", then(X)))
same("nn.BatchNorm1d", (6, then(X)), (6, 0.1, 0.3, then(X)), (6, 0.1, None, False, then(X)))
same("nn.BatchNorm1d", (6, 0.1, 0.3, True, False, then(X)), (3, 0.1, then(Z)))
refused("nn.BatchNorm1d", (6, 0.1, 0.3, True, True, "cpu", then(X)), (3, then(CUBE)))
same("nn.Sequential", (does(lambda s, x: s.nn.Sequential(s.nn.Dropout(0.0))(x)), X))
refused("nn.Sequential", (does(lambda s: s.nn.Sequential(OrderedDict(a=s.nn.Dropout()))),))
same("nn.Module", (does(lambda s, x: _doubling(s)()(x)), X))
same("nn.Parameter", (X,), (X, False))
same("nn.Buffer", (X,))
refused("nn.Buffer", (X, by(persistent=False)))

# nn: recurrent layers and cells, whose second result is PyTorch's

RNN, LSTM, GRU = ((3, 5, *rest) for rest in [(2, "relu", False), (2, False), (2, False)])
same("nn.RNN nn.LSTM nn.GRU", (3, 5, then(SEQUENCE)), (3, 5, 2, then(SEQUENCE)))
same("nn.RNN", (*RNN, then(SEQUENCE)), (*RNN, True, then(SEQUENCE)))
same("nn.RNN", (*RNN, True, 0.0, True, then(SEQUENCE)), (3, 5, then(SEQUENCE, HIDDEN[None])))
same("nn.LSTM nn.GRU", (*LSTM, then(SEQUENCE)), (*LSTM, True, 0.0, True, then(SEQUENCE)))
same("nn.LSTM", (*LSTM, True, 0.0, False, 2, then(SEQUENCE)))
same("nn.LSTM", (3, 5, then(SEQUENCE, (HIDDEN[None], HIDDEN[None]))))
same("nn.GRU", (3, 5, then(SEQUENCE, HIDDEN[None])))
refused("nn.RNN", (*RNN, by(device="cpu"), then(SEQUENCE)))
refused("nn.LSTM", (*LSTM, False, 0.0, False, 0, "cpu", then(SEQUENCE)))
refused("nn.GRU", (*GRU, by(device="cpu"), then(SEQUENCE)))
same("nn.RNNCell", (3, 5, then(ROWS, HIDDEN)), (3, 5, False, "relu", then(ROWS, HIDDEN)))
same("nn.LSTMCell", (3, 5, False, then(ROWS, (HIDDEN, HIDDEN))))
same("nn.GRUCell", (3, 5, False, then(ROWS, HIDDEN)))
refused("nn.RNNCell", (3, 5, False, "relu", "cpu", then(ROWS)))
refused("nn.LSTMCell nn.GRUCell", (3, 5, True, "cpu", then(ROWS)))
differs("nn.RNNCell nn.LSTMCell nn.GRUCell", (does(_cell), ROWS))

# Losses

same("F.cross_entropy", (X, LABELS), (X, LABELS, WEIGHTS), (V, np.array(2)))
same("F.cross_entropy", (Z, np.array([[0, 1, 2, 2], [2, 1, 0, 1]])))
same("F.cross_entropy", (X, LABELS, WEIGHTS, by(ignore_index=2)), (X, LABELS, by(reduction="sum")))
same("F.cross_entropy", (X, LABELS, WEIGHTS, by(reduction="none", label_smoothing=0.2)))
same("F.cross_entropy", (X, LABELS, by(label_smoothing=0.2)))
same("F.cross_entropy", (X, LABELS, WEIGHTS, by(ignore_index=5, label_smoothing=0.3)))
refused("F.cross_entropy", (CUBE, TAGS), (X, LABELS, WEIGHTS, None))
refused("F.cross_entropy", (X, LABELS, WEIGHTS, None, 2), (X, LIKELY))
differs("F.cross_entropy", (X, LABELS * 0 - 100))
same("nn.CrossEntropyLoss", (then(X, LABELS),), (WEIGHTS, then(X, LABELS)))
same("nn.CrossEntropyLoss", (WEIGHTS, by(ignore_index=2, reduction="sum"), then(X, LABELS)))
same("nn.CrossEntropyLoss", (WEIGHTS, by(label_smoothing=0.1), then(X, LABELS)))
refused("nn.CrossEntropyLoss", (WEIGHTS, None, 2, then(X, LABELS)), (then(CUBE, TAGS),))
differs("nn.CrossEntropyLoss", (then(X, LABELS * 0 - 100),))
same("F.mse_loss F.l1_loss F.huber_loss", (X, Y), (X, Y, by(reduction="sum")))
refused("F.mse_loss F.l1_loss", (X, Y, False), (X, Y, None, None, "sum"), (X, Y[:1]))
same("F.huber_loss", (X, Y, by(delta=0.5, reduction="none")))
refused("F.huber_loss", (X, Y, "sum"), (X, Y, "sum", 0.5))
same("F.binary_cross_entropy_with_logits", (X, LIKELY), (X, LIKELY, by(reduction="none")))
refused("F.binary_cross_entropy_with_logits", (X, LIKELY, WEIGHTS), (X, LIKELY, None, None, None))
same("nn.MSELoss nn.L1Loss nn.HuberLoss", (then(X, Y),), (by(reduction="sum"), then(X, Y)))
refused("nn.MSELoss nn.L1Loss", (False, then(X, Y)), (None, None, "sum", then(X, Y)))
same("nn.HuberLoss", (by(delta=0.5), then(X, Y)))
refused("nn.HuberLoss", ("sum", then(X, Y)), ("mean", 0.5, then(X, Y)))
same("nn.BCEWithLogitsLoss", (then(X, LIKELY),), (by(reduction="none"), then(X, LIKELY)))
refused("nn.BCEWithLogitsLoss", (WEIGHTS, then(X, LIKELY)), (None, False, then(X, LIKELY)))

# nn.init

same("init.constant_", (X, 0.5))
same("init.zeros_ init.ones_", (X,))
law("init.uniform_ init.normal_", (MATRIX,), (MATRIX, -1.0), (MATRIX, -1.0, 2.0))
law("init.xavier_uniform_ init.xavier_normal_", (MATRIX,), (MATRIX, 2.0))
law("init.kaiming_uniform_ init.kaiming_normal_", (MATRIX,))
refused("init.kaiming_uniform_ init.kaiming_normal_", (MATRIX, math.sqrt(5)))
refused("init.kaiming_uniform_ init.kaiming_normal_", (MATRIX, 0, "fan_out", "relu"))
same("init.orthogonal_", (does(lambda s, q: _gram(s.init.orthogonal_(q))), MATRIX))
same("init.orthogonal_", (does(lambda s, q: _gram(s.init.orthogonal_(q, 2.0))), MATRIX))

# optim: four updates

same("optim.SGD optim.Adam optim.AdamW optim.RMSprop optim.Adagrad optim.Adadelta", (), (0.1,))
same("optim.SGD", (0.1, 0.9), (0.1, 0.9, by(weight_decay=0.1, nesterov=True)))
refused("optim.SGD", (0.1, 0.9, 0.0), (0.1, 0.9, 0.0, 0.1), (0.1, 0.9, 0.0, 0.1, True))
refused("optim.SGD", (0.1, by(dampening=0.1, momentum=0.9)))
same("optim.Adam optim.AdamW", (0.1, (0.8, 0.9)), (0.1, (0.8, 0.9), 1e-3, 0.1))
refused("optim.Adam optim.AdamW", (0.1, (0.8, 0.9), 1e-3, 0.1, True), (0.1, by(amsgrad=True)))
same("optim.RMSprop", (0.1, 0.8), (0.1, 0.8, 1e-3, 0.1), (0.1, 0.8, 1e-3, 0.1, 0.9, True))
refused("optim.RMSprop", (0.1, 0.8, 1e-3, 0.1, 0.9, True, False))
same("optim.Adagrad", (0.1, 0.01, 0.1), (0.1, 0.01, 0.1, 0.2, 1e-3))
refused("optim.Adagrad", (0.1, 0.01, 0.1, 0.2, 1e-3, False))
same("optim.Adadelta", (0.1, 0.8), (0.1, 0.8, 1e-3, 0.1))
refused("optim.Adadelta", (0.1, 0.8, 1e-3, 0.1, False))
refused(
    "optim.Optimizer", (does(lambda s: s.optim.Optimizer([s.nn.Parameter(s.torch.ones(3))], {})),)
)
same(
    "utils.clip_grad_norm",
    (does(lambda s, x: _clipped(s, x, 1.5)), X),
    (does(lambda s, x: _clipped(s, x, 99.0)), X),
)
differs("utils.clip_grad_norm", (does(lambda s, x: _clipped(s, x, 1.5)), np.array([np.inf, 1.0])))
refused("utils.clip_grad_norm", (does(lambda s, x: _clipped(s, x, 1.5, 1.0)), X))

# The methods of modules and optimizers

same("Module.forward Module.eval Module.train Module.zero_grad", (does(_trained), ROWS))
refused("Module.zero_grad", (does(lambda s: s.nn.Linear(3, 2).zero_grad(True)),))
same("Module.to Module.parameters Module.modules", (does(_counts),))
same("Module.named_modules Module.named_parameters", (does(_names),))
refused("Module.parameters", (does(lambda s: s.nn.Linear(3, 2).parameters(False)),))
refused("Module.named_parameters", (does(lambda s: s.nn.Linear(3, 2).named_parameters("a")),))
same("Module.state_dict Module.load_state_dict", (does(_reloaded), ROWS))
same("Module.register_forward_hook Module.register_forward_pre_hook", (does(_hooked), ROWS))
differs("Module.extra_repr", (does(lambda s: s.nn.Linear(3, 2).extra_repr()),))
same("Optimizer.step Optimizer.zero_grad Optimizer.load_state_dict", (does(_stepped), X))
refused("Optimizer.step", (does(lambda s: _optimizer(s).step(lambda: 0)),))
refused("Optimizer.zero_grad", (does(lambda s: _optimizer(s).zero_grad(True)),))
differs("Optimizer.state_dict", (does(lambda s: sorted(_optimizer(s).state_dict())),))
