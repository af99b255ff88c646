"""Cells against ONNX's operators as onnxruntime runs them, in float32: all that it runs in.

Its gates stand in another order (W, R and B by gate, c the candidate), its peepholes are
P = [i, o, f], its ``input_forget`` couples the gates, ``linear_before_reset`` 0 is the reset before
the product, and it begins and ends with zero states where a sequence has no steps.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from networks import close, randomise

import tinygrad_rnn as tg
from tinygrad_rnn import replay, rnn

if os.environ.get("CI"):
    import onnx
    import onnxruntime
else:
    onnx = pytest.importorskip("onnx", reason="the comparison needs onnx and onnxruntime")
    onnxruntime = pytest.importorskip("onnxruntime", reason="the comparison needs onnxruntime")

pytestmark = pytest.mark.parity

T, B, I, H = 12, 4, 3, 5
THEIRS = {"LSTM": "iofg", "GRU": "zrn", "RNN": "h"}


def by_gate(array: np.ndarray, have: str, want: str) -> np.ndarray:
    """Rows in the order of ONNX's gates, zeros for a gate that we have not."""
    parts = dict(zip(have, np.split(array, len(have)), strict=True))
    return np.concatenate([parts.get(k, np.zeros_like(array[: len(parts[have[0]])])) for k in want])


def run_theirs(op: str, arrays: dict[str, np.ndarray], **attributes: Any) -> list[np.ndarray]:
    """One operator on these inputs: all its results, without the axis of directions."""
    order = ["X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"]
    names = [name if name in arrays else "" for name in order]
    helper = onnx.helper
    results = ["Y", "Y_h", "Y_c"][: 3 if op == "LSTM" else 2]
    while not names[-1]:
        names.pop()
    graph = helper.make_graph(
        [helper.make_node(op, names, results, hidden_size=H, **attributes)],
        "one operator",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in arrays.items()
        ],
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in results],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    y, *states = session.run(None, arrays)
    return [y[:, 0], *(s[0] for s in states)]


def compare(
    cell: Any, op: str, have: str, lengths: list[int] | None = None, **attributes: Any
) -> None:
    """Outputs and last states over time from drawn weights and states."""
    randomise(cell, scale=0.5).to(np.float32)
    p = cell.state_dict()
    rng = np.random.default_rng(1)
    x = rng.standard_normal((T, B, I)).astype(np.float32)
    states = [rng.standard_normal((B, H)).astype(np.float32) for _ in range(1 + (op == "LSTM"))]
    turn = {k: by_gate(v, have, THEIRS[op]) for k, v in p.items() if k.endswith(("ih", "hh"))}
    arrays = {
        "X": x,
        "W": turn["weight_ih"][None],
        "R": turn["weight_hh"][None],
        "B": np.concatenate([turn["bias_ih"], turn["bias_hh"]])[None],
        "initial_h": states[0][None],
    }
    if op == "LSTM":
        arrays["initial_c"] = states[1][None]
    if "weight_ci" in p:
        arrays["P"] = np.concatenate([p[f"weight_c{k}"] for k in "iof"])[None]
    if lengths is not None:
        arrays["sequence_lens"] = np.array(lengths, np.int32)
    want = run_theirs(op, arrays, **attributes)
    state = [tg.tensor(s) for s in states]
    with replay.using(jit=False):
        y, last = rnn.Recurrent(cell)(
            tg.tensor(x), state if op == "LSTM" else state[0], lengths=lengths
        )
    for a, b in zip([y, *(last if op == "LSTM" else [last])], want, strict=True):
        close(a, b, 1e-5 * T)


@pytest.mark.parametrize(
    ("name", "theirs", "settings"),
    [
        ("tanh", "Tanh", {}),
        ("relu", "Relu", {}),
        ("sigmoid", "Sigmoid", {}),
        ("leaky_relu", "LeakyRelu", {"activation_alpha": [0.01]}),
        ("identity", "Affine", {"activation_alpha": [1.0], "activation_beta": [0.0]}),
    ],
)
def test_elman(name: str, theirs: str, settings: dict[str, Any]) -> None:
    compare(rnn.RNNCell(I, H, nonlinearity=name), "RNN", "h", activations=[theirs], **settings)


@pytest.mark.parametrize("lengths", [None, [12, 3, 7, 1]])
@pytest.mark.parametrize("reset", ["after", "before"])
def test_gru(reset: str, lengths: list[int] | None) -> None:
    after = int(reset == "after")
    compare(rnn.GRUCell(I, H, reset=reset), "GRU", "rzn", lengths, linear_before_reset=after)


@pytest.mark.parametrize("lengths", [None, [12, 3, 7, 1]])
def test_peepholes(lengths: list[int] | None) -> None:
    compare(rnn.PeepholeLSTMCell(I, H), "LSTM", "ifgo", lengths)


@pytest.mark.parametrize("lengths", [None, [12, 3, 7, 1]])
def test_coupled_gates(lengths: list[int] | None) -> None:
    compare(rnn.CoupledLSTMCell(I, H), "LSTM", "igo", lengths, input_forget=1)


def test_activations_of_an_lstm() -> None:
    cell = rnn.LSTMCell(I, H, activation="relu", output_activation="sigmoid")
    compare(cell, "LSTM", "ifgo", activations=["Sigmoid", "Relu", "Sigmoid"])
