"""Compiled steps by what they compute, so that a step is traced often and compiled once."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

from tinygrad_rnn.backends import Array, backend_of, device_of
from tinygrad_rnn.replay.program.program import Program, Value, canonical
from tinygrad_rnn.replay.run.replay import Replay

KEPT = 128
"""How many compiled steps are kept; beyond, those that were not used for longest go."""


class Cache:
    """What was compiled last. A program is compiled by :class:`Replay`, when it is first run."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.known: OrderedDict[Any, Replay] = OrderedDict()

    def find(self, key: Any, program: Program, reverse: bool, like: Array) -> Replay:
        """What is there under the key of a program, or is from now on."""
        with self.lock:
            found = self.known.get(key)
            if found is None:
                found = Replay(program, reverse, backend_of(like), device_of(like))
                self.known[key] = found
                while len(self.known) > KEPT:
                    self.known.popitem(last=False)
            else:
                self.known.move_to_end(key)
        return found


CACHE = Cache()


def replay_of(program: Program, reverse: bool, like: Array) -> Replay:
    """A program compiled in one direction, on the device of an array."""
    return CACHE.find(cache_key(program, reverse, like), program, reverse, like)


def cache_key(program: Program, reverse: bool, like: Array) -> Any:
    """Equal for what is compiled alike."""
    return reverse, backend_of(like), device_of(like), program_key(program)


def program_key(program: Program) -> Any:
    """Equal for programs that compute the same."""
    numbers: dict[Value, int] = {}

    def number(v: Any) -> Any:
        return numbers.setdefault(v, len(numbers)) if isinstance(v, Value) else canonical(v)

    roles = tuple(
        tuple((number(v), v.shape, v.dtype.str) for v in group)
        for group in (program.consts, program.xs, program.state)
    )
    lines = tuple(
        (op.primitive, *map(number, op.inputs), canonical(op.params), *map(number, op.outputs))
        for op in program.ops
    )
    ends = tuple(
        tuple(map(number, group)) for group in (program.ys, program.next_state, program.totals)
    )
    return roles, lines, ends
