"""Finding where the first nan or infinity comes from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Switch
from tinygrad_rnn.lab.anomaly.detector import Detector
from tinygrad_rnn.lab.anomaly.finding import AnomalyError
from tinygrad_rnn.tape import Modes, current_modes


class Detection(Switch[Modes, None]):
    """The block of :func:`detect_anomaly`."""

    def __init__(self) -> None:
        detector = Detector()

        def begin(modes: Modes) -> Modes:
            detector.entered = sys.exc_info()[1]
            return replace(modes, observers=(*modes.observers, detector), looking=True)

        super().__init__("detect_anomaly", current_modes, begin, after=detector.finish)

    def again(self) -> Detection:
        """Another one."""
        return Detection()


def detect_anomaly() -> Detection:
    """Within the block, find where a nan or an infinity begins that does harm, and raise.

    The first line of the error says which operation made it of which operands, at which time step,
    in which layer and direction, and the line of code; those of the cell's equation inside a
    replayed loop, which is run again step by step. What an operation did not make is named as what
    it is: a parameter, a buffer, an argument of a layer. What follows says what the operands
    hold, and what to do about it where that is known. The error has all of it as data, too: see
    :class:`AnomalyError`.

    Infinities that do no harm are none: masks of -inf that a softmax reads, a branch that ``where``
    does not take, padding that nothing reads. So the error comes when it is known that harm is
    done: when ``backward`` begins at a loss that is not finite, when a gradient becomes nan or
    infinite, or at the end of the block, for results that nothing has read. If the block ends
    with an error of arithmetic, such as a Trainer's, it takes the place of that.

    Every result is looked at, so it is slow, and on a GPU waits for the device: a tool for finding
    a fault.

    >>> import tinygrad_rnn as tg
    >>> from tinygrad_rnn import lab
    >>> with lab.detect_anomaly():
    ...     tg.scan(lambda x, h: (h, tg.log(h - 1.0)), tg.ones(5), tg.tensor(8.0))
    Traceback (most recent call last):
    tinygrad_rnn.lab.anomaly.finding.AnomalyError: log in a replayed loop, time step 2: ...
    """
    return Detection()


def explain(run_again: Callable[[], Any]) -> AnomalyError | None:
    """Run something again under :func:`detect_anomaly`: what is found, None where nothing is.

    It is made to be given to a Trainer, ``Trainer(..., repeat=lab.explain)``, whose error then says
    of the batch that went wrong what :func:`detect_anomaly` says. Whoever writes another such
    function is given ``run_again``, which takes no arguments and may be called more than once:
    each call makes the loss and the gradient of that batch from the same parameters, attributes of
    modules, recurrent state and random numbers (those of this package; NumPy's own generators go
    on). It returns an exception, a text, or None for nothing.

    What a Trainer keeps for that, and only where it is given such a function, are the batches of
    the update that is under way, and for each of them the recurrent state, the state of the
    generator, the attributes of the modules, and copies of the buffers.

    An error of arithmetic that ``run_again`` raises is passed over; any other one is passed on.
    """
    try:
        with np.errstate(all="ignore"), detect_anomaly():
            run_again()
    except AnomalyError as found:
        return found
    except ArithmeticError:
        return None
    return None
