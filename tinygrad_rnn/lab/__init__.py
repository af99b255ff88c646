"""Looking inside: what a network does and where it goes wrong. Nothing to the left imports it."""

from tinygrad_rnn.lab.anomaly import AnomalyError, detect_anomaly
from tinygrad_rnn.lab.model_summary import Summary, summary
from tinygrad_rnn.lab.picture import (
    COLOURS,
    Panel,
    Picture,
    add_picture_options,
    draw_picture,
)
from tinygrad_rnn.lab.profiling import Loops, Profile, profile
from tinygrad_rnn.tape import Origin, look

__all__ = [
    "COLOURS",
    "AnomalyError",
    "Loops",
    "Origin",
    "Panel",
    "Picture",
    "Profile",
    "Summary",
    "add_picture_options",
    "detect_anomaly",
    "draw_picture",
    "look",
    "profile",
    "summary",
]
