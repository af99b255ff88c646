"""A Trainer as a Checkpoint, and back."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_rnn.ops import generator_state, set_generator_state
from tinygrad_rnn.tape import tree_map
from tinygrad_rnn.tensor import tensor
from tinygrad_rnn.training.checkpoint import Checkpoint, CheckpointError

if TYPE_CHECKING:
    from tinygrad_rnn.training.trainer import Trainer


def take(trainer: Trainer) -> Checkpoint:
    """All that the rest of the run depends on, copied."""
    return Checkpoint(
        model=trainer.model.state_dict(),
        optimizer=trainer.optimizer.state_dict(),
        generator=generator_state(),
        state=tree_map(lambda leaf: np.array(leaf.numpy()), trainer.state),
        progress={
            "updates": trainer.updates,
            "epoch": trainer.epoch,
            "batch": trainer.batch,
            "batches": len(trainer.epochs.present()),
            "accumulate": trainer.epochs.accumulate,
            "seconds": trainer.seconds,
            "best": trainer.best,
        },
        settings=trainer.settings,
        parts={name: part.state_dict() for name, part in _parts(trainer).items()},
    )


def restore(
    trainer: Trainer, checkpoint: Checkpoint, name: str, may_differ: Collection[str]
) -> None:
    """Put a trainer where a checkpoint was made, or raise CheckpointError and change nothing."""
    before, place = take(trainer), checkpoint.progress
    for key, value in before.progress.items():
        if key not in place or (isinstance(value, int) and not isinstance(place[key], int)):
            raise CheckpointError(f"{name} is not of a Trainer: its progress lacks {key!r}")
    _compare(trainer, checkpoint, name, may_differ)
    try:
        _load(trainer, checkpoint)
    except Exception as error:
        _load(trainer, before)
        reason = error.args[0] if error.args else type(error).__name__
        raise CheckpointError(f"{name} does not fit: {reason}") from error


def _compare(trainer: Trainer, checkpoint: Checkpoint, name: str, allowed: Collection[str]) -> None:
    there = {**checkpoint.settings, "accumulate": checkpoint.progress["accumulate"]}
    here = {**trainer.settings, "accumulate": trainer.epochs.accumulate}
    for key in dict.fromkeys([*there, *here]):
        if key not in allowed and there.get(key) != here.get(key):
            made, wanted = (f"{side.get(key)!r:.80}" for side in (there, here))
            raise CheckpointError(f"{name} was made with {key} {made}, this run has {wanted}")
    parts = _parts(trainer)
    for key in dict.fromkeys([*checkpoint.parts, *parts]):
        if key not in allowed and (key in parts) != (key in checkpoint.parts):
            made, wanted = ("without", "it") if key in parts else ("with", "none")
            raise CheckpointError(f"{name} was made {made} {key}, this run has {wanted}")
    made, wanted = (
        checkpoint.progress["batches"],
        len(trainer.epochs.sequence(checkpoint.progress["epoch"])),
    )
    if made != wanted:
        raise CheckpointError(
            f"{name} was made with {made} batches in an epoch, this run has {wanted}"
        )


def _load(trainer: Trainer, checkpoint: Checkpoint) -> None:
    trainer.model.load_state_dict(checkpoint.model)
    trainer.optimizer.load_state_dict(checkpoint.optimizer)
    for name, part in _parts(trainer).items():
        if name in checkpoint.parts:
            part.load_state_dict(checkpoint.parts[name])
    set_generator_state(dict(checkpoint.generator))
    device = next((p.device for p in trainer.model.parameters()), None)
    trainer.state = tree_map(lambda array: tensor(array, device=device), checkpoint.state)
    place = checkpoint.progress
    trainer.epochs.go_to(place["epoch"], place["batch"])
    trainer.updates, trainer.seconds = place["updates"], place["seconds"]
    trainer.best = place["best"]


def _parts(trainer: Trainer) -> dict[str, Any]:
    """The schedule and the callbacks that have a state, by name; a second of a kind is number 2."""
    found: dict[str, Any] = {}
    for part in (trainer.schedule, *trainer.callbacks):
        if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
            kind, count = type(part).__name__, 1
            while (name := kind if count == 1 else f"{kind} {count}") in found:
                count += 1
            found[name] = part
    return found
