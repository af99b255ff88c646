"""Bad input to training/, in one table: each is refused in one sentence that says what came and
what was expected.
"""

# Calls that a type checker refuses too are the point of this file.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import Refusal, assert_refused_among, bad_files, each, trainer

import tinygrad_rnn as tg
from tinygrad_rnn import rnn
from tinygrad_rnn.training import EarlyStopping, NonFiniteLossError, TruncatedBPTT

LAYER = rnn.GRU(3, 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bad_files(tmp_path_factory.mktemp("errors"))


CASES: list[Refusal] = [
    # Trainer
    (
        lambda: trainer(model=lambda x: x),
        TypeError,
        "Trainer: model must be a Module, got function",
    ),
    (
        lambda: trainer(optimizer="adam"),
        TypeError,
        "Trainer: optimizer must be an Optimizer, got str",
    ),
    (
        lambda: trainer(batches=iter([1, 2])),
        TypeError,
        "Trainer: batches must be a sequence, or a function from the number of an epoch to "
        "one, got list_iterator",
    ),
    (
        lambda: trainer(batches=None),
        TypeError,
        "Trainer: batches must be a sequence, or a function from the number of an epoch to "
        "one, got NoneType",
    ),
    (
        lambda: trainer(batches=[]).fit(epochs=1),
        ValueError,
        "Trainer: an epoch has no batches",
    ),
    (
        lambda: trainer(batches=lambda epoch: iter([1])).fit(epochs=1),
        TypeError,
        "Trainer: the function batches must give a sequence, got list_iterator",
    ),
    (
        lambda: trainer(accumulate=0),
        ValueError,
        "Trainer: accumulate must be a positive integer, got 0",
    ),
    (
        lambda: trainer(accumulate=2.5),
        ValueError,
        "Trainer: accumulate must be a positive integer, got 2.5",
    ),
    (
        lambda: trainer(evaluate_every=0),
        ValueError,
        "Trainer: evaluate_every must be a positive integer, got 0",
    ),
    (
        lambda: trainer(checkpoint_every=-1),
        ValueError,
        "Trainer: checkpoint_every must be a positive integer, got -1",
    ),
    (
        lambda: trainer(keep=0),
        ValueError,
        "Trainer: keep must be a positive integer, got 0",
    ),
    (
        lambda: trainer(keep=True),
        ValueError,
        "Trainer: keep must be a positive integer, got True",
    ),
    (
        lambda: trainer(callbacks=[print]),
        TypeError,
        "Trainer: a callback must be a Callback, got <built-in function print>",
    ),
    (
        lambda: trainer(callbacks=EarlyStopping(3)),
        TypeError,
        "Trainer: callbacks must be a list of Callbacks, got EarlyStopping",
    ),
    (
        lambda: trainer(callbacks=[EarlyStopping]),
        TypeError,
        "Trainer: a callback must be a Callback, got <class "
        "'tinygrad_rnn.training.callbacks.EarlyStopping'>",
    ),
    (
        lambda: trainer(schedule=0.1),
        TypeError,
        "Trainer: schedule must be a function, got 0.1",
    ),
    (
        lambda: trainer(loss=None),
        TypeError,
        "Trainer: loss must be a function, got None",
    ),
    (
        lambda: trainer(evaluate={"error": 1.0}),
        TypeError,
        "Trainer: evaluate must be a function, got {'error': 1.0}",
    ),
    (
        lambda: trainer(settings={"a": object()}),
        TypeError,
        "Trainer: settings must be strings, numbers, lists and dicts (Object of type "
        "object is not JSON serializable)",
    ),
    (
        lambda: trainer(folder=None),
        TypeError,
        "Trainer: folder must be a path, got None",
    ),
    (
        lambda: trainer().fit(),
        ValueError,
        "Trainer.fit: expected epochs, updates or minutes, got none of them",
    ),
    (
        lambda: trainer().fit(epochs=-1),
        ValueError,
        "Trainer.fit: epochs must be an integer >= 0, got -1",
    ),
    (
        lambda: trainer().fit(updates=2.5),
        ValueError,
        "Trainer.fit: updates must be an integer >= 0, got 2.5",
    ),
    (
        lambda: trainer().fit(minutes=-1),
        ValueError,
        "Trainer.fit: minutes must be a number >= 0, got -1",
    ),
    (
        lambda: trainer().fit(minutes="3"),
        ValueError,
        "Trainer.fit: minutes must be a number >= 0, got '3'",
    ),
    # The loss
    (
        lambda: trainer(loss=lambda batch, state: tg.ones(())).fit(epochs=1),
        TypeError,
        "Trainer: loss(batch, state) must return (loss, state), a Tensor and the state, or "
        "None where there is none, got Tensor",
    ),
    (
        lambda: trainer(loss=lambda batch, state: (1.0, None)).fit(epochs=1),
        TypeError,
        "Trainer: loss(batch, state) must return (loss, state), a Tensor and the state, or "
        "None where there is none, got (float, NoneType)",
    ),
    (
        lambda: trainer(loss=lambda batch, state: (tg.ones(3), None)).fit(epochs=1),
        ValueError,
        "Trainer: the loss must be one number, got shape (3,)",
    ),
    (
        lambda: trainer(loss=lambda batch, state: (tg.ones(()), None)).fit(epochs=1),
        RuntimeError,
        "backward: the value does not depend on anything that requires a gradient",
    ),
    (
        lambda: trainer(loss=lambda batch, state: (tg.ones(()), [1.0])).fit(epochs=1),
        TypeError,
        "Trainer: a state is made of Tensors, got float",
    ),
    (
        lambda: trainer(loss=lambda batch, state: (tg.tensor(np.nan), None)).fit(epochs=1),
        NonFiniteLossError,
        "Trainer: the loss is nan at update 1; lower the learning rate or clip the "
        "gradient; no checkpoint has been written yet",
    ),
    # Evaluation and early stopping
    (
        lambda: trainer(evaluate=lambda: 0.5).fit(epochs=1),
        TypeError,
        "Trainer: evaluate() must return metrics by name, got 0.5",
    ),
    (
        lambda: trainer(evaluate=dict).fit(epochs=1),
        TypeError,
        "Trainer: evaluate() must return metrics by name, got {}",
    ),
    (
        lambda: trainer(evaluate=lambda: {"error": "low"}).fit(epochs=1),
        TypeError,
        "Trainer: the metric error must be a number, got 'low'",
    ),
    (
        lambda: trainer(evaluate=lambda: {"error": np.inf}).fit(epochs=1),
        NonFiniteLossError,
        "Trainer: error is inf at update 3; lower the learning rate or clip the gradient; "
        "no checkpoint has been written yet",
    ),
    (
        lambda: trainer(callbacks=[EarlyStopping(3)]).fit(epochs=1),
        ValueError,
        "EarlyStopping: it needs a Trainer with evaluate=, this one has none",
    ),
    (
        lambda: trainer(evaluate=lambda: {"a": 1}, callbacks=[EarlyStopping(3, "c")]).fit(epochs=1),
        ValueError,
        "EarlyStopping: evaluate() gives no metric 'c', but ['a']",
    ),
    (
        lambda: EarlyStopping(0),
        ValueError,
        "EarlyStopping: patience must be a positive integer, got 0",
    ),
    (
        lambda: EarlyStopping(1.5),
        ValueError,
        "EarlyStopping: patience must be a positive integer, got 1.5",
    ),
    (
        lambda: EarlyStopping("error"),
        ValueError,
        "EarlyStopping: patience must be a positive integer, got 'error'",
    ),
    (
        lambda: EarlyStopping(3, min_delta=-1.0),
        ValueError,
        "EarlyStopping: min_delta must be a number >= 0, got -1.0",
    ),
    (
        lambda: EarlyStopping(3, min_delta="x"),
        ValueError,
        "EarlyStopping: min_delta must be a number >= 0, got 'x'",
    ),
    # Folders
    (
        lambda: trainer(folder="run").fit(epochs=1),
        FileExistsError,
        "Trainer: the folder 'run' holds a run already, of 3 updates; resume it or choose "
        "another folder",
    ),
    (
        lambda: trainer(folder="file/run").fit(epochs=1),
        OSError,
        "Trainer: cannot make the folder 'file/run': Not a directory",
    ),
    (
        lambda: trainer(folder="file").fit(epochs=1),
        OSError,
        "Trainer: cannot make the folder 'file': File exists",
    ),
    # Truncated BPTT
    (
        lambda: TruncatedBPTT(LAYER, 5, 3),
        ValueError,
        "TruncatedBPTT: k2 must be at least k1, got k1 = 5 and k2 = 3",
    ),
    (
        lambda: TruncatedBPTT(LAYER, 0),
        ValueError,
        "TruncatedBPTT: k1 must be a positive integer, got 0",
    ),
    (
        lambda: TruncatedBPTT(LAYER, 2.0),
        ValueError,
        "TruncatedBPTT: k1 must be a positive integer, got 2.0",
    ),
    (
        lambda: TruncatedBPTT(LAYER, 2, "5"),
        ValueError,
        "TruncatedBPTT: k2 must be a positive integer, got '5'",
    ),
    (
        lambda: TruncatedBPTT(3, 2),
        TypeError,
        "TruncatedBPTT: layer must be called as layer(x, state), got 3",
    ),
    (
        lambda: TruncatedBPTT(LAYER, 2)(tg.ones((3, 1, 3))),
        ValueError,
        "TruncatedBPTT: expected at most k1 = 2 steps, got 3",
    ),
    (
        lambda: TruncatedBPTT(LAYER, 2)(tg.tensor(1.0)),
        ValueError,
        "TruncatedBPTT: inputs must have the same number of steps as their first axis, got "
        "shapes [()]",
    ),
    (
        lambda: TruncatedBPTT(LAYER, 2)((tg.ones((2, 1, 3)), tg.ones((1, 1, 3)))),
        ValueError,
        "TruncatedBPTT: inputs must have the same number of steps as their first axis, got "
        "shapes [(2, 1, 3), (1, 1, 3)]",
    ),
    (
        lambda: TruncatedBPTT(LAYER, 2)(tg.ones((2, 1, 3)), tg.zeros((1, 1, 4))),
        TypeError,
        "TruncatedBPTT: state must be what the call before returned, or ((), state) with a "
        "state of the layer, got Tensor",
    ),
    (
        lambda: list(TruncatedBPTT(LAYER, 2).windows(tg.ones((3, 1, 5)))),
        ValueError,
        "GRU: inputs must have shape (T, B, 3), got (2, 1, 5)",
    ),
    (
        lambda: TruncatedBPTT(lambda x, state: x, 2)(tg.ones((2, 1, 3))),
        TypeError,
        "TruncatedBPTT: layer(x, state) must return (outputs, state), got Tensor",
    ),
]


@each(CASES)
def test_bad_input(
    folder: Path, call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    assert_refused_among(folder, call, error, message)
