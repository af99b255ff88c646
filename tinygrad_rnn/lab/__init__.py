"""Looking inside: what a network does and where it goes wrong. Nothing to the left imports it."""

from tinygrad_rnn.lab.anomaly import AnomalyError, detect_anomaly
from tinygrad_rnn.lab.drawing import draw
from tinygrad_rnn.lab.page import to_html
from tinygrad_rnn.tape import Origin, look

__all__ = ["AnomalyError", "Origin", "detect_anomaly", "draw", "look", "to_html"]
