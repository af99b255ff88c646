"""benchmarks/card.py: parts that fail or hang, how a trace is read, what gpu.py makes of times."""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from programs import loaded

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def card() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield loaded(FOLDER / "card.py")


@pytest.fixture(scope="module")
def gpu(card: ModuleType) -> ModuleType:
    return loaded(FOLDER / "gpu.py")


@pytest.fixture(scope="module")
def launches() -> ModuleType:
    return loaded(FOLDER / "launches.py")


PROGRAMS = {
    "machine": "found({'facts': {'name': 'a card', 'date': 'today'}})",
    "smoke": "found({'facts': {'tried': 1}, 'wrong': ['two is not three']}); sys.exit('no')",
    "reads": "found({'facts': {'seen': 2.5}}); print('begun', flush=True); time.sleep(600)",
    "bit_equal": "raise RuntimeError('illegal address')",
    "main_job": "found({'tables': [{'title': 'Losses', 'header': ['k'], 'rows': [[1], [2]]}]})",
}
"""What stands for the parts: one that passes, one that is wrong, one that hangs, one that dies."""


@pytest.fixture
def played(card: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script with programs of our own as its parts."""

    def command(part: str, run: Any, found: Path, limit: float) -> list[str]:
        head = f"import sys, time, json\nfound = lambda x: json.dump(x, open({str(found)!r}, 'w'))"
        return [sys.executable, "-c", f"{head}\n{PROGRAMS[part]}"] if part in PROGRAMS else []

    monkeypatch.setattr(card, "command", command)
    monkeypatch.setattr(card, "PARTS", dict.fromkeys(card.PARTS, 300) | {"reads": 4})
    monkeypatch.setattr(card, "AHEAD", "pass")
    return card


def run(card: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: object) -> None:
    monkeypatch.setattr(sys, "argv", ["card.sh", *map(str, options)])
    card.main()


def test_a_part_that_fails_or_hangs_loses_nothing(
    played: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    with pytest.raises(SystemExit, match="smoke, reads, bit_equal did not pass"):
        run(played, monkeypatch, "--out", out)
    assert {path.name for path in out.iterdir()} == {"card.json", "card.md", "logs.tar.gz"}
    found = json.loads((out / "card.json").read_text())
    assert {part: of["status"] for part, of in found.items()} == {
        "machine": "passed",
        "smoke": "failed",
        "tests": "left out",
        "kernels": "left out",
        "reads": "stopped",
        "bit_equal": "failed",
        "main_job": "passed",
        "benchmark": "left out",
        "profile": "left out",
    }
    assert found["smoke"]["facts"] == {"tried": 1}
    assert found["smoke"]["notes"] == ["WRONG: two is not three", "ended with status 1: no"]
    assert found["reads"]["facts"] == {"seen": 2.5}
    assert found["reads"]["notes"] == ["stopped at its limit of 4 s"]
    (note,) = found["bit_equal"]["notes"]
    assert note.endswith("RuntimeError: illegal address")
    page = (out / "card.md").read_text()
    for said in ("## reads: STOPPED", "- seen: 2.5", "| 2 |", "WRONG: two", "illegal address"):
        assert said in page
    with tarfile.open(out / "logs.tar.gz") as archive:
        log = archive.extractfile("logs/reads.log")
        assert log is not None
        assert log.read().startswith(b"begun\n")
    assert page in capsys.readouterr().out

    # What is repeated replaces its own findings and log, and nothing else.
    monkeypatch.setitem(PROGRAMS, "reads", "print('again'); found({'facts': {'seen': 0.0}})")
    run(played, monkeypatch, "--out", out, "--only", "reads")
    again = json.loads((out / "card.json").read_text())
    assert again.pop("reads")["facts"] == {"seen": 0.0}
    del found["reads"]
    assert again == found
    with tarfile.open(out / "logs.tar.gz") as archive:
        assert {"logs/reads.log", "logs/machine.log"} <= set(archive.getnames())


def test_when_the_time_is_used_up(
    played: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(played, monkeypatch, "--out", tmp_path, "--minutes", 0.04)
    (status,) = {of["status"] for of in json.loads((tmp_path / "card.json").read_text()).values()}
    assert status == "left out"


REPORT = """<testsuites><testsuite>
<testcase classname="tests.test_a" name="one"/>
<testcase classname="tests.test_a" name="two"><failure message="1 != 2&#10;more">x</failure>
</testcase>
<testcase classname="tests.test_b" name="three"><skipped message="why"/></testcase>
<testcase classname="tests.test_b" name="four"><error message="lost | gone">x</error></testcase>
</testsuite></testsuites>"""
LOG = """[gw0] [  1%] PASSED tests/test_a.py::one
[gw1] [  2%] FAILED tests/test_a.py::two[cuda-x]
[gw1] [  3%] PASSED tests/test_b.py::three
"""


def test_counts_of_tests(card: ModuleType, tmp_path: Path) -> None:
    """From the report of pytest, or from what it printed before it was stopped."""
    report, log = tmp_path / "found.xml", tmp_path / "log"
    log.write_text(LOG)
    found = card.tests_found(report, log)
    assert found["facts"] == {"passed": 2, "failed": 1}
    assert found["tables"][0]["rows"] == [["tests/test_a.py::two[cuda-x]", ""]]
    report.write_text(REPORT)
    found = card.tests_found(report, log)
    assert found["facts"] == {"passed": 1, "failed": 2, "skipped": 1}
    assert found["tables"][0]["rows"] == [
        ["test_a::two", "1 != 2 more"],
        ["test_b::four", "lost / gone"],
    ]


def event(category: str, name: str, start: float, time: float, **more: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "ts": start, "dur": time, "args": more}


def test_a_trace(launches: ModuleType) -> None:
    """Two updates: kernels that overlap, a gap of 5 and one of 20 microseconds, copies, calls."""
    events = [
        event("kernel", "loop", 145, 15),
        event("kernel", "loop", 100, 10),
        event("kernel", "gemm", 105, 15),
        event("gpu_memcpy", "Memcpy DtoH (Device -> Pinned)", 120, 5, bytes=4_000_000),
        event("gpu_memset", "Memset (Device)", 160, 1),
        event("kernel", "gemm", 166, 34),
        event("gpu_memcpy", "Memcpy HtoD (Pageable -> Device)", 199, 1, bytes=2_000_000),
        event("cuda_runtime", "cudaLaunchKernel", 90, 4),
        event("cuda_driver", "cuLaunchKernel", 94, 4),
        event("cuda_driver", "cuLaunchKernelEx", 98, 4),
        event("cuda_runtime", "cudaGraphLaunch", 98, 4),
        event("cuda_runtime", "cudaStreamSynchronize", 99, 50),
        event("cuda_runtime", "cudaMallocAsync", 99, 50),
        event("cpu_op", "aten::mm", 0, 1000),
        {"ph": "i", "cat": "kernel", "name": "no duration", "ts": 3},
        {"ph": "M", "name": "process_name"},
    ]
    found = launches.summary(events, 2)
    assert found.pop("longest") == [
        ["gemm", 1.0, 24.5, pytest.approx(49 / 74)],
        ["loop", 1.0, 12.5, pytest.approx(25 / 74)],
    ]
    assert found == {
        "ms": 0.05,
        "at work, ms": 0.0375,
        "idle, ms": 0.0125,
        "kernels": 2.0,
        "launch calls": 2.0,
        "gaps": 1.0,
        "gap, µs": 12.5,
        "copies to the host": 0.5,
        "copies to the card": 0.5,
        "copied, MB": 3.0,
        "waits": 0.5,
        "allocations": 0.5,
    }
    assert launches.summary([events[3], events[7], events[13]], 2) == {}


def test_ratios_and_aims(gpu: ModuleType) -> None:
    first, second = (f"{shape}" for shape in gpu.SHAPES[:2])
    times = {
        f"ours | LSTM | {first}": 2.0,
        f"ours | LSTM | {second}": 8.0,
        f"cuDNN | LSTM | {first}": 4.0,
        f"cuDNN | LSTM | {second}": 4.0,
        f"ours | layer-norm LSTM | {first}": 2.2,
        f"ours | peephole LSTM | {first}": 2.0,
        f"ours, graph | LSTM | {second}": 2.0,
    }
    figures = {key: {"ms": ms, "host": 1.0, "wall": ms, "calls": 9} for key, ms in times.items()}
    figures[f"by hand | LSTM | {first}"] = {"wrong": "computes something else"}
    rate = {"copy, GB/s": 1e3, "float32 product, TFLOP/s": 10.0}
    made = {of["title"]: of for of in gpu.tables(figures | {"ceilings": rate})}
    lstm = made["LSTM, milliseconds per training step"]
    assert lstm["header"] == ["(T, B, I, H)", first, second]
    assert lstm["rows"][:3] == [
        ["ours", 2.0, 8.0],
        ["cuDNN", 4.0, 4.0],
        ["ours, graph", "", 2.0],
    ]
    # 6 T B 4H (I + H) operations at (100, 32, 256, 256), 1e10 of them in a millisecond
    assert lstm["rows"][3][:2] == ["floor", pytest.approx(6 * 3200 * 1024 * 512 / 1e10)]
    assert made["Ratios"]["rows"] == [
        ["LSTM: ours / cuDNN", 2, pytest.approx(1)],
        ["LSTM: ours, graph / cuDNN", 1, pytest.approx(0.5)],
    ]
    assert made["Aims"]["rows"] == [
        ["our LSTM / cuDNN's", 2, pytest.approx(1), 1.0, "yes"],
        ["our LSTM / by hand", 0, "", 0.1, "not measured"],
        ["a user's cells / our LSTM", 2, pytest.approx(1.1**0.5), 1.2, "yes"],
    ]
    without = {of["title"]: of for of in gpu.tables(figures)}
    assert len(without["LSTM, milliseconds per training step"]["rows"]) == 3


def test_the_floor_of_bytes(gpu: ModuleType) -> None:
    """Where copies are slow: inputs, outputs and weights, each with its gradient."""
    slow = {"copy, GB/s": 1e-3, "float32 product, TFLOP/s": 1e9}
    numbers = 2 * (5 * 3 * (4 + 8) + 3 * 8 * (4 + 8))
    assert gpu.floor("GRU", gpu.SMALL, slow) == pytest.approx(4 * numbers / 1e3)
