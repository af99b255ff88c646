"""Recording: an operation that can be differentiated, and that leaves a line on the tape."""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import numpy as np

from tinygrad_rnn.backends import (
    Array,
    Backend,
    DeviceError,
    as_array,
    backend_of,
    find_backend,
)
from tinygrad_rnn.tape.modes import current_modes
from tinygrad_rnn.tape.operation import Function, Operation, Promotion
from tinygrad_rnn.tape.origin import origin_here
from tinygrad_rnn.tape.record import Record, Traced

_REFUSALS = (IndexError, TypeError, ValueError, OverflowError)

WORD = re.compile(r"x|y|[xy]\d+|others|indices")
"""By which a primitive says what its rules read."""

_KernelCheck = Callable[[str, Any, Callable[..., Any], int], None]
_check_kernel: _KernelCheck | None = None


def register_kernel_check(function: _KernelCheck) -> None:
    """Tell primitives what a kernel may be written in; ops/ does so.

    ``function(name, kernel, forward, arguments)`` raises for what its language does not have.
    """
    global _check_kernel
    _check_kernel = function


class Primitive(Operation):
    """An operation on arrays together with its gradient rules.

    Parameters
    ----------
    name : what errors and printed tapes call it.
    forward : ``forward(xp, *arrays, **params)`` with ``xp`` the array namespace. Returns one
        array, or a tuple of them where ``multiple`` is set. It never changes its inputs.
    rules : one per array argument: ``rule(g, y, *inputs, **params)`` returns the cotangent of that
        argument from that of the result, ``g``, and the result itself, ``y``; None stands for an
        argument without a gradient. A rule is written with operators and primitives only, so
        that it serves arrays and recorded Tensors alike. What it returns may be one of its
        arguments or a view of it; a missing sum over broadcast axes is added by the engine.
    joint_rule : instead of ``rules``, where there are several results or shared work:
        ``joint_rule(needed, gs, ys, *inputs, **params)`` returns one cotangent (or None) per
        input. ``gs`` holds None for a result that nothing depends on; ``needed`` says which
        inputs want a gradient.
    kernel : an elementwise operation as one expression in ``x0``, ``x1``, ..., from which a fused
        kernel is written. It says what forward computes, in the language of
        ``ops/kernel_language.py``; ValueError for what that does not have.
    multiple : whether forward returns a tuple.
    batch : how to apply it to all time steps at once: ``batch(stacked, *inputs, **params)``, where
        the inputs that ``stacked`` names have one more axis in front, as the results have. Not
        needed for an elementwise operation.
    promote : how operands of different dtypes meet. Without it ``forward`` gets them as they are.
    reads : the arrays whose elements the rules read, as words with spaces between them: ``x`` all
        inputs, ``x0`` the first one, ``others`` all but the one whose rule it is, ``indices``
        those that are not floating; ``y`` all results, ``y0`` the first one. One text for all
        rules, or one per argument, or a function of the parameters that gives it. Backward refuses
        to go on where one of them has been overwritten. By default everything.
    fresh : whether the arrays that the rules return are held by nobody else, so that they may be
        added to and given away as they are.
    inside : of an operation that runs a short program many times: ``inside(**params)`` says how
        often, and gives the program, which prints itself.
    """

    def __init__(
        self,
        name: str,
        forward: Function,
        rules: Sequence[Function | None] = (),
        *,
        joint_rule: Function | None = None,
        kernel: str | None = None,
        multiple: bool = False,
        batch: Function | None = None,
        promote: Promotion | None = None,
        reads: str | Sequence[str] | Callable[..., str | Sequence[str]] = "x y",
        fresh: bool = False,
        inside: Callable[..., tuple[int, Any]] | None = None,
        doc: str | None = None,
    ) -> None:
        if rules and joint_rule is not None:
            raise ValueError(f"{name}: give rules or a joint_rule, not both")
        if multiple and rules:
            raise ValueError(f"{name}: an operation with several results needs a joint_rule")
        if kernel is not None and _check_kernel is not None:
            if multiple:
                raise ValueError(f"{name}: an operation with several results has no kernel")
            _check_kernel(name, kernel, forward, len(rules))
        if not callable(reads):
            _check_words(name, reads, len(rules))
        self.name = self.__name__ = name
        self.forward = forward
        self.rules = tuple(rules)
        self.joint_rule = joint_rule
        self.kernel = kernel
        self.multiple = multiple
        self.batch = batch
        self.promote = promote
        self.reads = reads
        self.fresh = fresh
        self.inside = inside
        if doc is not None:
            self.__doc__ = doc

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        leader = None
        kind: Any = None
        dtype: Any = None
        alike = True
        mixed = False
        needs_grad = False
        constants: list[int] = []
        arrays: list[Any] = []
        for value in inputs:
            if isinstance(value, Traced):
                array = value.array
                if leader is None:
                    leader = value
                    kind = array.__class__
                    dtype = array.dtype
                    mixed = mixed or dtype.kind != "f"
                else:
                    if type(array) is not kind:
                        alike = False
                    if array.dtype is not dtype:
                        mixed = True
                if value.needs_grad:
                    needs_grad = True
                elif value.record is None:
                    constants.append(len(arrays))
                arrays.append(array)
            else:
                alike = False
                if type(value) not in (float, int) and getattr(value, "dtype", None) is not dtype:
                    mixed = True
                arrays.append(value)
        if leader is None:
            return self._apply_raw(inputs, params)
        if mixed and self.promote is not None:
            promoted = self.promote(self.name, inputs)
            if any(x is not y for x, y in zip(promoted, inputs, strict=True)):
                return self(*promoted, **params)

        modes = current_modes.get()
        for observer in modes.observers:
            observer.before_forward(self, inputs, params)
        backend = backend_of(leader.array)
        if not alike:
            arrays = [self._check_operand(array, leader.array) for array in arrays]
            inputs = tuple(
                [x if isinstance(x, Traced) else a for x, a in zip(inputs, arrays, strict=True)]
            )
        forward = self._there(backend, arrays) if backend.several else self.forward
        try:
            results = forward(backend.xp, *arrays, **params)
        except _REFUSALS as error:
            self._explain(error, arrays)
        if type(results) is kind and not self.multiple:
            results = (results,)
        else:
            results = self._check_results(results)

        needs_grad = needs_grad and modes.recording
        traced = modes.tracer is not None
        record = None
        if needs_grad or traced or modes.observers:
            origin = origin_here() if modes.looking else None
            record = Record(self, inputs, params, results, tuple(constants), origin)
        make = leader.output_type
        outputs = [
            make(y, needs_grad and y.dtype.kind == "f", record, slot)
            if traced or (needs_grad and y.dtype.kind == "f")
            else make(y)
            for slot, y in enumerate(results)
        ]
        if record is not None:
            for observer in modes.observers:
                observer.after_forward(record)
            if modes.tracer is not None:
                modes.tracer.made(record, outputs, modes.recording)
        return tuple(outputs) if self.multiple else outputs[0]

    def _apply_raw(self, arrays: tuple[Any, ...], params: dict[str, Any]) -> Any:
        for array in arrays:
            backend = find_backend(array)
            if backend is not None:
                break
        else:
            kinds = ", ".join(type(array).__name__ for array in arrays)
            raise TypeError(f"{self.name}: expected a Tensor or an array, got ({kinds})")
        if self.promote is not None:
            arrays = self.promote(self.name, arrays)
        forward = self._there(backend, arrays) if backend.several else self.forward
        try:
            return forward(backend.xp, *arrays, **params)
        except _REFUSALS as error:
            self._explain(error, arrays)

    def _there(self, backend: Backend, arrays: Sequence[Any]) -> Function:
        """The forward at the device of its operands, which must be one."""
        held = {backend.device_of(a): a for a in arrays if type(a) is backend.array_type}
        self._check_one([*held])
        return backend.there(next(iter(held.values())), self.forward)

    def _check_one(self, devices: Sequence[str]) -> None:
        if len(devices) > 1:
            raise DeviceError(
                f"{self.name}: operands on {' and '.join(devices)}; bring them to one device with "
                ".to(device)"
            )

    def _check_operand(self, value: Any, leader: Array) -> Any:
        """An operand as the backend takes it, or one sentence on why it cannot be."""
        if type(value) is type(leader) or type(value) in (float, int):
            return value
        if isinstance(value, np.generic):
            value = cast("Any", value).item()
        backend = find_backend(value)
        if backend is None:
            if isinstance(value, numbers.Real):
                return value if isinstance(value, int | float) else float(value)
            raise TypeError(
                f"{self.name}: expected a Tensor, an array or a number, got {type(value).__name__}"
            )
        here = backend_of(leader)
        if backend is not here:
            self._check_one([here.device_of(leader), backend.device_of(value)])
        return as_array(value)

    def _check_results(self, results: Any) -> tuple[Array, ...]:
        """What forward returned as a tuple of arrays. NumPy's 0-d results come as scalars."""
        if self.multiple and not isinstance(results, tuple | list):
            raise TypeError(
                f"{self.name}: forward must return a tuple of arrays, since multiple=True was "
                f"given, got {type(results).__name__}"
            )
        found: list[Any] = [*results] if self.multiple else [results]
        for k, y in enumerate(found):
            if type(y) is np.ndarray:
                continue
            if find_backend(y) is None and not isinstance(y, numbers.Real):
                what = "must return an array; for several, pass multiple=True"
                raise TypeError(f"{self.name}: forward {what}; got {type(y).__name__}")
            found[k] = as_array(y)
        return tuple(found)

    def _explain(self, error: Exception, arrays: Sequence[Any]) -> NoReturn:
        held = {find_backend(a): a for a in arrays if find_backend(a)}
        self._check_one([b.device_of(a) for b, a in held.items() if b])
        message = str(error)
        if message.startswith(f"{self.name}:"):
            raise error
        operands = ", ".join(
            f"{a.dtype} {tuple(a.shape)}" if find_backend(a) else repr(a) for a in arrays
        )
        # An error class of NumPy's own may not be made from a message alone.
        kind = next(k for k in _REFUSALS if isinstance(error, k))
        raise kind(f"{self.name}: {message} (operands: {operands})") from error


def _check_words(name: str, reads: str | Sequence[str], rules: int) -> None:
    if not isinstance(reads, str) and rules and len(reads) != rules:
        raise ValueError(f"{name}: reads has {len(reads)} texts for {rules} gradient rules")
    for word in " ".join((reads,) if isinstance(reads, str) else reads).split():
        if not WORD.fullmatch(word):
            raise ValueError(
                f"{name}: reads={reads!r} has the word {word!r}, the words are x, x0, x1, ..., "
                "others, indices, y, y0, y1, ..."
            )
