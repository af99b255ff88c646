"""Kernels of the stand-in, compiled by g++ at their first launch; what is compiled is kept."""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_cuda
import numpy as np

from cupy.cuda import check_device, current

FOLDER = Path(os.environ.get("TINYGRAD_RNN_CACHE") or tempfile.gettempdir()) / "stand_in"
_one_at_a_time = threading.Lock()  # the number of a block is the process's


def _launch(node: Callable[[], Any]) -> None:
    """Do it, or have it in the graph that is being captured."""
    if current.capture is not None:
        current.capture.append(node)
    else:
        node()


class RawKernel:
    """A kernel as its source says; blocks run one after the other, with four threads at most."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = (), **_: Any) -> None:
        self.code, self.name = code, name
        self.launcher: Any = None

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...]
    ) -> None:
        (blocks,), (threads,) = grid, block
        if self.launcher is None:
            FOLDER.mkdir(parents=True, exist_ok=True)
            self.launcher = host_cuda.compile_on_host(self.code, self.name, FOLDER)
        for argument in args:
            if hasattr(argument, "_values"):
                check_device(argument._values)
        values = [host_cuda.by_value(argument) for argument in args]

        def node() -> None:
            addresses = (ctypes.c_void_p * len(values))(*(v.ctypes.data for v in values))
            with _one_at_a_time:
                assert self.launcher(blocks, min(threads, 4), addresses, len(values))

        _launch(node)


_TYPES = {
    "bool": "bool", "int32": "int", "int64": "long long", "float16": "float16",
    "float32": "float", "float64": "double",
}  # fmt: skip
_HALF = """
struct float16 {
    unsigned short bits;
    float16(double x) : bits(loop_to_half(x)) {}
    operator float() const { return loop_from_half(bits); }
    float16& operator+=(float x) { return *this = float16(float(*this) + x); }
};
"""


class ElementwiseKernel:
    """``operation`` for each element, with names for what it reads and writes."""

    def __init__(
        self,
        in_params: str,
        out_params: str,
        operation: str,
        name: str = "kernel",
        preamble: str = "",
    ) -> None:
        self.ins, self.outs = (
            [p.split() for p in ps.split(", ")] for ps in (in_params, out_params)
        )
        self.operation, self.preamble = operation, preamble

    def __call__(self, *args: Any, size: int | None = None) -> Any:
        if len(args) != len(self.ins) + len(self.outs):
            raise TypeError("the stand-in wants all outputs to be given")
        values = [self._value(argument) for argument in args]
        kinds: dict[str, np.dtype[Any]] = {}
        for (*_, kind, name), value in zip([*self.ins, *self.outs], values, strict=True):
            wanted = np.dtype(kind) if kind in _TYPES else kinds.setdefault(kind, value.dtype)
            if value.dtype != wanted:
                raise TypeError(f"Type is mismatched. {name} {value.dtype} {wanted}")
        each = [len(parameter) == 2 for parameter in [*self.ins, *self.outs]]  # not raw
        arrays = [hasattr(argument, "_values") for argument in args]
        shapes = [v.shape for v, *is_one in zip(values, each, arrays, strict=True) if all(is_one)]
        if bool(shapes) == (size is not None):
            raise ValueError("Loop size is undecided, or given beside arrays that say it")
        shape = (size,) if size is not None else np.broadcast_shapes(*shapes)
        outputs = values[len(self.ins) :]
        if size is None and any(out.shape != shape for out in outputs):
            raise ValueError("Out shape is mismatched")
        given = [
            np.ascontiguousarray(np.broadcast_to(v, shape) if one else v)
            for v, one in zip(values, each, strict=True)
        ]
        run = self._compiled([v.dtype.name for v in given])
        addresses = (ctypes.c_void_p * len(given))(*(v.ctypes.data for v in given))
        run(ctypes.c_longlong(int(np.prod(shape))), addresses)
        for out, new in zip(outputs, given[len(self.ins) :], strict=True):
            if out is not new:
                out[...] = new
        return args[len(self.ins)]

    def _value(self, argument: Any) -> np.ndarray:
        if hasattr(argument, "_values"):
            check_device(argument._values)
            return argument._values
        if type(argument) in (bool, int, float):
            return np.array(argument)
        raise TypeError(f"Unsupported type {type(argument)}")

    def _compiled(self, dtypes: list[str]) -> Any:
        lines: list[str] = []
        for k, ((*raw, kind, name), dtype) in enumerate(
            zip([*self.ins, *self.outs], dtypes, strict=True)
        ):
            constant = "const " if k < len(self.ins) else ""
            at = f"given{k}" if raw else f"given{k}[i]"
            type_name = f"{constant}{_TYPES[dtype]}"
            lines.append(f"{type_name}{'*' if raw else '&'} {name} = {at};")
            if kind not in _TYPES:
                lines.insert(0, f"typedef {_TYPES[dtype]} {kind};")
        heads = [f"{_TYPES[d]}* given{k} = ({_TYPES[d]}*)given[{k}];" for k, d in enumerate(dtypes)]
        text = "\n".join(
            [
                f"{_HALF}{self.preamble}",
                'extern "C" void elementwise(long long size, void** given) {',
                *heads,
                "for (long long i = 0; i < size; ++i) {",
                *dict.fromkeys(lines),
                self.operation,
                "}",
                "}",
            ]
        )
        FOLDER.mkdir(parents=True, exist_ok=True)
        return host_cuda.library(text, FOLDER).elementwise
