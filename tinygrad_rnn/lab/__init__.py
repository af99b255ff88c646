"""Looking inside: what a network does and where it goes wrong. Nothing to the left imports it."""

from tinygrad_rnn.lab.anomaly import detect_anomaly, explain
from tinygrad_rnn.lab.finding import AnomalyError, Finding
from tinygrad_rnn.lab.ranges import Range
from tinygrad_rnn.tape import Origin, look

__all__ = ["AnomalyError", "Finding", "Origin", "Range", "detect_anomaly", "explain", "look"]
