"""Bad checkpoints, weights, texts and batches, in one table: each is refused in one sentence that
says what came and what was expected.
"""

# Calls that a type checker refuses too are the point of this file.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from refusals import BATCHES, MODEL, Refusal, assert_refused_among, bad_files, each, trainer
from runs import example

from tinygrad_rnn import data, nn, optim
from tinygrad_rnn.nn import WeightsError
from tinygrad_rnn.training import Checkpoint, CheckpointError, EarlyStopping

DONE = "run/checkpoint-00000003.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bad_files(tmp_path_factory.mktemp("errors"))


CASES: list[Refusal] = [
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


@each(CASES)
def test_bad_input(
    folder: Path, call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    assert_refused_among(folder, call, error, message)
