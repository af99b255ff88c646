"""A cell of one's own, as a user runs it: examples/custom_cell.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from programs import EXAMPLES, run_python

import tinygrad_rnn as tg
from tinygrad_rnn import rnn


def test_a_quick_run(tmp_path: Path) -> None:
    """It shows the program, proves it, learns, and measures."""
    program = EXAMPLES / "custom_cell.py"
    said = run_python("-W", "error", program, "--quick", cwd=tmp_path).stdout
    for part in ("the step, as traced", "once (depends on constants alone)", "summed over time"):
        assert part in said
    assert "has no batching rule" not in said
    difference = re.search(r"differ by (\S+)\.$", said, re.M)
    assert difference is not None
    assert float(difference[1]) < 1e-12
    assert "agree with central differences: True" in said
    shares = re.search(r"^  the cell  ((?: +[01]\.\d\d){10})$", said, re.M)
    assert shares is not None
    assert float(shares[1].split()[0]) < 0.5
    assert float(shares[1].split()[-1]) > 0.9
    for name in ("the cell", "the cell, no extras", "the cell, unrolled", "rnn.LSTM"):
        assert re.search(rf"^  {name} +\d+\.\d\d +\d+\.\d$", said, re.M)
    assert not list(tmp_path.iterdir())


def test_the_cell_is_its_equations(program: ModuleType) -> None:
    """Against the formula of the paper in NumPy."""
    cell = program.AntisymmetricCell(3, 4, size=0.3, friction=0.2).to("float64")
    x = tg.randn(6, 2, 3, dtype="float64")
    output, last = rnn.Recurrent(cell)(x)
    W, V, b = (v.numpy() for v in (cell.weight, cell.inputs.weight, cell.inputs.bias))
    A, h = W - W.T - 0.2 * np.eye(4), np.zeros((4, 2))
    for t in range(6):
        v = V @ x.numpy()[t].T + b[:, None]
        z = 1 / (1 + np.exp(-(A @ h + v[:4])))
        h = h + 0.3 * z * np.tanh(A @ h + v[4:])
        np.testing.assert_allclose(output.numpy()[t], h.T, atol=1e-12)
    np.testing.assert_array_equal(last.numpy(), output.numpy()[-1])


def test_the_question(program: ModuleType) -> None:
    """The first step holds the answer and a mark, the others hold neither."""
    x, answers = program.first_signal(np.random.default_rng(0), 5, 7, "cpu")
    assert x.shape == (5, 7, 5)
    np.testing.assert_array_equal(x.numpy()[0, :, :4].argmax(axis=1), answers)
    np.testing.assert_array_equal(x.numpy()[:, :, 4], np.arange(5)[:, None].repeat(7, 1) == 0)


def test_a_device_that_is_not_there(main: Callable[..., None]) -> None:
    with pytest.raises(SystemExit, match=r"^custom_cell: device 'tpu' is unknown"):
        main("--device", "tpu")
