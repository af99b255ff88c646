"""Files of strangers: of another kind, links and fifos in their place, bombs of memory."""

from __future__ import annotations

import gzip
import io
import json
import math
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runs import Run, files
from safetensors.numpy import save_file

from tinygrad_rnn import data, nn, ops, training
from tinygrad_rnn.nn import WeightsError
from tinygrad_rnn.nn.disk import remove_partial, write_atomically
from tinygrad_rnn.nn.files import pack
from tinygrad_rnn.training import Checkpoint, CheckpointError
from tinygrad_rnn.training.checkpoint import KIND, numbered

posix = pytest.mark.skipif(os.name != "posix", reason="links, fifos and forks as POSIX has them")

LEFT = ".w.0123456789abcdef.tinygrad_rnn.partial"
"""What a killed write may leave behind."""


def peak(call: Callable[..., Any], *arguments: Any) -> tuple[int, Any]:
    """The most bytes that a call has at once, and what it gives or says."""
    tracemalloc.start()
    try:
        answer = call(*arguments)
    except (ValueError, WeightsError, CheckpointError) as error:
        answer = error
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return most, answer


# 37: files of another kind


def zipped(*names: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in names:
            archive.writestr(name, b"\x80\x02}q\x00.")
    return content.getvalue()


def tarred() -> bytes:
    return b"data.pkl".ljust(257, b"\0") + b"ustar\x0000".ljust(255, b"\0")


OTHERS = {
    "PyTorch": (zipped("archive/data.pkl", "archive/version"), "a file of PyTorch: a zip"),
    "TorchScript": (
        zipped("net/data/0", "net/data.pkl"),
        "a file of PyTorch: a zip",
    ),
    "pickle": (pickle.dumps({"weight": 1}), "a pickle, which is refused on purpose"),
    "old pickle": (pickle.dumps({"weight": 1}, 2), "a pickle, which is refused on purpose"),
    "npz": (zipped("weight.npy"), r"an archive of NumPy \(.npz\)"),
    "npy": (b"\x93NUMPY\x01\x00v\x00{'descr'", r"one array of NumPy \(.npy\)"),
    "zip": (zipped("readme.txt"), "a zip archive, no safetensors file"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file"),
    "GGUF": (b"GGUF\x03\0\0\0" + bytes(50), "a GGUF file"),
    "gzip": (gzip.compress(b"weights"), "compressed by gzip"),
    "tar": (tarred(), "a tar archive"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "Git LFS"),
    "page": (b"<!DOCTYPE html><html></html>", "a web page"),
}


@pytest.mark.parametrize(("content", "said"), OTHERS.values(), ids=OTHERS.keys())
def test_fault_37_files_of_another_kind(tmp_path: Path, content: bytes, said: str) -> None:
    """Are named as what they are, with what to do; a pickle is refused on purpose."""
    path = tmp_path / "w"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"^'.*w' is .*{said}") as weights:
        nn.Linear(3, 2).load(path)
    with pytest.raises(CheckpointError, match=rf"^'.*w' is .*{said}") as checkpoint:
        Checkpoint.load(path)
    for error in (weights, checkpoint):
        assert "\n" not in str(error.value)
        assert ("torch.load(path, weights_only=True)" in str(error.value)) == (
            "pickle" in str(error.value)
        )


@pytest.mark.parity
@pytest.mark.parametrize("zipped", [True, False])
def test_fault_37_what_pytorch_writes(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    theirs = torch.nn.Linear(3, 2)
    torch.save(theirs.state_dict(), tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match="a pickle, which is refused on purpose"):
        nn.Linear(3, 2).load(tmp_path / "w.pt")
    ours = nn.Linear(3, 2)  # as the message advises
    ours.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    np.testing.assert_array_equal(ours.weight.numpy(), theirs.weight.detach().numpy())


def test_a_short_header_is_no_other_kind(tmp_path: Path) -> None:
    """The length of a header, cut off, is not taken for a pickle's or gzip's first bytes."""
    for length in (0x0280, 0x8B1F):
        (tmp_path / "w").write_bytes(length.to_bytes(8, "little") + b'{"weight":')
        with pytest.raises(WeightsError, match="is cut off, damaged or no safetensors file at all"):
            nn.Linear(3, 2).load(tmp_path / "w")


# 50: links, fifos, and files of others under our names


@posix
@pytest.mark.parametrize("name", [".w.partial", LEFT, "w"])
@pytest.mark.parametrize("how", [os.symlink, os.link])
def test_fault_50_a_link_is_never_written_through(
    tmp_path: Path, name: str, how: Callable[..., None]
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "shared").mkdir()
    how(precious, tmp_path / "shared" / name)
    layer = nn.Linear(3, 2)
    layer.save(tmp_path / "shared" / "w")
    assert precious.read_text() == "mine"
    np.testing.assert_array_equal(
        nn.Linear(3, 2).load(tmp_path / "shared" / "w").weight.numpy(), layer.weight.numpy()
    )
    assert not (tmp_path / "shared" / "w").is_symlink()


@posix
@pytest.mark.parametrize("what", ["symlink", "link", "fifo", "folder", "text", "dangling"])
def test_fault_50_a_lock_that_is_no_lock(tmp_path: Path, what: str) -> None:
    """Refused in one sentence; nothing is truncated, removed or waited for."""
    precious, run = tmp_path / "precious", tmp_path / "run"
    precious.write_text("mine")
    run.mkdir()
    lock = run / ".lock"
    {
        "symlink": lambda: lock.symlink_to(precious),
        "dangling": lambda: lock.symlink_to(tmp_path / "nowhere"),
        "link": lambda: os.link(precious, lock),
        "fifo": lambda: os.mkfifo(lock),
        "folder": lock.mkdir,
        "text": lambda: lock.write_text("a note of mine"),
    }[what]()
    with pytest.raises(
        FileExistsError,
        match=r"^Trainer: the '.lock' in the folder '.*run' is a link, or not the file of a run; "
        r"remove it or choose another folder$",
    ):
        Run(run).trainer.fit(updates=1)
    assert precious.read_text() == "mine"
    assert files(run) == [".lock"]
    assert not (tmp_path / "nowhere").exists()
    assert what != "text" or lock.read_text() == "a note of mine"


@posix
def test_fault_50_own_names_only_are_removed(tmp_path: Path) -> None:
    others = [
        ".x.partial",
        ".checkpoint-00000001.safetensors.partial",
        ".x.tinygrad_rnn.partial",
        "w.0123456789abcdef.tinygrad_rnn.partial",
        "checkpoint-3.safetensors",
        "checkpoint-new.safetensors",
    ]
    for name in [*others, LEFT]:
        (tmp_path / name).write_text("mine")
    (tmp_path / LEFT.replace("0", "f")).mkdir()
    os.link(tmp_path / others[0], tmp_path / LEFT.replace("0", "e"))
    Run(tmp_path, checkpoint_every=1, keep=1).trainer.fit(updates=3)
    assert {*others, LEFT.replace("0", "f"), LEFT.replace("0", "e")} <= {*files(tmp_path)}
    assert LEFT not in files(tmp_path)
    assert all((tmp_path / name).read_text() == "mine" for name in others)


@posix
def test_fault_50_what_is_being_written_is_not_removed(tmp_path: Path) -> None:
    """Two that save in one folder, even under one name, do not disturb each other."""
    seen: list[str] = []
    flush = os.fsync

    def interfere(file: int) -> None:
        flush(file)
        if not seen:
            seen.extend(files(tmp_path))
            remove_partial(tmp_path)
            write_atomically(tmp_path / "w", b"second")
            assert {*seen} <= {*files(tmp_path)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", interfere)
        write_atomically(tmp_path / "w", b"first")
    assert len(seen) == 1
    assert (tmp_path / "w").read_bytes() == b"first"
    assert files(tmp_path) == ["w"]


READERS: dict[str, Callable[[Path], Any]] = {
    "weights": nn.Linear(3, 2).load,
    "checkpoint": Checkpoint.load,
    "metrics": training.read_metrics,
    "rows": lambda path: training.MetricsFile(path, 3),
    "text": data.read_text,
    "sentences": data.read_sentences,
    "messages": data.read_messages,
    "series": data.read_series,
    "tagged": data.read_tagged,
}


@posix
@pytest.mark.parametrize("read", READERS.values(), ids=READERS.keys())
def test_fault_50_nothing_waits_for_a_fifo_or_reads_a_device(
    tmp_path: Path, read: Callable[[Path], Any]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero")):
        with pytest.raises((OSError, WeightsError, CheckpointError), match="no regular file"):
            read(path)


@posix
def test_fault_50_metrics_are_appended_to_a_file_of_their_own(tmp_path: Path) -> None:
    """What is exchanged for a link after it was written is not followed."""
    path, precious = tmp_path / "metrics.csv", tmp_path / "precious"
    precious.write_text("mine")
    path.symlink_to(precious)
    rows = training.MetricsFile(path, 0)
    rows.append({"update": 1})
    rows.close()
    assert (precious.read_text(), path.read_text()) == ("mine", "update\n1\n")

    replace = os.replace
    for link in (os.symlink, os.link, lambda _, there: os.mkfifo(there)):

        def exchange(source: Path, target: Path, link: Callable[..., Any] = link) -> None:
            replace(source, target)
            target.unlink()
            link(precious, target)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", exchange)
            with pytest.raises(OSError, match=r"^cannot write the metrics '.*metrics.csv': "):
                training.MetricsFile(path, 0)
    assert precious.read_text() == "mine"


@posix
def test_fault_50_names_of_checkpoints_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-00000001.safetensors").mkdir()
    os.mkfifo(tmp_path / "checkpoint-00000002.safetensors")
    assert numbered(tmp_path) == {}
    Run(tmp_path, checkpoint_every=3, keep=1).trainer.fit(updates=3)
    assert list(numbered(tmp_path)) == [3]


# 56: memory and messages


def header(entries: dict[str, Any], content: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + content


def described(dtype: str, *shape: int, start: int = 0, width: int = 4) -> dict[str, Any]:
    stop = start + width * math.prod(shape)
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_fault_56_weights_of_another_model_are_not_read(tmp_path: Path) -> None:
    """Names, shapes and dtypes are compared first, whichever of them differs."""
    path, size = tmp_path / "w", 4_000_000
    for name, entry in {
        "weight": described("BF16", size // 2, width=2),
        "other": described("BF16", size // 2, width=2),
        "bias": described("I32", size // 4),
    }.items():
        path.write_bytes(header({name: entry}, bytes(size)))
        most, error = peak(nn.Linear(1000, 1000).load, path)
        assert isinstance(error, WeightsError)
        assert "does not fit" in str(error)
        assert most < size / 10, name


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_fault_56_weights_that_fit_are_read_once(tmp_path: Path, dtype: str) -> None:
    """Beside the parameters in float32, a block at a time."""
    width = {"F64": 8, "F32": 4}.get(dtype, 2)
    path, layer = tmp_path / "w", nn.Linear(1000, 2000, bias=False)
    entry = described(dtype, 2000, 1000, width=width)
    path.write_bytes(header({"weight": entry}, bytes(width * 2_000_000)))
    most, loaded = peak(layer.load, path)
    assert loaded is layer
    assert not layer.weight.numpy().any()
    assert most < 8_000_000 + 5_000_000


@pytest.mark.parametrize("count", [20_000, 400_000])
def test_fault_56_a_header_of_empty_tensors(tmp_path: Path, count: int) -> None:
    path = tmp_path / "w"
    entry = json.dumps(described("F32", 0))
    text = "{" + ",".join(f'"n{k}":{entry}' for k in range(count)) + "}"
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode())
    for read, kind in ((nn.Linear(3, 2).load, WeightsError), (Checkpoint.load, CheckpointError)):
        most, error = peak(read, path)
        assert type(error) is kind
        assert len(str(error)) < 400
        assert most < 2 * path.stat().st_size


def test_fault_56_messages_have_a_length(tmp_path: Path) -> None:
    layer, path = nn.Linear(3, 2), tmp_path / "w"
    save_file({f"n{k:03}": np.zeros(1) for k in range(1000)}, path)
    with pytest.raises(WeightsError) as caught:
        layer.load(path)
    assert str(caught.value) == (
        f"{str(path)!r} does not fit: Linear.load_state_dict: names do not match: missing "
        "['weight', 'bias']; unknown ['n000', 'n001', 'n002', 'n003', 'n004', 'n005', 'n006', "
        "'n007'] and 992 more"
    )
    save_file({"n" * 1_000_000: np.zeros(1)}, path)
    with pytest.raises(WeightsError, match="does not fit") as caught:
        layer.load(path)
    assert len(str(caught.value)) < 400
    with pytest.raises(KeyError) as missing:
        nn.Sequential(*[nn.Linear(1, 1) for _ in range(100)]).load_state_dict({})
    assert "and 192 more" in str(missing.value)


BOMBS = {
    "dicts": [{}] * 300_000,
    "lists": [[]] * 300_000,
    "keys": {f"{k}": 0 for k in range(200_000)},
    "numbers": [1.5] * 400_000,
    "words": ["ab"] * 400_000,
    "letters": "x" * 8_000_000,
    "a letter of four bytes": "x" * 3_000_000 + "\N{GRINNING FACE}",
}


@pytest.mark.parametrize("settings", BOMBS.values(), ids=BOMBS.keys())
def test_fault_56_json_that_would_take_all_memory(tmp_path: Path, settings: Any) -> None:
    """Refused in one sentence when it is read, and by the same measure when it is written."""
    path = tmp_path / "bomb"
    text = json.dumps({"settings": {"a": settings}})
    path.write_bytes(pack(KIND, text, {}))
    most, error = peak(Checkpoint.load, path)
    assert isinstance(error, CheckpointError)
    assert "would take far more memory than its" in str(error)
    assert most < 2.5 * path.stat().st_size
    with pytest.raises(CheckpointError, match=r"^cannot write .*: it holds so many names, numb"):
        Checkpoint({}, {}, {}, None, {}, {"a": settings}).save(path)


def test_fault_56_json_beside_large_arrays(tmp_path: Path) -> None:
    """A vocabulary of a hundred thousand words is fine beside the arrays that it needs."""
    path = tmp_path / "large"
    settings = {"words": [f"word {k}" for k in range(100_000)]}
    weight = {"weight": np.zeros((100_000, 16), np.float32)}
    Checkpoint(weight, {}, ops.generator_state(), None, {}, settings).save(path)
    most, loaded = peak(Checkpoint.load, path)
    assert loaded.settings == settings
    assert most < 2.5 * path.stat().st_size + (16 << 20)


@pytest.mark.parametrize(
    ("read", "text", "times"),
    [
        (data.read_series, "v\n" + "1\n" * 40_000, 5),  # 8 bytes for a line of 2
        (data.read_series, "t,v\n" + "2000-01-01,12.5\n" * 10_000, 1),
        (data.read_series, "v\n1\n" + "\n" * 100_000 + "2\n", 1),
        (data.read_series, "12," * 500_000, 2.5),
        (data.read_tagged, "a O\n" * 40_000, 5),  # 16 bytes for a line of 4
        (data.read_tagged, ("word NN B-NP\n" * 20 + "\n") * 500, 2.5),
        (data.read_tagged, "BOS the word EOS\tO O B-x flight\n" * 4000, 12),
        (data.read_tagged, "ab " * 500_000, 2.5),
        (data.read_tagged, "\n" * 100_000, 1),
        (data.read_sentences, ("some words of a sentence " * 5 + "\n") * 1000, 3),
        (data.read_sentences, "ab " * 60_000, 4.5),
        (data.read_messages, "ham\tok lar joking wif u oni, tomorrow\n" * 5000, 4),
        (data.read_text, "some text\r\n" * 100_000, 2.5),
    ],
)
def test_fault_56_readers_take_about_what_they_return(
    tmp_path: Path, read: Callable[[Path], Any], text: str, times: float
) -> None:
    path = tmp_path / "file"
    path.write_bytes(text.encode())
    assert peak(read, path)[0] < times * len(text) + 100_000


def test_fault_56_equal_words_are_one_object(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("word B-x\nword B-x\n")
    (words, tags), *_ = data.read_tagged(tmp_path / "file")
    assert words[0] is words[1]
    assert tags[0] is tags[1]


def test_fault_56_lines_that_are_too_long_to_split(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1 O\n" + "1," * 600_000)
    message = "line 2: a line of 1,200,000 characters, expected at most 1,000,000$"
    for read in (data.read_series, data.read_tagged):
        with pytest.raises(ValueError, match=rf"^{read.__name__}: '.*file', {message}"):
            read(tmp_path / "file")
