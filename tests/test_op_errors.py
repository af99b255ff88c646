"""Bad input to an operation: one sentence that names it, what came and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import ops


class Operands(NamedTuple):
    """What the calls of the table choose from, all of it on one device."""

    device: str
    a: tg.Tensor  # float32 (2, 3)
    b: tg.Tensor  # float32 (2, 4)
    v: tg.Tensor  # float32 (3,)
    n: tg.Tensor  # int64 (3,), 0 1 2
    s: tg.Tensor  # float32 ()


@pytest.fixture
def operands(device: str) -> Operands:
    def floats(*shape: int) -> tg.Tensor:
        return tg.ones(shape, device=device, requires_grad=True)

    return Operands(
        device, floats(2, 3), floats(2, 4), floats(3), tg.arange(3, device=device), floats()
    )


Row = tuple[Callable[[Operands], Any], type[Exception], str]

BAD: dict[str, Row] = {
    # Shapes
    "add": (lambda o: o.a + o.b, ValueError, r"^add: .*\(2,\s?3\).*\(2,\s?4\)"),
    "maximum": (lambda o: tg.maximum(o.a, o.b), ValueError, r"^maximum: .*\(2,\s?3\).*\(2,\s?4\)"),
    "where": (lambda o: tg.where(o.a > 0, o.b, 0.0), ValueError, r"^where: .*\(2,\s?3\)"),
    "compare": (lambda o: o.a < o.b, ValueError, r"^less: .*\(2,\s?3\).*\(2,\s?4\)"),
    "matmul": (
        lambda o: o.a @ o.b,
        ValueError,
        r"^matmul: \(2, 3\) @ \(2, 4\) do not fit: 3 columns meet 2 rows$",
    ),
    "matmul 0-d": (lambda o: o.a @ o.s, ValueError, r"^matmul: operands need at least one axis"),
    "matmul leading": (
        lambda o: tg.ones((2, 3, 4), device=o.device) @ tg.ones((3, 4, 2), device=o.device),
        ValueError,
        r"^matmul: .*\(2, 3, 4\).*\(3, 4, 2\)",
    ),
    "linear": (
        lambda o: tg.linear(o.b, o.a),
        ValueError,
        r"^linear: inputs must have shape \(\.\.\., 3\), got \(2, 4\)$",
    ),
    "linear bias": (
        lambda o: tg.linear(o.v, o.a, o.v),
        ValueError,
        r"^linear: the bias must have shape \(2,\), got \(3,\)$",
    ),
    "linear weight": (
        lambda o: tg.linear(o.a, o.v),
        ValueError,
        r"^linear: the weight must .*\(3,\)$",
    ),
    "outer": (
        lambda o: tg.outer(o.a, o.v),
        ValueError,
        r"^outer: expected two vectors, got \(2, 3\) and \(3,\)$",
    ),
    "reshape": (
        lambda o: o.a.reshape(4, 2),
        ValueError,
        r"^reshape: \(2, 3\) does not fit into \(4, 2\)$",
    ),
    "reshape -1": (lambda o: o.a.reshape(4, -1), ValueError, r"^reshape: \(2, 3\) does not fit"),
    "reshape two -1": (lambda o: o.a.reshape(-1, -1), ValueError, r"^reshape: \(2, 3\) does not"),
    "reshape float": (
        lambda o: o.a.reshape(2.0, 3),
        TypeError,
        r"^reshape: a shape must be integers, got \(2\.0, 3\)$",
    ),
    "broadcast_to": (lambda o: tg.broadcast_to(o.a, (2, 4)), ValueError, r"^broadcast_to: .*\(2,"),
    "sum_to": (
        lambda o: ops.sum_to(o.a, (2, 2)),
        ValueError,
        r"^sum_to: shape \(2, 2\) cannot have been broadcast to \(2, 3\)$",
    ),
    "concat": (
        lambda o: tg.concat([o.a, o.b]),
        ValueError,
        r"^concat: shapes must agree except along axis 0, got \(2, 3\), \(2, 4\)$",
    ),
    "concat dimensions": (lambda o: tg.concat([o.a, o.v]), ValueError, r"^concat: .*\(3,\)$"),
    "concat of nothing": (
        lambda o: tg.concat([]),
        TypeError,
        r"^concat: expected a list .*an empty one$",
    ),
    "concat of a tensor": (
        lambda o: tg.concat(o.a),
        TypeError,
        r"^concat: expected .*got a Tensor$",
    ),
    "stack": (
        lambda o: tg.stack([o.a, o.b]),
        ValueError,
        r"^stack: shapes must be equal, got \(2, 3\), \(2, 4\)$",
    ),
    "stack of nothing": (lambda o: tg.stack([]), TypeError, r"^stack: expected a list or tuple"),
    "split": (
        lambda o: tg.split(o.a, parts=2),
        ValueError,
        r"^split: axis 1 of size 3 has no 2 equal parts$",
    ),
    "split sizes": (
        lambda o: tg.split(o.a, sizes=[1, 1]),
        ValueError,
        r"^split: sizes \(1, 1\) do not add up to 3, the size of axis 1$",
    ),
    "split negative": (
        lambda o: tg.split(o.a, sizes=[4, -1]),
        ValueError,
        r"^split: sizes \(4, -1\)",
    ),
    "split float": (lambda o: tg.split(o.a, parts=1.5), ValueError, r"^split: .*1\.5"),
    "squeeze": (lambda o: o.a.squeeze(0), ValueError, r"^squeeze: axis 0 has size 2, not 1$"),
    "pad": (
        lambda o: tg.pad(o.a, [(1, 1)]),
        ValueError,
        r"^pad: expected 2 pairs \(before, after\) of counts >= 0, got \(\(1, 1\),\)$",
    ),
    "pad negative": (lambda o: tg.pad(o.v, [(-1, 0)]), ValueError, r"^pad: .*\(\(-1, 0\),\)$"),
    "pad number": (lambda o: tg.pad(o.v, 1), TypeError, r"^pad: expected .*got 1$"),
    "tile": (lambda o: tg.tile(o.a, (2, -1)), ValueError, r"^tile: counts must be >= 0"),
    "einsum sizes": (
        lambda o: tg.einsum("ij,ij->i", o.a, o.b),
        ValueError,
        r"^einsum: axis 'j' has sizes 3 and 4 in 'ij,ij->i'$",
    ),
    "einsum operands": (
        lambda o: tg.einsum("ij,jk->ik", o.a),
        ValueError,
        r"^einsum: 'ij,jk->ik' names 2 operands, got 1$",
    ),
    "einsum axes": (
        lambda o: tg.einsum("ijk->i", o.a),
        ValueError,
        r"^einsum: 'ijk' names 3 axes of shape \(2, 3\)$",
    ),
    "einsum output": (lambda o: tg.einsum("ij->k", o.a), ValueError, r"^einsum: the output of"),
    "einsum letters": (lambda o: tg.einsum("i1->i", o.a), ValueError, r"^einsum: an equation is"),
    "einsum ellipsis": (lambda o: tg.einsum("...->...", o.a), ValueError, r"^einsum: an equation"),
    "cross_entropy": (
        lambda o: ops.cross_entropy(o.a, o.n),
        ValueError,
        r"^cross_entropy: .* do not fit: \(2, 3\) and \(3,\)$",
    ),
    "at.set": (lambda o: o.a.at[0].set(o.b), ValueError, r"^at\.set: .*\(2,\s?4\)"),
    "at.add": (lambda o: o.a.at[0].add(o.b), ValueError, r"^(at\.add|broadcast_to): .*\(2,\s?4\)"),
    # Axes
    "sum": (lambda o: o.a.sum(2), IndexError, r"^sum: axis 2 is out of range for 2 dimensions$"),
    "sum twice": (lambda o: o.a.sum((0, -2)), ValueError, r"^sum: axes \(0, -2\) name one axis"),
    "mean": (lambda o: o.a.mean(-3), IndexError, r"^mean: axis -3 is out of range for 2 dim"),
    "max float": (
        lambda o: o.a.max(1.0),
        TypeError,
        r"^max: an axis must be an integer, got 1\.0$",
    ),
    "var": (lambda o: tg.var(o.a, 5), IndexError, r"^var: axis 5 is out of range"),
    "cumsum": (lambda o: o.a.cumsum(2), IndexError, r"^cumsum: axis 2 is out of range"),
    "cumsum two": (
        lambda o: tg.cumsum(o.a, (0, 1)),
        TypeError,
        r"^cumsum: an axis must be an integer",
    ),
    "argmax": (lambda o: o.a.argmax(2), IndexError, r"^argmax: axis 2 is out of range"),
    "softmax": (lambda o: tg.softmax(o.a, 2), IndexError, r"^softmax: axis 2 is out of range"),
    "softmax 0-d": (lambda o: tg.softmax(o.s, 1), IndexError, r"^softmax: axis 1 is out of range"),
    "sum 0-d": (lambda o: o.s.sum(1), IndexError, r"^sum: axis 1 is out of range for 0 dim"),
    "flip 0-d": (lambda o: tg.flip(o.s, 0), IndexError, r"^flip: axis 0 is out of range for 0"),
    "softmax of none": (lambda o: tg.softmax(o.a, None), TypeError, r"^softmax: an axis must be"),
    "logsumexp": (lambda o: tg.logsumexp(o.a, -3), IndexError, r"^logsumexp: axis -3 is out"),
    "transpose": (
        lambda o: o.a.transpose(0, 0),
        ValueError,
        r"^transpose: axes must name each of 2 axes once, got \(0, 0\)$",
    ),
    "transpose out": (lambda o: o.a.transpose(0, 2), IndexError, r"^transpose: axis 2 is out"),
    "swapaxes": (lambda o: o.a.swapaxes(0, 2), IndexError, r"^swapaxes: axis 2 is out of range"),
    "moveaxis": (lambda o: tg.moveaxis(o.a, 0, 2), IndexError, r"^moveaxis: axis 2 is out of"),
    "flip": (lambda o: tg.flip(o.a, 2), IndexError, r"^flip: axis 2 is out of range"),
    "expand_dims": (lambda o: tg.expand_dims(o.a, 4), IndexError, r"^expand_dims: axis 4 is out"),
    "squeeze axis": (lambda o: o.a.squeeze(3), IndexError, r"^squeeze: axis 3 is out of range"),
    "unstack": (lambda o: tg.unstack(o.a, 2), IndexError, r"^unstack: axis 2 is out of range"),
    "unstack 0-d": (lambda o: tg.unstack(o.s), IndexError, r"^unstack: axis 0 is out of range"),
    "take axis": (lambda o: tg.take(o.a, o.n, 2), IndexError, r"^take: axis 2 is out of range"),
    # Nothing to choose from
    "max of nothing": (
        lambda o: o.a[:0].max(0),
        ValueError,
        r"^max: there is no element over axes \(0,\) of shape \(0, 3\)$",
    ),
    "min of nothing": (lambda o: o.v[:0].min(), ValueError, r"^min: there is no element"),
    "argmax of nothing": (lambda o: o.v[:0].argmax(), ValueError, r"^argmax: there is no element"),
    # Kinds of operand
    "a list": (
        lambda o: ops.add(o.v, [1.0, 2.0, 3.0]),
        TypeError,
        r"^add: expected a Tensor, an array or a number, got list$",
    ),
    "a list by operator": (lambda o: o.v * [1, 2, 3], TypeError, r"^multiply: .*got list$"),
    "a list first": (lambda o: [1, 2, 3] - o.v, TypeError, r"^subtract: .*got list$"),
    "a string": (lambda o: o.v + "one", TypeError, r"^add: .*got str$"),
    "None": (lambda o: o.v / None, TypeError, r"^divide: .*got NoneType$"),
    "no tensor at all": (lambda o: tg.tanh("x"), TypeError, r"^tanh: .*(str|'x')"),
    "a number alone": (lambda o: tg.exp(1.0), TypeError, r"^exp: expected a Tensor or an array"),
    "a list alone": (lambda o: tg.exp([1.0]), TypeError, r"^exp: expected a Tensor or an array"),
    "sum of a list": (lambda o: tg.sum([1.0]), TypeError, r"^sum: expected .*got list$"),
    "mean of a number": (lambda o: tg.mean(1.0), TypeError, r"^mean: expected .*got float$"),
    "softmax of a list": (lambda o: tg.softmax([1.0]), TypeError, r"^softmax: .*got list$"),
    "reshape of a list": (lambda o: tg.reshape([1.0], (1,)), TypeError, r"^reshape: .*got list$"),
    "matmul with a list": (lambda o: o.a @ [1.0, 2.0, 3.0], TypeError, r"^matmul: .*got list$"),
    "linear with a list": (lambda o: tg.linear([1.0], o.a), TypeError, r"^linear: .*got list$"),
    "einsum of a list": (lambda o: tg.einsum("i->", [1.0]), TypeError, r"^einsum: .*got list$"),
    "concat of lists": (lambda o: tg.concat([[1.0], [2.0]]), TypeError, r"^concat: .*got list$"),
    "stack of numbers": (lambda o: tg.stack([1.0, 2.0]), TypeError, r"^stack: .*got float$"),
    "take from a list": (lambda o: tg.take([1.0], o.n), TypeError, r"^take: .*got list$"),
    "where with a list": (
        lambda o: tg.where([True, False, True], o.v, o.v),
        TypeError,
        r"^where: .*got list$",
    ),
    # Dtypes
    "matmul of bools": (lambda o: ~o.a, TypeError, r"^invert: .*float32 \(2, 3\)"),
    "and of floats": (lambda o: o.v & o.v, TypeError, r"^bitwise_and: .*float32 \(3,\)"),
    "take by floats": (
        lambda o: tg.take(o.a, o.v, 0),
        IndexError,
        r"^take: an index must be integer or boolean, got float32$",
    ),
    "labels of floats": (lambda o: ops.cross_entropy(o.a, o.v[:2]), TypeError, r"^cross_entropy: "),
    "scatter by floats": (
        lambda o: ops.scatter_add(o.v, o.v, 3),
        (IndexError, TypeError),
        r"^scatter_add: .*float32",
    ),
    "one_hot of floats": (lambda o: tg.one_hot(o.v, 3), TypeError, r"^one_hot: .*float32"),
    # Values
    "clip by arrays": (lambda o: o.v.clip(o.v), TypeError, r"^clip: bounds must be numbers"),
    "sum into an array": (
        lambda o: np.sum(o.v, out=np.ones(())),
        TypeError,
        r"^sum: out= is not taken, as a result is a new Tensor; use tg\.sum\(x\)$",
    ),
    "clip": (
        lambda o: o.a.clip(2, 1),
        ValueError,
        r"^clip: low must not exceed high, got 2 and 1$",
    ),
    "one_hot": (lambda o: tg.one_hot(o.n, 2), IndexError, r"^one_hot: .*2.*out of range for 2"),
    "dropout": (lambda o: ops.dropout(o.a, 1.0), ValueError, r"^dropout: the rate must satisfy"),
    "scatter_add rows": (
        lambda o: ops.scatter_add(o.v, tg.arange(2, device=o.device), 3),
        ValueError,
        r"^scatter_add: .*\(3,\).*\(2,\)",
    ),
}


@pytest.mark.parametrize(("call", "exception", "message"), BAD.values(), ids=BAD.keys())
def test_bad_input(
    call: Callable[[Operands], Any], exception: Any, message: str, operands: Operands
) -> None:
    with pytest.raises(exception) as caught:
        call(operands)
    sentence = str(caught.value)
    assert re.search(message, sentence), f"{type(caught.value).__name__}: {sentence}"
    assert "\n" not in sentence


MIXED: dict[str, Callable[[tg.Tensor, tg.Tensor], Any]] = {
    "add": lambda a, b: a + b,
    "where": lambda a, b: tg.where(a > 0, a, b),
    "where by a condition": lambda a, b: tg.where(b > 0, a, a),
    "matmul": lambda a, b: a @ b,
    "linear": lambda a, b: tg.linear(a, b),
    "concat": lambda a, b: tg.concat([a, b]),
    "stack": lambda a, b: tg.stack([a, b]),
    "einsum": lambda a, b: tg.einsum("ij,ij->", a, b),
    "getitem": lambda a, b: a[b > 0],
    "take": lambda a, b: tg.take(a, b.astype(np.int64), 0),
    "at.set": lambda a, b: a.at[0].set(b[0]),
    "at.add": lambda a, b: a.at[0].add(b[0]),
    "cross_entropy": lambda a, b: ops.cross_entropy(a, b[0].astype(np.int64)),
    "a raw array": lambda a, b: a * b.data,
}


@pytest.mark.parametrize("call", MIXED.values(), ids=MIXED.keys())
@pytest.mark.parametrize("swapped", [False, True])
def test_two_devices(call: Callable[..., Any], swapped: bool) -> None:
    """Nothing is copied silently: the error names the operation and both devices."""
    a, b = tg.ones((2, 2)), tg.ones((2, 2), device="strict")
    with pytest.raises(tg.DeviceError) as caught:
        call(*((b, a) if swapped else (a, b)))
    sentence = str(caught.value)
    assert re.match(r"^[a-z_.]+: operands on (cpu and strict|strict and cpu); ", sentence), sentence


def test_raw_arrays_of_two_devices() -> None:
    a, b = np.ones(3), tg.ones((3,), device="strict").data
    for one, other in ((a, b), (b, a)):
        with pytest.raises(tg.DeviceError, match=r"^add: operands on .*strict"):
            ops.add(one, other)


def test_nothing_is_left_half_done(operands: Operands) -> None:
    """After an error the operands are as they were, and work on."""
    a = operands.a
    with pytest.raises(ValueError, match="add"):
        a + operands.b
    (a * 2).sum().backward()
    assert a.grad is not None
    np.testing.assert_array_equal(a.grad.numpy(), 2)


def test_backward_rejects_a_rule_of_the_wrong_shape(device: str) -> None:
    wrong = tg.primitive("halve", lambda xp, x: x / 2, [lambda g, y, x: ops.concat([g, g]) / 2])
    x = tg.ones((3,), device=device, requires_grad=True)
    with pytest.raises(ValueError, match=r"^halve: .* argument 0 gave float32 \(6,\) .*\(3,\)"):
        wrong(x).sum().backward()
