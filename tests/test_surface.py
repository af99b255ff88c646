"""The loss over a line or a plane of parameters: lab/surfaces."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tinygrad_rnn as tg
from tinygrad_rnn import lab, nn, optim, rnn

RNG = np.random.default_rng(0)


class Model(nn.Module):
    """Three layers of LSTM both ways, dropout and batch norm: everything that has a state."""

    def __init__(self) -> None:
        self.recurrent = rnn.LSTM(3, 5, 3, bidirectional=True)
        self.norm = nn.BatchNorm1d(10)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(10, 2)

    def forward(self, x: Any) -> tg.Tensor:
        output, _ = self.recurrent(x)
        return self.head(self.dropout(self.norm(output[-1])))


def a_model() -> tuple[Model, Callable[[], tg.Tensor]]:
    """A model in training, and its loss over 50 steps of 4 sequences."""
    tg.manual_seed(1)
    model = Model()
    x, target = tg.tensor(RNG.standard_normal((50, 4, 3), np.float32)), np.array([0, 1, 1, 0])
    return model, lambda: nn.cross_entropy(model(x), target)


def test_the_plane_is_the_loss_at_every_point() -> None:
    """Set by hand to p + x d + y e, each point gives the same number to the last bit."""
    model, loss = a_model()
    model.eval()
    start = model.state_dict()
    d, e = directions = lab.random_directions(model, seed=3)
    found = lab.surface(loss, model, directions, span=((-1, 2), (0, 0.5)), points=4)
    np.testing.assert_allclose(found.x, [-1, 0, 1, 2])
    assert found.y is not None
    names = [name for name, _ in model.named_parameters()]
    for k, y in enumerate(found.y):
        for j, x in enumerate(found.x):
            moved = {n: start[n] + (x * a + y * b).astype("f") for n, a, b in zip(names, d, e)}  # noqa: B905
            model.load_state_dict({**start, **moved})
            np.testing.assert_allclose(found.loss[k, j], loss().item(), rtol=1e-6)
    assert np.ptp(found.loss) > 0.01


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_it_was(fails: bool) -> None:
    """Values, memory, gradients, modes, running statistics and generator; a tape can be walked."""
    model, loss = a_model()
    loss().backward()
    model.norm.eval()
    held = loss()
    before, generator = model.state_dict(), tg.ops.generator_state()
    arrays = [p.array for p in model.parameters()]
    versions = [t.version for t in model.tensors()]
    grads = [(p.grad, p.grad.numpy().copy()) for p in model.parameters() if p.grad is not None]
    calls = [0]

    def counted() -> tg.Tensor:
        calls[0] += 1
        tg.rand((2,))
        model.dropout.eval()
        if fails and calls[0] == 3:
            raise KeyboardInterrupt
        loss().backward() if tg.is_recording() else None
        return loss()

    if fails:
        with pytest.raises(KeyboardInterrupt):
            lab.surface(counted, model, points=2)
    else:
        lab.surface(counted, model, points=2)
    assert calls == [3 if fails else 4]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    assert [id(p.array) for p in model.parameters()] == [id(array) for array in arrays]
    assert [t.version for t in model.tensors()] == versions
    assert tg.ops.generator_state() == generator
    assert model.dropout.training
    assert not model.norm.training
    for p, (grad, values) in zip(model.parameters(), grads, strict=True):
        assert p.grad is grad
        np.testing.assert_array_equal(grad.numpy(), values)
    held.backward()


def test_every_point_draws_the_same_random_numbers() -> None:
    """With dropout on, a surface along a direction of length 0 is flat."""
    model, loss = a_model()
    found = lab.surface(loss, model, [{"head.bias": 0}], points=5)
    assert np.ptp(found.loss) == 0


def test_a_line_by_names_and_its_default_span() -> None:
    model, loss = a_model()
    model.eval()
    line = lab.surface(loss, model, [{"head.bias": [1, 0]}], points=3, names=["bias of class 0"])
    assert line.loss.shape == (3,)
    assert line.y is None
    np.testing.assert_array_equal(line.x, [-1, 0, 1])
    np.testing.assert_allclose(line.loss[1], loss().item(), rtol=1e-6)
    only = lab.surface(loss, [model.head.bias], [[[1, 0]]], points=3)
    np.testing.assert_array_equal(only.loss, line.loss)


def test_random_directions_are_filter_normalised() -> None:
    """Each row of a weight, and a vector as a whole, is as long as that of the parameter."""
    model, _ = a_model()
    state = tg.ops.generator_state()
    one, other = lab.random_directions(model, seed=5)
    assert tg.ops.generator_state() == state
    for p, d in zip(model.parameters(), one, strict=True):
        values = p.numpy()
        assert d.shape == values.shape
        axis = 1 if values.ndim == 2 else None
        np.testing.assert_allclose(
            np.linalg.norm(d, axis=axis), np.linalg.norm(values, axis=axis), rtol=1e-5
        )
    assert not np.allclose(one[0], other[0])
    np.testing.assert_array_equal(one[0], lab.random_directions(model, seed=5)[0][0])


def trained(updates: int) -> tuple[Model, Callable[[], tg.Tensor], list[Any]]:
    model, loss = a_model()
    model.eval()
    optimizer, path = optim.SGD(model.parameters(), lr=0.3), [model.state_dict()]
    for _ in range(updates):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        path.append(model.state_dict())
    return model, loss, path


def test_the_plane_of_a_path() -> None:
    """The principal directions hold the path as well as any plane can: against an SVD of it all."""
    model, loss, path = trained(12)
    directions = lab.path_directions(model, path)
    names = [name for name, _ in model.named_parameters()]
    rows = np.array([np.concatenate([np.ravel(p[n]) for n in names]) for p in path], np.float64)
    rows -= rows[-1]
    found = lab.surface(loss, model, directions, points=5, paths={"SGD": path})
    singular = np.linalg.svd(rows, compute_uv=False)
    at, far = found.paths["SGD"], found.distances["SGD"]
    np.testing.assert_allclose(np.sum(at**2), np.sum(singular[:2] ** 2), rtol=1e-4)
    np.testing.assert_allclose(np.sum(far**2), np.sum(singular[2:] ** 2), rtol=1e-3, atol=1e-8)
    np.testing.assert_allclose(at[-1], 0, atol=1e-6)
    flat = [np.concatenate([np.ravel(a) for a in d]) for d in directions]
    np.testing.assert_allclose(np.array(flat) @ np.array(flat).T, np.eye(2), atol=1e-6)
    assert found.y is not None
    for axis, way in ((found.x, at[:, 0]), (found.y, at[:, 1])):  # the path is on the plane drawn
        assert axis[0] < way.min() <= way.max() < axis[-1]
    assert "path SGD: 13 points" in str(found)


def test_inf_and_nan_are_told_as_such(tmp_path: Path) -> None:
    w = nn.Parameter(np.float64(0))
    b = nn.Parameter(np.float64(0))

    def loss() -> tg.Tensor:
        return tg.log(w) + tg.exp(1000 * b)

    found = lab.surface(loss, [w, b], [[1, 0], [0, 1]], points=5, names="wb")
    assert np.isnan(found.loss[:, :2]).all()
    assert np.isinf(found.loss[-1, 2:]).sum() >= 2
    assert "nan          at 11 of 25 points" in str(found)
    assert found.lowest[0] > 0
    found.to_csv(tmp_path / "all.csv")
    rows = (tmp_path / "all.csv").read_text().splitlines()
    assert rows[0] == "w,b,loss"
    assert len(rows) == 26
    assert rows[1] == "-1.0,-1.0,nan"
    found.picture(relief=True).save(tmp_path / "all.png")
    nowhere = lab.surface(lambda: tg.log(w - 5), [w, b], [[1, 0], [0, 1]], points=3)
    nowhere.picture(relief=True).save(tmp_path / "none.png")
    assert np.isnan(nowhere.lowest).all()


def test_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line with a path; a plane on a logarithmic scale; none of it needed for the numbers."""
    w, b = nn.Parameter(2.0), nn.Parameter(1.0)

    def loss() -> tg.Tensor:
        return tg.exp(4 * w) + b * b

    line = lab.surface(loss, [w, b], [[1, 0]], paths={"a way": [[3, 1], [2.5, 1], [1, 1]]})
    np.testing.assert_allclose(line.paths["a way"], [[1], [0.5], [-1]])
    np.testing.assert_allclose(line.distances["a way"], 0, atol=1e-12)
    line.picture("It falls").save(tmp_path / "line.png")
    plane = lab.surface(loss, [w, b], [[1, 0], [0, 1]], points=7)
    assert [p.name for p in plane.picture(relief=True, limits=(1, 1e3)).panels] == ["side", "above"]
    plane.picture(relief=True).save(tmp_path / "plane.svg", panels=True)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match="pip install"):
        plane.picture().save(tmp_path / "no.png")
    plane.to_csv(tmp_path / "plane.csv")
    with pytest.raises(OSError, match=r"^Surface.to_csv: cannot write '.*plane.csv': "):
        plane.to_csv(f"{__file__}/plane.csv")


def test_what_is_refused() -> None:
    model, loss = a_model()
    w = nn.Parameter(np.ones((2, 3)), requires_grad=False)
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (TypeError, "surface: loss must be a function", lambda: lab.surface(loss(), model)),
        (TypeError, "surface: expected a model or its", lambda: lab.surface(loss, ["w"])),
        (ValueError, "surface: expected a model with", lambda: lab.surface(loss, [])),
        (ValueError, "surface: expected one direction or two, got 3",
         lambda: lab.surface(loss, [w], [[1], [1], [1]])),
        (ValueError, "surface: a direction: expected an array for each of the 1 parameters",
         lambda: lab.surface(loss, [w], [[1, 1]])),
        (ValueError, r"surface: a direction: expected \(2, 3\) for a parameter, got \(3,\)",
         lambda: lab.surface(loss, [w], [[np.ones(3)]])),
        (KeyError, "surface: a direction: expected names of parameters",
         lambda: lab.surface(loss, model, [{"tail": 1}])),
        (TypeError, "surface: a direction: a dict needs a model",
         lambda: lab.surface(loss, [w], [{"head.bias": 1}])),
        (TypeError, r"surface: loss\(\) must give a Tensor of one element or a number, got shape",
         lambda: lab.surface(lambda: w, [w], points=1)),
        (ValueError, "surface: span must be", lambda: lab.surface(loss, [w], span=(1, np.inf))),
        (ValueError, "surface: points must be", lambda: lab.surface(loss, [w], points=0)),
        (ValueError, "path_directions: the path has fewer than 2 directions",
         lambda: lab.path_directions([w], [[np.zeros((2, 3))], [2]])),
        (ValueError, "path_directions: a point of the path holds inf or nan",
         lambda: lab.path_directions([w], [[np.nan], [2]])),
    ]  # fmt: skip
    for kind, said, call in cases:
        with pytest.raises(kind, match=f"^['\"]?{said}"):
            call()
