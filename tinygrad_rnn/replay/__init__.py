"""The tape as a program: one time step traced, differentiated, split, fused, planned and run.

Each pass is a short file from program to program: trace.py, gradient.py, lower.py, simplify.py,
split.py, fuse.py, plan.py; then whole.py and the emitters run it. Imports tensor/ and what stands
to its left. Read program.py and split.py first.
"""

from tinygrad_rnn.replay.emitters import using
from tinygrad_rnn.replay.explain import explain_replay, wanted_of
from tinygrad_rnn.replay.rerun import is_replayed, rerun
from tinygrad_rnn.replay.scan import Recipe, scan, segment_length, trace
from tinygrad_rnn.replay.trace import ReadError

__all__ = [
    "ReadError",
    "Recipe",
    "explain_replay",
    "is_replayed",
    "rerun",
    "scan",
    "segment_length",
    "trace",
    "using",
    "wanted_of",
]
