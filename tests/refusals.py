"""What tables of bad input share: a call, its error and the whole sentence; files to fail on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim
from tinygrad_rnn.training import Trainer

Refusal = tuple[Callable[[], Any], type[Exception], str]


def each(cases: Sequence[Refusal]) -> pytest.MarkDecorator:
    """A test of each case, named after its sentence."""
    return pytest.mark.parametrize(
        ("call", "error", "message"), cases, ids=[message for _, _, message in cases]
    )


def assert_refused(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == message


# Training, and files that a call does not expect

MODEL = nn.Linear(3, 1)
BATCHES = [np.full((2, 3), k, np.float32) for k in range(3)]


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


def bad_files(path: Path) -> Path:
    """A folder with a finished run, and with files and folders that no call expects."""
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


def assert_refused_among(path: Path, *case: Any) -> None:
    """Refused in the folder of :func:`bad_files`, and it is left as it was."""
    before = sorted((path / "run").iterdir())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        assert_refused(*case)
    assert sorted((path / "run").iterdir()) == before
    assert not list(path.rglob(".*"))
