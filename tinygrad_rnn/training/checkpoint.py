"""Checkpoint: all that a run depends on, in one file that is whole or not there."""

from __future__ import annotations

import json
import os
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinygrad_rnn.nn.disk import write_atomically
from tinygrad_rnn.nn.files import check_json, pack, parse_json, unpack

KIND = "checkpoint, version 1"


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged, of another run, or cannot be written."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the rest of a run depends on.

    Attributes
    ----------
    model : the parameters and buffers, ``module.state_dict()``.
    optimizer : ``optimizer.state_dict()``.
    generator : the state of the one generator, from which all randomness comes.
    state : the recurrent state between two batches: nested tuples, lists and dicts of arrays, or
        None. A NamedTuple comes back as one with the same name and fields.
    progress : where the run stands: updates done, epoch, batch within it, seconds.
    settings : what the run was started with; strings, numbers, lists and dicts.
    parts : the states of what else remembers anything, a schedule or callbacks, by name.

    On the disk it is one safetensors file, which any tool for that format can read: the arrays as
    ``model/<name>``, ``optimizer/<name>`` and ``state/<number>``, the rest as JSON in its
    metadata beside a SHA-256 of the whole. Nothing in it is ever executed.
    """

    model: Mapping[str, np.ndarray]
    optimizer: Mapping[str, Any]
    generator: Mapping[str, Any]
    state: Any
    progress: Mapping[str, Any]
    settings: Mapping[str, Any]
    parts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, or leave what was there before.

        Raises
        ------
        CheckpointError
            where it cannot be written: a full disk, a folder without the right to write, a state
            that is more than strings, numbers, lists and dicts.
        """
        optimizer, state = dict(self.optimizer), dict[str, np.ndarray]()
        arrays = {f"model/{name}": array for name, array in self.model.items()}
        arrays |= {f"optimizer/{name}": a for name, a in optimizer.pop("arrays", {}).items()}
        try:
            document = {
                "optimizer": optimizer,
                "generator": self.generator,
                "state": _describe(self.state, state),
                "progress": self.progress,
                "settings": self.settings,
                "parts": self.parts,
            }
            text = json.dumps(document)
        except (TypeError, ValueError, RecursionError) as error:
            raise CheckpointError(
                "a checkpoint holds strings, numbers, lists and dicts beside its arrays: "
                f"{error.args[0]}"
            ) from None
        arrays |= state
        try:
            check_json(text.encode(), _size(text, arrays))  # as load() will
            write_atomically(Path(path), pack(KIND, text, arrays))
        except OSError as error:
            reason = error.strerror or error
            raise CheckpointError(f"cannot write the checkpoint {str(path)!r}: {reason}") from error
        except ValueError as error:
            raise CheckpointError(
                f"cannot write the checkpoint {str(path)!r}: it {error}"
            ) from None

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read a file that :meth:`save` wrote.

        Raises
        ------
        CheckpointError
            where it is missing, cut off, damaged or something else.
        """
        try:
            with unpack(Path(path), KIND) as (text, stored):
                arrays = {name: np.array(values) for name, values in stored.items()}
        except FileNotFoundError:
            raise CheckpointError(f"there is no checkpoint {str(path)!r}") from None
        except OSError as error:
            reason = error.strerror or error
            raise CheckpointError(f"cannot read the checkpoint {str(path)!r}: {reason}") from error
        except ValueError as error:
            raise CheckpointError(f"{str(path)!r} {error}") from None
        text = text or ""
        try:
            return cls._of(parse_json(text.encode(), _size(text, arrays)), arrays)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            # It has the right checksum: some other program has made it.
            raise CheckpointError(
                f"{str(path)!r} is damaged: it has the form of a checkpoint, but not its content "
                f"({type(error).__name__}: {error!s:.200})"
            ) from None

    @classmethod
    def _of(cls, document: Any, arrays: Mapping[str, np.ndarray]) -> Checkpoint:
        def under(folder: str) -> dict[str, np.ndarray]:
            return {
                name.removeprefix(folder): array
                for name, array in arrays.items()
                if name.startswith(folder)
            }

        names = ("optimizer", "generator", "progress", "settings", "parts")
        dicts: dict[str, Any] = {name: document[name] for name in names}
        for name, found in dicts.items():
            if not isinstance(found, dict):
                raise TypeError(f"{name} is no dict")
        dicts["optimizer"] |= {"arrays": under("optimizer/")}
        return cls(under("model/"), state=_build(document["state"], under("state/")), **dicts)

    @staticmethod
    def latest(folder: str | os.PathLike[str]) -> Path:
        """The checkpoint of a run's folder that is furthest on.

        Raises
        ------
        CheckpointError
            where there is none.
        """
        found = numbered(folder)
        if not found:
            raise CheckpointError(f"there is no checkpoint in the folder {str(folder)!r}")
        return found[max(found)]


def numbered(folder: str | os.PathLike[str]) -> dict[int, Path]:
    """The checkpoints of a run by their numbers of updates."""
    found: dict[int, Path] = {}
    for path in Path(folder).glob("checkpoint-*.safetensors"):
        number = path.stem.removeprefix("checkpoint-")
        if number.isdecimal() and path.name == checkpoint_name(int(number)) and path.is_file():
            found[int(number)] = path
    return found


def checkpoint_name(updates: int) -> str:
    """What the file of a run's checkpoint is called."""
    return f"checkpoint-{updates:08d}.safetensors"


def _size(text: str, arrays: Mapping[str, np.ndarray]) -> int:
    """About how many bytes a file of these has."""
    return len(text) + sum(np.asarray(array).nbytes for array in arrays.values())


MOST_KINDS = 100
"""Of NamedTuples in a state; each is a class to be made, of some thousand bytes."""


def _describe(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The containers of a state as JSON; its arrays are put into ``arrays`` by their numbers."""
    if isinstance(tree, dict):
        for key in tree:
            if not isinstance(key, str | int):
                raise CheckpointError(
                    f"a dict in a state must have strings or integers as keys, got {key!r:.80}"
                )
        return {"dict": [[key, _describe(part, arrays)] for key, part in tree.items()]}
    if isinstance(tree, list | tuple):
        parts = [_describe(part, arrays) for part in tree]
        fields = getattr(tree, "_fields", None)
        if fields is not None:
            _kind(type(tree).__name__, fields)  # which a checkpoint must be able to make again
            return {"name": type(tree).__name__, "fields": list(fields), "parts": parts}
        return {"list" if isinstance(tree, list) else "tuple": parts}
    if tree is None:
        return None
    arrays[f"state/{len(arrays)}"] = tree
    return "array"


def _build(description: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """The inverse of :func:`_describe`, with the arrays from left to right."""
    following = iter([arrays[f"{k}"] for k in range(len(arrays))])
    kinds: dict[tuple[str, ...], Callable[..., Any]] = {}

    def build(part: Any) -> Any:
        match part:
            case None:
                return None
            case "array":
                return next(following)
            case {"dict": parts}:
                built = {_key(key): build(inner) for key, inner in parts}
                if len(built) < len(parts):
                    raise ValueError("a key of a dict comes twice")
                return built
            case {"list": parts}:
                return [build(inner) for inner in parts]
            case {"tuple": parts}:
                return tuple([build(inner) for inner in parts])
            case {"name": name, "fields": fields, "parts": parts}:
                if (name, *fields) not in kinds:
                    if len(kinds) == MOST_KINDS:
                        raise ValueError(f"more than {MOST_KINDS} kinds of NamedTuples")
                    kinds[name, *fields] = _kind(name, fields)
                return kinds[name, *fields](*[build(inner) for inner in parts])
        raise ValueError(f"unknown container {part!r:.80}")

    try:
        built = build(description)
    except StopIteration:
        raise ValueError("the state lacks arrays") from None
    if next(following, None) is not None:
        raise ValueError("the state has arrays left over")
    return built


def _key(key: Any) -> str | int:
    if not isinstance(key, str | int):
        raise TypeError(f"a key of a dict is {key!r:.80}")
    return key


def _kind(name: Any, fields: Any) -> Callable[..., Any]:
    """A NamedTuple of that name with these fields."""
    if not isinstance(fields, list | tuple) or not all(isinstance(f, str) for f in (name, *fields)):
        raise TypeError(f"a NamedTuple {name!r:.80} has fields {fields!r:.80}")
    try:
        return namedtuple(name, fields)
    except (SyntaxError, ValueError) as error:  # SyntaxError: two that Python reads as one
        raise ValueError(f"a NamedTuple {name!r:.80}: {error.args[0]:.200}") from None
