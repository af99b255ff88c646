"""Training: the loop, checkpoints that survive, metrics.

Imports everything but lab/. Read trainer.py first.
"""

from tinygrad_rnn.training.checkpoint import Checkpoint, CheckpointError
from tinygrad_rnn.training.metrics import MetricsFile, read_metrics
from tinygrad_rnn.training.trainer import NonFiniteLossError, Trainer

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "MetricsFile",
    "NonFiniteLossError",
    "Trainer",
    "read_metrics",
]
