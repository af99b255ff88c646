"""What a call costs besides its arithmetic: how many functions of this package it takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import replay, rnn

PACKAGE = str(Path(tg.__file__).parent)
WITHIN = {"<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>"}  # in Python 3.11 calls, too


def calls(function: Callable[[], Any]) -> int:
    """How often functions of the package are called, those within one of its lines aside."""
    count = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGE) and code.co_name not in WITHIN:
            count += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@pytest.mark.parametrize("layer", [rnn.LSTM(64, 128), rnn.Recurrent(rnn.LSTMCell(64, 128))])
@pytest.mark.parametrize(("jit", "forward", "backward"), [(True, 160, 155), (False, 260, 175)])
def test_a_warm_training_step(layer: Any, jit: bool, forward: int, backward: int) -> None:
    """In calls of NumPy each array of the loop is a view more."""
    x, outputs = tg.zeros((20, 8, 64)), list[tg.Tensor]()
    with replay.using(jit=jit):
        for _ in range(3):
            layer(x)[0].sum().backward()
        layer.zero_grad()
        assert calls(lambda: outputs.append(layer(x)[0])) <= forward
        (output,) = outputs
        g = tg.ones(output.shape)
        assert calls(lambda: output.backward(g)) <= backward
