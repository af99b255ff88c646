"""``cupy.cuda`` of the stand-in: devices, streams, events, graphs and memory, all on the host."""

from __future__ import annotations

import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

host_reads = 0
"""How many copies to the host were waited for."""


# Devices


class _Current(threading.local):
    """The device and the stream of a thread."""

    def __init__(self) -> None:
        self.device = 0
        self.stream = Stream.null

    @property
    def capture(self) -> list[Callable[[], Any]] | None:
        """The nodes of the graph that is being captured."""
        return self.stream.nodes


class Device:
    """A device, and the block in which it is the current one."""

    def __init__(self, device: int | Device | None = None) -> None:
        self.id = current.device if device is None else getattr(device, "id", device)
        if not 0 <= self.id < runtime.getDeviceCount():
            raise runtime.CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")
        self.before: list[int] = []

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __enter__(self) -> Device:
        self.before.append(current.device)
        current.device = self.id
        return self

    def __exit__(self, *_: object) -> None:
        current.device = self.before.pop()

    def use(self) -> None:
        current.device = self.id

    def synchronize(self) -> None:
        pass

    compute_capability = "90"
    mem_info = (1 << 34, 1 << 34)


def is_available() -> bool:
    return True


# Memory: what is allocated is noted with its device and its size until it goes


class OutOfMemoryError(MemoryError):
    """With the text of CuPy's."""

    def __init__(self, size: int, total: int, limit: int = 0) -> None:
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes, "
            f"limit set to: {limit:,} bytes)."
        )


class MemoryPool:
    """Counts bytes; there is no pool."""

    def __init__(self) -> None:
        self.used, self.limit = 0, 0

    def malloc(self, size: int) -> int:
        if self.limit and self.used + size > self.limit:
            raise OutOfMemoryError(size, self.used, self.limit)
        return size

    def set_limit(self, size: int = 0) -> None:
        self.limit = size

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.used

    def free_all_blocks(self) -> None:
        pass


POOL = MemoryPool()
_allocator: Callable[[int], Any] = POOL.malloc
_owners: dict[int, tuple[Any, int]] = {}


def get_allocator() -> Callable[[int], Any]:
    return _allocator


def set_allocator(allocator: Callable[[int], Any] | None = None) -> None:
    global _allocator
    _allocator = allocator or POOL.malloc


def allocated(values: np.ndarray) -> np.ndarray:
    """NumPy's array as memory of the current device."""
    if current.capture is not None:
        raise runtime.CUDARuntimeError("memory allocated while a stream is capturing")
    owner = _owner(values)
    size = owner.nbytes
    _allocator(size)

    def gone(_: Any, key: int = id(owner)) -> None:
        POOL.used -= size
        _owners.pop(key, None)

    POOL.used += size
    _owners[id(owner)] = weakref.ref(owner, gone), current.device
    return values


def _owner(values: np.ndarray) -> np.ndarray:
    while isinstance(values.base, np.ndarray):
        values = values.base
    return values


def is_allocated(values: np.ndarray) -> bool:
    return id(_owner(values)) in _owners


def device_of(values: np.ndarray) -> int:
    return _owners.get(id(_owner(values)), (None, 0))[1]


def check_device(values: np.ndarray) -> None:
    """What CuPy says of arrays of a device that the current one cannot reach."""
    there = device_of(values)
    if there != current.device:
        raise ValueError(
            f"The device where the array resides ({there}) is different from the current device "
            f"({current.device}). Peer access is unavailable between these devices."
        )


class MemoryPointer:
    """A place in the memory of an array."""

    def __init__(self, values: np.ndarray, offset: int = 0) -> None:
        self.values, owner = values, _owner(values)
        self.memory = owner.ravel("K").view(np.uint8) if owner.size else owner
        self.offset = values.ctypes.data - owner.ctypes.data + offset
        self.ptr = values.ctypes.data + offset
        self.device_id = device_of(values)

    def __add__(self, offset: int) -> MemoryPointer:
        return MemoryPointer(self.values, self.ptr + offset - self.values.ctypes.data)


# Streams, events, graphs


class Graph:
    """What was captured."""

    def __init__(self, nodes: list[Callable[[], Any]]) -> None:
        self.nodes = nodes

    def launch(self, stream: Any = None) -> None:
        for node in self.nodes:
            node()


class Stream:
    """A stream, and the block in which it is the current one. All works at once."""

    null: Stream
    number = 0

    def __init__(
        self, null: bool = False, non_blocking: bool = False, ptds: bool = False, **_: Any
    ) -> None:
        Stream.number += 1
        self.ptr = 0 if null else 16 * Stream.number
        self.nodes: list[Callable[[], Any]] | None = None
        self.before: list[Stream] = []

    def __enter__(self) -> Stream:
        self.before.append(current.stream)
        current.stream = self
        return self

    def __exit__(self, *_: object) -> None:
        current.stream = self.before.pop()

    def begin_capture(self, mode: int | None = None) -> None:
        if self.ptr == 0:
            raise RuntimeError("cannot capture on the default (legacy) stream")
        self.nodes = []

    def end_capture(self) -> Graph:
        nodes, self.nodes = self.nodes, None
        if nodes is None:
            raise runtime.CUDARuntimeError("cudaErrorStreamCaptureInvalidated")
        return Graph(nodes)

    def is_capturing(self) -> bool:
        return self.nodes is not None

    def synchronize(self) -> None:
        pass

    def record(self, event: Any = None) -> Event:
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        pass


Stream.null = Stream(null=True)


def get_current_stream(device_id: int = -1) -> Stream:
    return current.stream


class Event:
    """A moment."""

    def __init__(self, block: bool = False, disable_timing: bool = False) -> None:
        self.time = 0.0

    def record(self, stream: Any = None) -> None:
        self.time = time.perf_counter()

    def synchronize(self) -> None:
        pass


def get_elapsed_time(start: Event, end: Event) -> float:
    """Milliseconds."""
    return 1e3 * (end.time - start.time)


class CUDARuntimeError(RuntimeError):
    """What the runtime says."""


runtime = SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDeviceCount=lambda: 2,
    getDeviceProperties=lambda device: {"name": b"the stand-in", "multiProcessorCount": 1},
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13000,
    memGetInfo=lambda: Device.mem_info,
    deviceSynchronize=lambda: None,
    streamCaptureModeRelaxed=2,
)
memory = SimpleNamespace(
    OutOfMemoryError=OutOfMemoryError, MemoryPool=MemoryPool, MemoryPointer=MemoryPointer
)
stream = SimpleNamespace(Stream=Stream, get_current_stream=get_current_stream)
current = _Current()
for _name in ("runtime", "memory", "stream"):
    sys.modules[f"cupy.cuda.{_name}"] = globals()[_name]  # to be imported from as well
