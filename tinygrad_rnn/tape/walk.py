"""Walking the tape backwards: reverse-mode differentiation, of which BPTT is nothing special.

Letters: ``y`` a result, ``x`` an input, ``g`` the cotangent of a value, that is the gradient of
the differentiated scalar with respect to it. In an ordinary pass cotangents are raw arrays and
nothing is recorded. With ``create_graph`` they are Tensors, the very same rules are recorded, and
the result can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from tinygrad_rnn.backends import (
    backend_of,
    device_of,
    find_backend,
    restoring,
    several_devices,
)
from tinygrad_rnn.tape.cotangent import Cotangent, Deferred
from tinygrad_rnn.tape.modes import Observer, current_modes, enable_grad
from tinygrad_rnn.tape.operation import Operation
from tinygrad_rnn.tape.order import between, collect, result_key
from tinygrad_rnn.tape.origin import current_place, in_place, walk_from
from tinygrad_rnn.tape.record import Key, Record, Traced, key_of
from tinygrad_rnn.tape.unchanged import check_tape, needed_inputs


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
    several = several_devices()
    walk = restoring(_walk) if several else _walk
    if current_modes.get().looking:
        walk = in_place(current_place.get())(walk)
    return walk(records, outputs, seeds, targets, create_graph, retain_graph, several)


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
    several = several_devices()
    run = restoring(_backward) if several else _backward
    if current_modes.get().looking:
        run = in_place(current_place.get())(run)
    run(outputs, seeds, create_graph, retain_graph, several)


def _backward(
    outputs: Sequence[Traced],
    seeds: Sequence[Traced],
    create_graph: bool,
    retain_graph: bool,
    several: bool,
) -> None:
    records = collect(outputs)
    seen: dict[Key, Traced] = {}
    for group in (outputs, *(record.followed() for record in records if not record.freed)):
        for value in group:
            if value.record is None:
                seen.setdefault(value, value)
            elif value.watch is not None:
                seen.setdefault(key_of(value), value)
    targets = list(seen.values())
    found = _walk(records, outputs, seeds, targets, create_graph, retain_graph, several, True)
    for target, g in zip(targets, found, strict=True):
        watch = target.watch
        if g is None or (target.record is not None and watch and not watch.keeps_grad):
            continue
        if target.needs_grad:  # else it was frozen after the forward pass
            if several:
                _use([target])
            target.accumulate(g)


def _walk(
    records: list[Record],
    outputs: Sequence[Traced],
    seeds: Sequence[Traced],
    targets: Sequence[Traced],
    create_graph: bool,
    retain_graph: bool,
    several: bool,
    hooked: bool = False,
) -> list[Any]:
    keys = [key_of(target) for target in targets]
    wanted = dict(zip(keys, targets, strict=True))
    visited = set(records)
    check_tape(records, outputs, visited, wanted)
    pending: dict[Key, Cotangent] = {}
    finished: dict[Key, Any] = {}
    modes = current_modes.get()
    free = not (retain_graph or create_graph)

    for output, g in zip(outputs, seeds, strict=True):
        if several:
            _use([output])
        cotangent = pending.setdefault(key_of(output), Cotangent())
        cotangent.add(g if create_graph else g.array, output.array)

    first_uses: dict[Key, Record] = {}
    place, looking = current_place.get(), modes.looking
    with nullcontext() if modes.recording else enable_grad():  # rules and hooks may use a tape
        while records:
            record = records.pop()
            if looking:
                walk_from(record.origin, record.position)
                first_uses.update((x, record) for x in record.followed() if x.record is None)
            gs: list[Any] = []
            arrived = False
            if several:
                _use(record.results)
            for slot, y in enumerate(record.results):
                key = result_key(record, slot)
                cotangent = pending.pop(key, None)
                if cotangent is None:
                    gs.append(None)
                    continue
                arrived = True
                gs.append(cotangent.total(y))
                if key in wanted:
                    finished[key] = cotangent.kept(y)
                    if hooked and wanted[key].watch is not None:
                        gs[-1] = finished[key] = _shown(wanted[key], finished[key])
            if arrived:
                needed = needed_inputs(record, visited, wanted)
                if several:
                    _use(record.inputs)
                _propagate(record, gs, needed, pending, create_graph, modes.observers)
            if free:
                record.free()
        if looking:
            current_place.set(place)
        for key, target in zip(keys, targets, strict=True):
            if use := first_uses.get(key):  # what is added up at the end belongs to the first use
                walk_from(use.origin and use.origin.at_step(None, False, ()), use.position)
            cotangent = pending.get(key)
            if cotangent is not None:
                if several:
                    _use([target])
                finished[key] = cotangent.kept(target.array)
                if hooked and target.watch is not None:
                    finished[key] = _shown(target, finished[key])
    return [*map(finished.get, keys)]


def _use(values: Sequence[Any]) -> None:
    """Make the device of the first value that has one the current one."""
    arrays = (value.array if isinstance(value, Traced) else value for value in values)
    array = next(filter(find_backend, arrays))
    backend_of(array).use(array)


def _propagate(
    record: Record,
    gs: list[Any],
    needed: list[bool],
    pending: dict[Key, Cotangent],
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
        results = [make(y, y.dtype.kind == "f", record, slot) for slot, y in enumerate(results)]
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
        key = x if x.record is None else key_of(x)
        cotangent = pending.get(key)
        if cotangent is None:
            cotangent = pending[key] = Cotangent()
        if isinstance(g, Deferred):
            cotangent.defer(g)
            continue
        try:
            cotangent.add(g, x.array, primitive.fresh)
        except (ValueError, AttributeError) as error:
            raise ValueError(
                f"{primitive.name}: the gradient rule of argument {k} gave {_describe(g)} for an "
                f"input of {_describe(x.array)}"
            ) from error


def _apply_rules(
    primitive: Operation,
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


def _shown(value: Traced, g: Any) -> Any:
    """The gradient ``g`` of a value after its hooks have seen it."""
    for hook in tuple(value.watch.hooks.values()) if value.watch and value.needs_grad else ():
        found = hook(g if isinstance(g, Traced) else value.output_type(g.copy()))
        if found is None:
            continue
        if (
            not isinstance(found, Traced)
            or found.array.shape != value.array.shape
            or found.array.dtype != value.array.dtype
            or device_of(found.array) != device_of(value.array)
        ):
            found = found.array if isinstance(found, Traced) else found
            raise ValueError(
                f"backward: a hook must return None or a Tensor like the gradient that it was "
                f"given, {_describe(value.array)} on {device_of(value.array)}, got "
                f"{_describe(found)}"
            )
        g = found if isinstance(g, Traced) else found.array.copy(order="C")
    return g


def _describe(value: Any) -> str:
    if hasattr(value, "shape"):
        return f"{value.dtype} {tuple(value.shape)}"
    size = f" of {len(value)}" if hasattr(value, "__len__") else ""
    return f"a {type(value).__name__}{size}"
