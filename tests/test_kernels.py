"""The source of a kernel that updates a parameter, run as what it is but for its types."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optimizers import OPTIMIZERS, give, parameter

from tinygrad_rnn.backends import backend_of
from tinygrad_rnn.backends.kernels import PREAMBLE, is_fixed, update_source

SIZE = 5


def calls_of(name: str, dtype: Any, largest: float = 0.0) -> list[tuple[Any, ...]]:
    """What an optimizer asks of the backend in three steps, with the arrays before and after.

    ``largest`` limits the elements of the gradient, as it always does on a GPU.
    """
    seen: list[tuple[Any, ...]] = []
    rng = np.random.default_rng(0)
    p = parameter(rng.standard_normal(SIZE))
    p.array = p.array.astype(dtype)
    optimizer = OPTIMIZERS[name]([p])
    backend = type(backend_of(p.array))
    original = backend.update

    def update(self: Any, rule: Any, dtype: Any, targets: Any, g: Any, *rest: Any) -> None:
        before = [None if t is None else t.copy() for t in targets]
        numbers = rest[0] | {"largest": largest}
        original(self, rule, dtype, targets, g, numbers)
        after = [None if t is None else t.copy() for t in targets]
        seen.append((rule, dtype, before, g.copy(), numbers, after))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "update", update)
        for _ in range(3):
            give(p, rng.standard_normal(SIZE))
            optimizer.step()
    return seen


def source_of(rule: Any, dtype: Any, before: list[Any], numbers: dict[str, float]) -> str:
    fixed = {name: value for name, value in numbers.items() if is_fixed(value)}
    free = [name for name in numbers if name not in fixed]
    return update_source(rule, dtype, [t is not None for t in before], fixed, free)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("largest", [0.0, 0.5])
def test_a_kernel_computes_what_the_rule_does(
    name: str, dtype: Any, keep: bool, largest: float
) -> None:
    for rule, working, before, g, numbers, after in calls_of(name, dtype, largest):
        body = source_of(rule, working, before, numbers)
        for element in range(SIZE):
            names: dict[str, Any] = {
                "float": np.float32,
                "double": np.float64,
                "sqrt": np.sqrt,
                "fabs": np.abs,
                "rule_sign": np.sign,
                "rule_maximum": np.maximum,
                "rule_minimum": np.minimum,
                "gradient": g[element],
                "keep": keep,
                **numbers,
            }
            given = {f"target{k}": t[element] for k, t in enumerate(before) if t is not None}
            names |= given
            _run_as_python(body, names)
            for k, t in enumerate(after):
                if t is not None:
                    want = t[element] if keep else before[k][element]
                    have = np.asarray(names[f"target{k}"]).astype(t.dtype)
                    assert have == pytest.approx(want, rel=8 * float(np.finfo(t.dtype).eps))


def _run_as_python(body: str, names: dict[str, Any]) -> None:
    """Each statement is Python as well, once its type is taken away and ?: is turned round."""
    for line in body.splitlines():
        statement = line.rstrip(";")
        for kind in ("const ", "float ", "double "):
            statement = statement.removeprefix(kind)
        target, _, value = statement.partition(" = ")
        if " ? " in value:
            condition, _, values = value.partition(" ? ")
            value = "{1} if {0} else {2}".format(condition, *values.split(" : "))
        names[target] = eval(value, {"__builtins__": {}}, names)


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize("name", ["adamw", "rmsprop centered", "sgd l1"])
def test_a_kernel_is_cpp(name: str, tmp_path: Path) -> None:
    rule, working, before, g, numbers, after = calls_of(name, np.float32, 0.5)[-1]
    there = [k for k, t in enumerate(before) if t is not None]
    free = [n for n, v in numbers.items() if not is_fixed(v)]
    arguments = ["float gradient", *(f"double {n}" for n in free), "bool keep"]
    arguments += [f"float& target{k}" for k in there]
    body = source_of(rule, working, before, numbers)
    source = tmp_path / "kernel.cpp"
    source.write_text(
        "#include <cmath>\nusing namespace std;\n#define __device__\n"
        + PREAMBLE
        + f'extern "C" void update({", ".join(arguments)}) {{\n{body}\n}}\n'
    )
    library = tmp_path / "kernel.so"
    subprocess.run(["g++", "-O1", "-shared", "-fPIC", source, "-o", library], check=True)
    update = ctypes.CDLL(str(library)).update
    for element in range(SIZE):
        targets = [ctypes.c_float(before[k][element]) for k in there]
        update(
            ctypes.c_float(g[element]),
            *(ctypes.c_double(numbers[n]) for n in free),
            ctypes.c_bool(True),
            *map(ctypes.byref, targets),
        )
        for k, target in zip(there, targets, strict=True):
            assert target.value == pytest.approx(after[k][element], rel=1e-6)


def test_a_number_is_rounded_once() -> None:
    """1 - 0.999 is computed in double, as on the host, and then rounded to float."""

    def rule(xp: Any, g: Any, p: Any, *, beta: float) -> None:
        p += (1 - beta) * g

    body = update_source(rule, np.dtype(np.float32), [True], {}, ["beta"])
    assert "double t0 = 1.0 - beta;" in body
    assert "float t1 = float(t0) * g;" in body


def test_what_a_rule_cannot_do() -> None:
    def branching(xp: Any, g: Any, p: Any) -> None:
        if g:
            p -= g

    def assigning(xp: Any, g: Any, p: Any, *, lr: Any) -> None:
        lr *= 2

    with pytest.raises(TypeError, match="cannot branch on the value of an element"):
        update_source(branching, np.dtype(np.float32), [True], {}, [])
    with pytest.raises(TypeError, match="cannot change a number"):
        update_source(assigning, np.dtype(np.float32), [True], {}, ["lr"])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_kernel_per_parameter(name: str) -> None:
    """The rule of one kind of optimizer is one function, so that its kernel is compiled once."""
    calls = calls_of(name, np.float32)
    assert len(calls) == 3
    assert len({call[0] for call in calls}) == 1
