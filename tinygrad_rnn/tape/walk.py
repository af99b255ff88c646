"""Walking the tape backwards: reverse-mode differentiation, of which BPTT is nothing special.

Letters: ``y`` a result, ``x`` an input, ``g`` the cotangent of a value, that is the gradient of
the differentiated scalar with respect to it. In an ordinary pass cotangents are raw arrays and
nothing is recorded. With ``create_graph`` they are Tensors, the very same rules are recorded, and
the result can be differentiated again.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_rnn.backends import DeviceError, as_array, backend_of, device_of
from tinygrad_rnn.tape.primitive import Primitive, Record, Traced
from tinygrad_rnn.tape.state import Observer, current_state, enable_grad
from tinygrad_rnn.tape.tape import Key, between, collect, key_of, result_key


class Deferred:
    """A contribution to a cotangent that is cheaper to add together with its like.

    A rule may return ``Deferred(combine, *parts)`` instead of an array. Once a value has received
    every contribution, the engine calls ``combine(shape, dtype, [parts, parts, ...])`` once for
    all those that share ``combine``, and keeps the array that it returns. So the gradient of a
    weight that was used at T time steps is one product over all of them, and T reads ``x[t]`` cost
    T and not T squared.
    """

    __slots__ = ("combine", "parts")

    def __init__(self, combine: Callable[..., Any], *parts: Any) -> None:
        self.combine = combine
        self.parts = parts


_Conform = Callable[[Any, tuple[int, ...], Any], Any]
_conform: _Conform | None = None


def register_conform(function: _Conform) -> None:
    """Tell the walk how a cotangent is summed to a shape and cast to a dtype; ops/ does so.

    ``function(g, shape, dtype)`` undoes broadcasting and raises ValueError where ``shape`` cannot
    have been broadcast to that of ``g``.
    """
    global _conform
    _conform = function


class _Cotangent:
    """What has arrived so far for one value."""

    __slots__ = ("deferred", "owned", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self.owned = False  # whether value is an array that only this pass holds
        self.deferred: dict[Callable[..., Any], list[tuple[Any, ...]]] | None = None

    def defer(self, g: Deferred) -> None:
        if self.deferred is None:
            self.deferred = {}
        self.deferred.setdefault(g.combine, []).append(g.parts)

    def add(self, g: Any) -> None:
        """Add an array that others may hold too: the first sum is a new array, the rest in it."""
        if self.value is None:
            self.value = g
        elif self.owned and not isinstance(g, Traced):
            self.value += g
        else:
            self.value = self.value + g
            self.owned = not isinstance(self.value, Traced)

    def total(self, array: Any) -> Any:
        """The sum of everything that arrived, as a cotangent of ``array``."""
        if self.deferred is not None:
            for combine, parts in self.deferred.items():
                self.add(_fitted(combine(tuple(array.shape), array.dtype, parts), array))
                self.owned = True
            self.deferred = None
        return self.value


def seed(output: Traced, gradient: Any, who: str) -> Traced:
    """The cotangent with which a pass begins at ``output``: ``gradient``, or one for a scalar."""
    if not output.needs_grad:
        raise RuntimeError(f"{who}: the value does not depend on anything that requires a gradient")
    array = output.array
    if gradient is None:
        if array.size != 1:
            raise RuntimeError(
                f"{who}: a gradient can be left out only for a value of one element, got shape "
                f"{tuple(array.shape)}; reduce it (.sum(), .mean()) or pass a gradient"
            )
        return output.output_type(backend_of(array).xp.ones_like(array))
    if isinstance(gradient, numbers.Real):
        gradient = backend_of(array).xp.asarray(gradient, dtype=array.dtype)
    if not isinstance(gradient, Traced):
        gradient = output.output_type(as_array(gradient))
    if gradient.array.shape != array.shape or gradient.array.dtype != array.dtype:
        raise ValueError(
            f"{who}: the gradient must be {array.dtype} {tuple(array.shape)} as the value is, got "
            f"{gradient.array.dtype} {tuple(gradient.array.shape)}"
        )
    here, there = device_of(array), device_of(gradient.array)
    if here != there:
        raise DeviceError(f"{who}: the value is on {here}, the gradient on {there}")
    return gradient


def differentiate(
    outputs: Sequence[Traced],
    seeds: Sequence[Traced],
    targets: Sequence[Traced],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
    since: int = 0,
) -> list[Any]:
    """The cotangents of ``targets``, None where nothing depends on one.

    Raw arrays in an ordinary pass, Tensors with ``create_graph``. Records are freed as the pass
    goes by unless ``retain_graph`` or ``create_graph`` is set. Records made before position
    ``since`` are not walked.
    """
    records = between(targets, collect(outputs, since))
    return _walk(records, outputs, seeds, targets, create_graph, retain_graph)


def backward(
    outputs: Sequence[Traced],
    seeds: Sequence[Traced],
    *,
    create_graph: bool = False,
    retain_graph: bool = False,
) -> None:
    """Leave the gradient of ``outputs`` in ``.grad`` of every leaf and value that asked for it.

    It is added to a gradient that is there already. Nothing is left half-done: where the tape
    cannot be differentiated, no ``.grad`` has changed.
    """
    records = collect(outputs)
    seen: dict[Key, Traced] = {}
    for group in (outputs, *(record.inputs for record in records)):
        for value in group:
            if (
                isinstance(value, Traced)
                and value.needs_grad
                and (value.record is None or value.keeps_grad)
            ):
                seen.setdefault(key_of(value), value)
    targets = list(seen.values())
    found = _walk(records, outputs, seeds, targets, create_graph, retain_graph)
    for target, g in zip(targets, found, strict=True):
        if g is None:
            continue
        if target.grad is None:
            target.grad = _own_handle(g) if isinstance(g, Traced) else target.output_type(g)
        elif isinstance(g, Traced) or target.grad.needs_grad:
            target.grad = target.grad + g
        else:
            target.grad.array += g
            target.grad.version += 1


def _own_handle(g: Traced) -> Traced:
    """The same value at the same place of the tape, in memory that nobody shares."""
    if g.needs_grad and g.record is None:
        return g
    return g.output_type(g.array.copy(order="C"), g.needs_grad, g.record, g.slot)


def _walk(
    records: list[Record],
    outputs: Sequence[Traced],
    seeds: Sequence[Traced],
    targets: Sequence[Traced],
    create_graph: bool,
    retain_graph: bool,
) -> list[Any]:
    for record in records:
        _check(record)
    wanted = {key_of(target): target for target in targets}
    visited = set(records)
    pending: dict[Key, _Cotangent] = {}
    finished: dict[Key, Any] = {}
    observers = current_state.get().observers
    free = not (retain_graph or create_graph)

    for output, g in zip(outputs, seeds, strict=True):
        cotangent = pending.setdefault(key_of(output), _Cotangent())
        cotangent.add(g if create_graph else g.array)

    with enable_grad():
        while records:
            record = records.pop()
            gs: list[Any] = []
            arrived = False
            for slot, y in enumerate(record.results):
                key = result_key(record, slot)
                cotangent = pending.pop(key, None)
                if cotangent is None:
                    gs.append(None)
                    continue
                arrived = True
                gs.append(cotangent.total(y))
                if key in wanted:
                    finished[key] = _owned(cotangent, gs[-1])
            if arrived:
                needed = [
                    isinstance(x, Traced)
                    and x.needs_grad
                    and (x.record in visited or key_of(x) in wanted)
                    for x in record.inputs
                ]
                _propagate(record, gs, needed, pending, create_graph, observers)
            if free:
                record.free()
        for target in targets:
            key = key_of(target)
            cotangent = pending.get(key)
            if cotangent is not None:
                finished[key] = _owned(cotangent, cotangent.total(target.array))
    return [finished.get(key_of(target)) for target in targets]


def _check(record: Record) -> None:
    """Refuse a record whose arrays are gone or have been overwritten since."""
    if record.freed:
        raise RuntimeError(
            f"backward: the tape has been freed by an earlier backward pass (at "
            f"{record.primitive.name!r}); pass retain_graph=True to the first one, or compute the "
            "value again"
        )
    if record.version != sum([x.version for x in record.inputs if isinstance(x, Traced)]):
        changed = [x for x in record.inputs if isinstance(x, Traced) and x.version]
        names = " or ".join(repr(x.name) for x in changed if x.name)
        what = f"parameter {names}" if names else "a tensor"
        raise RuntimeError(
            f"backward: {what} used by {record.primitive.name!r} has been overwritten since (by an "
            "optimizer step or an assignment to .data); call backward before it, or compute the "
            "value again"
        )


def _propagate(
    record: Record,
    gs: list[Any],
    needed: list[bool],
    pending: dict[Key, _Cotangent],
    create_graph: bool,
    observers: tuple[Observer, ...],
) -> None:
    """Apply the rules of one record and hand the cotangents on to its inputs."""
    for observer in observers:
        observer.before_backward(record, tuple(gs))
    primitive = record.primitive
    inputs = record.inputs
    results: Sequence[Any] = record.results
    if create_graph:
        make = next(x for x in inputs if isinstance(x, Traced)).output_type
        results = [
            make(y, True, record, slot) if y.dtype.kind == "f" else make(y)
            for slot, y in enumerate(results)
        ]
        arguments = inputs
    else:
        arguments = [x.array if isinstance(x, Traced) else x for x in inputs]
    try:
        contributions = _apply_rules(primitive, needed, gs, results, arguments, record.params)
    except Exception as error:
        error.add_note(f"in a gradient rule of {primitive.name!r}")
        raise
    for observer in observers:
        observer.after_backward(record, tuple(contributions))

    for k, (x, g, want) in enumerate(zip(inputs, contributions, needed, strict=True)):
        if not want or g is None:
            continue
        key = key_of(x)
        cotangent = pending.get(key)
        if cotangent is None:
            cotangent = pending[key] = _Cotangent()
        if isinstance(g, Deferred):
            cotangent.defer(g)
            continue
        try:
            cotangent.add(_fitted(g, x.array))
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{primitive.name}: the gradient rule of argument {k} gave {_describe(g)} for an "
                f"input of {_describe(x.array)}"
            ) from error


def _apply_rules(
    primitive: Primitive,
    needed: list[bool],
    gs: list[Any],
    ys: Sequence[Any],
    arguments: Sequence[Any],
    params: dict[str, Any],
) -> Sequence[Any]:
    """One cotangent, Deferred or None per argument."""
    count = len(arguments)
    if primitive.joint_rule is not None:
        found = primitive.joint_rule(needed, gs, ys, *arguments, **params)
        if not isinstance(found, tuple | list) or len(found) != count:
            raise TypeError(
                f"{primitive.name}: the joint_rule must return a list of {count} cotangents, one "
                f"per argument, got {_describe(found)}"
            )
        return found
    if len(primitive.rules) != count:
        raise TypeError(
            f"{primitive.name}: {count} arguments need {count} gradient rules (or a joint_rule), "
            f"there are {len(primitive.rules)}"
        )
    return [
        rule(gs[0], ys[0], *arguments, **params) if want and rule else None
        for want, rule in zip(needed, primitive.rules, strict=True)
    ]


def _fitted(g: Any, array: Any) -> Any:
    """``g`` in the shape and dtype of ``array``, whose cotangent it is."""
    if g.shape == array.shape and g.dtype == array.dtype:
        return g
    return _conform(g, array.shape, array.dtype)  # pyright: ignore[reportOptionalCall]


def _owned(cotangent: _Cotangent, g: Any) -> Any:
    """``g`` as its receiver may keep it: contiguous, writable and shared with nobody."""
    if isinstance(g, Traced):
        return g
    g = as_array(g)
    if not cotangent.owned or not g.flags.c_contiguous:
        g = g.copy(order="C")
    cotangent.owned = False
    cotangent.value = g
    return g


def _describe(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{value.dtype} {tuple(value.shape)}"
    size = f" of {len(value)}" if hasattr(value, "__len__") else ""
    return f"a {type(value).__name__}{size}"
