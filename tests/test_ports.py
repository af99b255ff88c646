"""A port by changing an import may fail, in one sentence; it may not change a number.

The table of calls is in port_calls.py, the deliberate exceptions in docs/porting.md.
"""

from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from parity import torch
from port_calls import CALLS, Call, does, raw

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn

pytestmark = pytest.mark.parity

PAGE = Path(__file__).parent.parent / "docs" / "porting.md"
LAYERS = SimpleNamespace(**{name: getattr(nn, name) for name in nn.__all__})
vars(LAYERS).update({name: getattr(rnn, name) for name in rnn.__all__})

OURS = SimpleNamespace(
    torch=tg, linalg=tg, func=tg, nn=LAYERS, init=nn.init, optim=optim, utils=optim,
    F=SimpleNamespace(**(vars(tg) | vars(nn))),
    Tensor=tg.Tensor, Module=nn.Module, Optimizer=optim.Optimizer,
)  # fmt: skip
THEIRS = SimpleNamespace(
    torch=torch, linalg=torch.linalg, func=torch.func, nn=torch.nn, init=torch.nn.init,
    optim=torch.optim, utils=torch.nn.utils, F=torch.nn.functional,
    Tensor=torch.Tensor, Module=torch.nn.Module, Optimizer=torch.optim.Optimizer,
)  # fmt: skip
PUBLIC = {
    "torch": tg.__all__,
    "F": [*tg.__all__, *nn.__all__],
    "linalg": tg.__all__,
    "func": tg.__all__,
    "nn": vars(LAYERS),
    "init": [name for name in vars(nn.init) if name.endswith("_") and name[0] != "_"],
    "optim": optim.__all__,
    "utils": optim.__all__,
    "Tensor": [name for name in dir(tg.Tensor) if name[0] != "_"],
    "Module": [name for name in dir(nn.Module) if name[0] != "_"],
    "Optimizer": [name for name in dir(optim.Optimizer) if name[0] != "_"],
}
NO_VALUES = {"__init__", "__repr__", "__format__", "__reduce__", "__deepcopy__", "__hash__"}
OPERATORS = {
    name
    for kind in tg.Tensor.__mro__[:-1]
    for name, method in vars(kind).items()
    if name.startswith("__") and callable(method) and "dlpack" not in name
} - NO_VALUES


def shared_names() -> set[str]:
    """What has one name on both sides, but for whole modules and what F only imports."""
    found = {f"Tensor.{name}" for name in OPERATORS if hasattr(torch.Tensor, name)}
    for place, names in PUBLIC.items():
        for name in names:
            theirs = getattr(getattr(THEIRS, place), name, None)
            imported = place == "F" and theirs is getattr(torch, name, None)
            if callable(theirs) and not (inspect.ismodule(theirs) or imported):
                found.add(f"{place}.{name}")
            elif place == "Tensor" and hasattr(torch.Tensor, name):
                found.add(f"Tensor.{name}")
    return found


def convert(side: Any, value: Any) -> Any:
    """An argument for one side: arrays as its Tensors."""
    if isinstance(value, raw):
        return value.array.copy()
    if isinstance(value, np.ndarray):
        return side.torch.tensor(value)
    if isinstance(value, list | tuple):
        return type(value)(convert(side, item) for item in value)
    return value


def updated(side: Any, name: str, args: list[Any], options: dict[str, Any]) -> Any:
    """A Parameter after four updates of an optimizer."""
    p = side.nn.Parameter(side.torch.tensor(np.linspace(-1, 2, 8)))
    optimizer = getattr(side.optim, name)([p], *args, **options)
    for _ in range(4):
        optimizer.zero_grad()
        (p * p * p).sum().backward()
        optimizer.step()
    return p


def made(side: Any, call: Call, state: dict[str, Any]) -> Any:
    """What a call gives on one side; ``state`` takes the weights of a layer from ours to theirs."""
    args = [convert(side, argument) for argument in call.args]
    options = {name: convert(side, value) for name, value in call.options.items()}
    place, name = call.name.split(".")
    if args and isinstance(args[0], does):
        return args[0].code(side, *args[1:])
    if place == "optim":
        return updated(side, name, args, options)
    if place == "Tensor" and isinstance(args[0], tg.Tensor | torch.Tensor):
        found = getattr(args[0], name)
        found = found(*args[1:], **options) if callable(found) else found
    else:
        found = getattr(getattr(side, place), name)(*args, **options)
    if call.then is None:
        return found
    inputs = [convert(side, value) for value in call.then]
    if isinstance(found, nn.Module):
        state.update(found.to("float64").state_dict())
        result = found(*inputs)
        return result[1] if isinstance(found, rnn.Cell) else result
    if isinstance(found, torch.nn.Module):
        weights = {name: torch.from_numpy(values) for name, values in state.items()}
        found.double().load_state_dict(weights, strict=call.outcome != "refused")
    return found(*inputs)


def seeded(side: Any, call: Call, state: dict[str, Any]) -> Any:
    side.torch.manual_seed(0)
    with warnings.catch_warnings():
        if side is THEIRS:
            warnings.simplefilter("ignore")
        return made(side, call, state)


def plain(value: Any) -> Any:
    """A result as something that NumPy or Python compares."""
    if isinstance(value, torch.Tensor):
        return value.detach().numpy()
    if isinstance(value, tg.Tensor):
        return value.numpy()
    if isinstance(value, list | tuple | torch.Size):
        return [plain(item) for item in value]
    if isinstance(value, np.dtype | torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    return value


def assert_equal(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, list):
        assert isinstance(ours, list)
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            assert_equal(a, b)
    elif isinstance(theirs, np.ndarray):
        assert isinstance(ours, np.ndarray)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        single = theirs.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, *((1e-6, 1e-7) if single else (1e-10, 1e-12)))
    else:
        assert type(ours) is type(theirs)
        assert ours == (pytest.approx(theirs, rel=1e-10) if isinstance(theirs, float) else theirs)


def assert_equal_law(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Two large samples of one distribution: their sorted values lie close together."""
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    a, b = (np.sort(values.ravel()).astype(float) for values in (ours, theirs))
    assert np.mean(np.abs(a - b)) < 0.02 * b.std()
    assert a.min() >= b.min() - 0.1 * b.std() or abs(a.min() / b.min()) < 1.5


IDS = [f"{k}-{call.name}-{call.outcome}" for k, call in enumerate(CALLS)]


@pytest.mark.parametrize("call", CALLS, ids=IDS)
def test_a_call_is_the_same_or_refused(call: Call) -> None:
    state: dict[str, Any] = {}
    if call.outcome == "refused":
        seeded(THEIRS, call, state)  # what PyTorch refuses is no port
        with pytest.raises((TypeError, ValueError, IndexError)) as caught:
            seeded(OURS, call, state)
        assert re.fullmatch(r"[^\n]{10,}", str(caught.value))
        return
    ours, theirs = plain(seeded(OURS, call, state)), plain(seeded(THEIRS, call, state))
    if call.outcome == "same":
        assert_equal(ours, theirs)
    elif call.outcome == "law":
        assert_equal_law(ours, theirs)
    else:
        with pytest.raises(AssertionError):
            assert_equal(ours, theirs)


def test_every_name_that_pytorch_has_too_has_a_row() -> None:
    assert shared_names() - {call.name for call in CALLS} == set()


def test_the_table_has_no_rows_of_other_names() -> None:
    assert {call.name for call in CALLS} - shared_names() == set()


def test_the_page_lists_what_differs_and_nothing_else() -> None:
    table = PAGE.read_text(encoding="utf-8").partition("## What differs")[2]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    listed = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    assert len(set(listed)) == len(listed)
    assert set(listed) == {call.name for call in CALLS if call.outcome == "differs"}
