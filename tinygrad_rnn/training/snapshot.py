"""A run as a Checkpoint, and back.

``parts`` are what has a state of its own besides, by name: see :func:`named_parts`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

import numpy as np

from tinygrad_rnn.ops import generator_state, set_generator_state
from tinygrad_rnn.tape import tree_map
from tinygrad_rnn.tensor import tensor
from tinygrad_rnn.training.checkpoint import Checkpoint, CheckpointError
from tinygrad_rnn.training.run import Run

LOWEST = {"updates": 0, "epoch": 0, "batch": 0, "batches": 1, "accumulate": 1}
"""The integers of a progress, and the smallest that they can be."""


def named_parts(*parts: Any) -> dict[str, Any]:
    """Those of a schedule and callbacks that have a state; a second of a kind is number 2."""
    found: dict[str, Any] = {}
    for part in parts:
        if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
            kind, count = type(part).__name__, 1
            while (name := kind if count == 1 else f"{kind} {count}") in found:
                count += 1
            found[name] = part
    return found


def take(run: Run, parts: Mapping[str, Any]) -> Checkpoint:
    """All that the rest of the run depends on, copied."""
    return Checkpoint(
        model=run.model.state_dict(),
        optimizer=run.optimizer.state_dict(),
        generator=generator_state(),
        state=tree_map(lambda leaf: np.array(leaf.numpy()), run.state),
        progress={
            "updates": run.updates,
            "epoch": run.epoch,
            "batch": run.batch,
            "batches": len(run.epochs.present()),
            "accumulate": run.epochs.accumulate,
            "seconds": run.seconds,
            "best": run.best,
        },
        settings=run.settings,
        parts={name: part.state_dict() for name, part in parts.items()},
    )


def restore(
    run: Run,
    parts: Mapping[str, Any],
    checkpoint: Checkpoint,
    name: str,
    may_differ: Collection[str],
) -> None:
    """Put a run where a checkpoint was made, or raise CheckpointError and change nothing."""
    before, place = take(run, parts), checkpoint.progress
    for key in before.progress:
        if key not in place:
            raise CheckpointError(f"{name} is not of a Trainer: its progress lacks {key!r}")
    _check(place, name)
    _compare(before, checkpoint, name, may_differ)
    batches = len(run.epochs.sequence(place["epoch"]))
    if place["batches"] != batches:
        raise CheckpointError(
            f"{name} was made with {place['batches']} batches in an epoch, this run has {batches}"
        )
    try:
        _load(run, parts, checkpoint)
        if generator_state() != checkpoint.generator:
            raise ValueError("the state of the random generator is damaged")
    except Exception as error:
        _load(run, parts, before)
        reason = error.args[0] if error.args else type(error).__name__
        raise CheckpointError(f"{name} does not fit: {reason!s:.500}") from error


def _check(place: Mapping[str, Any], name: str) -> None:
    """Refuse a progress that no run can have made."""

    def refuse(key: str, expected: str) -> NoReturn:
        raise CheckpointError(
            f"{name} is damaged: its progress says {key} {place[key]!r:.40}, expected {expected}"
        )

    for key, lowest in LOWEST.items():
        if type(place[key]) is not int or not lowest <= place[key] < 2**63:
            refuse(key, f"an integer >= {lowest} of at most 63 bits")
    if place["batch"] >= place["batches"]:
        refuse("batch", f"less than batches {place['batches']:,}")
    if place["epoch"] + (place["batch"] > 0) > place["updates"]:  # each takes an update or more
        refuse("epoch", f"no more than its {place['updates']:,} updates make")
    if not _is_number(place["seconds"]) or place["seconds"] < 0:
        refuse("seconds", "a number >= 0")
    if place["best"] is not None and not _is_number(place["best"]):
        refuse("best", "a number or None")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _equal(one: Any, other: Any) -> bool:
    """Whether two settings are the same; nan, which Python says differs from itself, is."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return one == other or (one != one and other != other)


def _compare(here: Checkpoint, there: Checkpoint, name: str, allowed: Collection[str]) -> None:
    """Refuse a checkpoint ``there`` with other settings or parts than one of this run has."""
    ours, theirs = (
        {**one.settings, "accumulate": one.progress["accumulate"]} for one in (here, there)
    )
    for key in dict.fromkeys([*theirs, *ours]):
        if key not in allowed and not _equal(theirs.get(key), ours.get(key)):
            made, wanted = (f"{side.get(key)!r:.80}" for side in (theirs, ours))
            raise CheckpointError(f"{name} was made with {key:.80} {made}, this run has {wanted}")
    for key in dict.fromkeys([*there.parts, *here.parts]):
        if key not in allowed and (key in here.parts) != (key in there.parts):
            made, wanted = ("without", "it") if key in here.parts else ("with", "none")
            raise CheckpointError(f"{name} was made {made} {key:.80}, this run has {wanted}")


def _load(run: Run, parts: Mapping[str, Any], checkpoint: Checkpoint) -> None:
    run.model.load_state_dict(checkpoint.model)
    run.optimizer.load_state_dict(checkpoint.optimizer)
    for name, part in parts.items():
        if name in checkpoint.parts:
            part.load_state_dict(checkpoint.parts[name])
    set_generator_state(dict(checkpoint.generator))
    device = next((p.device for p in run.model.parameters()), None)
    run.state = tree_map(lambda array: tensor(array, device=device), checkpoint.state)
    place = checkpoint.progress
    run.epochs.go_to(place["epoch"], place["batch"])
    run.updates, run.seconds = place["updates"], place["seconds"]
    run.best = place["best"]
