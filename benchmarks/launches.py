"""What a card did in a stretch of work: launches, time at work and idle, copies, and who waited.

Read from the events of torch.profiler's trace, which sees the kernels of every library in the
process. Without such events (no PyTorch, no card) the times between CUDA events remain.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

ON_CARD = ("kernel", "gpu_memcpy", "gpu_memset")
CALLS = ("cuda_runtime", "cuda_driver")


def trace(work: Callable[[], Any], wait: Callable[[], Any], file: Path) -> list[dict[str, Any]]:
    """The events of ``work()``, which are left in a file too."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiler:
        work()
        wait()
    profiler.export_chrome_trace(str(file))
    return json.loads(file.read_text("utf-8"))["traceEvents"]


def summary(events: Iterable[Mapping[str, Any]], updates: int) -> dict[str, Any]:
    """What happened per update, in milliseconds and numbers, and the kernels that took longest.

    The card is idle between two pieces of work (kernels, copies, fills) of any stream; ``gaps``
    counts such times per update and ``gap`` is their median. Empty without a kernel.
    """
    complete = [event for event in events if event.get("ph") == "X"]
    there = sorted((e for e in complete if e.get("cat") in ON_CARD), key=lambda e: e["ts"])
    kernels = [e for e in there if e["cat"] == "kernel"]
    if not kernels:
        return {}
    gaps: list[float] = []
    begin, end, busy = there[0]["ts"], there[0]["ts"], 0.0
    for event in there:
        start, stop = event["ts"], event["ts"] + event["dur"]
        if start > end:
            gaps.append(start - end)
        busy += max(stop - max(start, end), 0)
        end = max(end, stop)
    calls = [e["name"] for e in complete if e.get("cat") in CALLS]
    copies = [e for e in there if e["cat"] == "gpu_memcpy"]
    return {
        "ms": (end - begin) / 1e3 / updates,
        "at work, ms": busy / 1e3 / updates,
        "idle, ms": sum(gaps) / 1e3 / updates,
        "kernels": len(kernels) / updates,
        "launch calls": sum("Launch" in name for name in calls) / updates,
        "gaps": len(gaps) / updates,
        "gap, µs": median(gaps) if gaps else 0.0,
        "copies to the host": sum("DtoH" in e["name"] for e in copies) / updates,
        "copies to the card": sum("HtoD" in e["name"] for e in copies) / updates,
        "copied, MB": sum(e.get("args", {}).get("bytes", 0) for e in copies) / 1e6 / updates,
        "waits": sum("Synchronize" in name for name in calls) / updates,
        "allocations": sum(bool(re.search("Malloc|MemAlloc", name)) for name in calls) / updates,
        "longest": _longest(kernels, updates),
    }


def _longest(kernels: Iterable[Mapping[str, Any]], updates: int) -> list[list[Any]]:
    """Name, launches per update, microseconds of one (median), share of the kernels' time."""
    times: dict[str, list[float]] = defaultdict(list)
    for event in kernels:
        times[event["name"]].append(event["dur"])
    whole = sum(sum(of) for of in times.values()) or 1.0
    ordered = sorted(times.items(), key=lambda item: -sum(item[1]))[:8]
    return [
        [name[:60].replace("|", "/"), len(of) / updates, median(of), sum(of) / whole]
        for name, of in ordered
    ]
