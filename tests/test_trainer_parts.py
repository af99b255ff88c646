"""What can be hung into a Trainer: callbacks, early stopping, accumulation, schedules."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import BATCHES, Run, files

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, training
from tinygrad_rnn.training import (
    Callback,
    Checkpoint,
    CheckpointError,
    EarlyStopping,
    Trainer,
    TruncatedBPTT,
)


class Diary(Callback):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def on_start(self, trainer: Trainer) -> None:
        self.said.append(("start", trainer.updates))

    def on_update(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        assert row["update"] == trainer.updates
        assert {"loss", "learning_rate", "gradient_norm", "seconds"} <= row.keys()
        self.said.append(trainer.updates)

    def on_evaluation(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        assert trainer.model.training
        self.said.append(("evaluation", metrics["error"]))

    def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
        assert path.exists()
        self.said.append(path.name.removesuffix(".safetensors"))

    def on_end(self, trainer: Trainer, ending: str) -> None:
        self.said.append(ending)


# Callbacks


def test_callbacks_hear_everything_in_order(tmp_path: Path) -> None:
    diary = Diary()
    Run(tmp_path, callbacks=[diary]).trainer.fit(updates=4)
    assert diary.said == [
        ("start", 0), 1, 2, 3, ("evaluation", 7.0), "best", "checkpoint-00000003",
        4, "checkpoint-00000004", "finished",
    ]  # fmt: skip


@pytest.mark.parametrize("moment", ["start", "update", "evaluation", "checkpoint", "end"])
def test_an_error_in_a_callback_is_passed_on(tmp_path: Path, moment: str) -> None:
    """As it is; every callback that has been started hears of the end; the folder is free again."""

    class Faulty(Callback):
        pass

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("mine")

    setattr(Faulty, f"on_{moment}", fail)
    first, last = Diary(), Diary()
    run = Run(tmp_path, callbacks=[first, Faulty(), last])
    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        run.trainer.fit(updates=3)
    assert first.said[-1] == ("finished" if moment == "end" else "failed")
    assert last.said[-1:] == [] if moment == "start" else [first.said[-1]]
    assert not (tmp_path / ".lock").exists()
    assert run.model.training
    run.trainer.callbacks = []
    run.trainer.fit(updates=6)
    assert Checkpoint.latest(tmp_path).name == "checkpoint-00000006.safetensors"


def test_a_callback_can_stop_training(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_update(self, trainer: Trainer, row: Mapping[str, float]) -> None:
            if row["update"] == 5:
                trainer.stop()

    run = Run(tmp_path, callbacks=[Stop()])
    assert run.trainer.fit(epochs=9) == "stopped"
    assert run.trainer.updates == 5
    assert Checkpoint.latest(tmp_path).name == "checkpoint-00000005.safetensors"
    assert run.trainer.fit(updates=7) == "finished"


# Early stopping


def metrics_from(*values: float) -> Any:
    """An evaluation that gives one value after the other."""

    def evaluate() -> dict[str, float]:
        return {"error": values[evaluate.trainer.updates - 1], "other": 1.0}

    return evaluate


def stopping(folder: Path, *values: float, **options: Any) -> tuple[Trainer, EarlyStopping]:
    evaluate = metrics_from(*values)
    early = EarlyStopping(metric="error", **options)
    run = Run(folder, evaluate=evaluate, evaluate_every=1, callbacks=[early])
    evaluate.trainer = run.trainer
    return run.trainer, early


def test_early_stopping_waits_for_patience_evaluations(tmp_path: Path) -> None:
    trainer, early = stopping(tmp_path / "a", 5, 4, 4, 4.5, 3.9, 4, 5, 6, 1, patience=3)
    assert trainer.fit(updates=9) == "stopped"
    assert (trainer.updates, early.best, early.waited) == (8, 3.9, 3)
    trainer, early = stopping(tmp_path / "b", 5, 4.6, 4, 3, 3.5, 2, patience=2, min_delta=0.9)
    assert trainer.fit(updates=6) == "finished"
    assert (early.best, early.waited) == (2, 0)
    trainer, early = stopping(tmp_path / "c", 5, 4.6, 4, 3, 3.5, 2, patience=2, min_delta=1)
    assert trainer.fit(updates=6) == "stopped"
    assert trainer.updates == 3


@pytest.mark.parametrize("cut", range(1, 9))
def test_early_stopping_goes_on_where_it_was(tmp_path: Path, cut: int) -> None:
    """A resumed run stops at the same update, even if it is resumed at that very update."""
    values = (5, 4, 4, 4.5, 3.9, 4, 5, 6, 1)
    stopping(tmp_path, *values, patience=3)[0].fit(updates=cut)
    trainer, early = stopping(tmp_path, *values, patience=3)
    trainer.resume(Checkpoint.latest(tmp_path))
    assert trainer.fit(updates=9) == "stopped"
    assert (trainer.updates, early.best, early.waited) == (8, 3.9, 3)
    patient, _ = stopping(tmp_path, *values, patience=4)
    patient.resume(Checkpoint.latest(tmp_path))
    assert patient.fit(updates=9) == "finished"


def test_the_best_checkpoint_knows_of_its_own_evaluation(tmp_path: Path) -> None:
    """Going on from it is exact, too."""
    values = (5, 4, 4, 4.5, 3.9, 4, 5, 6, 1)
    stopping(tmp_path, *values, patience=3)[0].fit(updates=9)
    best = Checkpoint.load(tmp_path / "best.safetensors")
    assert best.progress["updates"] == 5
    assert best.parts["EarlyStopping"] == {"best": 3.9, "waited": 0}
    assert best.progress["best"] == 3.9


def test_a_checkpoint_with_other_parts(tmp_path: Path) -> None:
    stopping(tmp_path, *range(9), patience=5)[0].fit(updates=3)
    path = Checkpoint.latest(tmp_path)
    run = Run(tmp_path)
    before = run.trainer.checkpoint()
    with pytest.raises(CheckpointError, match=r"made with EarlyStopping, this run has none$"):
        run.trainer.resume(path)
    assert before.generator == run.trainer.checkpoint().generator
    run.trainer.resume(path, may_differ=["EarlyStopping"])
    run.trainer.fit(updates=4)
    again, early = stopping(tmp_path, *range(9), patience=5)
    with pytest.raises(CheckpointError, match=r"made without EarlyStopping, this run has it$"):
        again.resume(Checkpoint.latest(tmp_path))
    again.resume(Checkpoint.latest(tmp_path), may_differ=["EarlyStopping"])
    assert early.best is None


def test_two_of_a_kind(tmp_path: Path) -> None:
    pair = [EarlyStopping(9, "error"), EarlyStopping(9, "other")]
    run = Run(tmp_path, callbacks=pair)
    run.trainer.fit(updates=6)
    parts = Checkpoint.load(Checkpoint.latest(tmp_path)).parts
    assert parts == {
        "EarlyStopping": {"best": 4.0, "waited": 0},
        "EarlyStopping 2": {"best": 1.0, "waited": 1},
    }
    again = [EarlyStopping(9, "error"), EarlyStopping(9, "other")]
    Run(tmp_path, callbacks=again).trainer.resume(Checkpoint.latest(tmp_path))
    assert [(one.best, one.waited) for one in again] == [(4.0, 0), (1.0, 1)]


# Accumulation


def straight_line(folder: Path, batches: Any, **options: Any) -> Trainer:
    tg.manual_seed(3)
    model = nn.Linear(3, 1).to(np.float64)

    def loss(batch: Any, state: Any) -> tuple[tg.Tensor, None]:
        return nn.mse_loss(model(tg.tensor(batch[0])), batch[1]), None

    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, clip=optim.ClipNorm(0.5))
    return Trainer(model, optimizer, loss, batches, folder=folder, progress=False, **options)


def test_accumulated_batches_are_one_big_batch(tmp_path: Path) -> None:
    """Parameters, losses and norms; also where an epoch ends with fewer batches than usual."""
    random = np.random.default_rng(0)
    pairs = [(random.standard_normal((4, 3)), random.standard_normal((4, 1))) for _ in range(8)]
    groups = [pairs[:3], pairs[3:6], pairs[6:]]
    big = [tuple(np.concatenate(side) for side in zip(*group, strict=True)) for group in groups]
    small = straight_line(tmp_path / "small", pairs, accumulate=3)
    large = straight_line(tmp_path / "large", big)
    assert small.fit(epochs=4) == large.fit(epochs=4) == "finished"
    assert (small.updates, small.epoch, small.batch) == (12, 4, 0)
    for one, other in zip(small.model.parameters(), large.model.parameters(), strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-12)
    for row, other in zip(
        *(training.read_metrics(t.folder.metrics) for t in (small, large)), strict=True
    ):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-12)
        assert row["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-12)


def test_accumulation_counts_tokens_and_carries_the_state(tmp_path: Path) -> None:
    run = Run(tmp_path, accumulate=3, tokens=lambda batch: batch.targets.size)
    run.trainer.fit(updates=3)
    assert [state is None for state in run.states] == [True] + [False] * 7
    assert (run.trainer.epoch, run.trainer.batch) == (1, 0)


def test_the_total_of_the_bar_counts_updates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path, accumulate=3, progress=True)
    run.trainer.fit(updates=2)
    run.trainer.fit(epochs=3)
    assert run.trainer.updates == 9
    assert "9/9" in capsys.readouterr().err


def test_another_accumulation_is_another_run(tmp_path: Path) -> None:
    Run(tmp_path, accumulate=2).trainer.fit(updates=3)
    with pytest.raises(CheckpointError, match=r"made with accumulate 2, this run has 4$"):
        Run(tmp_path, accumulate=4).trainer.resume(Checkpoint.latest(tmp_path))
    other = Run(tmp_path, accumulate=4).trainer
    other.resume(Checkpoint.latest(tmp_path), may_differ=["accumulate"])
    other.fit(epochs=1)
    assert other.updates == 4


# Schedules


class Halving:
    """Halves the rate whenever the metric has not fallen: what any schedule with a state is."""

    def __init__(self) -> None:
        self.rate, self.last = 0.02, float("inf")

    def __call__(self, updates: int) -> float:
        return self.rate

    def observe(self, metric: float) -> None:
        self.rate = self.rate if metric < self.last else self.rate / 2
        self.last = metric

    def state_dict(self) -> dict[str, float]:
        return {"rate": self.rate, "last": self.last}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.rate, self.last = state["rate"], state["last"]


def test_a_schedule_that_observes_gets_the_first_metric(tmp_path: Path) -> None:
    Run(tmp_path, schedule=Halving()).trainer.fit(updates=16)
    rates = [row["learning_rate"] for row in training.read_metrics(tmp_path / "metrics.csv")]
    # the errors at updates 3, 6, 9, 12, 15 are 7, 4, 8, 5, 9
    assert rates == [0.02] * 9 + [0.01] * 6 + [0.005]


def test_the_schedules_of_optim(tmp_path: Path) -> None:
    """They are functions of the updates; Plateau is told of the metric, and goes on exactly."""

    def start(folder: Path) -> Run:
        plateau = optim.schedules.Plateau(0.02, factor=0.5, patience=0)
        return Run(folder, schedule=optim.schedules.WarmUp(plateau, 2, start=0.5))

    whole = start(tmp_path / "whole")
    whole.trainer.fit(updates=14)
    rates = [row["learning_rate"] for row in training.read_metrics(whole.trainer.folder.metrics)]
    assert rates == [0.01, 0.015] + [0.02] * 7 + [0.01] * 3 + [0.005] * 2
    for cut in (1, 8, 9, 10):
        start(tmp_path / f"{cut}").trainer.fit(updates=cut)
        again = start(tmp_path / f"{cut}")
        again.trainer.resume(Checkpoint.latest(tmp_path / f"{cut}"))
        again.trainer.fit(updates=14)
        assert again.everything() == whole.everything()


# All of it at once, resumed


def rich(folder: Path, optimizer: Any, k2: int, seed: int = 1) -> Run:
    """Dropout, a plateau schedule, accumulation, carried state, early stopping, TBPTT."""
    run = Run(
        folder,
        seed,
        optimizer=optimizer,
        accumulate=3,
        evaluate_every=2,
        schedule=Halving(),
        callbacks=[EarlyStopping(4)],
    )
    bptt = TruncatedBPTT(run.model, BATCHES.length, k2)

    def loss(batch: Any, state: Any) -> tuple[tg.Tensor, Any]:
        scores, state = bptt(batch.inputs, state)
        return nn.cross_entropy(scores, batch.targets, axis=-1), state

    run.trainer.loss = loss
    return run


def in_groups(parameters: Any, **options: Any) -> optim.Optimizer:
    groups = [{"params": parameters[:2], "lr": 0.002}, {"params": parameters[2:]}]
    return optim.AdamW(groups, **options)


OPTIMIZERS = {
    "adam": optim.Adam,
    "sgd": partial(optim.SGD, momentum=0.9, nesterov=True),
    "groups": in_groups,
}


@pytest.mark.parametrize(("name", "k2"), [("adam", 9), ("sgd", 4), ("groups", 6)])
def test_whichever_update_it_is_cut_at(tmp_path: Path, name: str, k2: int) -> None:
    """Two epochs and a half of three updates each, cut after every one of them: the same bits."""
    whole = rich(tmp_path / "whole", OPTIMIZERS[name], k2)
    whole.trainer.fit(updates=8)
    expected = whole.everything()
    for cut in range(1, 8):
        folder = tmp_path / f"cut {cut}"
        rich(folder, OPTIMIZERS[name], k2).trainer.fit(updates=cut)
        again = rich(folder, OPTIMIZERS[name], k2, seed=50 + cut)
        again.trainer.resume(Checkpoint.latest(folder))
        again.trainer.fit(updates=8)
        assert again.everything() == expected


def test_cut_after_every_update(tmp_path: Path) -> None:
    """A new process for every single update."""
    whole = rich(tmp_path / "whole", optim.Adam, 9)
    whole.trainer.fit(updates=8)
    rich(tmp_path / "cut", optim.Adam, 9).trainer.fit(updates=1)
    for updates in range(2, 9):
        again = rich(tmp_path / "cut", optim.Adam, 9, seed=updates)
        again.trainer.resume(Checkpoint.latest(tmp_path / "cut"))
        again.trainer.fit(updates=updates)
    assert again.everything() == whole.everything()
    assert files(tmp_path / "cut")[-1] == "metrics.csv"
