"""Parts of benchmarks/card.py, each run in a process of its own: python card_parts.py NAME.

What a part finds goes into a file as it is found; a part that found something wrong fails at its
end.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from measure import clock, device_time, difference, is_installed
from ours import our_step

import tinygrad_rnn as tg
from tinygrad_rnn import data, nn, optim, rnn

ROOT = Path(__file__).parents[1]
DEVICE = "cuda"
SMALL_JOB = ["--hidden", "16", "--embedding", "8", "--length", "8", "--batch-size", "4"]
PACKAGES = (
    "numpy", "cupy-cuda13x", "cupy-cuda12x", "torch", "nvidia-cudnn-cu13", "nvidia-cublas", "jax",
    "jaxlib", "triton", "numba", "nvidia-cuda-nvrtc", "nvidia-cuda-runtime", "pytest", "hypothesis",
)  # fmt: skip
QUERY = (
    "name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,clocks.max.sm,"
    "clocks.max.mem,power.limit,temperature.gpu,pstate,ecc.mode.current,mig.mode.current"
)


class Found:
    """What a part finds: facts, tables and what is wrong, in a file at once."""

    def __init__(self, path: Path, rehearse: bool) -> None:
        self.path, self.rehearse = path, rehearse
        self.all: dict[str, Any] = {"facts": {}, "tables": [], "wrong": []}

    def fact(self, **facts: Any) -> None:
        self.all["facts"] |= facts
        self._save(facts)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.all["tables"].append({"title": title, "header": header, "rows": rows})
        self._save(self.all["tables"][-1])

    def check(self, right: Any, otherwise: str) -> None:
        """Note what is wrong, unless all is right."""
        if not right:
            self.all["wrong"].append(otherwise)
        self._save(f"{'right' if right else 'WRONG'}: {otherwise}")

    def _save(self, news: object) -> None:
        print(news, flush=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.all, indent=1, default=str), "utf-8")
        os.replace(partial, self.path)


# The main job, as examples/char_lm.py trains it


def main_job(
    found: Found, device: str, dtype: str = "float32"
) -> tuple[nn.Module, Callable[[], tg.Tensor]]:
    """The model, and its next update, which gives the loss on the device."""
    sys.path.insert(0, str(ROOT / "examples"))
    import char_lm

    tg.manual_seed(1)
    options = char_lm.make_parser().parse_args(SMALL_JOB if found.rehearse else [])
    text = data.python_reference()[: 20_000 if found.rehearse else None]
    reading, _ = data.split_held_out(text)
    vocabulary = data.Vocabulary.of(reading)
    sizes = options.batch_size, options.length
    batches = data.ContiguousBatches(vocabulary.encode(reading), *sizes)
    model = char_lm.CharacterModel(len(vocabulary), options).to(dtype).to(device)
    optimizer = optim.Adam(model.parameters(), lr=options.lr, clip=optim.ClipNorm(1.0))
    schedule = optim.schedules.Linear(options.lr, options.epochs * len(batches))
    number, state = 0, None

    def update() -> tg.Tensor:
        nonlocal number, state
        inputs, targets = batches[number % len(batches)]
        optimizer.zero_grad()
        optimizer.lr = schedule(number)
        scores, state = model(inputs, state)
        loss = nn.cross_entropy(scores, targets, axis=-1)
        loss.backward()
        optimizer.step()
        number, state = number + 1, rnn.detach(state)
        return loss.detach()

    return model, update


# The parts


def machine(found: Found) -> None:
    """The card, the versions, and the two ceilings."""
    import cupy
    from gpu import ceilings

    found.fact(date=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), cores=os.cpu_count())
    found.fact(python=sys.version.split()[0], devices=", ".join(tg.devices()))
    versions = {p: importlib.metadata.version(p) for p in PACKAGES if is_installed(p)}
    found.fact(**versions, **{"CuPy imported": cupy.__version__})
    runtime = cupy.cuda.runtime
    found.fact(
        **{
            "CUDA runtime": runtime.runtimeGetVersion(),
            "CUDA driver": runtime.driverGetVersion(),
            "free and total, MiB": [size >> 20 for size in runtime.memGetInfo()],
        }
    )
    properties = runtime.getDeviceProperties(0)
    names = ("name", "multiProcessorCount", "l2CacheSize", "major", "minor", "sharedMemPerBlock")
    found.fact(**{name: str(properties[name]) for name in names if name in properties})
    with contextlib.suppress(AttributeError, ImportError):
        handle = cupy.cuda.device.get_cublas_handle()
        found.fact(cuBLAS=cupy.cuda.cublas.getVersion(handle))
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
        found.fact(**{"nvidia-smi": answer.stdout.strip() or answer.stderr.strip()})
    for name in ("nvcc", "ncu"):
        found.fact(**{name: shutil.which(name) or "not there"})
    found.fact(**ceilings(DEVICE, *((64, 2) if found.rehearse else (8192, 5))))


def smoke(found: Found) -> None:
    """Ten lines: a tensor, an LSTM forward and backward, a step of Adam, against the CPU."""
    results = []
    for device in ("cpu", DEVICE):
        tg.manual_seed(0)
        layer = rnn.LSTM(3, 4).to(device)
        optimizer = optim.Adam(layer.parameters(), lr=0.1, clip=optim.ClipNorm(1.0))
        x = tg.tensor(np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 2, 3), device=device)
        loss = tg.mean(tg.square(layer(x)[0]))
        loss.backward()
        gradients = [p.grad for p in layer.parameters()]
        report = optimizer.step()
        results.append([loss, *gradients, *layer.parameters()])
        found.fact(**{device: loss.item(), f"{device}, norm of the gradients": report.norm})
    error = difference(*results)
    found.fact(difference=error)
    found.check(error < 1e-5, f"loss, gradients and parameters differ by {error:.1e}")


def reads(found: Found) -> None:
    """How often an update asks the card for a value, or waits for it."""
    counts: Counter[str] = Counter()
    _, update = main_job(found, DEVICE)
    kept = [update() for _ in range(3)]  # compiles
    with counting(counts):
        kept += [update() for _ in range(10)]
    each = {name: counts[name] / 10 for name in COUNTED}
    found.table("Per update of the main job", ["", "times"], [list(item) for item in each.items()])
    for name in COUNTED[:3]:
        found.check(each[name] == 0, f"{name}: {each[name]:g} in an update, 0 expected")
    for name in COUNTED[3:]:
        found.check(each[name] <= EXPECTED[name], f"{name}: {each[name]:g} in an update")
    found.check(all(np.isfinite(loss.item()) for loss in kept), "every loss is finite")


EXPECTED = {"reports begun": 1, "reports awaited": 1}
"""The report of an update, awaited by the next."""
COUNTED = ("values read", "copies waited for", "item()", *EXPECTED)


@contextlib.contextmanager
def counting(counts: Counter[str]) -> Iterator[None]:
    """Count what reads a value of the card, in the backend and in CuPy's arrays."""
    backend: Any = tg.backends.backend_for(DEVICE)
    kind, array_type = type(backend), backend.array_type
    to_host, fetch, get, item = kind.to_host, kind.fetch, array_type.get, array_type.item
    known = 0

    def counted_to_host(self: Any, array: Any) -> Any:
        nonlocal known
        counts["values read"] += 1
        known += 1
        try:
            return to_host(self, array)
        finally:
            known -= 1

    def counted_fetch(self: Any, array: Any) -> Any:
        counts["reports begun"] += 1
        wait = fetch(self, array)

        def counted_wait() -> Any:
            counts["reports awaited"] += 1
            return wait()

        return counted_wait

    def counted_get(self: Any, *args: Any, **options: Any) -> Any:
        counts["copies waited for"] += options.get("blocking", True) and not known
        return get(self, *args, **options)

    def counted_item(self: Any, *args: Any) -> Any:
        counts["item()"] += 1
        return item(self, *args)

    with (
        mock.patch.object(kind, "to_host", counted_to_host),
        mock.patch.object(kind, "fetch", counted_fetch),
        mock.patch.object(array_type, "get", counted_get),
        mock.patch.object(array_type, "item", counted_item),
    ):
        yield


def bit_equal(found: Found) -> None:
    """Two runs from one seed end in the same bits."""
    count = 5 if found.rehearse else 50
    ends: list[dict[str, bytes]] = []
    for _ in range(2):
        model, update = main_job(found, DEVICE)
        for _ in range(count):
            loss = update()
        state = {name: p.numpy() for name, p in model.named_parameters()}
        found.check(all(np.isfinite(p).all() for p in state.values()), "every parameter is finite")
        ends.append(
            {name: p.tobytes() for name, p in state.items()} | {"loss": bytes(loss.numpy())}
        )
    digest = hashlib.sha256(b"".join(ends[0].values())).hexdigest()
    found.fact(updates=count, sha256=digest)
    unequal = [name for name, bits in ends[0].items() if bits != ends[1][name]]
    found.check(not unequal, f"after {count} updates two runs differ in {unequal}")


def main_job_200(found: Found) -> None:
    """The losses of the main job on the card and on the CPU, and the time of an update."""
    count, wide = (12, 5) if found.rehearse else (200, 20)
    losses = {}
    for name, device, dtype, updates in (
        ("card", DEVICE, "float32", count),
        ("CPU", "cpu", "float32", count),
        ("CPU, float64", "cpu", "float64", wide),
    ):
        _, update = main_job(found, device, dtype)
        kept = [update(), update()]
        kept[-1].item()
        begin = time.perf_counter()
        kept += [update() for _ in range(updates - 2)]
        losses[name] = [loss.item() for loss in kept]
        ms = 1e3 * (time.perf_counter() - begin) / (updates - 2)
        found.fact(**{f"{name}, ms per update": ms})
    marks = [k for k in (1, 2, 5, 10, 20, 50, 100, 150, 200, count) if k <= count]
    rows = []
    for k in dict.fromkeys(marks):
        card, cpu = losses["card"][k - 1], losses["CPU"][k - 1]
        exact = losses["CPU, float64"][k - 1] if k <= wide else ""
        rows.append([k, card, cpu, exact, abs(card - cpu) / cpu, tolerance(k)])
    header = ["update", "card", "CPU", "CPU, float64", "card to CPU, relative", "allowed"]
    found.table("Loss, nats per character", header, [[*map(_exactly, row)] for row in rows])
    pairs = enumerate(zip(losses["card"], losses["CPU"], strict=True), 1)
    far = [k for k, (card, cpu) in pairs if not abs(card - cpu) <= tolerance(k) * cpu]
    found.check(not far, f"losses on the card and on the CPU differ too much at updates {far[:5]}")
    pairs = enumerate(zip(losses["card"], losses["CPU, float64"], strict=False), 1)
    far = [k for k, (card, exact) in pairs if not abs(card - exact) <= tolerance(k) * exact]
    found.check(not far, f"losses on the card and in float64 differ too much at updates {far[:5]}")


def tolerance(update: int) -> float:
    """How far losses of float32 may be apart, relative.

    Rounding grows with training. On the CPU, float32 (by Numba, and by NumPy) differed from float64
    by less than 2e-7 up to update 50, by 1e-5 at 100, 6e-4 at 150, 2e-3 at 200.
    """
    return 1e-5 if update <= 50 else 1e-3 if update <= 100 else 2e-2


def _exactly(value: Any) -> Any:
    return f"{value:.7g}" if isinstance(value, float) else value


# The profile


def profile(found: Found) -> None:
    """Launches, gaps and bytes of a training step at two shapes, and of the main job's update."""
    from gpu import SHAPES, SMALL, VARIANTS, ceilings, floor
    from launches import summary, trace

    marks = clock("cupy")
    shapes = [SMALL, (7, *SMALL[1:])] if found.rehearse else [SHAPES[0], SHAPES[2]]
    limits = ceilings(DEVICE, *((64, 2) if found.rehearse else (8192, 3)))
    steps: dict[str, tuple[Callable[[], Any], int, float]] = {}
    said: list[list[str]] = []
    for shape in shapes:
        step = our_step("LSTM", *shape, device=DEVICE)
        steps[f"LSTM {shape}"] = step, shape[0], floor("LSTM", shape, limits)
        said += explained(f"LSTM {shape}", *shape)
    variant, (first, *_) = "ours, graph", steps
    step, *rest = steps[first]
    steps[f"{first}, {variant}"] = VARIANTS[variant]()(step), *rest
    with VARIANTS[variant]():
        said += explained(f"{first}, {variant}", *shapes[0])
    found.table("What explain() says", ["", "forward, then backward"], said)
    steps["main job"] = main_job(found, DEVICE)[1], 64, 0.0
    rows: list[list[Any]] = []
    for name, (step, _, least) in steps.items():
        timed = device_time(step, marks, 0.02 if found.rehearse else 0.3, 3)
        rows.append([name, timed["ms"], timed["host"], timed["wall"], least or ""])
    header = ["", "ms", "host, ms", "wall, ms", "floor, ms"]
    found.table("By CUDA events, not traced", header, rows)
    found.check(all(row[1] > 0 for row in rows), "every step takes time")
    for name, (step, T, least) in steps.items() if is_installed("torch") else ():
        file = found.path.with_name(f"trace_{re.sub('[^A-Za-z0-9]+', '_', name)}.json")
        work, traced = functools.partial(repeated, step, 3), None
        try:
            traced = summary(trace(work, lambda: marks.wait(marks.mark()), file), 3)
        except Exception as error:
            found.check(False, f"{name} could not be traced: {type(error).__name__}: {error}")
        if not traced:
            found.fact(**{name: "no kernel in torch.profiler's trace"})
            continue
        longest = traced.pop("longest")
        traced["kernels per time step"] = traced["kernels"] / T
        if least:
            traced["floor / at work"] = least / traced["at work, ms"]
        found.table(f"{name}, per update", ["", ""], [list(item) for item in traced.items()])
        found.table(f"{name}: kernels", ["", "launches", "µs", "share"], longest)
    if shutil.which("ncu") and not found.rehearse:
        counters(found)


def repeated(step: Callable[[], Any], count: int) -> None:
    """Several steps, of which nothing is kept."""
    for _ in range(count):
        step()


def explained(name: str, T: int, B: int, I: int, H: int) -> list[list[str]]:
    """What a replayed LSTM says of its costs and of how it runs, forward and backward."""
    layer = rnn.LSTM(I, H).to(DEVICE)
    tg.mean(layer(tg.ones((T, B, I), device=DEVICE))[0]).backward()
    text = layer.explain()
    print(text)
    costs = ("memory:", "per step:", "per call", "note:")
    return [[name, line.strip()] for line in text.splitlines() if line.strip().startswith(costs)]


def counters(found: Found) -> None:
    """What Nsight Compute reads off the last launch forward and the first one backward.

    The clocks are left as they are. The launches are those of the second of two training steps,
    each with one kernel per time step and direction.
    """
    metrics = (
        "gpu__time_duration.sum,dram__bytes_read.sum,dram__bytes_write.sum,"
        "launch__registers_per_thread,launch__grid_size,launch__block_size,"
        "sm__warps_active.avg.pct_of_peak_sustained_active,"
        "dram__throughput.avg.pct_of_peak_sustained_elapsed"
    )
    command = ["ncu", "--clock-control", "none", "--csv", "--metrics", metrics]
    command += ["--kernel-name", "regex:tinygrad_rnn_loop", "--launch-skip", "299"]
    command += ["--launch-count", "2", sys.executable, __file__, "steps", "--json", os.devnull]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=40)
    except subprocess.TimeoutExpired:
        found.fact(ncu="stopped after 40 s")
        return
    print(done.stdout[-8000:], done.stderr[-2000:], sep="\n")
    lines = [line for line in done.stdout.splitlines() if "tinygrad_rnn_loop" in line]
    found.fact(ncu=f"status {done.returncode}, {len(lines)} values")
    rows = [[cell.strip('"') for cell in line.split('","')[-3:]] for line in lines]
    found.table("Nsight Compute, two launches", ["metric", "unit", "value"], rows)


def steps(found: Found) -> None:
    """Two training steps, to be looked at by Nsight Compute."""
    step = our_step("LSTM", 100, 32, 256, 256, device=DEVICE)
    step()
    step()


PARTS = {
    "machine": machine,
    "smoke": smoke,
    "reads": reads,
    "bit_equal": bit_equal,
    "main_job": main_job_200,
    "profile": profile,
    "steps": steps,
}


def main() -> None:
    """Run a part; its end says whether all was right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--json", type=Path, required=True, help="where its findings go")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes")
    options = parser.parse_args()
    found = Found(options.json, options.rehearse)
    PARTS[options.part](found)
    if found.all["wrong"]:
        sys.exit(f"{options.part}: {'; '.join(found.all['wrong'])}")


if __name__ == "__main__":
    main()
