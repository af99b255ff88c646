"""Looking inside: what a network does and where it goes wrong. Nothing to the left imports it."""

from tinygrad_rnn.lab.anomaly import AnomalyError, detect_anomaly

__all__ = ["AnomalyError", "detect_anomaly"]
