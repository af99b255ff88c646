"""A Trainer makes the batch that went wrong once more: the same batch, state and random numbers."""

from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import BATCHES, Run

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, optim, rnn
from tinygrad_rnn.tape import leaves
from tinygrad_rnn.training import NonFiniteLossError, Trainer

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")

ADVICE = "; lower the learning rate or clip the gradient; "


def line(text: str) -> str:
    """The only line of this file that holds a text and is no call of this function."""
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    (found,) = [k for k, one in enumerate(lines, 1) if text in one and "line(" not in one]
    return f"{__file__}:{found}"


def test_the_whole_message(tmp_path: Path) -> None:
    def sabotage(run: Run, loss: Any) -> Any:
        return loss + tg.log(3.0 - run.trainer.updates + 0.0 * loss)

    run = Run(tmp_path, repeat=lab.explain, sabotage=sabotage)
    with pytest.raises(NonFiniteLossError) as error:
        run.trainer.fit(epochs=1)
    last = tmp_path / "checkpoint-00000003.safetensors"
    assert str(error.value) == (
        f"Trainer: the loss is -inf at update 4{ADVICE}the last checkpoint is {str(last)!r}\n"
        "batch 3, counted from 0, of epoch 1, run again: log: gives -inf of finite operands "
        f"({line('return loss + tg.log(3.0')})\n"
        "  result: float32 () 1 of 1 -inf\n"
        "  operands: float32 () all 0\n"
        "  hint: log of 0 is -inf: tg.log(tg.maximum(x, 1e-12)); of probabilities, take "
        "tg.log_softmax of the scores"
    )
    assert isinstance(error.value.__cause__, lab.AnomalyError)
    assert error.value.__cause__.operation == "log"


def test_it_is_the_same_batch_with_the_same_state_and_random_numbers(tmp_path: Path) -> None:
    """Dropout is in the model, and its mask decides whether the loss is finite."""
    seen: list[Any] = []

    def sabotage(run: Run, loss: Any) -> Any:
        noise = tg.rand(3)
        state = [leaf.numpy().copy() for leaf in leaves(run.states[-1])]
        seen.append((loss.item(), noise.numpy(), state, run.model.recurrent.bias_hh_l0.tolist()))
        return loss + tg.log(tg.min(noise) - 0.05)

    run = Run(tmp_path, repeat=lab.explain, sabotage=sabotage)
    with pytest.raises(NonFiniteLossError, match="run again: log: gives nan of finite operands"):
        run.trainer.fit(epochs=9)
    assert len(seen) == run.trainer.updates + 2 > 3
    first, again = seen[-2:]
    assert first[0] == again[0]
    assert np.array_equal(first[1], again[1])
    assert all(map(np.array_equal, first[2], again[2]))
    assert first[3] == again[3]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_the_batch_of_several_that_make_an_update(tmp_path: Path, where: str) -> None:
    calls: list[int] = []

    def sabotage(run: Run, loss: Any) -> Any:
        calls.append(len(calls))
        is_bad = np.array_equal(run.batch.inputs, BATCHES[4].inputs)
        x = 0.0 * loss if is_bad else 0.0 * loss + 1.0
        return loss + (tg.sqrt(x) if where == "gradient" else tg.log(x))

    run = Run(tmp_path, repeat=lab.explain, sabotage=sabotage, accumulate=3)
    inner: Any = run.trainer.loss

    def loss(batch: Any, state: Any) -> Any:
        run.batch = batch  # pyright: ignore[reportAttributeAccessIssue]
        return inner(batch, state)

    run.trainer.loss = loss
    kind = NonFiniteLossError if where == "loss" else optim.NonFiniteGradientError
    operation = "log: gives -inf" if where == "loss" else "sqrt, backwards: its gradient rule gives"
    with pytest.raises(
        kind, match=rf"\nbatch 4, counted from 0, of epoch 1, run again: {operation}"
    ):
        run.trainer.fit(epochs=1)
    assert len(calls) == (6 if where == "loss" else 8)  # 3, 4, 5 and 3, 4 again


def test_all_is_left_as_it_was(tmp_path: Path) -> None:
    """The random numbers, and the gradients of all batches of the update, of which some were made
    once more; also where the repetition is broken off.
    """

    class Stop(tg.Observer):
        def after_forward(self, record: Any) -> None:
            if record.primitive.name == "multiply":
                raise RuntimeError("stop")

    def broken_off(run_again: Callable[[], None]) -> Any:
        with pytest.raises(RuntimeError, match="stop"), tg.observe(Stop()):
            run_again()
        return "broken off"

    found: list[Any] = []
    for name, repeat in (("a", None), ("b", lab.explain), ("c", broken_off)):
        run = Run(
            tmp_path / name,
            accumulate=3,
            repeat=repeat,
            sabotage=lambda run, loss: loss + tg.sqrt(tg.maximum(loss * 0.0, 0.0)),
        )
        with pytest.raises(optim.NonFiniteGradientError):
            run.trainer.fit(epochs=1)
        gradients = [p.grad.numpy().tobytes() for p in run.model.parameters() if p.grad is not None]
        found.append((tg.ops.generator_state(), gradients))
    assert found[0] == found[1] == found[2]


def test_a_gradient_that_the_optimizer_refuses(tmp_path: Path) -> None:
    def sabotage(run: Run, loss: Any) -> Any:
        return loss + tg.sqrt(0.0 * loss)

    run = Run(tmp_path, repeat=lab.explain, sabotage=sabotage)
    with pytest.raises(optim.NonFiniteGradientError) as error:
        run.trainer.fit(epochs=1)
    lines = str(error.value).splitlines()
    assert lines[0] == (
        "Adam: the gradient of parameter embedding.weight (7, 4) holds inf or nan at update 1; "
        "lower the learning rate, clip, or choose nonfinite='skip'"
    )
    assert lines[1].startswith(
        "batch 0, counted from 0, of epoch 1, run again: sqrt, backwards: its gradient rule gives "
        "inf of finite operands ("
    )
    assert isinstance(error.value.__cause__, lab.AnomalyError)


def test_a_skip_too_many_with_a_loss_scale(tmp_path: Path) -> None:
    """The scale is that of the update, which the step has halved since."""

    def make(parameters: Any, **options: Any) -> Any:
        scale = optim.LossScale(start=2.0**127)
        return optim.Adam(parameters, nonfinite="skip", max_skips=1, loss_scale=scale, **options)

    scales: list[float] = []

    def explain(run_again: Callable[[], None]) -> Any:
        scales.append(run.optimizer.loss_scale.value)  # pyright: ignore
        return lab.explain(run_again)

    run = Run(tmp_path, optimizer=make, repeat=explain, sabotage=lambda run, loss: loss * 64)
    with pytest.raises(optim.NonFiniteGradientError, match="after 1 skipped updates") as error:
        run.trainer.fit(epochs=1)
    assert scales == [2.0**125]
    assert "run again: multiply: gives inf of finite operands (" in str(error.value)
    cause = error.value.__cause__
    assert isinstance(cause, lab.AnomalyError)
    assert cause.ranges[1].high == 2.0**126


class Averaging(nn.Module):
    """It keeps a running mean, as a buffer and as an attribute."""

    def __init__(self) -> None:
        self.norm = nn.BatchNorm1d(3)
        self.linear = nn.Linear(3, 1)
        self.before: Any = None

    def forward(self, x: Any) -> Any:
        y = self.linear(self.norm(x))
        self.before = y.detach() if self.before is None else 0.5 * self.before + y.detach()
        return y + 0.0 * self.before


def test_what_modules_keep_is_put_back(tmp_path: Path) -> None:
    """For the repetition as it was before, and afterwards as it had become."""
    model = Averaging()
    rng = np.random.default_rng(0)
    batches = [rng.standard_normal((4, 3)).astype(np.float32) for _ in range(3)]
    seen: list[Any] = []

    def loss(x: Any, state: Any) -> Any:
        kept = None if model.before is None else model.before.tolist()
        seen.append((model.norm.running_mean.tolist(), kept))  # pyright: ignore
        y = model(tg.tensor(x)).mean()
        return (y if x is not batches[2] else y + tg.log(y * 0 - 1)), None

    after: list[Any] = []

    def repeat(run_again: Any) -> Any:
        after.append(model.norm.running_mean.tolist())  # pyright: ignore
        run_again()
        return lab.explain(run_again)

    optimizer = optim.SGD(model.parameters(), lr=0.1)
    trainer = Trainer(
        model, optimizer, loss, batches, folder=tmp_path, repeat=repeat, progress=False
    )
    with pytest.raises(NonFiniteLossError, match=r"run again: log: gives nan"):
        trainer.fit(epochs=1)
    assert seen[2] == seen[3] == seen[4]
    assert seen[2] != seen[1]
    assert model.norm.running_mean.tolist() == after[0] != seen[2][0]  # pyright: ignore


def test_what_else_a_function_may_return(tmp_path: Path) -> None:
    def training(repeat: Any, name: str) -> Callable[[], Any]:
        def sabotage(run: Run, loss: Any) -> Any:
            return loss * math.nan

        return lambda: Run(tmp_path / name, repeat=repeat, sabotage=sabotage).trainer.fit(epochs=1)

    with pytest.raises(NonFiniteLossError, match=r"\nbatch 0, .*, run again: bad luck$") as text:
        training(lambda run_again: run_again() or "bad luck", "a")()
    assert text.value.__cause__ is None
    nothing = r"\nrun again: nothing is found; is the loss the same each time\?$"
    with pytest.raises(NonFiniteLossError, match=nothing):
        training(lambda run_again: None, "b")()
    with pytest.raises(NonFiniteLossError, match=r"\nrepeat failed: ZeroDivisionError: .*$"):
        training(lambda run_again: 1 / 0, "c")()
    with pytest.raises(TypeError, match=r"^Trainer: repeat must be a function, got 'explain'$"):
        training("explain", "d")()


def test_a_run_that_goes_well_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    found: list[Any] = []
    for name, repeat in (("a", None), ("b", lab.explain)):
        run = Run(tmp_path / name, repeat=repeat)
        run.trainer.fit(epochs=2)
        found.append(run.everything())
    assert found[0] == found[1]


def test_a_nan_in_a_weight_and_in_the_state(tmp_path: Path) -> None:
    def training(name: str, **options: Any) -> str:
        run = Run(tmp_path / name, repeat=lab.explain, **options)
        with pytest.raises(NonFiniteLossError) as error:
            run.trainer.fit(epochs=1)
        return str(error.value).partition("run again: ")[2]

    def weight(run: Run) -> None:
        if run.trainer.updates == 2:
            run.model.recurrent.weight_hh_l0.array[3, 2] = math.nan

    assert training("a", before=weight).startswith(
        "the parameter recurrent.weight_hh_l0 holds nan: float32 (20, 5) 1 of 100 nan, else from"
    )

    def state(run: Run) -> None:
        if run.trainer.updates == 2:
            run.trainer.state.c.array[0, 1, 1] = math.nan

    said = training("b", before=state)
    assert said.startswith(
        "the argument state.c of the model (Model) holds nan: float32 (1, 3, 5) "
    )
    assert "in a replayed loop, time step 0 (recurrent.l0, tinygrad_rnn/rnn/cells/lstm.py:" in said


def test_no_warning_of_numpy_comes_twice(tmp_path: Path) -> None:
    run = Run(tmp_path, repeat=lab.explain, sabotage=lambda run, loss: tg.log(loss * 0 - 1))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with pytest.raises(NonFiniteLossError):
            run.trainer.fit(epochs=1)
    assert [str(one.message) for one in seen] == ["invalid value encountered in log"]


def test_explain_by_itself() -> None:
    layer = rnn.GRU(2, 3)
    assert lab.explain(lambda: layer(tg.ones((4, 1, 2)))[0].sum().backward()) is None
    found = lab.explain(lambda: layer(tg.full((4, 1, 2), math.nan)))
    assert found is not None
    assert found.came_in == "the argument x of the model (GRU)"
    assert lab.explain(lambda: 1 / 0) is None
    with pytest.raises(ValueError, match="no batch"):
        lab.explain(lambda: (_ for _ in ()).throw(ValueError("no batch")))


def test_a_state_is_named_before_the_statistics_that_it_spoils(tmp_path: Path) -> None:
    """A batch norm has made its buffers of what the state has made, when the loss is seen."""

    class Normed(nn.Module):
        def __init__(self) -> None:
            self.layer, self.norm = rnn.LSTM(2, 3), nn.BatchNorm1d(3)

        def forward(self, x: Any, state: Any) -> Any:
            y, state = self.layer(x, state)
            return self.norm(y), state

    model = Normed()

    def loss(batch: Any, state: Any) -> Any:
        y, state = model(tg.tensor(batch), state)
        if trainer.updates == 1:
            state = state._replace(c=state.c * math.nan)
        return tg.square(y).mean(), state

    batches = [np.ones((4, 5, 2), np.float32) * k for k in range(5)]
    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=0.1),
        loss,
        batches,
        folder=tmp_path,
        repeat=lab.explain,
        progress=False,
    )
    with pytest.raises(NonFiniteLossError) as error:
        trainer.fit(epochs=1)
    first, _, rest = str(error.value).partition("\n")
    assert first.startswith("Trainer: the loss is nan at update 3; state.c, float32 (1, 5, 3), ")
    assert "run again: the argument state.c of the model (Normed) holds nan" in rest


def test_nothing_is_kept_when_an_update_is_done(tmp_path: Path) -> None:
    """Neither its batch nor the copies of buffers."""
    kept: list[Any] = []
    model = nn.Linear(2, 3)

    def loss(batch: Any, state: Any) -> Any:
        kept.append(weakref.ref(batch))
        return tg.square(model(tg.tensor(batch))).mean(), None

    class Made(list):  # type: ignore[type-arg]
        def __getitem__(self, k: Any) -> Any:
            return np.full((4, 2), 1.0, np.float32)

    trainer = Trainer(
        model,
        optim.SGD(model.parameters(), lr=0.1),
        loss,
        Made([0, 1]),
        folder=tmp_path,
        repeat=lab.explain,
        progress=False,
    )
    trainer.fit(epochs=1)
    assert [one() is None for one in kept] == [True, True]
