"""training/: the loop, checkpoints that survive, metrics."""

from __future__ import annotations

import errno
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save_file

import tinygrad_rnn as tg
from tinygrad_rnn import data, nn, ops, optim, rnn, training
from tinygrad_rnn.rnn import LSTMState
from tinygrad_rnn.tape import leaves
from tinygrad_rnn.training import Checkpoint, CheckpointError, NonFiniteLossError, Trainer

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
        before: Callable[[Run], Any] | None = None,
        sabotage: Callable[[Run, tg.Tensor], tg.Tensor] | None = None,
        **options: Any,
    ) -> None:
        tg.manual_seed(seed)
        self.model = Model(hidden).to(device)
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.01, clip=optim.ClipNorm(1.0))
        self.states: list[Any] = []

        def loss(batch: data.Batch, state: Any) -> tuple[tg.Tensor, Any]:
            if before is not None:
                before(self)
            self.states.append(state)
            scores, state = self.model(batch.inputs, state)
            value = nn.cross_entropy(scores, batch.targets)
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
            "place": (progress, now.optimizer["updates"], now.optimizer["lr"]),
            "rows": [{k: v for k, v in row.items() if k not in CLOCK} for row in rows],
        }


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


def test_bad_calls(tmp_path: Path) -> None:
    for name, number in (("evaluate_every", 0), ("checkpoint_every", -1), ("keep", 0)):
        options: dict[str, Any] = {name: number}
        with pytest.raises(ValueError, match=f"Trainer: {name} must be a positive integer, got"):
            Run(tmp_path, **options)
    with pytest.raises(TypeError, match="settings must be strings, numbers, lists and dicts"):
        Run(tmp_path, settings={"a": object()})
    run = Run(tmp_path)
    with pytest.raises(ValueError, match="expected epochs, updates or minutes, got none of them"):
        run.trainer.fit()
    run.trainer.loss = lambda batch, state: tg.ones(())  # pyright: ignore
    with pytest.raises(TypeError, match=r"must return \(loss, state\).* got Tensor"):
        run.trainer.fit(epochs=1)
    run.trainer.loss = lambda batch, state: (tg.ones(()), [1.0])
    with pytest.raises(TypeError, match="a state is made of Tensors, got float"):
        run.trainer.fit(epochs=1)
    empty = Trainer(run.model, run.optimizer, run.trainer.loss, [], folder=tmp_path)
    with pytest.raises(ValueError, match="an epoch has no batches"):
        empty.fit(epochs=1)


def test_a_folder_with_another_run(tmp_path: Path) -> None:
    Run(tmp_path).trainer.fit(updates=4)
    before = (tmp_path / "metrics.csv").read_bytes()
    with pytest.raises(FileExistsError, match="holds a run already, of 4 updates; resume it or"):
        Run(tmp_path).trainer.fit(updates=4)
    assert (tmp_path / "metrics.csv").read_bytes() == before


# Checkpoints


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


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    example().save(tmp_path / "one.safetensors")
    return tmp_path / "one.safetensors"


def test_a_checkpoint_comes_back_exactly(saved: Path) -> None:
    """Dtypes, shapes, numbers to the last bit, containers of the state and their names."""
    loaded = Checkpoint.load(saved)
    assert same(parts(example()) | {"generator": loaded.generator}, parts(loaded))
    assert loaded.state[0].parts[2]["key"].shape == (6,)
    assert type(loaded.state[0]).__name__ == "Inner"
    assert files(saved.parent) == ["one.safetensors"]
    with safe_open(saved, framework="numpy") as file:  # any tool for the format can read it
        assert "model/weight" in file.keys()  # noqa: SIM118


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "^there is no checkpoint '.*bad'$"),
        (b"", "is cut off, damaged or no tinygrad_rnn checkpoint"),
        (b"PK\x03\x04 a pickle in a zip, as another framework writes", "cut off, damaged or no"),
        (b'{"json": 1}', "cut off, damaged or no"),
        (b"\xff" * 64, "cut off, damaged or no"),
    ],
)
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "bad").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.load(tmp_path / "bad")


def test_folders_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^cannot read the checkpoint '.*'"):
        Checkpoint.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"^there is no checkpoint in the folder '.*'$"):
        Checkpoint.latest(tmp_path / "nowhere")
    save_file({"weight": np.ones(3)}, tmp_path / "foreign.safetensors")
    with pytest.raises(CheckpointError, match="is a safetensors file, but no tinygrad_rnn check"):
        Checkpoint.load(tmp_path / "foreign.safetensors")


@given(st.data())
def test_damaged_files(tmp_path_factory: pytest.TempPathFactory, drawn: st.DataObject) -> None:
    """Cut off anywhere, or with bytes changed anywhere: loaded exactly, or one clear error."""
    path = tmp_path_factory.getbasetemp() / "damaged.safetensors"
    example().save(path)
    content = bytearray(path.read_bytes())
    intact = parts(Checkpoint.load(path))
    if drawn.draw(st.booleans()):
        del content[drawn.draw(st.integers(0, len(content) - 1)) :]
    else:
        for _ in range(drawn.draw(st.integers(1, 3))):
            position = drawn.draw(st.integers(0, len(content) - 1))
            content[position] = drawn.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        loaded = Checkpoint.load(path)
    except CheckpointError as error:
        said = str(error)
    else:
        said = "damaged, without harm" if same(parts(loaded), intact) else ""
    assert "damaged" in said or "is a safetensors file, but no" in said


class Killed(BaseException):
    """Stands for a SIGKILL: nothing that comes after it is done."""


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_killed_write_loses_nothing(
    saved: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill(*_: Any) -> None:
        raise Killed

    before = saved.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, where, kill)
        with pytest.raises(Killed):
            example(1).save(saved)
    assert saved.read_bytes() == before
    example(2).save(saved)
    assert files(saved.parent) == ["one.safetensors"]
    assert same(parts(Checkpoint.load(saved))["model"], parts(example(2))["model"])


def test_a_full_disk(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = saved.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"^cannot write the checkpoint '.*': No space left"):
        example(1).save(saved)
    assert saved.read_bytes() == before
    assert files(saved.parent) == ["one.safetensors"]


def test_the_last_ones_and_the_best_are_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, evaluate_every=2, checkpoint_every=1, keep=2)
    run.trainer.fit(updates=12)
    assert files(tmp_path) == [
        "best.safetensors",
        "checkpoint-00000011.safetensors",
        "checkpoint-00000012.safetensors",
        "metrics.csv",
    ]
    assert Checkpoint.load(tmp_path / "best.safetensors").progress["updates"] == 6
    assert Checkpoint.latest(tmp_path).name == "checkpoint-00000012.safetensors"


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"settings": {"text": "xyz", "sizes": [4, 5]}}, "made with text 'abc', this run has 'xyz'"),
    ({"settings": {"text": "abc"}}, r"made with sizes \[4, 5\], this run has None"),
    ({"hidden": 6}, r"made with sizes \[4, 5\], this run has \[4, 6\]"),
    (
        {"hidden": 6, "settings": {"text": "abc", "sizes": (4, 5)}},
        r"does not fit: Model.load_state_dict: recurrent.weight_ih_l0 has shape \(24, 4\), the",
    ),
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    Run(folder).trainer.fit(updates=5)
    return Checkpoint.latest(folder)


@pytest.mark.parametrize(("options", "message"), MISFITS)
def test_a_checkpoint_of_another_run(
    tmp_path: Path, finished: Path, options: dict[str, Any], message: str
) -> None:
    """One sentence, and neither model, optimizer, generator nor place has changed."""
    run = Run(tmp_path, **options)
    run.trainer.fit(updates=2)
    before = run.everything()
    with pytest.raises(CheckpointError, match=message):
        run.trainer.resume(finished)
    assert run.everything() == before


def test_another_optimizer_and_other_batches(tmp_path: Path, finished: Path) -> None:
    run = Run(tmp_path)
    run.trainer.optimizer = optim.SGD(run.model.parameters(), momentum=0.9)
    before = run.trainer.checkpoint()
    with pytest.raises(CheckpointError, match=r"SGD\.load_state_dict: .* that of 'Adam'"):
        run.trainer.resume(finished)
    run.trainer.optimizer = run.optimizer
    run.trainer.batches = BATCHES[:3]
    with pytest.raises(CheckpointError, match="with 8 batches in an epoch, this run has 3"):
        run.trainer.resume(finished)
    after = run.trainer.checkpoint()
    assert same(before.model, after.model)
    assert same(before.generator, after.generator)


def test_settings_that_may_differ(tmp_path: Path, finished: Path) -> None:
    run = Run(tmp_path, settings={"text": "moved", "sizes": [4, 5]})
    run.trainer.resume(finished, may_differ=["text"])
    assert run.trainer.updates == 5


def test_every_device(tmp_path: Path, device: str) -> None:
    """Nothing in the loop or in a checkpoint takes arrays for NumPy's."""
    Run(tmp_path, device=device).trainer.fit(updates=4)
    again = Run(tmp_path, device=device, seed=7)
    again.trainer.resume(Checkpoint.latest(tmp_path))
    assert {leaf.device for leaf in leaves(again.trainer.state)} == {
        next(iter(again.model.parameters())).device
    }
    again.trainer.fit(updates=9)
    straight = Run(tmp_path / "straight", device=device)
    straight.trainer.fit(updates=9)
    assert again.everything() == straight.everything()


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
