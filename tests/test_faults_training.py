"""The Trainer: means that count, modes that stay, updates that are broken off, and what a loss that
is not finite comes from.
"""

from __future__ import annotations

import math
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from networks import close
from runs import BATCHES, Run

import tinygrad_rnn as tg
from tinygrad_rnn import nn, optim, rnn, training
from tinygrad_rnn.backends import backend_of
from tinygrad_rnn.optim.mean import BatchMean
from tinygrad_rnn.training import Callback, Checkpoint, CheckpointError, NonFiniteLossError, Trainer

Pair = tuple[np.ndarray, np.ndarray]


def pairs(*lengths: int) -> list[Pair]:
    """Inputs and targets of a straight line, as many rows as each batch is to have."""
    random = np.random.default_rng(0)
    return [(random.standard_normal((n, 3)), random.standard_normal((n, 1))) for n in lengths]


def joined(batches: list[Pair]) -> Pair:
    x, y = (np.concatenate(side) for side in zip(*batches, strict=True))
    return x, y


def line(folder: Path, batches: list[Pair], counts: Any = None, **options: Any) -> Trainer:
    """A model under Adam and clipping, whose loss returns ``counts(batch)`` as the third thing."""
    tg.manual_seed(3)
    model = nn.Linear(3, 1).to(options.pop("dtype", np.float64))

    def loss(batch: Pair, state: Any) -> tuple[Any, ...]:
        x, y = (tg.tensor(part.astype(model.weight.dtype)) for part in batch)
        mean = nn.mse_loss(model(x), y)
        return (mean, None) if counts is None else (mean, None, counts(batch))

    clip = options.pop("clip", optim.ClipNorm(0.5))
    optimizer = optim.Adam(model.parameters(), lr=0.1, clip=clip)
    return Trainer(model, optimizer, loss, batches, folder=folder, progress=False, **options)


def rows_of(trainer: Trainer) -> list[dict[str, float]]:
    return training.read_metrics(trainer.folder.metrics)


def size(batch: Pair) -> Any:
    return len(batch[1])


# Means that count


@pytest.mark.parametrize("clip", [None, optim.ClipNorm(0.3), optim.ClipValue(0.1)])
@pytest.mark.parametrize("lengths", [(2, 7, 1, 5, 3, 4, 6, 9), (4,) * 8, (1, 90, 1, 1, 1, 1, 1, 1)])
def test_fault_7_means_with_counts_are_one_big_batch(
    tmp_path: Path, lengths: tuple[int, ...], clip: Any
) -> None:
    """Parameters, losses and norms, clipped after the division; the last group is a short one."""
    small = pairs(*lengths)
    big = [joined(small[k : k + 3]) for k in range(0, 8, 3)]
    one = line(tmp_path / "small", small, size, accumulate=3, clip=clip)
    other = line(tmp_path / "big", big, clip=clip)
    one.fit(epochs=4)
    other.fit(epochs=4)
    assert one.updates == other.updates == 12
    for p, q in zip(one.model.parameters(), other.model.parameters(), strict=True):
        close(p, q, 1e-10)
    for row, whole in zip(rows_of(one), rows_of(other), strict=True):
        assert row["loss"] == pytest.approx(whole["loss"], rel=1e-9)
        assert row["gradient_norm"] == pytest.approx(whole["gradient_norm"], rel=1e-9)


@pytest.mark.parametrize(
    "count",
    [
        lambda b: float(len(b[1])),
        lambda b: np.float32(len(b[1])),
        lambda b: tg.tensor(len(b[1])),
        lambda b: np.array(1e6 * len(b[1])),
        lambda b: 1e-3 * len(b[1]),
    ],
)
def test_fault_7_counts_of_any_kind_and_scale(tmp_path: Path, count: Any) -> None:
    batches = pairs(2, 7, 1, 5)
    one = line(tmp_path / "one", batches, count, accumulate=4, dtype=np.float32)
    other = line(tmp_path / "other", [joined(batches)], dtype=np.float32)
    one.fit(epochs=1)
    other.fit(epochs=1)
    assert rows_of(one)[0]["gradient_norm"] == pytest.approx(rows_of(other)[0]["gradient_norm"])
    close(one.model.state_dict()["weight"], other.model.state_dict()["weight"], 1e-5)


def test_fault_7_a_batch_alone_is_what_it_was(tmp_path: Path) -> None:
    """To the bit, whatever it counts; and so are batches that count alike."""
    found = []
    for k, count in enumerate([None, size, lambda _: 1, lambda _: 0.3]):
        trainer = line(tmp_path / f"{k}", pairs(4, 4), count)
        trainer.fit(epochs=3)
        found.append(trainer.model.state_dict()["weight"].tobytes())
    assert len(set(found)) == 1
    found = []
    for k, count in enumerate([None, size, lambda _: 0.3]):
        trainer = line(tmp_path / f"two {k}", pairs(4, 4), count, accumulate=2)
        trainer.fit(epochs=3)
        found.append(trainer.model.state_dict()["weight"].tobytes())
    assert len(set(found)) == 1


def test_fault_7_batches_of_several_shapes_that_count_alike(tmp_path: Path) -> None:
    """What was silently another number is said; a count of 1 says that it is wanted."""
    trainer = line(tmp_path / "a", pairs(2, 7), accumulate=2)
    with pytest.warns(
        UserWarning,
        match=r"^Trainer: the batches of one update have different shapes and count alike; return "
        r"\(loss, state, count\) where the loss is a mean over count elements, count = 1 where",
    ):
        trainer.fit(epochs=1)
    alike = line(tmp_path / "b", pairs(2, 7), lambda _: 1, accumulate=2)
    alike.fit(epochs=1)
    assert (
        alike.model.state_dict()["weight"].tolist() == trainer.model.state_dict()["weight"].tolist()
    )
    line(tmp_path / "c", pairs(2, 7)).fit(epochs=1)  # each is an update of its own


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            lambda b: -1,
            r"the count in \(loss, state, count\) must be a finite number >= 0, got -1$",
        ),
        (lambda b: math.nan, r"must be a finite number >= 0, got nan$"),
        (lambda b: math.inf, r"must be a finite number >= 0, got inf$"),
        (lambda b: "7", r"must be a finite number >= 0, got '7'$"),
        (lambda b: True, r"must be a finite number >= 0, got True$"),
        (lambda b: None, r"must be a finite number >= 0, got None$"),
        (lambda b: b[1], r"must be a finite number >= 0, got array"),
    ],
)
def test_fault_7_what_is_no_count(tmp_path: Path, counts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^Trainer: .*{message}"):
        line(tmp_path, pairs(2, 3), counts, accumulate=2).fit(epochs=1)


def test_fault_7_counts_for_some_batches(tmp_path: Path) -> None:
    trainer = line(tmp_path, pairs(2, 3), accumulate=2)
    plain = trainer.loss
    trainer.loss = lambda b, s: (*plain(b, s), 2) if len(b[1]) == 2 else plain(b, s)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(
        ValueError, match=r"a count for each batch .* for none, got one for 1 of 2$"
    ):
        trainer.fit(epochs=1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_fault_7_the_mean_by_itself(dtype: Any, device: str) -> None:
    """Large counts do not overflow in float16; where nothing counts, nothing comes of it."""
    values = np.arange(1.0, 7.0).astype(dtype)
    p = nn.Parameter(tg.tensor(np.ones(1, dtype), device=device))
    mean = BatchMean()
    for part in (values[:1], values[1:3], values[3:]):
        mean.add((p * tg.tensor(part, device=device)).mean(), 30_000 * len(part))
    assert mean.finish([p]) == pytest.approx(3.5, rel=1e-3)
    close(p.grad, [3.5], 1e-3 if dtype == np.float16 else 1e-6)
    assert p.grad.dtype == dtype
    p.grad, nothing = None, BatchMean()
    for _ in range(2):
        nothing.add(p.sum(), 0)
    assert nothing.finish([p]) == 0
    assert p.grad.tolist() == [0]


# Modes


class Modes(Callback):
    """The modes of two parts at every moment of training."""

    def __init__(self) -> None:
        self.seen: list[tuple[bool, ...]] = []

    def on_update(self, trainer: Trainer, row: Any) -> None:
        self.look(trainer)

    def on_evaluation(self, trainer: Trainer, metrics: Any) -> None:
        self.look(trainer)

    def on_end(self, trainer: Trainer, ending: str) -> None:
        self.look(trainer)

    def look(self, trainer: Trainer) -> None:
        model: Any = trainer.model
        self.seen.append((model.training, model.dropout.training, model.recurrent.training))


@pytest.mark.parametrize("fails", [False, True])
def test_fault_25_a_part_in_evaluation_mode_stays_so(tmp_path: Path, fails: bool) -> None:
    modes = Modes()
    run = Run(tmp_path, callbacks=[modes], evaluate_every=2)
    inside: list[bool] = []

    def evaluate() -> dict[str, float]:
        inside.extend(module.training for module in run.model.modules())
        run.model.train()  # an evaluation that leaves the modes another way
        if fails:
            raise ZeroDivisionError
        return {"error": 1.0}

    run.trainer.evaluate = evaluate
    run.model.dropout.eval()
    if fails:
        with pytest.raises(ZeroDivisionError):
            run.trainer.fit(updates=5)
    else:
        run.trainer.fit(updates=5)
    assert set(modes.seen) == {(True, False, True)}
    assert inside
    assert not any(inside)
    assert [m.training for m in run.model.modules()] == [True, True, True, False, True]


def test_fault_25_a_model_in_evaluation_mode_is_left_so_and_it_is_said(tmp_path: Path) -> None:
    modes = Modes()
    run = Run(tmp_path, callbacks=[modes])
    run.model.eval()
    run.model.recurrent.train()
    with pytest.warns(UserWarning, match=r"^Trainer.fit: the model is in evaluation mode and stay"):
        run.trainer.fit(updates=4)
    assert set(modes.seen) == {(False, False, True)}


# Updates that are broken off


def press_once() -> None:
    signal.raise_signal(signal.SIGINT)


def press_twice() -> None:
    press_once()
    press_once()


def test_fault_54_after_a_second_control_c_fit_waits_for_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off between two parameters: only a checkpoint goes on to the same bits."""
    whole = Run(tmp_path / "whole")
    whole.trainer.fit(updates=12)
    run = Run(tmp_path / "run")
    kind, calls = type(backend_of(run.model.output.weight.array)), 0
    original = kind.update

    def update(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 7 * 7 + 4:  # the eighth update, of seven parameters each
            press_twice()
        original(*arguments)

    monkeypatch.setattr(kind, "update", update)
    with pytest.raises(KeyboardInterrupt):
        run.trainer.fit(updates=12)
    message = (
        r"^Trainer.fit: update 8 was broken off and may be half done; go on from a checkpoint with "
        r"resume\(\); the last checkpoint is '.*checkpoint-00000006.safetensors'$"
    )
    for _ in range(2):
        with pytest.raises(RuntimeError, match=message):
            run.trainer.fit(updates=12)
    other = Run(tmp_path / "other", hidden=6)
    other.trainer.fit(updates=1)
    with pytest.raises(CheckpointError, match="made with sizes"):
        run.trainer.resume(other.trainer.checkpoint())
    with pytest.raises(RuntimeError, match=message):
        run.trainer.fit(updates=12)
    run.trainer.resume(Checkpoint.latest(tmp_path / "run"))
    run.trainer.fit(updates=12)
    assert run.everything() == whole.everything()


def test_fault_54_a_resume_that_is_broken_off(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.trainer.fit(updates=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run.optimizer, "load_state_dict", lambda state: press_once())
        with pytest.raises(KeyboardInterrupt):
            run.trainer.resume(Checkpoint.latest(tmp_path))
    with pytest.raises(RuntimeError, match=r"^Trainer.fit: resume\(\) was broken off and may be"):
        run.trainer.fit(updates=4)
    run.trainer.resume(Checkpoint.latest(tmp_path))
    assert run.trainer.fit(updates=4) == "finished"


MOMENTS = ["loss", "schedule", "describe", "tokens"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError, NonFiniteLossError])
@pytest.mark.parametrize("moment", MOMENTS)
def test_fault_54_errors_within_an_update(tmp_path: Path, moment: str, error: Any) -> None:
    """Random numbers have been drawn by then, if nothing else: the bits would be others."""
    whole = Run(tmp_path / "whole")
    whole.trainer.fit(updates=9)
    run = Run(tmp_path / "run")
    right = getattr(run.trainer, moment)
    count = 0

    def fail(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 5:
            raise error
        return right(*arguments)

    setattr(run.trainer, moment, fail)
    with pytest.raises(error):
        run.trainer.fit(updates=9)
    with pytest.raises(RuntimeError, match=r"^Trainer.fit: update 5 was broken off"):
        run.trainer.fit(updates=9)
    run.trainer.resume(Checkpoint.latest(tmp_path / "run"))
    run.trainer.fit(updates=9)
    assert run.everything() == whole.everything()


@pytest.mark.parametrize("moment", ["on_update", "on_evaluation", "evaluate"])
def test_fault_54_a_second_control_c_before_the_row_is_written(tmp_path: Path, moment: str) -> None:
    """An evaluation that has not been, or a row that is missing, is half an update, too."""

    class Pressing(Callback):
        def on_update(self, trainer: Trainer, row: Any) -> None:
            if moment == "on_update" and trainer.updates == 6:
                press_twice()

        def on_evaluation(self, trainer: Trainer, metrics: Any) -> None:
            if moment == "on_evaluation" and trainer.updates == 6:
                press_twice()

    whole = Run(tmp_path / "whole")
    whole.trainer.fit(updates=9)
    run = Run(tmp_path / "run", callbacks=[Pressing()])
    inner = run.trainer.evaluate

    def evaluate() -> Any:
        if moment == "evaluate" and run.trainer.updates == 6:
            press_twice()
        assert inner is not None
        return inner()

    run.trainer.evaluate = evaluate
    with pytest.raises(KeyboardInterrupt):
        run.trainer.fit(updates=9)
    with pytest.raises(RuntimeError, match=r"^Trainer.fit: update 6 was broken off"):
        run.trainer.fit(updates=9)
    again = Run(tmp_path / "run")
    again.trainer.resume(Checkpoint.latest(tmp_path / "run"))
    again.trainer.fit(updates=9)
    assert again.everything() == whole.everything()


def test_fault_54_an_update_is_whole_after_an_error_elsewhere(tmp_path: Path) -> None:
    """In a callback, in an evaluation, or after one Ctrl-C: fit goes on."""
    whole = Run(tmp_path / "whole", evaluate=None)
    whole.trainer.fit(updates=9)

    class Failing(Callback):
        def on_checkpoint(self, trainer: Trainer, path: Path) -> None:
            if trainer.updates == 4:
                raise ZeroDivisionError

    def press(run: Run) -> None:
        if run.trainer.updates == 6:
            signal.raise_signal(signal.SIGINT)

    run = Run(
        tmp_path / "run", evaluate=None, checkpoint_every=2, callbacks=[Failing()], before=press
    )
    with pytest.raises(ZeroDivisionError):
        run.trainer.fit(updates=9)
    assert run.trainer.fit(updates=9) == "interrupted"
    assert run.trainer.fit(updates=9) == "finished"
    assert run.everything() == whole.everything()


# What a loss that is not finite comes from


class Batch(NamedTuple):
    inputs: Any
    lengths: Any = None


@dataclass
class Record:
    inputs: Any
    name: str = "text"


BAD = np.ones((2, 3), np.float32)
BAD[1, :2] = math.nan, math.inf
GOOD = np.ones((2, 3), np.float32)
SAID = r"float32 \(2, 3\), holds inf or nan in 2 of its 6 elements"


def training_on(folder: Path, batch: Any, find: Any, weight: float = 0.5) -> Trainer:
    model = nn.Linear(3, 1)
    nn.init.constant_(model.weight, weight)

    def loss(given: Any, state: Any) -> tuple[tg.Tensor, Any]:
        x = find(given)
        x = x if isinstance(x, tg.Tensor) else tg.tensor(x)
        return nn.mse_loss(model(x), np.zeros((2, 1), np.float32)), state

    optimizer = optim.SGD(model.parameters(), lr=0.01)
    return Trainer(model, optimizer, loss, [batch], folder=folder, progress=False)


@pytest.mark.parametrize(
    ("batch", "find", "path"),
    [
        (BAD, lambda b: b, "batch"),
        (tg.tensor(BAD), lambda b: b, "batch"),
        ((GOOD, BAD), lambda b: b[1], r"batch\[1\]"),
        (
            [np.arange(3), "text", None, {"x": (BAD,)}],
            lambda b: b[3]["x"][0],
            r"batch\[3\]\['x'\]\[0\]",
        ),
        (Batch(BAD, np.array([1, 2])), lambda b: b.inputs, r"batch\.inputs"),
        ((Record(BAD), 7), lambda b: b[0].inputs, r"batch\[0\]\.inputs"),
    ],
)
def test_fault_42_the_batch_holds_nan(tmp_path: Path, batch: Any, find: Any, path: str) -> None:
    with pytest.raises(
        NonFiniteLossError,
        match=rf"^Trainer: the loss is nan at update 1; {path}, {SAID}; no checkpoint has been "
        r"written yet$",
    ):
        training_on(tmp_path, batch, find).fit(epochs=1)


def test_fault_42_numbers_on_another_device_and_alone(tmp_path: Path) -> None:
    trainer = training_on(
        tmp_path, (tg.tensor(BAD, device="strict"), 1.0), lambda b: b[0].detach().to("cpu")
    )
    with pytest.raises(NonFiniteLossError, match=rf"update 1; batch\[0\], {SAID}; no check"):
        trainer.fit(epochs=1)
    other = training_on(tmp_path, (GOOD, math.nan), lambda b: b[0] * b[1])
    with pytest.raises(
        NonFiniteLossError, match=r"batch\[1\], float64 \(\), holds inf or nan in 1"
    ):
        other.fit(epochs=1)


def test_fault_42_the_model_or_the_state_holds_nan(tmp_path: Path) -> None:
    """Before the first update it is no matter of the rate; later it may be."""
    first = training_on(tmp_path, GOOD, lambda b: b, math.inf)
    with pytest.raises(
        NonFiniteLossError,
        match=r"^Trainer: the loss is inf at update 1; model\['weight'\], float32 \(1, 3\), holds "
        r"inf or nan in 3 of its 3 elements; no checkpoint",
    ):
        first.fit(epochs=1)
    advice = "; lower the learning rate or clip the gradient; no checkpoint"
    later = training_on(tmp_path, GOOD, lambda b: b)
    later.checkpoint_every = 100
    later.optimizer.lr = 3e38
    with (
        np.errstate(all="ignore"),
        pytest.raises(
            NonFiniteLossError, match=rf"at update 2; model\['weight'\], .* elements{advice}"
        ),
    ):
        later.fit(updates=3)
    state = training_on(tmp_path / "new", GOOD, lambda b: b)
    state.loss = lambda b, s: (  # pyright: ignore[reportAttributeAccessIssue]
        nn.mse_loss(state.model(tg.tensor(b)) + (0.0 if s is None else s.c), tg.zeros((2, 1))),
        rnn.LSTMState(tg.zeros((2, 1)), tg.full((2, 1), math.nan)),
    )
    state.epochs.batches = [GOOD, GOOD]
    with pytest.raises(
        NonFiniteLossError, match=rf"update 2; state\.c, float32 .* elements{advice}"
    ):
        state.fit(epochs=1)


def test_fault_42_a_gradient_that_is_not_finite_because_of_the_batch(tmp_path: Path) -> None:
    """tanh(inf) is 1, so the loss is finite; the gradient is 0 inf."""
    batch = np.full((2, 3), math.inf, np.float32)
    trainer = training_on(tmp_path, (GOOD, batch), lambda b: b[1])
    model = trainer.model
    trainer.loss = lambda b, s: (tg.tanh(model(tg.tensor(b[1]))).mean(), s)
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(
            optim.NonFiniteGradientError,
            match=r"^SGD: the gradient of parameter weight .* holds inf or nan at update 1; .*; "
            r"batch\[1\], float32 \(2, 3\), holds inf or nan in 6 of its 6 elements$",
        ),
    ):
        trainer.fit(epochs=1)


def test_fault_42_nothing_is_blamed_without_a_reason(tmp_path: Path) -> None:
    run = Run(tmp_path, sabotage=lambda run, loss: loss * math.nan)
    assert BATCHES[0].inputs.dtype.kind in "iu"
    with pytest.raises(
        NonFiniteLossError, match=r"the loss is nan at update 1; lower the learning rate or clip"
    ):
        run.trainer.fit(epochs=1)
