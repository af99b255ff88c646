"""Whoever asks Python what a public name is gets an answer: a docstring, and named arguments."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Iterator
from typing import Any, assert_type

import numpy as np
import pytest
from elementwise import PRIMITIVES

import tinygrad_rnn as tg
from tinygrad_rnn import data, lab, nn, ops, optim, rnn, training
from tinygrad_rnn.ops.kernel_language import names

ROOMS = (tg, nn, rnn, optim, data, training, lab, ops)
NAMELESS = {
    "nn.Module.forward": "what a module takes is said by the module's own forward",
    "rnn.note": "the names of what is noted are the caller's",
}
"""What takes any arguments, and why."""


def public() -> Iterator[tuple[str, Any]]:
    """Every public name of the rooms, every public method and property of its class, each once."""
    known: set[Any] = set()
    for room in ROOMS:
        for name in room.__all__:
            value = getattr(room, name)
            if not callable(value) or value in known:
                continue
            known.add(value)
            place = f"{room.__name__}.".partition(".")[2]
            yield place + name, value
            for owner, method, found in members(value) if inspect.isclass(value) else ():
                if (owner, method) not in known:
                    known.add((owner, method))
                    yield f"{place}{owner.__name__}.{method}", found


def members(kind: type) -> Iterator[tuple[type, str, Any]]:
    """The public methods and properties of a class, and the class of ours that has them."""
    for name in dir(kind):
        owner = next(c for c in kind.__mro__ if name in vars(c) or c is object)
        held = vars(owner).get(name)
        if name.startswith("_") or not owner.__module__.startswith(tg.__name__):
            continue
        if isinstance(held, property):
            yield owner, name, held
        elif callable(getattr(kind, name)):
            yield owner, name, getattr(kind, name)


def docstring(value: Any) -> str | None:
    """Its own one, for a method also that of the method of a class above which it stands for."""
    if not inspect.isclass(value):
        return inspect.getdoc(inspect.unwrap(value))
    text = vars(value).get("__doc__")  # NamedTuple and dataclass make one of their fields
    return None if str(text).startswith(f"{value.__name__}(") else text


def is_nameless(value: Any) -> bool:
    """Whether a signature says no more than that there are arguments."""
    found = [p for p in inspect.signature(value).parameters.values() if p.name != "self"]
    kinds = [p.kind for p in found]
    return kinds == [inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD]


def has_signature(value: Any) -> bool:
    """All but properties, Protocols (which are not made) and exceptions (made as Python's are)."""
    if inspect.isclass(value):
        return not (getattr(value, "_is_protocol", False) or issubclass(value, Exception))
    return not isinstance(value, property)


PUBLIC = dict(public())


def test_what_is_walked() -> None:
    """Functions, operations, classes, methods and properties, of every room."""
    some = "tanh scan Tensor Tensor.to Values.shape nn.Module.state_dict rnn.LSTMCell.step ops.add"
    assert set(some.split()) < PUBLIC.keys()
    for room in ROOMS[1:]:
        assert any(name.startswith(room.__name__.split(".")[-1]) for name in PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstring(name: str) -> None:
    assert docstring(PUBLIC[name]), f"{name} has no docstring"


@pytest.mark.parametrize("name", [name for name in PUBLIC if has_signature(PUBLIC[name])])
def test_signature(name: str) -> None:
    assert is_nameless(PUBLIC[name]) == (name in NAMELESS)


@pytest.mark.parametrize("name", sorted(PRIMITIVES.keys() - {"leaky_relu", "clip"}))
def test_arguments_of_an_operation(name: str) -> None:
    """It takes as many as its kernel has operands, by place; help() tells how it is called."""
    signature = inspect.signature(PRIMITIVES[name])
    kinds = [p.kind for p in signature.parameters.values()]
    assert kinds == [inspect.Parameter.POSITIONAL_ONLY] * names(str(PRIMITIVES[name].kernel))[0]
    assert f"{name}({', '.join(signature.parameters)})" in pydoc.render_doc(PRIMITIVES[name])


def test_types_of_results() -> None:
    """Of a Tensor a Tensor, of an array an array: for whoever checks types."""
    x, array = tg.tensor([0.5]), np.array([0.5])
    assert isinstance(assert_type(tg.tanh(x), tg.Tensor), tg.Tensor)
    assert isinstance(assert_type(tg.maximum(0.0, x), tg.Tensor), tg.Tensor)
    assert isinstance(assert_type(tg.softmax(x), tg.Tensor), tg.Tensor)
    assert isinstance(assert_type(x.at[0].set(1.0), tg.Tensor), tg.Tensor)
    assert isinstance(tg.tanh(array), np.ndarray)
