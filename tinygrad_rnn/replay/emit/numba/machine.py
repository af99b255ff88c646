"""LLVM: the object code of a text, and the function of an object code."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

from tinygrad_rnn.backends import subnormal
from tinygrad_rnn.replay.emit.numba.installed import Unusable, switched_off
from tinygrad_rnn.replay.emit.numba.store import Code

CompiledFunction: TypeAlias = Callable[[Any, int, int, int], Any]
"""``run(table, start, stop, step)``, the table by its address or as an array of C's.

It lets other Python threads run meanwhile.
"""

COMPILED_IN = (Path(subnormal.__file__), *sorted(Path(__file__).parent.glob("*.py")))
"""Our files that machine code depends on: what they say is part of its name."""

SETTINGS = ".numba_config.yaml"
"""What Numba reads of the working directory, besides the variables that begin with NUMBA_."""
WITHOUT_EFFECT = ("NUMBA_CACHE_", "NUMBA_CUDA_", "NUMBA_NUM_THREADS", "NUMBA_THREADING_LAYER")
"""What those variables begin with that change no machine code of ours."""

_engines: list[Any] = []  # they own the machine code


def digest_of(source: str) -> str:
    """A hash of everything that the machine code of a text depends on."""
    found = hashlib.sha256(_unchanging())
    for setting in _settings():
        found.update(setting.encode(errors="surrogateescape") + b"\0")
    if os.path.isfile(SETTINGS):
        with open(SETTINGS, "rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    found.update(source.encode())
    return found.hexdigest()[:32]


def compiled(source: str, digest: str) -> Code:
    """A text compiled by Numba, which is imported here and nowhere else."""
    importlib.import_module("numba")
    off = switched_off()
    if off is not None:
        raise Unusable(off)
    module = ModuleType(f"tinygrad_rnn_{digest}")
    exec(compile(source, module.__name__, "exec"), module.__dict__)
    run: Any = module.__dict__["run"]
    (signature,) = run.signatures
    llvm, machine = _target()
    parsed = llvm.parse_assembly(run.inspect_llvm(signature))
    needs = [f.name for f in parsed.functions if f.is_declaration and f.name[:5] != "llvm."]
    name = run.overloads[signature].fndesc.llvm_func_name
    return Code(name, tuple(needs), machine.emit_object(parsed))


def loaded(code: Code) -> CompiledFunction | None:
    """The function of an object file; None where the process lacks something that it calls."""
    llvm, _ = _target()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=3, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    # Only now LLVM sees what the process has. It would end the process for a name that it misses.
    if any(llvm.address_of_symbol(name) is None for name in code.needs):
        return None
    engine.add_object_file(llvm.ObjectFileRef.from_data(code.machine))
    engine.finalize_object()
    _engines.append(engine)
    number, pointer = ctypes.c_int64, ctypes.c_void_p
    # A function of Numba takes the places of its result and of its exception, and has neither here.
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, pointer, number, number, number)
    nowhere = ctypes.byref(ctypes.c_int64())
    return partial(kind(engine.get_function_address(code.name)), nowhere, nowhere)


@cache
def _unchanging() -> bytes:
    llvm, _ = _target()
    versions = [version("numba"), version("llvmlite"), sys.version, platform.platform()]
    processor = [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    texts = [path.read_text("utf-8") for path in COMPILED_IN]
    return "\0".join([*versions, *processor, *texts]).encode()


def _settings() -> Iterator[str]:
    for name, value in sorted(os.environ.items()):
        if name.startswith("NUMBA_") and not name.startswith(WITHOUT_EFFECT):
            yield f"{name}={value}"


@cache
def _target() -> tuple[Any, Any]:
    """LLVM's binding, and the machine that it writes code for."""
    llvm: Any = importlib.import_module("llvmlite.binding")
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    if sys.platform == "linux":
        # C's functions of numbers are the process's own only where Python itself is linked to them.
        with suppress(RuntimeError):  # a C library that has them all in one
            llvm.load_library_permanently("libm.so.6")
    triple = llvm.Target.from_default_triple()
    machine = triple.create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        jit=True,
    )
    return llvm, machine
