"""The tables of docs/dtypes.md in PyTorch, wherever it defines a cell."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from dtype_page import CALLS, CELLS
from parity import torch

pytestmark = pytest.mark.parity

UNDEFINED = re.compile(
    "not implemented for|uint16, uint32, uint64|not supported|could not infer|only support"
    "|must be floating point|should be floating|Expected a floating point|two boolean tensors"
    "|object has no attribute|must be Tensor, not|expected scalar type|Boolean inputs"
    "|only implemented on|does not support bool"
)
"""What PyTorch says where it leaves an operation undefined."""


def dtype_there(call: Callable[[], Any]) -> str | None:
    """The dtype that PyTorch gives, None where it has none to give."""
    try:
        return str(call().dtype).removeprefix("torch.")
    except (RuntimeError, TypeError, AttributeError) as error:
        if not UNDEFINED.search(str(error)):
            raise
        return None


def operand(name: str) -> Any:
    is_number = name in ("True", "2", "2.5")
    return ast.literal_eval(name) if is_number else torch.from_numpy(np.ones(3, name))


@pytest.mark.parametrize(("one", "other", "said"), CELLS)
def test_operands_meet_there_too(one: str, other: str, said: str) -> None:
    assert dtype_there(lambda: operand(one) + operand(other)) in (said, None)


NAMES = {"tg.": "torch.", "concat(": "cat(", "clip(": "clamp("}
OTHERWISE = ("gelu", "leaky_relu", "softplus", "softmax", "logsumexp", "cumsum", "flip", "x.at",
             "any(", "all(")  # fmt: skip
"""What takes an axis there, lies elsewhere, or gives uint8 in place of bools for uint8."""


@pytest.mark.parametrize(("call", "dtype", "said"), CALLS)
def test_operations_give_that_too(call: str, dtype: str, said: str) -> None:
    if any(word in call for word in OTHERWISE):
        return
    for ours, theirs in NAMES.items():
        call = call.replace(ours, theirs)
    names = {"torch": torch, "x": torch.from_numpy(np.ones(3, dtype))}
    found = dtype_there(lambda: eval(call, names))
    assert found in (dtype if said == "the same" else said, None)
