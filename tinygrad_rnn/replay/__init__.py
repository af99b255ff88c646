"""The tape as a program: one time step traced, differentiated, split, fused, planned and run.

Within, each folder imports only what stands to its left: program/ (a step as data, the trace),
passes/ (from program to loop), emit/ (from loop to function), run/ (all of it together); on top,
scan.py with what is said of it. Imports tensor/ and what stands to its left. Read
program/program.py and passes/split.py first.
"""

from tinygrad_rnn.backends import using
from tinygrad_rnn.replay.explain import explain_replay
from tinygrad_rnn.replay.primitive import wanted_of
from tinygrad_rnn.replay.program.checks import checked_step
from tinygrad_rnn.replay.program.lineage import Lineage
from tinygrad_rnn.replay.program.stage import Row, Section, Stage, Stages, Way
from tinygrad_rnn.replay.program.trace import ReadError
from tinygrad_rnn.replay.program.verify import verifying
from tinygrad_rnn.replay.rerun import is_replayed, rerun
from tinygrad_rnn.replay.scan import TracedStep, scan, segment_length, trace
from tinygrad_rnn.replay.stages import equation, stages_of
from tinygrad_rnn.replay.steps import Steps, UnrolledWarning

__all__ = [
    "Lineage",
    "ReadError",
    "Row",
    "Section",
    "Stage",
    "Stages",
    "Steps",
    "TracedStep",
    "UnrolledWarning",
    "Way",
    "checked_step",
    "equation",
    "explain_replay",
    "is_replayed",
    "rerun",
    "scan",
    "segment_length",
    "stages_of",
    "trace",
    "using",
    "verifying",
    "wanted_of",
]
