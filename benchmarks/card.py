"""The parts of benchmarks/card.sh one after the other, each with a limit, a log and its findings.

    benchmarks/card.sh [--only PART ...] [--out FOLDER] [--minutes N] [--rehearse]

- machine: the card, the versions, and the ceilings (a large copy, large products).
- smoke: an LSTM forward and backward and a step of Adam, against the CPU.
- tests: ``pytest -m gpu``, the most telling tests first.
- kernels: every emitted kernel of every cell against NumPy's numbers.
- reads: how often an update of the main job reads a value on the host.
- bit_equal: two runs from one seed.
- main_job: 200 updates of examples/char_lm.py, losses and time, against the CPU.
- benchmark: benchmarks/gpu.py.
- profile: launches, gaps and bytes.

A part that fails, or that is stopped at its limit, keeps what it has found, and the next one runs.
After each part the folder holds all that is known: ``card.json``, ``card.md`` (tables for
docs/performance.md) and ``logs.tar.gz``; of the part that is running, the log is in ``running``.
The end is a failure if any part's was.

``--rehearse`` needs no card: CuPy is the stand-in of tests/stand_in, and everything is tiny.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from measure import is_installed, limited, table

ROOT = Path(__file__).parents[1]
PARTS = {
    "machine": 30, "smoke": 30, "tests": 100, "kernels": 50, "reads": 20, "bit_equal": 20,
    "main_job": 45, "benchmark": 100, "profile": 40,
}  # fmt: skip
"""Seconds that each may take."""
SLOW = [
    f"--ignore=tests/test_{name}.py" for name in ("cells", "lengths", "wrappers", "regularized")
]
"""Left out of the rehearsal, as are the widest loops, users' cells, and all kernels of cells but
those of the GRUs: a CPU takes minutes to compile them."""
KERNELS = Path("tests", "test_card_kernels.py")
AHEAD = "import torch, jax"
"""Run beside the first parts, so that later ones find these libraries' files in memory."""
TITLES = {"passed": "passed", "failed": "FAILED", "stopped": "STOPPED", "left out": "left out"}


class Run(NamedTuple):
    """What the options say."""

    out: Path
    logs: Path
    rehearse: bool
    end: float


# Commands


def command(part: str, run: Run, found: Path, limit: float) -> list[str]:
    """What runs a part, whose findings go to a file. Empty where it is left out."""
    tiny = ["--rehearse"] if run.rehearse else []
    if part == "tests":
        rest = [*SLOW, "-k", "not 64-700 and not user"] if run.rehearse else []
        return pytest(found, [f"--ignore={KERNELS}", *rest, "--maxfail=30", "tests"])
    if part == "kernels":
        few = ["-k", "float32 and gru"] if run.rehearse else []
        return pytest(found, [*few, str(KERNELS)]) if (ROOT / KERNELS).exists() else []
    if part == "benchmark":
        more = ["--quick"] if run.rehearse else [f"--seconds={min(90, limit - 10):.0f}"]
        return [sys.executable, "benchmarks/gpu.py", "--device=cuda", "--json", str(found), *more]
    return [sys.executable, "benchmarks/card_parts.py", part, "--json", str(found), *tiny]


def pytest(found: Path, options: list[str]) -> list[str]:
    """The GPU tests in these files, on several processes where that is possible."""
    several = ["-n", str(min(8, os.cpu_count() or 1)), "--maxschedchunk=2"]
    return [
        *(sys.executable, "-m", "pytest", "-m", "gpu", "-v", "--tb=short", "--durations=10"),
        *("-p", "no:cacheprovider", "-o", "filterwarnings=default"),
        f"--junitxml={found.with_suffix('.xml')}",
        *(several if is_installed("pytest-xdist") else []),
        *options,
    ]


def environment(rehearse: bool) -> dict[str, str]:
    """The package as it lies here, and the stand-in where this is a rehearsal."""
    paths = [ROOT, *([ROOT / "tests" / "stand_in", ROOT / "tests"] if rehearse else [])]
    before = os.environ.get("PYTHONPATH", "")
    return {
        "PYTHONPATH": os.pathsep.join([*map(str, paths), *([before] if before else [])]),
        "PYTHONUNBUFFERED": "1",
    }


# Findings


def tests_found(report: Path, log: Path) -> dict[str, Any]:
    """Counts and failures of pytest: from its report, or from its log if it was stopped."""
    counts: Counter[str] = Counter()
    failures: list[list[str]] = []
    if report.exists():
        for case in ElementTree.parse(report).iter("testcase"):
            bad = [child for child in case if child.tag in ("failure", "error")]
            skipped = any(child.tag == "skipped" for child in case)
            counts["failed" if bad else "skipped" if skipped else "passed"] += 1
            name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
            failures += [[name, in_short(child.get("message", ""))] for child in bad[:1]]
    else:
        for line in log.read_text("utf-8", "replace").splitlines():
            if found := re.search(r"(PASSED|FAILED|ERROR|SKIPPED) (tests/\S+)", line):
                counts[found[1].lower()] += 1
                if found[1] in ("FAILED", "ERROR"):
                    failures.append([found[2], ""])
    tables = [{"title": "Failures", "header": ["test", ""], "rows": failures}] if failures else []
    return {"facts": dict(counts) or {"tests": "none was run"}, "tables": tables}


def in_short(text: str) -> str:
    """The beginning of a message, fit for a table."""
    return " ".join(text.split())[:200].replace("|", "/")


def perform(part: str, run: Run) -> dict[str, Any]:
    """Run a part within its limit; what it has found, whatever became of it."""
    running = run.out / "running"
    found, log = running / f"{part}_found.json", running / f"{part}.log"
    limit = min(PARTS[part] * (4 if run.rehearse else 1), run.end - time.monotonic())
    argv = command(part, run, found, limit)
    if not argv or limit < 3:
        why = "the time is used up" if argv else f"{KERNELS} is not there"
        return {"status": "left out", "seconds": 0.0, "notes": [why]}
    shutil.rmtree(running, ignore_errors=True)
    running.mkdir()
    begin = time.monotonic()
    status = limited(argv, limit, log, environment(run.rehearse))
    seconds = time.monotonic() - begin
    result: dict[str, Any] = {}
    if part in ("tests", "kernels"):
        result = tests_found(found.with_suffix(".xml"), log)
    elif found.exists():
        result = json.loads(found.read_text("utf-8"))
    notes = [*result.pop("notes", []), *(f"WRONG: {wrong}" for wrong in result.pop("wrong", []))]
    if status is None:
        notes.append(f"stopped at its limit of {limit:.0f} s")
    elif status:
        last = log.read_text("utf-8", "replace").strip().splitlines()[-1:]
        notes.append(f"ended with status {status}: {in_short(''.join(last))}")
    for file in running.iterdir():
        shutil.move(file, run.logs / file.name)
    running.rmdir()
    name = "stopped" if status is None else "failed" if status else "passed"
    return {"status": name, "seconds": round(seconds, 1), "command": argv, **result, "notes": notes}


# The summary


def write(results: dict[str, Any], run: Run) -> str:
    """All that is known so far, in three files that are replaced at once; the page."""
    page = page_of(results, run.rehearse)
    put(run.out / "card.json", lambda file: file.write_text(json.dumps(results, indent=1)))
    put(run.out / "card.md", lambda file: file.write_text(page, "utf-8"))

    def pack(file: Path) -> None:
        with tarfile.open(file, "w:gz") as archive:
            archive.add(run.logs, "logs")

    put(run.out / "logs.tar.gz", pack)
    return page


def put(path: Path, write_to: Callable[[Path], Any]) -> None:
    """Write a file and then rename it, so that it is never half there."""
    partial = path.with_name(f"{path.name}.partial")
    write_to(partial)
    os.replace(partial, path)


def page_of(results: dict[str, Any], rehearse: bool) -> str:
    """The page: what became of each part, then what it found."""
    facts = results.get("machine", {}).get("facts", {})
    card = ", ".join(facts.get("nvidia-smi", "a card").split(", ")[:2])
    title = "A rehearsal without a card" if rehearse else card
    lines = [f"# {title}", "", f"`benchmarks/card.sh`, {facts.get('date', 'no date')}", ""]
    lines += [overview(results), ""]
    for part, result in results.items():
        lines += [f"## {part}: {TITLES[result['status']]}", ""]
        shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in result_facts(result)}
        lines += [f"- {name}: {value}" for name, value in shown.items()]
        lines += [f"- {note}" for note in result.get("notes", [])]
        for made in result.get("tables", []):
            lines += ["", f"{made['title']}:", "", table(made["header"], made["rows"])]
        lines.append("")
    return "\n".join(lines)


def result_facts(result: dict[str, Any]) -> Sequence[tuple[str, Any]]:
    """Name and value."""
    return list(result.get("facts", {}).items())


def overview(results: dict[str, Any]) -> str:
    """A row for each part."""
    rows = [
        [part, TITLES[of["status"]], of["seconds"], "; ".join(of.get("notes", [])[-1:])[:100]]
        for part, of in results.items()
    ]
    return table(["part", "", "seconds", ""], rows)


def earlier(run: Run) -> dict[str, Any]:
    """What an earlier call found, with its logs: a part that is repeated replaces its own alone."""
    if not (run.out / "card.json").exists():
        return {}
    if (run.out / "logs.tar.gz").exists():
        with tarfile.open(run.out / "logs.tar.gz") as archive:
            archive.extractall(run.logs.parent, filter="data")
    return json.loads((run.out / "card.json").read_text("utf-8"))


def main() -> None:
    """Run the parts in their order, or those that are asked for."""
    parser = argparse.ArgumentParser(prog="card.sh", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS], metavar="PART")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "card", help="a folder")
    parser.add_argument("--minutes", type=float, default=5.0, help="for everything (%(default)s)")
    parser.add_argument("--rehearse", action="store_true", help="tiny, without a card")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("card.sh: stopped"))
    os.chdir(ROOT)
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        end = time.monotonic() + 60 * options.minutes * (4 if options.rehearse else 1)
        run = Run(options.out.resolve(), Path(folder, "logs"), options.rehearse, end)
        run.logs.mkdir()
        results, page = earlier(run), ""
        ahead = subprocess.Popen([sys.executable, "-c", AHEAD], stderr=subprocess.DEVNULL)
        try:
            for part in PARTS:
                if part in options.only:
                    print(f"{part} ...", flush=True)
                    results[part] = perform(part, run)
                    results = {name: results[name] for name in PARTS if name in results}
                    page = write(results, run)
                    print(f"{part}: {results[part]['status']}, {results[part]['seconds']} s")
        finally:
            ahead.kill()
            ahead.wait()
    print(f"\n{page}\n\n{overview(results)}\n\nIn {run.out}: card.json, card.md, logs.tar.gz")
    bad = [part for part in options.only if results[part]["status"] not in ("passed", "left out")]
    if bad:
        sys.exit(f"card.sh: {', '.join(bad)} did not pass")


if __name__ == "__main__":
    main()
