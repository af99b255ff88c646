"""Looking inside: what a network does and where it goes wrong. Nothing to the left imports it."""

from tinygrad_rnn.lab.anomaly import AnomalyError, detect_anomaly
from tinygrad_rnn.lab.directions import path_directions, random_directions
from tinygrad_rnn.lab.drawing import draw
from tinygrad_rnn.lab.page import to_html
from tinygrad_rnn.lab.picture import (
    COLOURS,
    Panel,
    Picture,
    add_picture_options,
    draw_picture,
)
from tinygrad_rnn.lab.replayed import Replayed, stages
from tinygrad_rnn.lab.surface import Surface, surface
from tinygrad_rnn.tape import Origin, look

__all__ = [
    "COLOURS",
    "AnomalyError",
    "Origin",
    "Panel",
    "Picture",
    "Replayed",
    "Surface",
    "add_picture_options",
    "detect_anomaly",
    "draw",
    "draw_picture",
    "look",
    "path_directions",
    "random_directions",
    "stages",
    "surface",
    "to_html",
]
