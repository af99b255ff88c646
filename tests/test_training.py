"""training/: the loop, checkpoints that survive, metrics."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import BATCHES, Run, files

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, training
from tinygrad_rnn.rnn import LSTMState
from tinygrad_rnn.tape import leaves
from tinygrad_rnn.training import Checkpoint, NonFiniteLossError, Trainer

# The loop


def test_a_model_without_recurrence(tmp_path: Path) -> None:
    """Any sequence of batches will do, and no state: a straight line is fitted."""
    tg.manual_seed(0)
    random = np.random.default_rng(0)
    x = random.standard_normal((8, 16, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 3
    model = nn.Linear(3, 1)

    def loss(batch: Any, state: Any) -> tuple[tg.Tensor, None]:
        assert state is None
        return nn.mse_loss(model(tg.tensor(batch[0])), batch[1]), None

    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=0.1),
        loss,
        list(zip(x, y, strict=True)),
        folder=tmp_path,
    )
    assert trainer.fit(epochs=12) == "finished"
    assert (trainer.updates, trainer.epoch, trainer.batch) == (96, 12, 0)
    np.testing.assert_allclose(model.weight.numpy(), [[1, -2, 0.5]], atol=1e-3)
    rows = training.read_metrics(tmp_path / "metrics.csv")
    assert len(rows) == 96
    assert rows[-1]["loss"] < 1e-5 < rows[0]["loss"]
    assert rows[-1].keys() == {
        "update", "epoch", "learning_rate", "loss", "gradient_norm", "seconds"
    }  # fmt: skip


def test_the_state_is_carried_detached_and_dropped_at_the_end_of_an_epoch(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.trainer.fit(epochs=2)
    fresh = [k for k, state in enumerate(run.states) if state is None]
    assert fresh == [0, 8]
    for state in run.states:
        assert all(leaf.is_leaf and not leaf.requires_grad for leaf in leaves(state))
    assert run.trainer.state is None
    _, after = run.model.eval()(BATCHES[0].inputs)
    assert isinstance(run.states[1], LSTMState)
    assert run.states[1].h.shape == after.h.shape


def test_what_is_recorded(tmp_path: Path) -> None:
    run = Run(tmp_path, describe=lambda loss: {"bits": loss / math.log(2)})
    run.trainer.fit(epochs=1)
    rows = training.read_metrics(tmp_path / "metrics.csv")
    assert [row["update"] for row in rows] == list(range(1, 9))
    assert [row["learning_rate"] for row in rows] == [0.02 / (1 + k) for k in range(8)]
    assert [row.get("error") for row in rows] == [None, None, 7.0, None, None, 4.0, None, None]
    assert all(2 < row["bits"] < 4 and row["tokens_per_second"] > 0 for row in rows)
    assert (np.diff([row["seconds"] for row in rows]) > 0).all()
    assert files(tmp_path) == [
        "best.safetensors",
        "checkpoint-00000003.safetensors",
        "checkpoint-00000006.safetensors",
        "checkpoint-00000008.safetensors",
        "metrics.csv",
    ]


def test_a_new_order_in_every_epoch(tmp_path: Path) -> None:
    """Batches may be a function of the epoch; a resumed run goes through the same ones."""
    seen: list[int] = []

    def start(folder: Path) -> Trainer:
        tg.manual_seed(3)
        model = nn.Linear(1, 1)

        def loss(batch: int, state: Any) -> tuple[tg.Tensor, None]:
            seen.append(batch)
            return nn.mse_loss(model(tg.full((1, 1), float(batch))), [[1.0]]), None

        def order(epoch: int) -> list[int]:
            return np.random.default_rng([9, epoch]).permutation(5).tolist()

        optimizer = optim.SGD(model.parameters(), lr=1e-3)
        return Trainer(model, optimizer, loss, order, folder=folder, progress=False)

    start(tmp_path / "a").fit(epochs=3)
    whole = seen.copy()
    assert all(sorted(whole[k : k + 5]) == list(range(5)) for k in (0, 5, 10))
    assert whole[:5] != whole[5:10]
    seen.clear()
    start(tmp_path / "b").fit(updates=7)
    second = start(tmp_path / "b")
    second.resume(Checkpoint.latest(tmp_path / "b"))
    second.fit(epochs=3)
    assert seen == whole


def test_the_progress_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(tmp_path, progress=True, describe=lambda loss: {"bits_per_character": 12_345.0})
    run.trainer.fit(epochs=1)
    shown = capsys.readouterr().err
    assert "8/8" in shown
    for part in ("bits per character 12,345", "norm 0.", "tokens/s "):
        assert part in shown


# Stopping


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everything after 20 updates, two and a half epochs, without a stop."""
    run = Run(tmp_path_factory.mktemp("whole"))
    assert run.trainer.fit(updates=20) == "finished"
    return run.everything()


@pytest.mark.parametrize("cut", [1, 2, 3, 7, 8, 9, 15, 16, 19])
def test_a_resumed_run_computes_the_same_bits(
    tmp_path: Path, cut: int, whole: dict[str, Any]
) -> None:
    """Cut anywhere, in an epoch, at its end, at an evaluation: the second half is a new process."""
    Run(tmp_path).trainer.fit(updates=cut)
    again = Run(tmp_path, seed=99)
    again.trainer.resume(Checkpoint.latest(tmp_path))
    assert again.trainer.updates == cut
    again.trainer.fit(updates=20)
    assert again.everything() == whole


def test_control_c_and_an_older_checkpoint(tmp_path: Path, whole: dict[str, Any]) -> None:
    """Ctrl-C lets the update end; going on from a checkpoint drops the rows and files after it."""

    def press(run: Run) -> None:
        if run.trainer.updates == 10:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    first = Run(tmp_path, before=press, checkpoint_every=4, keep=9)
    assert first.trainer.fit(updates=20) == "interrupted"
    assert first.trainer.updates == 11
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(training.read_metrics(tmp_path / "metrics.csv")) == 11
    older = tmp_path / "checkpoint-00000004.safetensors"
    second = Run(tmp_path, seed=2, checkpoint_every=6, keep=9)
    second.trainer.resume(older)
    second.trainer.fit(updates=5)
    assert [name for name in files(tmp_path) if name.startswith("checkpoint")] == [
        "checkpoint-00000004.safetensors",
        "checkpoint-00000005.safetensors",
    ]
    second.trainer.fit(updates=20)
    assert second.everything() == whole


def test_a_second_control_c_aborts(tmp_path: Path) -> None:
    def press_twice(run: Run) -> None:
        if run.trainer.updates == 5:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    run = Run(tmp_path, before=press_twice)
    with pytest.raises(KeyboardInterrupt):
        run.trainer.fit(updates=20)
    assert signal.getsignal(signal.SIGINT) is handler
    assert Checkpoint.latest(tmp_path).name == "checkpoint-00000003.safetensors"


def test_training_in_another_thread(tmp_path: Path) -> None:
    """Only the main thread may listen to Ctrl-C: elsewhere training goes without."""
    endings: list[str] = []
    run = Run(tmp_path)
    thread = threading.Thread(target=lambda: endings.append(run.trainer.fit(updates=2)))
    thread.start()
    thread.join()
    assert endings == ["finished"]


def test_a_time_limit_only_stops(tmp_path: Path, whole: dict[str, Any]) -> None:
    run = Run(tmp_path)
    assert run.trainer.fit(epochs=5, minutes=0) == "time limit"
    assert run.trainer.updates == 0
    assert files(tmp_path) == ["metrics.csv"]
    assert run.trainer.fit(minutes=1e-9) == "time limit"
    assert Checkpoint.latest(tmp_path).name == "checkpoint-00000001.safetensors"
    run.trainer.fit(updates=20)
    assert run.everything() == whole


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops(tmp_path: Path, value: float) -> None:
    """The error says where and what is left; the last good checkpoint is not touched."""

    def sabotage(run: Run, loss: tg.Tensor) -> tg.Tensor:
        return loss * value if run.trainer.updates == 7 else loss

    run = Run(tmp_path, sabotage=sabotage, checkpoint_every=5)
    with pytest.raises(
        NonFiniteLossError,
        match=rf"^Trainer: the loss is {value} at update 8; lower the learning rate or clip the "
        r"gradient; the last checkpoint is '.*checkpoint-00000005.safetensors'$",
    ):
        run.trainer.fit(epochs=2)
    assert [name for name in files(tmp_path) if name.startswith("checkpoint")] == [
        "checkpoint-00000005.safetensors"
    ]
    assert all(np.isfinite(p.numpy()).all() for p in run.model.parameters())
    again = Run(tmp_path, checkpoint_every=5)
    again.trainer.resume(Checkpoint.latest(tmp_path))
    assert again.trainer.fit(epochs=2) == "finished"


def test_a_model_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    def ruin(run: Run) -> None:
        if run.trainer.updates == 2:  # after the forward pass that could have noticed
            run.optimizer.lr = math.inf

    run = Run(tmp_path, before=ruin, schedule=None, evaluate=None, checkpoint_every=1)
    with np.errstate(invalid="ignore"), pytest.raises(NonFiniteLossError, match="holds inf or nan"):
        run.trainer.fit(epochs=1)
    assert Checkpoint.latest(tmp_path).name == "checkpoint-00000002.safetensors"

    bad = Run(tmp_path / "metric", evaluate=lambda: {"error": math.nan})
    with pytest.raises(
        NonFiniteLossError, match=r"error is nan at update 3.*no checkpoint has been written yet$"
    ):
        bad.trainer.fit(epochs=1)
    assert bad.model.training


# Metrics


@pytest.fixture
def rows(tmp_path: Path) -> Iterator[training.MetricsFile]:
    file = training.MetricsFile(tmp_path / "metrics.csv", 0)
    yield file
    file.close()


def test_rows_are_there_at_once(rows: training.MetricsFile) -> None:
    rows.append({"update": 1, "loss": 0.1 + 0.2})
    assert rows.path.read_text() == "update,loss\n1,0.30000000000000004\n"
    rows.append({"update": 2, "loss": math.inf, "held_out": 1.5})
    rows.append({"update": 3, "loss": 0.5})
    assert rows.path.read_text() == (
        "update,loss,held_out\n1,0.30000000000000004,\n2,inf,1.5\n3,0.5,\n"
    )
    assert training.read_metrics(rows.path)[1] == {"update": 2, "loss": math.inf, "held_out": 1.5}


def test_a_line_that_was_cut_off_is_dropped(rows: training.MetricsFile) -> None:
    """A killed run may leave '2' of '23,0.25': it is no row of update 2."""
    rows.append({"update": 1, "loss": 1.0})
    with open(rows.path, "a") as file:
        file.write("2")
    again = training.MetricsFile(rows.path, 5)
    again.append({"update": 2, "loss": 2.0})
    again.close()
    assert rows.path.read_text() == "update,loss\n1,1.0\n2,2.0\n"
