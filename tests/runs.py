"""What the tests of training/ share: a model, a run of it, all that it computes, a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinygrad_rnn as tg
from tinygrad_rnn import data, nn, ops, optim, rnn, training
from tinygrad_rnn.tape import leaves
from tinygrad_rnn.training import Checkpoint, Trainer

TOKENS = np.random.default_rng(5).integers(0, 7, 100)
BATCHES = data.ContiguousBatches(TOKENS, batch_size=3, length=4)  # 8 in an epoch
CLOCK = ("seconds", "tokens_per_second")


class Model(nn.Module):
    """A recurrent model that draws random numbers in training."""

    def __init__(self, hidden: int = 5) -> None:
        self.embedding = nn.Embedding(7, 4)
        self.recurrent = rnn.LSTM(4, hidden)
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Linear(hidden, 7)

    def forward(self, numbers: Any, state: Any = None) -> tuple[tg.Tensor, Any]:
        outputs, state = self.recurrent(self.embedding(numbers), state)
        return self.output(self.dropout(outputs)), state


class Run:
    """A model and its trainer, and what the loss was given."""

    def __init__(
        self,
        folder: Path,
        seed: int = 1,
        hidden: int = 5,
        device: str = "cpu",
        optimizer: Callable[..., optim.Optimizer] = optim.Adam,
        before: Callable[[Run], Any] | None = None,
        sabotage: Callable[[Run, tg.Tensor], tg.Tensor] | None = None,
        **options: Any,
    ) -> None:
        tg.manual_seed(seed)
        self.model = Model(hidden).to(device)
        self.optimizer = optimizer(self.model.parameters(), lr=0.01, clip=optim.ClipNorm(1.0))
        self.states: list[Any] = []

        def loss(batch: data.Batch, state: Any) -> tuple[tg.Tensor, Any]:
            if before is not None:
                before(self)
            self.states.append(state)
            scores, state = self.model(batch.inputs, state)
            value = nn.cross_entropy(scores, batch.targets, axis=-1)
            return (value if sabotage is None else sabotage(self, value)), state

        def evaluate() -> dict[str, float]:
            assert not tg.is_recording()
            assert not self.model.training
            tg.rand(3)  # evaluation may draw random numbers: training does not notice
            return {"error": 10.0 - self.trainer.updates % 7, "other": 1.0}

        defaults: dict[str, Any] = {
            "folder": folder,
            "evaluate": evaluate,
            "evaluate_every": 3,
            "schedule": lambda update: 0.02 / (1 + update),
            "tokens": lambda batch: batch.targets.size,
            "progress": False,
            "settings": {"text": "abc", "sizes": (4, hidden)},
        }
        self.trainer = Trainer(self.model, self.optimizer, loss, BATCHES, **(defaults | options))

    def everything(self) -> dict[str, Any]:
        """All that a run computes, but for times."""
        now = self.trainer.checkpoint()
        arrays = now.optimizer["arrays"].items()
        rows = training.read_metrics(self.trainer.folder.metrics)
        progress = {name: value for name, value in now.progress.items() if name != "seconds"}
        return {
            "model": {name: array.tobytes() for name, array in now.model.items()},
            "slots": {name: array.tobytes() for name, array in arrays},
            "state": [array.tobytes() for array in leaves(now.state)],
            "generator": now.generator,
            "parts": now.parts,
            "place": progress,
            "optimizer": {k: v for k, v in now.optimizer.items() if k != "arrays"},
            "rows": [{k: v for k, v in row.items() if k not in CLOCK} for row in rows],
        }


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class Inner(NamedTuple):
    steps: np.ndarray
    parts: tuple[Any, ...]


def example(seed: int = 0) -> Checkpoint:
    random = np.random.default_rng(seed)
    wide = random.standard_normal((4, 6))
    return Checkpoint(
        model={
            "weight": wide.astype(np.float32).T,
            "half": wide.astype(np.float16)[::2, ::3],
            "scalar": np.array(math.pi),
            "empty": np.zeros((0, 3), np.float32),
            "flags": wide > 0,
        },
        optimizer={"kind": "Adam", "lr": 0.1 + 0.2, "updates": 3, "arrays": {"0.m": wide}},
        generator=ops.generator_state(),
        state=[Inner(np.arange(3), (None, wide[0], {"key": wide[1]})), ()],
        progress={"updates": 3, "best": None},
        settings={"name": "Größe \N{GRINNING FACE}", "list": [1, 2.5, None, True]},
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def parts(checkpoint: Checkpoint) -> dict[str, Any]:
    return {name: getattr(checkpoint, name) for name in checkpoint.__dataclass_fields__}
