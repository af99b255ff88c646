"""CUDA kernels on the host: their source compiled as C++, behind a backend of strict arrays.

Blocks run one after the other. A block runs as one thread, or as several with a real barrier for
``__syncthreads``; kernels are written for any power of two of threads.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from strict import StrictBackend

from tinygrad_rnn.replay.emit.cuda.preamble import PREAMBLE

DIALECT = """
#include <cmath>
#include <cstring>
#include <utility>
#ifdef __SSE__
#include <xmmintrin.h>
#else
static unsigned _mm_getcsr() { return 0; }
static void _mm_setcsr(unsigned) {}
#endif
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(n)
struct Dim { unsigned x; };
extern thread_local Dim threadIdx;
extern Dim blockIdx, blockDim, gridDim;
void __syncthreads();
void run_blocks(unsigned grid, unsigned block, void (*run)(void**), void** given);
static double __longlong_as_double(long long bits) {
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
static unsigned short loop_to_half(double x) {
    const unsigned short sign = std::signbit(x) ? 0x8000 : 0;
    x = std::fabs(x);
    if (x != x) return sign | 0x7e00;
    if (x == 0) return sign;
    if (x >= 65520) return sign | 0x7c00;
    int exponent;
    std::frexp(x, &exponent);  // x = 0.1... * 2^exponent
    if (exponent < -13) exponent = -13;  // below, numbers are multiples of 2^-24
    const int steps = std::nearbyint(std::ldexp(x, 11 - exponent));
    return sign | (((exponent + 13) << 10) + steps);
}
static unsigned short loop_to_half(float x) { return loop_to_half((double)x); }
static float loop_from_half(unsigned short h) {
    const int exponent = (h >> 10) & 31, bits = h & 1023;
    const float size = exponent == 31 ? (bits ? NAN : INFINITY)
        : exponent ? std::ldexp(1024.0f + bits, exponent - 25) : std::ldexp((float)bits, -24);
    return h & 0x8000 ? -size : size;
}
"""
"""What CUDA C has beyond C++, and what the preamble writes in PTX."""

LAUNCH = """
template <typename... A, size_t... I>
static void call(void (*kernel)(A...), void** given, std::index_sequence<I...>) {
    kernel(*(std::remove_const_t<A>*)given[I]...);
}
template <typename... A> static bool takes(void (*kernel)(A...), int count) {
    return sizeof...(A) == count;
}
template <typename... A> static void call(void (*kernel)(A...), void** given) {
    call(kernel, given, std::index_sequence_for<A...>());
}
static void run(void** given) { call(NAME, given); }
extern "C" bool launch(unsigned grid, unsigned block, void** given, int count) {
    if (!takes(NAME, count)) return false;
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    run_blocks(grid, block, run, given);
    _mm_setcsr(before);
    return true;
}
"""
"""As the driver does it: the address of each argument, of which the kernel takes the value.

Subnormal numbers count as 0, as in float32 on a card, for which CuPy compiles with -ftz=true.
"""

BLOCKS = """
#include <barrier>
#include <chrono>
#include <thread>
#include <vector>
struct Dim { unsigned x; };
thread_local Dim threadIdx;
Dim blockIdx, blockDim, gridDim;
static std::barrier<>* together;
static thread_local unsigned barriers;
void __syncthreads() {
    if (!together) return;
    together->arrive_and_wait();
    if (barriers++ % blockDim.x == threadIdx.x)
        std::this_thread::sleep_for(std::chrono::microseconds(20));
}
void run_blocks(unsigned grid, unsigned block, void (*run)(void**), void** given) {
    gridDim.x = grid;
    blockDim.x = block;
    std::barrier<> barrier(block);
    together = block > 1 ? &barrier : nullptr;
    const auto thread = [&](unsigned number) {
        threadIdx.x = number;
        for (unsigned k = 0; k < grid; ++k) {
            if (number == 0) blockIdx.x = k;
            __syncthreads();
            run(given);
            __syncthreads();
        }
    };
    std::vector<std::thread> others;
    for (unsigned k = 1; k < block; ++k) others.emplace_back(thread, k);
    thread(0);
    for (auto& other : others) other.join();
}
"""
"""One block after the other, with a thread for each of its threads.

Behind each barrier another thread comes late, so that a barrier that is missing shows.
"""

OPTIONS = ["-std=c++20", "-O1", "-ffp-contract=off", "-fwrapv", "-fPIC", "-pthread"]

EXTERN = 'extern "C" '
_compiled: dict[str, Any] = {}
_launchers: dict[tuple[str, str], Any] = {}


def compiled(text: str, folder: Path, ending: str, *more: Any) -> Path:
    """The file that g++ makes of a text, found again by the text; several may make it at once."""
    path = folder / hashlib.sha256(text.encode()).hexdigest()[:16]
    made = path.with_suffix(ending)
    if not made.exists():
        own = path.with_suffix(f".{os.getpid()}.cpp")
        own.write_text(text)
        subprocess.run(["g++", *OPTIONS, own, *more, "-o", own.with_suffix(ending)], check=True)
        own.with_suffix(ending).replace(made)
    return made


def library(text: str, folder: Path) -> ctypes.CDLL:
    """A text in the dialect of kernels, compiled and loaded."""
    if text not in _compiled:
        _compiled[text] = loaded(f"{DIALECT}{text}", folder)
    return _compiled[text]


def loaded(text: str, folder: Path) -> ctypes.CDLL:
    """A text in C++, compiled and loaded beside what runs blocks."""
    if "blocks" not in _compiled:
        _compiled["blocks"] = compiled(BLOCKS, folder, ".o", "-c")
    return ctypes.CDLL(str(compiled(text, folder, ".so", "-shared", _compiled["blocks"])))


def compile_on_host(source: str, name: str, folder: Path) -> Any:
    """The launcher of a kernel: a function of grid, block and the addresses of the arguments."""
    launch = _launchers.get((source, name))
    if launch is None:
        launch = library(f"{source}{LAUNCH.replace('NAME', name)}", folder).launch
    launch.restype = ctypes.c_bool
    return launch


def compile_together(sources: Iterable[str], name: str, folder: Path) -> None:
    """What ``compile_on_host`` would make of each source, by one run of g++ for all of them.

    Each begins with the preamble of loops, which is compiled once.
    """
    bodies = {source: source.removeprefix(PREAMBLE) for source in sources}
    launch = LAUNCH[LAUNCH.index("static void run(") :].replace("NAME", name)
    parts = [DIALECT, PREAMBLE, LAUNCH[: LAUNCH.index("static void run(")]]
    for k, body in enumerate(bodies.values()):
        own = launch.replace("bool launch", f"bool launch{k}")
        parts.append(f"namespace part{k} {{\n{body.replace(EXTERN, '')}\n{own}\n}}\n")
    made = loaded("".join(parts), folder)
    for k, source in enumerate(bodies):
        _launchers[source, name] = made[f"launch{k}"]


class HostCUDA(StrictBackend):
    """Strict arrays with kernels.

    Attributes
    ----------
    threads : how many threads a block has at most; a card would have as many as it is asked for.
    launches : the grid and block of every launch.
    """

    def __init__(self, folder: Path, threads: int = 1) -> None:
        super().__init__()
        self.folder, self.threads = folder, threads
        self.launches: list[tuple[int, int]] = []
        self.sources: list[str] = []

    def compile_kernel(self, source: str, name: str) -> Any:
        launch = compile_on_host(source, name, self.folder)
        self.sources.append(source)

        def called(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]) -> None:
            (blocks,), (threads,) = grid, block
            assert blocks > 0
            assert threads & (threads - 1) == 0
            self.launches.append((blocks, threads))
            values = [by_value(argument) for argument in args]
            addresses = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
            assert launch(blocks, min(threads, self.threads), addresses, len(values))

        return called


def by_value(argument: Any) -> np.ndarray:
    """The bytes that CuPy would pass to the kernel; TypeError for what it would refuse."""
    values = getattr(argument, "_values", None)  # of a strict array
    if values is not None:
        return np.array([values.ctypes.data], np.uint64)
    if type(argument) is int:
        return np.array([argument], np.int64)
    if isinstance(argument, np.ndarray) and argument.size == 1:
        return argument
    raise TypeError(f"a kernel takes no {type(argument).__name__}")
