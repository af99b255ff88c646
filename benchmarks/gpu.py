"""Replayed layers on a GPU against PyTorch's (cuDNN), PyTorch by hand, torch.compile and JAX.

    python benchmarks/gpu.py [--only REGULAR_EXPRESSION] [--seconds 100] [--device cuda|cpu]
        [--quick] [--json FILE]

A training step computes the outputs for all T, takes the mean of their squares as loss, and the
gradients of all weights, biases and inputs; nothing is copied to the host. Times are medians
between CUDA events, steps one behind the other, JAX's by the host's clock. TF32 is off. Contenders
run in processes of their own, one after the other, the most important first: when the seconds are
used up, the rest is left out. Before a contender is timed, its numbers at a small shape are
compared with ours on the CPU. The floor is the larger of two times: of the operations of the
products at the rate of a large product, and of what must be read and written at that of a large
copy, both measured on the card. ``--quick`` runs everything at a tiny shape, on the CPU where there
is no card.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import ours
import peers
import scaling
from measure import Clock, clock, device_time, difference, is_installed, limited, table, versions

import tinygrad_rnn as tg

Shape = tuple[int, int, int, int]
Figures = dict[str, dict[str, Any]]
"""What was found, by "contender | kind | shape"."""

SHAPES: list[Shape] = [
    (100, 32, 256, 256),
    (100, 64, 512, 512),
    (200, 64, 1024, 1024),
    (50, 256, 1024, 1024),
    (1000, 16, 256, 256),
]
SMALL: Shape = (5, 3, 4, 8)
JOB = "main job"
USERS = ("layer-norm LSTM", "peephole LSTM", "matrix LSTM")

KINDS: dict[str, list[Shape]] = {
    "LSTM": SHAPES,
    JOB: [scaling.JOB],
    "layer-norm LSTM": [SHAPES[k] for k in (0, 1, 3)],
    "matrix LSTM": SHAPES[:2],
    "peephole LSTM": [SHAPES[k] for k in (0, 1, 3)],
    "GRU": SHAPES,
    "RNN": SHAPES,
}
"""Where each kind of network is timed, in the order of importance."""

VARIANTS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "ours, graph": lambda: tg.replay.using(graph=True),
    "ours, cuBLAS": lambda: tg.replay.using(cublas=True),
    "ours, float16 products": lambda: tg.matmul_precision("float16"),
}
"""What is off unless asked for."""

WORKERS: dict[str, tuple[float, list[tuple[str, list[str]]]]] = {
    "ours": (45, [("ours", list(KINDS))]),
    "PyTorch": (
        40,
        [
            ("cuDNN", ["LSTM"]),
            ("by hand", ["LSTM", "layer-norm LSTM", "matrix LSTM", "peephole LSTM"]),
            ("cuDNN", [JOB, "GRU", "RNN"]),
            ("cuDNN, float16", ["LSTM", "GRU", "RNN"]),
        ],
    ),
    **{name: (12, [(name, ["LSTM", JOB])]) for name in VARIANTS},
    "ours again": (10, [("ours again", ["LSTM"])]),
    "JAX": (25, [("JAX", ["LSTM", "GRU"])]),
    "compiled cell": (40, [("by hand, cell compiled", ["LSTM"])]),
    "compiled loop": (40, [("by hand, loop compiled", ["LSTM"])]),
}
"""The processes: how many seconds each may take, and its contenders with their networks."""

LIBRARIES = dict.fromkeys(("PyTorch", "compiled cell", "compiled loop"), "torch") | {"JAX": "jax"}
"""What a process needs beside this package."""

UNWANTED = re.compile("failed with status|^(?!compiled).*stopped after")
"""Notes on processes that should have ended otherwise; compilation may take too long."""

AIMS = [
    ("our LSTM / cuDNN's", ("ours", ["LSTM"]), ("cuDNN", "LSTM"), 1.0),
    ("our LSTM / by hand", ("ours", ["LSTM"]), ("by hand", "LSTM"), 0.1),
    ("a user's cells / our LSTM", ("ours", list(USERS[:2])), ("ours", "LSTM"), 1.2),
]
"""Geometric means over the shapes at which both were measured."""


# In a contender's process


def build(contender: str, kind: str, shape: Shape, devices: dict[str, str]) -> Callable[[], Any]:
    """The training step of a contender, or its update of the main job."""
    if contender.startswith("ours"):
        if kind == JOB:
            return scaling.our_update(devices["ours"], shape)
        return ours.our_step(kind, *shape, device=devices["ours"])
    if contender == "JAX":
        return peers.jax_step(kind, *shape)
    if kind == JOB:
        return scaling.torch_update(devices["PyTorch"], shape)
    return peers.torch_step(
        kind,
        *shape,
        by_hand=contender.startswith("by hand"),
        device=devices["PyTorch"],
        dtype="float16" if "float16" in contender else "float32",
        compiled=next((part for part in ("cell", "loop") if part in contender), ""),
    )


def where(device: str, worker: str) -> dict[str, str]:
    """The device of each library: PyTorch may have to do with the CPU when this is rehearsed."""
    found = {"ours": device, "PyTorch": "cpu"}
    if LIBRARIES.get(worker) == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        if device != "cpu" and torch.cuda.is_available():
            found["PyTorch"] = "cuda"
    return found


def marks(contender: str, devices: dict[str, str]) -> Clock:
    """What a contender is timed by."""
    if contender.startswith("ours"):
        return clock("host" if devices["ours"] == "cpu" else "cupy")
    return clock("torch" if contender != "JAX" and devices["PyTorch"] == "cuda" else "host")


def ceilings(device: str, large: int, count: int) -> dict[str, float]:
    """GB/s of a copy, bytes read and written, and TFLOP/s of products of random matrices."""
    backend = tg.backends.backend_for(device)
    xp, events = backend.xp, clock("host" if device == "cpu" else "cupy")
    random = np.random.default_rng(0)
    a = backend.from_host(random.standard_normal((large, large), np.float32), device)
    b, out = a.copy(), a.copy()
    source = xp.stack([a] * 8)
    target = source.copy()
    ms = device_time(lambda: xp.copyto(target, source), events, 0.2)["ms"]
    found = {"copy, GB/s": 2 * target.nbytes / 1e6 / ms}
    for dtype in (np.float32, np.float16):
        x, y, z = (array.astype(dtype) for array in (a, b, out))
        ms = device_time(lambda x=x, y=y, z=z: xp.matmul(x, y, out=z), events, 0.3, count)["ms"]
        found[f"{np.dtype(dtype)} product, TFLOP/s"] = 2 * large**3 / 1e9 / ms
    return found


def cases(worker: str, only: str, quick: bool) -> Iterator[tuple[str, str, Shape]]:
    """What a process times, in its order."""
    for name, kinds in WORKERS[worker][1]:
        for kind in kinds:
            if re.search(only, f"{name}, {kind}"):
                for shape in [SMALL] if quick else KINDS[kind]:
                    yield name, kind, shape


def work(options: argparse.Namespace) -> None:
    """Time the cases of a process; what is found goes line by line into a file."""
    devices, checked = where(options.device, options.worker), dict[tuple[str, str], str]()

    def note(key: str, **found: Any) -> None:
        with options.json.open("a", encoding="utf-8") as file:
            print(json.dumps({"key": key, **found}), file=file)
        print(key, found, flush=True)

    if options.worker == "ours":
        try:
            note("ceilings", **ceilings(options.device, *((64, 2) if options.quick else (8192, 5))))
        except Exception as error:
            note("ceilings", wrong=first_line(error))
    for contender, kind, shape in cases(options.worker, options.only, options.quick):
        key = f"{contender} | {kind} | {shape}"
        try:
            if (contender, kind) not in checked:
                checked[contender, kind] = unlike(contender, kind, devices)
            if checked[contender, kind]:
                note(key, wrong=checked[contender, kind])
                continue
            with VARIANTS.get(contender, nullcontext)():
                step = build(contender, kind, shape, devices)
                seconds, least = (0.02, 2) if options.quick else (0.25, 5)
                note(key, **device_time(step, marks(contender, devices), seconds, least))
        except Exception as error:
            note(key, wrong=first_line(error))


def first_line(error: Exception) -> str:
    """What an error says, in short."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


def unlike(contender: str, kind: str, devices: dict[str, str]) -> str:
    """How a contender's numbers differ from ours on the CPU; nothing where they do not."""
    if kind == JOB:
        return ""
    with tg.replay.using(jit=False, packed=False):
        wanted = ours.our_step(kind, *SMALL)()
    with VARIANTS.get(contender, nullcontext)():
        error = difference(build(contender, kind, SMALL, devices)(), wanted)
    accuracy = 0.05 if "float16" in contender else 1e-4
    return "" if error < accuracy else f"computes something else: differs by {error:.1e}"


# What is made of it


def floor(kind: str, shape: Shape, found: dict[str, float]) -> float:
    """Milliseconds that no step can be faster than, in float32; nan for what is not counted."""
    T, B, I, H = shape
    gates = {"GRU": 3, "RNN": 1, "matrix LSTM": math.nan}.get(kind, 4)
    operations = 6 * T * B * gates * H * (I + H)
    numbers = 2 * (T * B * (I + H) + gates * H * (I + H))
    if kind == JOB:
        operations += 6 * T * B * H * scaling.CLASSES
    rate, speed = found["float32 product, TFLOP/s"], found["copy, GB/s"]
    return max(operations / rate / 1e9, 4 * numbers / speed / 1e6)


def tables(figures: Figures) -> list[dict[str, Any]]:
    """Times, ratios, and the aims."""
    made = []
    times = {tuple(key.split(" | ")): of["ms"] for key, of in figures.items() if "ms" in of}
    names = list(dict.fromkeys(name for name, *_ in times))
    limits = figures.get("ceilings", {"wrong": "not measured"})
    for kind in KINDS:
        shapes = list(dict.fromkeys(shape for _, k, shape in times if k == kind))
        rows: list[list[Any]] = [
            [name, *(times.get((name, kind, shape), "") for shape in shapes)]
            for name in names
            if any((name, kind, shape) in times for shape in shapes)
        ]
        if rows and "wrong" not in limits:
            least = [floor(kind, tuple(json.loads(f"[{s[1:-1]}]")), limits) for s in shapes]
            rows.append(["floor", *("" if math.isnan(ms) else ms for ms in least)])
        if rows:
            title = f"{kind}, milliseconds per {'update' if kind == JOB else 'training step'}"
            made.append({"title": title, "header": ["(T, B, I, H)", *shapes], "rows": rows})
    rows = []
    for kind in KINDS:
        for name in names:
            for peer in names:
                each = ratios(times, (name, [kind]), (peer, kind))
                if name.startswith("ours") and not peer.startswith("ours") and each:
                    rows.append([f"{kind}: {name} / {peer}", len(each), geometric_mean(each)])
    header = ["below 1 we are faster", "shapes", "geometric mean"]
    made.append({"title": "Ratios", "header": header, "rows": rows})
    rows = []
    for title, mine, theirs, aim in AIMS:
        each = ratios(times, mine, theirs)
        mean = geometric_mean(each) if each else ""
        met = "not measured" if not each else "yes" if geometric_mean(each) <= aim else "no"
        rows.append([title, len(each), mean, aim, met])
    made.append({"title": "Aims", "header": ["", "ratios", "mean", "aim", "met"], "rows": rows})
    launched = [
        [f"{name}, {kind}", shape, of["ms"], of["host"], of["wall"], of["calls"]]
        for key, of in figures.items()
        if "ms" in of
        for name, kind, shape in [key.split(" | ")]
        if name.startswith(("ours", "cuDNN"))
    ]
    header = ["", "(T, B, I, H)", "ms", "host", "wall", "calls"]
    made.append({"title": "The host's share", "header": header, "rows": launched})
    return made


def ratios(
    times: dict[tuple[str, ...], float], mine: tuple[str, Sequence[str]], theirs: tuple[str, str]
) -> list[float]:
    """Ours to theirs, at each shape at which both were timed."""
    return [
        ms / times[*theirs, shape]
        for (name, kind, shape), ms in times.items()
        if name == mine[0] and kind in mine[1] and (*theirs, shape) in times
    ]


def left_out(worker: str, quick: bool) -> str:
    """Why a process is not begun, if it is not."""
    if worker in LIBRARIES and not is_installed(LIBRARIES[worker]):
        return f"{LIBRARIES[worker]} cannot be found"
    if worker.startswith("compiled") and (quick or not importlib.util.find_spec("triton")):
        return "torch.compile is for a card, with Triton"
    return ""


def run(options: argparse.Namespace) -> tuple[Figures, list[str]]:
    """Each process in turn; the figures so far are kept whatever happens to the next."""
    figures, notes = Figures(), list[str]()
    end = time.monotonic() + (600 if options.quick else options.seconds)
    environment = {"NVIDIA_TF32_OVERRIDE": "0", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    with tempfile.TemporaryDirectory() as folder:
        for worker, (most, _) in WORKERS.items():
            seconds = min(4 * most if options.quick else most, end - time.monotonic())
            reason = left_out(worker, options.quick)
            if not any(cases(worker, options.only, options.quick)):
                continue
            if reason or seconds < 3:
                notes.append(f"{worker}: left out, {reason or 'the time is used up'}")
                continue
            results, log = Path(folder, f"{len(notes)}{worker}.jsonl"), Path(folder, "log")
            results.touch()
            command = [sys.executable, __file__, "--worker", worker, "--json", str(results)]
            command += ["--device", options.device, "--only", options.only]
            command += ["--quick"] if options.quick else []
            begin = time.monotonic()
            try:
                status = limited(command, seconds, log, environment)
            finally:  # also where all of this is interrupted
                for line in results.read_text("utf-8").split("\n")[:-1]:
                    found = json.loads(line)
                    figures[found.pop("key")] = found
                write(options.json, figures, notes)
            took = f"{worker}: {time.monotonic() - begin:.0f} s"
            notes.append(took if status == 0 else f"{took}, {ending(status, seconds)}")
            print(notes[-1], flush=True)
            if status != 0:
                print(log.read_text("utf-8", "replace")[-3000:], flush=True)
            log.unlink()
            write(options.json, figures, notes)
    notes += [f"{key}: {of['wrong']}" for key, of in figures.items() if "wrong" in of]
    write(options.json, figures, notes)
    return figures, notes


def ending(status: int | None, seconds: float) -> str:
    """How a process ended that did not end well."""
    return f"stopped after {seconds:.0f} s" if status is None else f"failed with status {status}"


def write(path: Path | None, figures: Figures, notes: Sequence[str]) -> None:
    """All that is known so far, at once."""
    if path is None:
        return
    facts = dict(figures.get("ceilings", {}))
    made = {"facts": facts, "tables": tables(figures), "notes": list(notes), "figures": figures}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(made, indent=1), "utf-8")
    os.replace(partial, path)


def main() -> None:
    """Parse the options, run the contenders and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help='what to time, such as "ours|cuDNN, LSTM"')
    parser.add_argument("--seconds", type=float, default=100, help="for everything (%(default)s)")
    parser.add_argument("--device", default="", help="where ours runs; cuda unless it is quick")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, a few steps")
    parser.add_argument("--json", type=Path, help="a file for all that is found, as it comes")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    if not options.device:
        has_card = any(name.startswith("cuda") for name in tg.devices())
        options.device = "cpu" if options.quick and not has_card else "cuda"
    try:
        tg.backends.backend_for(options.device)
    except tg.DeviceError as error:
        sys.exit(f"gpu.py: {error}")
    figures, notes = run(options)
    print(f"\n{versions()}; on {options.device}\n")
    for made in tables(figures):
        print(f"{made['title']}\n\n{table(made['header'], made['rows'])}\n")
    print("\n".join(notes))
    wrong = [key for key, of in figures.items() if "wrong" in of]
    wrong += [note for note in notes if UNWANTED.search(note)]
    if wrong or not figures:
        sys.exit(f"gpu.py: not all went well: {'; '.join(wrong) or 'nothing was measured'}")


if __name__ == "__main__":
    main()
