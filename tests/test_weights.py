"""Module.save and Module.load: safetensors files, from here and from elsewhere."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mutations import damaged, message_of
from networks import randomise
from runs import Model, example, files
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import tinygrad_rnn as tg
from tinygrad_rnn import nn, rnn
from tinygrad_rnn.nn import WeightsError


def values(module: nn.Module) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in module.state_dict().items()}


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_weights_come_back_exactly(tmp_path: Path, dtype: Any) -> None:
    model, other = randomise(Model()).to(dtype), Model().to(dtype)
    model.save(tmp_path / "model.safetensors")
    assert other.load(tmp_path / "model.safetensors") is other
    assert values(other) == values(model)
    assert files(tmp_path) == ["model.safetensors"]
    plain = load_file(tmp_path / "model.safetensors")  # as any program sees them
    assert {name: array.tobytes() for name, array in plain.items()} == values(model)


def test_every_device(tmp_path: Path, device: str) -> None:
    model = randomise(rnn.GRU(3, 4)).to(device)
    model.save(str(tmp_path / "weights"))
    other = rnn.GRU(3, 4).to(np.float64).to(device).load(str(tmp_path / "weights"))
    assert values(other) == values(model)
    assert {p.device for p in other.parameters()} == {p.device for p in model.parameters()}


def test_buffers_tied_parameters_and_integers(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            self.one = nn.Linear(3, 3)
            self.other = self.one
            self.count = nn.Buffer(np.array([7, 8]))
            self.flag = nn.Buffer(np.array(True))
            self.none = nn.Buffer(np.zeros((0, 2), np.float32))

    model, other = Tied(), Tied()
    other.count.data, other.flag.data = np.array([0, 0]), np.array(False)
    model.save(tmp_path / "weights")
    other.load(tmp_path / "weights")
    assert values(other) == values(model)
    assert other.one is other.other


def test_a_file_with_other_metadata(tmp_path: Path) -> None:
    """What another program says about its file is its own affair."""
    model = randomise(nn.Linear(3, 2)).to(np.float32)
    metadata = {"format": "pt", "kind": "language model", "checksum": "0", "document": "[" * 999}
    save_file(model.state_dict(), tmp_path / "weights", metadata)
    assert values(nn.Linear(3, 2).load(tmp_path / "weights")) == values(model)


def test_names_that_only_one_side_has(tmp_path: Path) -> None:
    nn.Linear(3, 2).save(tmp_path / "weights")
    model = nn.Linear(3, 2, bias=False)
    model.load(tmp_path / "weights", strict=False)
    assert values(model)["weight"] == load_file(tmp_path / "weights")["weight"].tobytes()


@pytest.mark.parity
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_a_file_of_pytorch(tmp_path: Path, dtype: str) -> None:
    """The same layers load as they are, whatever float they were kept in; and go back."""
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    theirs = torch.nn.LSTM(3, 4, 2).to(getattr(torch, dtype))
    save_file(theirs.state_dict(), tmp_path / "theirs", {"format": "pt"})
    ours = rnn.LSTM(3, 4, 2).load(tmp_path / "theirs")
    for name, value in theirs.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name], value.to(torch.float32).numpy())
    assert all(p.dtype == np.float32 for p in ours.parameters())
    ours.save(tmp_path / "ours")
    back = torch.nn.LSTM(3, 4, 2)
    back.load_state_dict(load_file(tmp_path / "ours"))
    for name, value in back.state_dict().items():
        np.testing.assert_array_equal(ours.state_dict()[name], value.numpy())


def test_bfloat16(tmp_path: Path) -> None:
    """The upper halves of float32, as no NumPy dtype has them: read exactly, inf and nan too."""
    wide = np.array([1.0, -2.5, 0.0, -0.0, 3.3895314e38, np.inf, -np.inf, np.nan], np.float32)
    header = b'{"weight":{"dtype":"BF16","shape":[2,4],"data_offsets":[0,16]}}'
    upper = (wide.view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "weights").write_bytes(len(header).to_bytes(8, "little") + header + upper)
    layer = nn.Linear(4, 2, bias=False).load(tmp_path / "weights")
    np.testing.assert_array_equal(layer.weight.numpy(), wide.reshape(2, 4))


# What goes wrong

LINEAR = {"weight": np.zeros((2, 3), np.float32), "bias": np.zeros(2, np.float32)}


def saved(**arrays: Any) -> Callable[[Path], None]:
    return lambda path: save_file(arrays, path)


def written(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


F8 = b'{"weight":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
WRONG: list[tuple[Callable[[Path], Any], str]] = [
    (lambda path: None, "there are no weights 'w'"),
    (Path.mkdir, "cannot read the weights 'w': Is a directory"),
    (written(b""), "'w' is cut off, damaged or no safetensors file at all"),
    (
        written(b"\x80\x04\x95 a pickle"),
        "'w' is a pickle, which is refused on purpose, since reading one can run any code that is "
        "in it; read it with torch.load(path, weights_only=True) and give that to "
        "model.load_state_dict, or write it anew with safetensors.torch.save_file",
    ),
    (
        lambda path: example().save(path),
        "'w' is a tinygrad_rnn checkpoint, version 1, but no tinygrad_rnn weights file, version 1; "
        "take the weights out of it with model.load_state_dict(Checkpoint.load(path).model)",
    ),
    (
        written(len(F8).to_bytes(8, "little") + F8 + b"\0"),
        "'w' holds numbers of the format F8_E4M3, which cannot be read here; convert them to F32",
    ),
    (
        saved(weight=LINEAR["weight"]),
        "'w' does not fit: Linear.load_state_dict: names do not match: missing ['bias']",
    ),
    (
        saved(**LINEAR, extra=np.zeros(1)),
        "'w' does not fit: Linear.load_state_dict: names do not match: unknown ['extra']",
    ),
    (
        saved(weight=np.zeros((3, 2)), bias=np.zeros(2)),
        "'w' does not fit: Linear.load_state_dict: weight has shape (2, 3), the given values have "
        "(3, 2)",
    ),
    (
        saved(weight=np.zeros((2, 3), int), bias=np.zeros(2)),
        "'w' does not fit: Linear.load_state_dict: weight is float32, the given values are int64",
    ),
]


@pytest.mark.parametrize(("make", "message"), WRONG, ids=[case[1] for case in WRONG])
def test_files_that_do_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], Any], message: str
) -> None:
    """One sentence, and the model is as it was."""
    monkeypatch.chdir(tmp_path)
    make(Path("w"))
    layer = nn.Linear(3, 2)
    before = values(layer), [parameter.version for parameter in layer.parameters()]
    with pytest.raises(WeightsError) as caught:
        layer.load("w")
    assert str(caught.value) == message
    assert (values(layer), [parameter.version for parameter in layer.parameters()]) == before


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_files_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    """The file of before is still there, and nothing else."""

    def fail(*_: Any) -> None:
        raise OSError(error, os.strerror(error))

    nn.Linear(3, 2).save(tmp_path / "w")
    before = (tmp_path / "w").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync" if error == errno.ENOSPC else "replace", fail)
        with pytest.raises(
            WeightsError, match=rf"^cannot write the weights '.*w': {os.strerror(error)}$"
        ):
            nn.Linear(3, 2).save(tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == before
    assert files(tmp_path) == ["w"]
    with pytest.raises(WeightsError, match=r"^cannot write the weights .*: Not a directory$"):
        nn.Linear(3, 2).save(tmp_path / "w" / "inside")


def test_damaged_files(tmp_path: Path, sample: Callable[[int], int]) -> None:
    """Each loads exactly or ends in one clear error; the model is never touched by half."""
    model, path = randomise(Model()).to(np.float32), tmp_path / "w"
    model.save(path)
    intact, counts = values(model), {"loaded": 0, "refused": 0}
    for name, content in damaged(path.read_bytes(), sample(10_000)):
        path.write_bytes(content)
        other = Model()
        fresh = values(other)
        said = message_of(WeightsError, other.load, path)
        assert values(other) == (intact if said is None else fresh), name
        assert said is None or "\n" not in said, name
        counts["loaded" if said is None else "refused"] += 1
    assert counts["refused"] > 0.9 * sum(counts.values())


def test_the_metadata_of_a_saved_file(tmp_path: Path) -> None:
    nn.Linear(3, 2).save(tmp_path / "w")
    with safe_open(tmp_path / "w", framework="numpy") as file:
        assert file.metadata()["kind"] == "tinygrad_rnn weights file, version 1"
        assert file.metadata()["checksum"].startswith("tinygrad_rnn sha256 ")
    assert tg.nn.WeightsError is WeightsError
