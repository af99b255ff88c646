"""Training: the loop, checkpoints that survive, metrics.

Imports everything but lab/. Read trainer.py first.
"""

from tinygrad_rnn.training.callbacks import EarlyStopping
from tinygrad_rnn.training.checkpoint import Checkpoint, CheckpointError
from tinygrad_rnn.training.metrics import MetricsFile, read_metrics
from tinygrad_rnn.training.run import NonFiniteLossError
from tinygrad_rnn.training.trainer import Callback, Trainer
from tinygrad_rnn.training.truncated import TruncatedBPTT, Window

__all__ = [
    "Callback",
    "Checkpoint",
    "CheckpointError",
    "EarlyStopping",
    "MetricsFile",
    "NonFiniteLossError",
    "Trainer",
    "TruncatedBPTT",
    "Window",
    "read_metrics",
]
