"""A monitor: what goes on in a network while it is trained."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import numpy as np

from tinygrad_rnn.backends import Array
from tinygrad_rnn.lab.monitoring.measured import Found, of_a_pass, of_flow, of_parameters
from tinygrad_rnn.lab.monitoring.report import Row, page
from tinygrad_rnn.lab.undisturbed import undisturbed
from tinygrad_rnn.lab.written import write_text
from tinygrad_rnn.nn import check_size
from tinygrad_rnn.tape import no_grad
from tinygrad_rnn.training import Callback, MetricsFile, Trainer

KNOWN = ("update", "epoch", "seconds", "tokens_per_second", "learning_rate", "gradient_norm")
"""What metrics.csv says of every run; the rest is told as ``training``."""
FLOW = 6
"""How much longer a look takes that follows gradients, about; known once there was one."""
COLUMNS = ("update", "quantity", "name", "value")


class Monitor(Callback):
    """Looks at a run from time to time, and writes what it sees into a table and a page.

    ``monitor.csv`` has a row for each number, ``monitor.html`` pictures of them all, which a
    browser loads again by itself while the run goes on. Both are in the folder of the run and whole
    at any moment. What is measured at a look, of one update:

    - ``gradient norm`` of every parameter, before clipping, in the unit of the loss per that of the
      parameter; ``weight norm``; ``update / weight``, the norm of the change by that of the
      parameter (a thousandth is usual);
    - ``saturation``: of every gate the share that is below 0.1 and that above 0.9, of other noted
      values between -1 and 1 the share beyond +-0.8;
    - ``range``: smallest and largest value of every layer's states and results;
    - ``flow``: the norm of dL/dh and dL/dc over the steps back from the end, by
      :func:`gradient_flow`;
    - ``share of updates`` since the look before that were clipped, and that were skipped;
    - ``training``: what metrics.csv says, and ``cost``: the seconds spent on looking so far.

    For ranges, saturation and flow, the loss of the next batch is computed once more, with the
    parameters and the state that the next update has. Training computes the same bits as without a
    monitor, as long as ``loss`` does nothing besides; which updates are looked at depends on the
    clock, training does not. It costs the memory of one more copy of the parameters during an
    update. The files are its memory: a run that is resumed goes on with them, also one that began
    without a monitor.

    Parameters
    ----------
    every : look at every so many updates at most.
    share : the share of training time that it may take. The next look is put off until what all
        looks have taken, and one more like the last, is less than that; only the first, which
        leaves flow out, is taken whatever it takes. With 1 nothing is put off. A look that takes
        longer than the one before may exceed it for a while.
    flow : whether to follow gradients over distance, which takes most of a look's time, and the
        memory of the batch's tape with its loops unrolled.

    Attributes
    ----------
    seconds : what it has taken so far.
    looks : how many looks it has taken.
    """

    def __init__(self, every: int = 20, share: float = 0.03, flow: bool = True) -> None:
        check_size("Monitor", every=every)
        if not isinstance(share, int | float) or not 0 < share <= 1:
            raise ValueError(f"Monitor: share must be a number above 0, at most 1, got {share!r}")
        self.every, self.share, self.flow = int(every), float(share), flow
        self.seconds, self.looks = 0.0, 0
        self._rows: list[Row] = []

    def on_start(self, trainer: Trainer) -> None:
        """Go on with the files of the run, as far as it has come."""
        began = time.perf_counter()
        self._folder = trainer.folder.path
        self._file = MetricsFile(self._folder / "monitor.csv", trainer.updates)
        self._rows = _read(self._folder / "monitor.csv") if trainer.updates else []
        looks = sorted({update for update, quantity, *_ in self._rows if quantity == "cost"})
        self.looks, self._latest = len(looks), max(looks, default=0)
        self.seconds = next((v for _, q, _, v in reversed(self._rows) if q == "cost"), 0.0)
        self._took = self.seconds / max(self.looks, 1) * (FLOW if self.looks == 1 else 1)
        self._began_for = 0.0
        self._found: Found = []
        self._before: list[Array] | None = None
        self._counted = {"updates": 0, "clipped": 0, "skipped": 0}
        self.seconds += time.perf_counter() - began
        self._begin_if_due(trainer)

    def on_update(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """Finish the look at this update, or begin one at the next."""
        began = time.perf_counter()
        report = trainer.report
        self._counted["updates"] += 1
        if report is not None:
            self._counted["clipped"] += report.clipped
            self._counted["skipped"] += report.skipped
        if self._before is not None:
            more = FLOW if self.flow and not self._is_flow_due() else 1  # of the next look
            self._finish(trainer, row)
            self._took = more * (self._began_for + time.perf_counter() - began)
        self.seconds += time.perf_counter() - began
        self._begin_if_due(trainer)

    def on_end(self, trainer: Trainer, ending: str) -> None:
        """Write the page for the last time; after an error, with what the parameters are now."""
        said = ending
        with closing(self._file):
            if ending == "failed":
                said = f"failed: {sys.exc_info()[1]}"
                found = of_parameters(trainer.optimizer.parameters, None, _scale(trainer))
                self._add(trainer.updates + 1, found)
            self._write(trainer, said)

    def _begin_if_due(self, trainer: Trainer) -> None:
        """Begin a look at the next update, if there is time for it."""
        if trainer.updates + 1 - self._latest < self.every:
            return
        allowed = self.share * trainer.seconds
        if self.share == 1 or not self.looks or self.seconds + self._took <= allowed:
            began = time.perf_counter()
            self._begin(trainer)
            self._began_for = time.perf_counter() - began
            self.seconds += self._began_for

    def _is_flow_due(self) -> bool:
        """Whether this look follows gradients; the first, which is not put off, does not."""
        return self.flow and (self.looks > 0 or self.share == 1)

    def _begin(self, trainer: Trainer) -> None:
        """Before an update: what its batch does in the network."""
        state = trainer.state
        with undisturbed(trainer.model):  # a batch may be made with random numbers
            batch = trainer.epochs.following()[0]
        with undisturbed(trainer.model), no_grad(), np.errstate(all="ignore"):
            self._found = of_a_pass(lambda: trainer.loss(batch, state))
        if self._is_flow_due():
            with undisturbed(trainer.model), np.errstate(all="ignore"):
                self._found += of_flow(trainer.model, lambda: trainer.loss(batch, state)[0])
        self._before = [p.array.copy() for p in trainer.optimizer.parameters]
        self._scale = _scale(trainer)  # the update may change it

    def _finish(self, trainer: Trainer, row: Mapping[str, float]) -> None:
        """After the update: what it did, and write it all."""
        with np.errstate(all="ignore"):
            self._found += of_parameters(trainer.optimizer.parameters, self._before, self._scale)
        self._before = None
        counted = self._counted
        self._found += [
            ("share of updates", name, counted[name] / counted["updates"])
            for name in ("clipped", "skipped")
        ]
        self._counted = dict.fromkeys(counted, 0)
        self._found.append(("gradient norm", "all parameters", row["gradient_norm"]))
        self._found += [
            ("training", name, float(value)) for name, value in row.items() if name not in KNOWN
        ]
        self._found.append(("cost", "seconds of looking", self.seconds))
        self.looks, self._latest = self.looks + 1, trainer.updates
        self._add(trainer.updates, self._found)
        self._write(trainer, "")

    def _add(self, update: int, found: Found) -> None:
        for quantity, name, value in found:
            self._rows.append((update, quantity, name, value))
            self._file.append(dict(zip(COLUMNS, self._rows[-1], strict=True)))

    def _write(self, trainer: Trainer, ending: str) -> None:
        share = self.seconds / trainer.seconds if trainer.seconds else 0.0
        said = [
            f"Update {trainer.updates:,}, after {trainer.seconds:,.0f} s. {self.looks} looks took "
            f"{self.seconds:.1f} s, {share:.1%} of that; at most {self.share:.0%} is allowed.",
            ending or "The run goes on; this page is loaded again by itself.",
        ]
        text = page(f"{trainer.folder.path.name}: monitor", said, self._rows, not ending)
        write_text(self._folder / "monitor.html", text, "Monitor")


def _scale(trainer: Trainer) -> float:
    """By what the losses, and so the gradients, are multiplied."""
    scale = trainer.optimizer.loss_scale
    return 1.0 if scale is None else scale.value


def _read(path: Path) -> list[Row]:
    """The rows of a file, which has just been put in order."""
    with open(path, encoding="utf-8", newline="") as file:
        return [
            (int(row["update"]), row["quantity"], row["name"], float(row["value"]))
            for row in csv.DictReader(file)
        ]
