"""Where time and memory go: ``lab.profile``. Read watch.py and memory.py first."""

from __future__ import annotations

from dataclasses import replace

from tinygrad_rnn.backends import Switch
from tinygrad_rnn.lab.profiling.inside import LoopPart, Loops
from tinygrad_rnn.lab.profiling.memory import Kind, Peak
from tinygrad_rnn.lab.profiling.profile import Profile, Row
from tinygrad_rnn.lab.profiling.watch import Span, Watch
from tinygrad_rnn.tape import Modes, current_modes

__all__ = ["Kind", "LoopPart", "Loops", "Peak", "Profile", "Row", "Span", "profile"]


def profile() -> Switch[Modes, Profile]:
    """Measure where the time and the memory of a block go: ``with lab.profile() as p:``.

    Behind the block ``print(p)`` shows them by layer and by operation, forward and backward, and
    the peak of memory with what was alive then; ``print(p.inside())`` looks into replayed loops.
    All numbers are there, too, in seconds and bytes: see :class:`Profile`.

    Time is clock time between before and after each record, as an observer sees it; the rest, that
    lies between records, is told apart, so that the parts add up to the wall time. Being observed
    costs some 15 us a record: 9 of them are measured and called "the profile itself", the others,
    in which a record looks up where it comes from, are part of it or lie between records. Recurrent
    layers are traced at each call meanwhile, which is found between records. On a GPU each record
    waits until the device is done, so that a profile takes longer than the block does by itself.
    Memory is known by what owns it: nothing is kept alive, and views count nothing. What an
    operation or a gradient rule needs for a moment, as ``y * y`` in that of tanh, is not seen:
    where that sets the peak, the true one is higher by an array or two of the size of its result.

    Run the block once before: what is compiled at the first call would be measured.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> model, x = tg.nn.Linear(3, 4), tg.ones((5, 3))
    >>> with lab.profile() as p:
    ...     model(x).sum().backward()
    >>> for row in sorted(p.by_operation()):
    ...     print(row.name, row.records, row.nbytes)
    linear 4 144
    sum 2 4
    """
    found = Profile()

    def begin(_: Modes) -> Profile:
        found.begin(Watch())
        return found

    def watched(modes: Modes) -> Modes:
        return replace(modes, observers=(*modes.observers, found.watch), looking=True)

    return Switch("profile", current_modes, watched, begin, found.finish)
