"""Machine code by its source text: in the process, and in a folder of the user's.

Numba compiles a text once; what it made is kept as an object file and loaded by LLVM alone, so that
a process that finds its loops on disk never imports Numba. A file is named by a hash of everything
that the machine code depends on, begins with a hash of its contents, and is put in place at once.
A folder that cannot be written, or a broken file, costs the time to compile and nothing else.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import platform
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

HELPERS = ("vector_math.py", "intrinsics.py", "helpers.py", "cache.py")
"""The files of this room that machine code depends on; what they say is part of the hash."""

Run: TypeAlias = Callable[[int, int, int, int], None]
"""``run(table, start, stop, step)``; it lets other Python threads run meanwhile."""


class Code(NamedTuple):
    """An object file, the name of its function, and the names that it expects from outside."""

    name: str
    needs: tuple[str, ...]
    machine: bytes


_loaded: dict[str, Run] = {}
_engines: list[Any] = []  # they own the machine code
_lock = threading.RLock()
_compiled_here = 0


def compiled_here() -> int:
    """How many texts this process has compiled, and not found on disk."""
    return _compiled_here


def folder() -> Path:
    """Where machine code is kept: TINYGRAD_RNN_CACHE, or the user's cache folder."""
    chosen = os.environ.get("TINYGRAD_RNN_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    if base:
        return Path(base) / "tinygrad_rnn"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home()))) / "tinygrad_rnn"
    return Path.home() / ".cache" / "tinygrad_rnn"


def function(source: str) -> Run:
    """The compiled ``run`` of a module's source."""
    global _compiled_here
    digest = hashlib.sha256(_surroundings() + source.encode()).hexdigest()[:32]
    with _lock:
        found = _loaded.get(digest)
        if found is None:
            code = _read(digest)
            if code is None or not _resolved(code):
                code = _compile(source, digest)
                _compiled_here += 1
                _write(digest, code)
            found = _loaded[digest] = _load(code)
        return found


@cache
def _surroundings() -> bytes:
    here = Path(__file__).parent
    texts = [(here / name).read_text("utf-8") for name in HELPERS]
    llvm, _ = _target()
    versions = [version("numba"), version("llvmlite"), sys.version, platform.platform()]
    processor = [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    return "\0".join([*versions, *processor, *texts]).encode()


@cache
def _target() -> tuple[Any, Any]:
    """LLVM's binding, and the machine that it writes code for."""
    llvm: Any = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple = llvm.Target.from_default_triple()
    machine = triple.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )
    return llvm, machine


def _compile(source: str, digest: str) -> Code:
    module = ModuleType(f"tinygrad_rnn_{digest}")
    exec(compile(source, module.__name__, "exec"), module.__dict__)
    run: Any = module.__dict__["run"]
    (signature,) = run.signatures
    llvm, machine = _target()
    parsed = llvm.parse_assembly(run.inspect_llvm(signature))
    needs = [f.name for f in parsed.functions if f.is_declaration and f.name[:5] != "llvm."]
    name = run.overloads[signature].fndesc.llvm_func_name
    return Code(name, tuple(needs), machine.emit_object(parsed))


def _resolved(code: Code) -> bool:
    """Whether everything that the code calls is in the process, without which LLVM would abort."""
    llvm, _ = _target()
    return all(llvm.address_of_symbol(name) is not None for name in code.needs)


def _load(code: Code) -> Run:
    llvm, _ = _target()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=3, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code.machine))
    engine.finalize_object()
    _engines.append(engine)
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    # A function of Numba takes the places of its result and of its exception, and has neither here.
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, number, number, number, number)
    call = kind(engine.get_function_address(code.name))

    def run(table: int, start: int, stop: int, step: int) -> None:
        nowhere = (ctypes.c_int64 * 2)()
        call(ctypes.addressof(nowhere), ctypes.addressof(nowhere) + 8, table, start, stop, step)

    return run


def _read(digest: str) -> Code | None:
    try:
        content = (folder() / f"loop_{digest}.bin").read_bytes()
        head, names, machine = content.split(b"\n", 2)
        if head != _checksum(names, machine):
            return None
        name, *needs = names.decode().split()
    except (OSError, ValueError, RuntimeError):
        return None
    return Code(name, tuple(needs), machine)


def _write(digest: str, code: Code) -> None:
    names = " ".join([code.name, *code.needs]).encode()
    temporary: str | None = None
    try:
        place = folder()
        place.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place, suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(b"\n".join([_checksum(names, code.machine), names, code.machine]))
        os.replace(temporary, place / f"loop_{digest}.bin")
    except (OSError, RuntimeError):
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _checksum(names: bytes, machine: bytes) -> bytes:
    return hashlib.sha256(names + b"\n" + machine).hexdigest().encode()
