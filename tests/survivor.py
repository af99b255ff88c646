"""A small training run to be killed: ``survivor.py FOLDER UPDATES [CALL COUNT MOMENT]``.

It goes on from the last checkpoint in the folder, and writes one after every update. Given a
function of os, it kills itself at that call of it: before it, after it, or, for a file that is
about to be flushed, with half of its bytes written.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

from runs import Run

import tinygrad_rnn as tg
from tinygrad_rnn import optim
from tinygrad_rnn.tape import leaves
from tinygrad_rnn.training import Checkpoint, EarlyStopping
from tinygrad_rnn.training.checkpoint import numbered


def make(folder: Path, **options: Any) -> Run:
    """A run with everything that a checkpoint must hold."""
    plateau = optim.schedules.Plateau(0.02, factor=0.9, patience=1)
    callbacks = [EarlyStopping(1000), *options.pop("callbacks", [])]
    return Run(
        folder, accumulate=3, schedule=plateau, callbacks=callbacks,
        evaluate_every=2, checkpoint_every=1, keep=2, **options,
    )  # fmt: skip


def digest(checkpoint: Checkpoint) -> str:
    """All of a checkpoint but the time that training took."""
    total = hashlib.sha256()
    arrays = {**checkpoint.model, **checkpoint.optimizer["arrays"]}
    for array in [*(arrays[name] for name in sorted(arrays)), *leaves(checkpoint.state)]:
        total.update(array.tobytes())
    rest = (
        {name: value for name, value in checkpoint.optimizer.items() if name != "arrays"},
        checkpoint.generator,
        {name: value for name, value in checkpoint.progress.items() if name != "seconds"},
        checkpoint.settings,
        checkpoint.parts,
    )
    total.update(json.dumps(rest).encode())
    return total.hexdigest()


def die_at(call: str, count: int, moment: str) -> None:
    """Have the count-th call of a function of os be the last thing that happens."""
    original, calls = getattr(os, call), 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and moment == "half written" and stat.S_ISREG(os.fstat(arguments[0])[0]):
            os.ftruncate(arguments[0], os.fstat(arguments[0]).st_size // 2)
        answer = original(*arguments, **options) if calls < count or moment == "after" else None
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(os, call, counted)


def main() -> None:
    """Train on."""
    folder, updates, *last = sys.argv[1:]
    run = make(Path(folder))
    if numbered(folder):
        tg.rand(3)
        run.trainer.resume(Checkpoint.latest(folder))
    if last:
        die_at(last[0], int(last[1]), last[2])
    run.trainer.fit(updates=int(updates))


if __name__ == "__main__":
    main()
