"""Bad input to training/, data/ and the files of weights, in one table: each is refused in one
sentence that says what came and what was expected.
"""

# Calls that a type checker refuses too are the point of this file.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import example
from safetensors.numpy import save_file

import tinygrad_rnn as tg
from tinygrad_rnn import data, nn, optim, rnn
from tinygrad_rnn.nn import WeightsError
from tinygrad_rnn.training import (
    Checkpoint,
    CheckpointError,
    EarlyStopping,
    NonFiniteLossError,
    Trainer,
    TruncatedBPTT,
)

MODEL = nn.Linear(3, 1)
LAYER = rnn.GRU(3, 4)
BATCHES = [np.full((2, 3), k, np.float32) for k in range(3)]
DONE = "run/checkpoint-00000003.safetensors"


def trainer(**options: Any) -> Trainer:
    """A Trainer with nothing wrong but what is given."""
    model = options.pop("model", MODEL)

    def loss(batch: np.ndarray, state: Any) -> tuple[tg.Tensor, None]:
        return nn.mse_loss(model(tg.tensor(batch)), np.ones((2, 1), np.float32)), None

    defaults: dict[str, Any] = {
        "optimizer": optim.SGD(MODEL.parameters(), lr=0.01),
        "loss": loss,
        "batches": BATCHES,
        "folder": "new",
        "progress": False,
    }
    return Trainer(model, **(defaults | options))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files and folders that are what the calls below do not expect."""
    path = tmp_path_factory.mktemp("errors")
    trainer(folder=path / "run").fit(epochs=1)
    (path / "folder").mkdir()
    (path / "file").write_bytes(b"half of i")
    (path / "empty").touch()
    (path / "binary").write_bytes(b"\x7fELF\0\0")
    (path / "latin").write_bytes("Größe".encode("latin-1"))
    (path / "short").write_text("short")
    save_file({"weight": np.ones(3)}, path / "foreign")
    MODEL.save(path / "weights")
    return path


CASES: list[tuple[Callable[[], Any], type[Exception], str]] = [
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
    # Checkpoints
    (
        lambda: Checkpoint.load("nowhere.safetensors"),
        CheckpointError,
        "there is no checkpoint 'nowhere.safetensors'",
    ),
    (
        lambda: Checkpoint.load("folder"),
        CheckpointError,
        "cannot read the checkpoint 'folder': Is a directory",
    ),
    (
        lambda: Checkpoint.load("file"),
        CheckpointError,
        "'file' is cut off, damaged or no safetensors file at all",
    ),
    (
        lambda: Checkpoint.load("weights"),
        CheckpointError,
        "'weights' is a tinygrad_rnn weights file, version 1, but no tinygrad_rnn "
        "checkpoint, version 1",
    ),
    (
        lambda: Checkpoint.load("foreign"),
        CheckpointError,
        "'foreign' is a safetensors file, but no tinygrad_rnn checkpoint, version 1",
    ),
    (
        lambda: Checkpoint.latest("nowhere"),
        CheckpointError,
        "there is no checkpoint in the folder 'nowhere'",
    ),
    (
        lambda: Checkpoint.latest("folder"),
        CheckpointError,
        "there is no checkpoint in the folder 'folder'",
    ),
    (
        lambda: example().save("nowhere/one"),
        CheckpointError,
        "cannot write the checkpoint 'nowhere/one': No such file or directory",
    ),
    (
        lambda: example().save("folder"),
        CheckpointError,
        "cannot write the checkpoint 'folder': Is a directory",
    ),
    (
        lambda: Checkpoint({}, {}, {}, None, {"a": {1}}, {}).save("new"),
        CheckpointError,
        "a checkpoint holds strings, numbers, lists and dicts beside its arrays: Object of "
        "type set is not JSON serializable",
    ),
    (
        lambda: Checkpoint({}, {}, {}, None, {}, {}, {"Mine": {"a": np.ones(2)}}).save("new"),
        CheckpointError,
        "a checkpoint holds strings, numbers, lists and dicts beside its arrays: Object of "
        "type ndarray is not JSON serializable",
    ),
    (
        lambda: Checkpoint({}, {}, {}, {(1, 2): np.ones(2)}, {}, {}).save("new"),
        CheckpointError,
        "a dict in a state must have strings or integers as keys, got (1, 2)",
    ),
    (
        lambda: trainer().resume("nowhere"),
        CheckpointError,
        "there is no checkpoint 'nowhere'",
    ),
    (
        lambda: trainer().resume("folder"),
        CheckpointError,
        "cannot read the checkpoint 'folder': Is a directory",
    ),
    (
        lambda: trainer(accumulate=2).resume(DONE),
        CheckpointError,
        "the checkpoint 'run/checkpoint-00000003.safetensors' was made with accumulate 1, "
        "this run has 2",
    ),
    (
        lambda: trainer(batches=BATCHES[:2]).resume(DONE),
        CheckpointError,
        "the checkpoint 'run/checkpoint-00000003.safetensors' was made with 3 batches in "
        "an epoch, this run has 2",
    ),
    (
        lambda: trainer(settings={"a": 2}).resume(DONE),
        CheckpointError,
        "the checkpoint 'run/checkpoint-00000003.safetensors' was made with a None, this run has 2",
    ),
    (
        lambda: trainer(callbacks=[EarlyStopping(3)]).resume(DONE),
        CheckpointError,
        "the checkpoint 'run/checkpoint-00000003.safetensors' was made without "
        "EarlyStopping, this run has it",
    ),
    (
        lambda: trainer(schedule=optim.schedules.Plateau(0.1)).resume(DONE),
        CheckpointError,
        "the checkpoint 'run/checkpoint-00000003.safetensors' was made without Plateau, "
        "this run has it",
    ),
    (
        lambda: trainer(model=nn.Linear(4, 1)).resume(DONE),
        CheckpointError,
        "the checkpoint 'run/checkpoint-00000003.safetensors' does not fit: "
        "Linear.load_state_dict: weight has shape (1, 4), the given values have (1, 3)",
    ),
    (
        lambda: trainer(optimizer=optim.Adam(MODEL.parameters())).resume(DONE),
        CheckpointError,
        "the checkpoint 'run/checkpoint-00000003.safetensors' does not fit: "
        "Adam.load_state_dict: the state is that of 'SGD'",
    ),
    (
        lambda: trainer().resume(example()),
        CheckpointError,
        "the checkpoint is not of a Trainer: its progress lacks 'epoch'",
    ),
    # Weights
    (
        lambda: MODEL.load("nowhere"),
        WeightsError,
        "there are no weights 'nowhere'",
    ),
    (
        lambda: MODEL.load("folder"),
        WeightsError,
        "cannot read the weights 'folder': Is a directory",
    ),
    (
        lambda: MODEL.load("file"),
        WeightsError,
        "'file' is cut off, damaged or no safetensors file at all",
    ),
    (
        lambda: MODEL.load("foreign"),
        WeightsError,
        "'foreign' does not fit: Linear.load_state_dict: names do not match: missing ['bias']",
    ),
    (
        lambda: MODEL.load(DONE),
        WeightsError,
        "'run/checkpoint-00000003.safetensors' is a tinygrad_rnn checkpoint, version 1, "
        "but no tinygrad_rnn weights file, version 1; take the weights out of it with "
        "model.load_state_dict(Checkpoint.load(path).model)",
    ),
    (
        lambda: MODEL.save("nowhere/weights"),
        WeightsError,
        "cannot write the weights 'nowhere/weights': No such file or directory",
    ),
    (
        lambda: MODEL.save("file/weights"),
        WeightsError,
        "cannot write the weights 'file/weights': Not a directory",
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
    # Texts, vocabularies, batches
    (
        lambda: data.read_text("nowhere"),
        FileNotFoundError,
        "read_text: there is no file 'nowhere'",
    ),
    (
        lambda: data.read_text("folder"),
        IsADirectoryError,
        "read_text: 'folder' is a folder, expected a text file",
    ),
    (
        lambda: data.read_text("empty"),
        ValueError,
        "read_text: 'empty' is empty",
    ),
    (
        lambda: data.read_text("binary"),
        ValueError,
        "read_text: 'binary' is binary or UTF-16, not UTF-8 text (byte 4 is zero)",
    ),
    (
        lambda: data.read_text("latin"),
        ValueError,
        "read_text: 'latin' is not UTF-8 text (byte 2 is 0xf6); convert it to UTF-8",
    ),
    (
        lambda: data.read_text("short", at_least=9),
        ValueError,
        "read_text: 'short' has 5 characters, at least 9 are needed",
    ),
    (
        lambda: data.split_held_out("abc", 1.0),
        ValueError,
        "split_held_out: share must satisfy 0 < share < 1, got 1.0",
    ),
    (
        lambda: data.split_held_out("abc", 0),
        ValueError,
        "split_held_out: share must satisfy 0 < share < 1, got 0",
    ),
    (
        lambda: data.Vocabulary([]),
        ValueError,
        "Vocabulary: expected at least one token, got none",
    ),
    (
        lambda: data.Vocabulary(["a", "a"]),
        ValueError,
        "Vocabulary: the token 'a' is given twice",
    ),
    (
        lambda: data.Vocabulary(["a", 1]),
        TypeError,
        "Vocabulary: tokens must be strings, got 1",
    ),
    (
        lambda: data.Vocabulary.of("ab").decode([3]),
        IndexError,
        "Vocabulary.decode: number 3 is out of range for 3 entries",
    ),
    (
        lambda: data.Vocabulary.of("ab").decode([0.5]),
        TypeError,
        "Vocabulary.decode: expected integers, got float64",
    ),
    (
        lambda: data.ContiguousBatches(np.arange(9), 0, 2),
        ValueError,
        "ContiguousBatches: batch_size must be a positive integer, got 0",
    ),
    (
        lambda: data.ContiguousBatches(np.arange(9), 2, 2.5),
        ValueError,
        "ContiguousBatches: length must be a positive integer, got 2.5",
    ),
    (
        lambda: data.ContiguousBatches("a text", 1, 2),
        TypeError,
        "ContiguousBatches: tokens must be integers of shape (N,), got <U6 ()",
    ),
    (
        lambda: data.ContiguousBatches([[1, 2]], 1, 2),
        TypeError,
        "ContiguousBatches: tokens must be integers of shape (N,), got int64 (1, 2)",
    ),
    (
        lambda: data.ContiguousBatches([0.5, 1.5], 1, 1),
        TypeError,
        "ContiguousBatches: tokens must be integers of shape (N,), got float64 (2,)",
    ),
    (
        lambda: data.ContiguousBatches(np.arange(9), 4, 3),
        ValueError,
        "ContiguousBatches: 9 tokens are too few for 4 streams with windows of 3: at least "
        "13 are needed",
    ),
    (
        lambda: data.ContiguousBatches(np.arange(9), 2, 2)[2],
        IndexError,
        "ContiguousBatches: batch 2 is out of range for 2",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), CASES, ids=[case[2] for case in CASES])
def test_bad_input(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[], Any],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    before = sorted(Path("run").iterdir())
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == message
    assert sorted(Path("run").iterdir()) == before
    assert not list(Path().rglob(".*"))
