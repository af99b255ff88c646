"""Machine code in the process: found again, compiled once, whatever interrupts or forks."""

from __future__ import annotations

import ast
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from loop_cases import lstm
from programs import run_python
from threads import at_once

import tinygrad_rnn as tg
from tinygrad_rnn.backends import backend_of, extras, forks
from tinygrad_rnn.replay.emit import choice
from tinygrad_rnn.replay.emit.numba import cache, installed, machine
from tinygrad_rnn.replay.emit.numba.source import module_source
from tinygrad_rnn.replay.emit.numba.store import Code

pytest.importorskip("numba")

TESTS = Path(__file__).parent
POSIX = hasattr(os, "fork")


def ran(code: str, folder: Path, **environment: str) -> tuple[str, str]:
    """What a process prints, and its errors; it ends well."""
    settings = {"TINYGRAD_RNN_CACHE": str(folder), "PYTHONPATH": path_of_tests(), **environment}
    process = run_python("-c", code, **settings)
    return process.stdout.strip(), process.stderr


def path_of_tests(*before: str) -> str:
    return os.pathsep.join([*before, str(TESTS), os.environ.get("PYTHONPATH", "")])


# What the next process finds

CELLS = """
import sys
import numpy as np
import tinygrad_rnn as tg
from tinygrad_rnn.replay.emit.numba import cache

def mlstm(x, state):
    C, n = state
    q = x.reshape((2, 4, 8))
    i, f = tg.exp(x[:, :4]), tg.exp(-tg.softplus(-x[:, 4:8]))
    C = f.reshape((2, 4, 1, 1)) * C
    C = C + (i.reshape((2, 4, 1)) * q).reshape((2, 4, 8, 1)) * q.reshape((2, 4, 1, 8))
    n = f.reshape((2, 4, 1)) * n + i.reshape((2, 4, 1)) * q
    h = tg.matmul(C, q.reshape((2, 4, 8, 1))).reshape((2, 4, 8))
    return h / tg.maximum(tg.abs((n * q).sum(axis=-1, keepdims=True)), 1.0), (C, n)

rng = np.random.default_rng(0)
x = tg.tensor(rng.standard_normal((5, 2, 32)).astype("f"))
state = (tg.tensor(np.zeros((2, 4, 8, 8), "f")), tg.tensor(np.zeros((2, 4, 8), "f")))
print(tg.scan(mlstm, x, state)[0].numpy().tobytes())
cell = tg.rnn.LayerNormLSTMCell(32, 8)
for p in cell.parameters():
    p.data = tg.tensor(rng.standard_normal(p.shape).astype("f"))
tg.rnn.Recurrent(cell)(x)[0].sum().backward()
print(cell.parameters()[0].grad.numpy().tobytes())
print(cache.compiled_here(), "numba" in sys.modules, file=sys.stderr)
"""
PRIMITIVES = """
import sys
import numpy as np
from expressions import by_numba, cases
from loop_cases import DOUBLE, FLOAT, LONG
from tinygrad_rnn.replay.emit.numba import cache
for dtype in {dtypes}:
    lines, inputs, _ = cases(dtype)
    found = by_numba(lines, inputs)  # nan has a sign, which nobody promises
    print({{name: np.where(x == x, x, 0).tobytes() for name, x in found.items()}})
print(cache.compiled_here(), "numba" in sys.modules, file=sys.stderr)
"""
FUNCTIONS = """
import sys
from loop_cases import allocate, fused, line, spec, whole
from tinygrad_rnn.replay.emit.numba import cache
from tinygrad_rnn.replay.emit.numba.emitter import compile_loop
from tinygrad_rnn.replay.program.loop import Loop
for function, dtype in {functions}:
    places = [whole(k, (3, 40)) for k in range(2)]
    kernel = fused(line("y", function, "x", dtype=dtype), reads={{"x": places[0]}},
                   writes={{"y": places[1]}})
    loop = Loop((spec("x", (3, 40), dtype), spec("y", (3, 40), dtype)), (kernel,), False)
    given = allocate(loop, 1)
    compile_loop(loop)(given, 1)
    print(given[1].tobytes())
print(cache.compiled_here(), "numba" in sys.modules, file=sys.stderr)
"""


def found_again(program: str, folder: Path, texts: int) -> None:
    """A process compiles so many texts; the next finds them, and its numbers are the same."""
    first, counted = ran(program, folder, PYTHONHASHSEED="1")
    assert counted.split() == [str(texts), "True"]
    second, counted = ran(program, folder, PYTHONHASHSEED="2")
    assert counted.split() == ["0", "False"]
    assert second == first


def test_fault_51_functions_of_c_are_found_again(tmp_path: Path) -> None:
    """Each as the first that a process loads, when LLVM has not yet looked about."""
    functions = [
        (function, dtype)
        for dtype in ("float32", "float64")
        for function in ("log1p(x0)", "erf(x0)", "expm1(x0)", "sin(x0) + cos(x0)")
    ]
    functions += [("power(abs(x0), 0.3)", "float64"), ("remainder(x0, 0.7)", "float64")]
    first, counted = ran(FUNCTIONS.format(functions=functions), tmp_path, PYTHONHASHSEED="1")
    assert counted.split() == [str(len(functions)), "True"]
    wanted = dict(zip(functions, first.splitlines(), strict=True))
    for k in (0, 4, -1):
        program = FUNCTIONS.format(functions=[functions[k], *functions])
        again, counted = ran(program, tmp_path, PYTHONHASHSEED="2")
        assert counted.split() == ["0", "False"]
        assert again.splitlines() == [wanted[functions[k]], *first.splitlines()]


def test_fault_47_every_primitive_is_found_again(tmp_path: Path) -> None:
    found_again(PRIMITIVES.format(dtypes="(FLOAT, DOUBLE, LONG)"), tmp_path, 3)


def test_fault_47_cells_are_found_again(tmp_path: Path) -> None:
    """A matrix memory, whose gate is a softplus, and a cell that normalises."""
    found_again(CELLS, tmp_path, 3)


# What belongs to the name of a file


def imported(path: Path, seen: dict[Path, None]) -> None:
    """The files of this package that a file of it imports, and those that they import."""
    if path in seen:
        return
    seen[path] = None
    note_imports(path.read_text("utf-8"), seen)


def note_imports(source: str, seen: dict[Path, None]) -> None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tinygrad_rnn."):
            place = Path(tg.__file__).parents[1].joinpath(*str(node.module).split("."))
            if place.with_suffix(".py").exists():
                imported(place.with_suffix(".py"), seen)


def test_fault_34_whatever_is_compiled_in_belongs_to_the_name() -> None:
    loop = lstm(2, 3)
    seen: dict[Path, None] = {}
    note_imports(module_source(loop.steps, loop.arrays, 64), seen)
    names = {path.name for path in seen}
    assert {"intrinsics.py", "vector_math.py", "helpers.py", "subnormal.py"} <= names
    assert set(seen) <= set(machine.COMPILED_IN)


def test_a_changed_file_changes_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "subnormal.py"
    monkeypatch.setattr(machine, "COMPILED_IN", (file,))
    monkeypatch.setattr(machine, "_unchanging", machine._unchanging.__wrapped__)
    file.write_text("FLUSH = 1")
    before = machine.digest_of("text")
    assert machine.digest_of("text") == before
    file.write_text("FLUSH = 2")
    assert machine.digest_of("text") != before


@pytest.mark.parametrize(
    "name",
    ["OPT", "CPU_NAME", "CPU_FEATURES", "BOUNDSCHECK", "DEBUGINFO", "LOOP_VECTORIZE", "ENABLE_AVX"],
)
def test_fault_48_numbas_settings_belong_to_the_name(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv(f"NUMBA_{name}", raising=False)
    names = [machine.digest_of("text")]
    for value in ("0", "1"):
        monkeypatch.setenv(f"NUMBA_{name}", value)
        names.append(machine.digest_of("text"))
    assert len(set(names)) == 3


def test_settings_without_effect_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine.digest_of("text")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/nowhere")
    assert machine.digest_of("text") == before


def test_numbas_file_of_settings_belongs_to_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = machine.digest_of("text")
    monkeypatch.chdir(tmp_path)
    assert machine.digest_of("text") == before
    (tmp_path / ".numba_config.yaml").write_text("opt: 0")
    assert machine.digest_of("text") != before


SMALL = """
import sys
import numpy as np
import tinygrad_rnn as tg
from tinygrad_rnn.replay.emit.numba import cache
cell = tg.rnn.Recurrent(tg.rnn.RNNCell(2, 3))
x = tg.tensor(np.ones((4, 1, 2), np.float32))
with tg.no_grad():
    y = cell(x)[0].numpy()
    with tg.replay.using(jit=False):
        want = cell(x)[0].numpy()
np.testing.assert_allclose(y, want, 1e-5, 1e-6)
print(cache.compiled_here(), "numba" in sys.modules)
print([note for note in cell.explain(gradients=False).splitlines() if "since" in note])
"""


def test_fault_48_code_of_other_settings_is_not_taken(tmp_path: Path) -> None:
    """Nor is it lost: each finds its own."""
    assert ran(SMALL, tmp_path, NUMBA_OPT="0")[0] == "1 True\n[]"
    assert ran(SMALL, tmp_path)[0] == "1 True\n[]"
    assert ran(SMALL, tmp_path, NUMBA_OPT="0")[0] == "0 False\n[]"


# Where Numba does not compile


def test_fault_48_jit_disabled(tmp_path: Path) -> None:
    """Code of an earlier process is not used either: who sets it wants none."""
    assert ran(SMALL, tmp_path)[0].startswith("1 True")
    said, errors = ran(SMALL, tmp_path, NUMBA_DISABLE_JIT="1", PYTHONWARNINGS="error")
    assert said == "0 False\n['  note: runs as NumPy calls, since NUMBA_DISABLE_JIT is set']"
    assert not errors


def test_jit_disabled_by_numbas_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba

    monkeypatch.setattr(numba.core.config, "DISABLE_JIT", True)
    assert installed.why_not() == "Numba's settings say DISABLE_JIT"
    assert not choice.has_numba()


@pytest.fixture
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numba is looked for once more, and what is found is forgotten."""
    monkeypatch.setattr(installed, "_missing", installed._missing.__wrapped__)
    monkeypatch.setattr(installed, "_failure", None)


@pytest.mark.usefixtures("asked_anew")
@pytest.mark.parametrize(
    ("version", "usable"),
    [
        ("0.61.2", False),
        ("0.9", False),
        ("0.62.0", True),
        ("0.62.0rc1", True),
        ("0.63.0dev0+12.gabcdef", True),
        ("0.100", True),
        ("1.0", True),
        ("0+untagged.1.gabcdef", False),
        ("unknown", False),
    ],
)
def test_fault_33_one_answer_for_every_version(
    monkeypatch: pytest.MonkeyPatch, version: str, usable: bool
) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    loop, backend = lstm(2, 3), backend_of(np.zeros(1))
    runner = choice.emit(loop, backend, extras())
    notes = choice.loop_reasons(loop, backend)
    assert choice.has_numba() == usable
    if usable:
        assert notes == ["the loop is one compiled function"]
        assert type(runner).__module__.endswith("numba.emitter")
    else:
        why = f"Numba 0.62 or later is needed, and {version} is installed"
        assert notes == [f"runs as NumPy calls, since {why}"]
        assert "numba" not in type(runner).__module__


@pytest.mark.usefixtures("asked_anew")
def test_no_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    assert installed.why_not() == 'Numba 0.62 or later (extra "jit") is not installed'


@pytest.mark.parametrize("package", ["numba", "llvmlite"])
def test_fault_33_a_broken_installation(tmp_path: Path, package: str) -> None:
    """One warning, and the right numbers."""
    broken = tmp_path / "broken" / package
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise OSError('cannot open shared object file')")
    environment = {"PYTHONPATH": path_of_tests(str(broken.parent))}
    said, errors = ran(SMALL, tmp_path, **environment)
    why = "Numba failed with OSError: cannot open shared object file"
    assert said.endswith(f"['  note: runs as NumPy calls, since {why}']")
    assert errors.count("Warning") == 1
    assert f"RuntimeWarning: loops run as NumPy calls: {why}" in errors


@pytest.mark.usefixtures("asked_anew")
def test_a_failure_is_an_exception_where_warnings_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """It then leads to what Numba said; otherwise the loop runs."""

    def fails(source: str, digest: str) -> Code:
        raise NotImplementedError("no such thing\nand much more")

    monkeypatch.setattr(cache, "compiled", fails)
    monkeypatch.setattr(cache, "_loaded", {})
    monkeypatch.setattr(cache.store, "read", lambda digest: None)
    loop, backend = lstm(2, 3), backend_of(np.zeros(1))
    why = "loops run as NumPy calls: Numba failed with NotImplementedError: no such thing$"
    with pytest.raises(RuntimeWarning, match=why) as raised:
        choice.emit(loop, backend, extras())
    assert isinstance(raised.value.__context__, installed.Unusable)
    assert isinstance(raised.value.__context__.__cause__, NotImplementedError)
    runner = choice.emit(loop, backend, extras())
    assert "numba" not in type(runner).__module__


# Threads, interrupts, forks

SOURCE = """
from numba import njit

@njit("void(intp, intp, intp, intp)", no_cpython_wrapper=True, no_cfunc_wrapper=True)
def run(table, start, stop, step):
    pass
# {name}
"""


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The texts that are compiled from now on, none of which is known."""
    monkeypatch.setenv("TINYGRAD_RNN_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_loaded", {})
    return replaced(monkeypatch, lambda: None)


def replaced(monkeypatch: pytest.MonkeyPatch, before: Callable[[], object]) -> list[str]:
    """Count what is compiled, after a call of ``before`` each."""
    texts: list[str] = []

    def compiled(source: str, digest: str) -> Code:
        texts.append(source)
        before()
        return machine.compiled(source, digest)

    monkeypatch.setattr(cache, "compiled", compiled)
    return texts


def test_threads_that_need_one_text_compile_it_once(counted: list[str]) -> None:
    texts = [SOURCE.format(name=k) for k in (1, 2)]
    found = at_once([partial(cache.compiled_function, text) for text in 4 * texts])
    assert sorted(counted) == texts
    assert len(found) == 8
    assert len(set(map(id, found))) == 2


@pytest.mark.skipif(not POSIX, reason="elsewhere Ctrl-C waits for the compiler")
def test_fault_53_an_interrupt_ends_the_wait_alone(
    counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two lines of what compiles no interrupt can come; its work is not lost."""
    left = threading.Event()
    main = threading.main_thread().ident

    def interrupt() -> None:
        assert main is not None
        signal.pthread_kill(main, signal.SIGINT)
        left.wait()

    texts = replaced(monkeypatch, interrupt)
    text = SOURCE.format(name="interrupted")
    with pytest.raises(KeyboardInterrupt):
        cache.compiled_function(text)
    left.set()
    assert callable(cache.compiled_function(text))
    assert texts == [text]


INTERRUPTED = """
import random, signal, sys
import numpy as np
import tinygrad_rnn as tg

def run(depth):
    def step(x, h):
        for _ in range(depth):
            h = tg.erf(h) + x
        return h, h
    x = tg.tensor(np.ones((3, 2), np.float32))
    return tg.scan(step, x, tg.tensor(np.zeros(2, np.float32)))[0].numpy()

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGALRM, interrupt)
random.seed({seed})
depth = stops = 0
while stops < 15 and depth < 6:
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(0.001, 0.2))
        run(depth + 1)
        depth += 1
    except KeyboardInterrupt:
        stops += 1
signal.setitimer(signal.ITIMER_REAL, 0)
with tg.replay.using(jit=False):
    want = [run(depth) for depth in range(1, 8)]
from tinygrad_rnn.replay.emit.numba import installed
assert installed.why_not() is None
for found, wanted in zip([run(depth) for depth in range(1, 8)], want):
    np.testing.assert_allclose(found, wanted, 1e-5)
print("right")
if {seed} % 2:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        run(9)
    except KeyboardInterrupt:
        sys.exit()  # amid the work
"""


@pytest.mark.skipif(not POSIX, reason="elsewhere Ctrl-C waits for the compiler")
@pytest.mark.parametrize("seed", [0, 1])
def test_fault_53_many_interrupts(tmp_path: Path, seed: int) -> None:
    """Wherever they come, the process can compile afterwards, and it ends well."""
    said, errors = ran(INTERRUPTED.format(seed=seed), tmp_path, PYTHONWARNINGS="error")
    assert said == "right", errors


FORKED = """
import os, signal, threading
import numpy as np
import tinygrad_rnn as tg
from tinygrad_rnn.replay.emit.numba import cache, installed

def run(depth):
    def step(x, h):
        for _ in range(depth):
            h = tg.tanh(h) + x
        return h, h
    x = tg.tensor(np.ones((3, 2), np.float32))
    return tg.scan(step, x, tg.tensor(np.zeros(2, np.float32)))[0].numpy()

inside, compiled = threading.Event(), cache.compiled

def watched(source, digest):
    inside.set()
    return compiled(source, digest)

cache.compiled = watched
thread = threading.Thread(target=lambda: [run(depth) for depth in range(1, 5)])
thread.start()
inside.wait()
for depth in range(1, 7):
    child = os.fork()
    if child == 0:
        signal.alarm(100)
        found = run(depth)
        with tg.replay.using(jit=False):
            right = np.allclose(found, run(depth), 1e-5)
        os._exit(0 if right and installed.why_not() is None else 3)
    assert os.waitpid(child, 0)[1] == 0
thread.join()
assert run(2).shape == (3, 2)
"""


@pytest.mark.skipif(not POSIX, reason="there are no forks")
def test_fault_59_a_fork_while_another_thread_compiles(tmp_path: Path) -> None:
    ran(FORKED, tmp_path)


@pytest.mark.skipif(not POSIX, reason="there are no forks")
def test_a_child_forked_amid_the_work_of_others_compiles_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After Ctrl-C in the wait; Numba's locks may be held in the child by nobody."""
    monkeypatch.setattr(forks, "_lock", threading.RLock())
    monkeypatch.setattr(forks, "_torn", False)
    held, over = threading.Event(), threading.Event()

    def work() -> None:
        with forks.undivided():
            held.set()
            over.wait()

    thread = threading.Thread(target=work)
    thread.start()
    held.wait()
    forks._begin()
    over.set()
    thread.join()
    assert installed.why_not() == "the process was forked while a loop was compiled"
    with forks.undivided():
        pass  # nobody holds the child's own
