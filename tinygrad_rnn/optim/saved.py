"""The state of an optimizer as arrays and JSON, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinygrad_rnn.backends import Array, to_host, transfer
from tinygrad_rnn.optim.groups import Group
from tinygrad_rnn.optim.norms import working_dtype
from tinygrad_rnn.optim.report import COUNTERS

Slots = dict[int, dict[str, Array]]
Check = Callable[[str, Mapping[str, Any]], None]


class LoadedState(NamedTuple):
    """A state that fits."""

    groups: list[dict[str, Any]]
    counters: dict[str, int]
    counts: list[int]
    slots: Slots


def saved_state(
    kind: str,
    groups: Sequence[Group],
    counters: Mapping[str, int],
    counts: Sequence[int],
    slots: Slots,
) -> dict[str, Any]:
    """What :meth:`Optimizer.state_dict` returns."""
    said = [{"params": len(group.params), **group.options} for group in groups]
    return {
        "kind": kind,
        **counters,
        "counts": list(counts),
        "groups": [{name: _plain(value) for name, value in group.items()} for group in said],
        "arrays": {
            f"{k}.{name}": np.array(to_host(array))
            for k, kept in slots.items()
            for name, array in kept.items()
        },
    }


def load_state(
    state: Mapping[str, Any],
    now: Mapping[str, Any],
    groups: Sequence[Group],
    initial: Callable[[Mapping[str, Any]], Iterable[str]],
    check: Check,
) -> LoadedState:
    """Check a state against an optimizer whose own is ``now``; see its ``load_state_dict``.

    Of the optimizer it takes its groups, ``initial`` and ``check``.
    """
    who = f"{now['kind']}.load_state_dict"
    missing = [name for name in now if name not in state]
    if missing:
        raise KeyError(f"{who}: the state has no {missing}")
    if state["kind"] != now["kind"]:
        raise ValueError(f"{who}: the state is that of {state['kind']!r}")
    if "loss_scale" in state and "loss_scale" not in now:
        raise ValueError(f"{who}: the state has a loss scale, and the optimizer was given none")
    loaded = _groups(who, check, state["groups"], now["groups"])
    counters = {name: _count(who, name, state[name]) for name in COUNTERS}
    counts = [_count(who, "a count", count) for count in state["counts"]]
    if len(counts) != len(now["counts"]):
        raise ValueError(
            f"{who}: the state is that of {len(counts)} parameters, there are {len(now['counts'])}"
        )
    slots: Slots = {}
    arrays = dict(state["arrays"])
    owned = [(p, o) for group, o in zip(groups, loaded, strict=True) for p in group.params]
    for k, (parameter, options) in enumerate(owned):
        names = [*initial(options)]
        if not any(f"{k}.{name}" in arrays for name in names):
            continue
        slots[k] = {}
        for name in names:
            key, dtype = f"{k}.{name}", working_dtype(parameter.dtype)
            if key not in arrays:
                raise ValueError(f"{who}: the state has no array {key!r}")
            values = np.asarray(arrays.pop(key))
            if values.shape != tuple(parameter.shape) or values.dtype != dtype:
                raise ValueError(
                    f"{who}: {key} should be {dtype} {parameter.shape} to fit its parameter, got "
                    f"{values.dtype} {values.shape}"
                )
            slots[k][name] = transfer(values.copy(), parameter.device)
    if arrays:
        raise ValueError(f"{who}: there is no parameter for {sorted(arrays)!s:.200}")
    return LoadedState(loaded, counters, counts, slots)


def _count(who: str, name: str, value: Any) -> int:
    """A number of updates as an optimizer counts them."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{who}: {name} must be an integer >= 0, got {value!r:.40}")
    return value


def _groups(who: str, check: Check, given: Any, now: Any) -> list[dict[str, Any]]:
    """The hyperparameters of each group, if these are the optimizer's groups."""
    sizes, wanted = [[group["params"] for group in groups] for groups in (given, now)]
    if sizes != wanted:
        raise ValueError(f"{who}: the groups of the state have {sizes} parameters, not {wanted}")
    loaded: list[dict[str, Any]] = []
    for k, (group, own) in enumerate(zip(given, now, strict=True)):
        if set(group) != set(own):
            odd = sorted(set(group) ^ set(own))
            raise ValueError(f"{who}: group {k} of the state and the optimizer's differ in {odd}")
        options = {n: tuple(v) if isinstance(v, list) else v for n, v in group.items()}
        options.pop("params")
        check(f"{who}, group {k}", options)
        loaded.append(options)
    return loaded


def _plain(value: Any) -> Any:
    """A hyperparameter as JSON has it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value
