"""What the tests of operations share: making inputs, and the checks that the table is put to.

Each check raises AssertionError (of which GradientError is one), so that the tests of the checks
can feed them wrong operations.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
from op_rows import Case, Example

import tinygrad_rnn as tg
from tinygrad_rnn import backends
from tinygrad_rnn.tape import Record

LAYOUTS = ("plain", "transposed", "strided", "reversed")
TOLERANCES = {"e": (1e-3, 1e-2), "f": (1e-5, 1e-5), "d": (1e-12, 1e-12)}


def on_device(values: np.ndarray, device: str, layout: str = "plain") -> Any:
    """The values in an array of the device whose memory lies as ``layout`` says."""
    values = np.array(values)
    send = backends.backend_for(device).from_host
    if layout == "transposed":
        return send(np.array(values.T, order="C"), device).T
    if layout == "strided" and values.ndim:
        return send(np.repeat(values, 2, axis=-1), device)[..., ::2]
    if layout == "reversed" and values.ndim:
        return send(np.array(values[::-1]), device)[::-1]
    return send(values, device)


def make(example: Example, code: str, seed: int) -> list[np.ndarray]:
    """Arrays of the example's shapes, from its domains: floats in the dtype of ``code``."""
    rng = np.random.default_rng(seed)
    arrays: list[np.ndarray] = []
    for k, (shape, domain) in enumerate(zip(example.shapes, example.domains, strict=True)):
        values = np.asarray(domain(rng, shape, k))
        if values.dtype.kind == "f":
            if code in "il":
                values = np.rint(2 * values)
            values = values > 0 if code == "?" else values.astype(code)
        arrays.append(values)
    return arrays


def outputs(result: Any) -> list[Any]:
    """The results of a call as a list."""
    return list(result) if isinstance(result, list | tuple) else [result]


def host(value: Any) -> np.ndarray:
    """The values of a Tensor or of an array of any device."""
    return np.asarray(backends.to_host(value.array if isinstance(value, tg.Tensor) else value))


def expected(case: Case, arrays: list[np.ndarray], example: Example) -> list[np.ndarray]:
    """What NumPy gives: the values computed in float64, the dtype as for these inputs."""
    if case.of_floats and all(a.dtype.kind != "f" for a in arrays):
        arrays = [a.astype("f") for a in arrays]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        wide = [a.astype("d") if a.dtype.kind == "f" else a for a in arrays]
        values = outputs(case.reference(*wide, **example.params))
        kinds = outputs(case.reference(*arrays, **example.params))
    return [np.asarray(v).astype(np.asarray(k).dtype) for v, k in zip(values, kinds, strict=True)]


def assert_close(found: Any, wanted: np.ndarray, what: str) -> None:
    """Equal shape and dtype, and values equal to the precision of the dtype."""
    values = host(found)
    assert values.shape == wanted.shape, f"{what}: shape {values.shape}, not {wanted.shape}"
    assert values.dtype == wanted.dtype, f"{what}: dtype {values.dtype}, not {wanted.dtype}"
    atol, rtol = TOLERANCES.get(wanted.dtype.char, (0, 0))
    np.testing.assert_allclose(values, wanted, rtol, atol, err_msg=what)


def check_forward(
    case: Case, example: Example, code: str, layouts: tuple[str, ...], device: str, seed: int
) -> None:
    """Values, dtype and device against NumPy; Tensors and raw arrays alike; nothing mutated."""
    values = make(example, code, seed)
    raw = [on_device(v, device, layouts[k % len(layouts)]) for k, v in enumerate(values)]
    tensors = [tg.Tensor(array) for array in raw]
    wanted = expected(case, values, example)
    found = outputs(case.call(*tensors, **example.params))
    plain = outputs(backends.there(case.call)(*raw, **example.params))
    assert len(found) == len(plain) == len(wanted)
    for y, array, reference in zip(found, plain, wanted, strict=True):
        assert isinstance(y, tg.Tensor), f"{case.name}: Tensors gave a {type(y).__name__}"
        assert backends.find_backend(array) is backends.backend_for(device), (
            f"{case.name}: arrays on {device} gave a {type(array).__name__}"
        )
        assert_close(y, reference, case.name)
        np.testing.assert_array_equal(host(array), host(y), err_msg=f"{case.name}: raw array")
    for before, after in zip(values, raw, strict=True):
        np.testing.assert_array_equal(host(after), before, err_msg=f"{case.name}: input mutated")


def check_backward(case: Case, example: Example, device: str, layout: str, seed: int) -> None:
    """First and second order against central differences; nothing mutated."""
    values = make(example, "d", seed)
    raw = [on_device(v, device, layout) for v in values]
    tg.check_gradients(
        lambda *xs: case.call(*xs, **example.params),
        [tg.Tensor(array) for array in raw],
        order=case.order,
    )
    for before, after in zip(values, raw, strict=True):
        np.testing.assert_array_equal(host(after), before, err_msg=f"{case.name}: input mutated")


def leaf(array: Any) -> tg.Tensor:
    """A Tensor that wants a gradient where its dtype has one."""
    return tg.Tensor(array, needs_grad=array.dtype.kind == "f")


class Recorder(tg.Observer):
    """Keeps every record that is computed."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def after_forward(self, record: Record) -> None:
        self.records.append(record)


# The functions that a kernel expression may use, as NumPy knows them.
KERNEL_FUNCTIONS: dict[str, Any] = {
    "__builtins__": {},
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": np.vectorize(math.erf, otypes=[float]),
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "sign": np.sign,
    "power": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "remainder": np.remainder,
    "floor_divide": np.floor_divide,
    "isnan": np.isnan,
    "isfinite": np.isfinite,
    "select": np.where,
}


def kernel_value(record: Record) -> np.ndarray:
    """What the kernel expression of a record gives for its inputs."""
    names = {f"x{k}": host(x) if hasattr(x, "dtype") else x for k, x in enumerate(record.inputs)}
    source = record.primitive.kernel
    assert source is not None
    with np.errstate(all="ignore"):
        return np.asarray(eval(source, KERNEL_FUNCTIONS, names | record.params))


def check_kernels(records: list[Record]) -> None:
    """Every kernel expression gives what its forward gave."""
    for record in records:
        if record.primitive.kernel is not None:
            (result,) = record.results
            np.testing.assert_allclose(
                kernel_value(record), host(result), 1e-12, 1e-12, err_msg=record.primitive.name
            )
