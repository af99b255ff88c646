"""Looking inside: what a network does and where it goes wrong. Nothing to the left imports it."""

from tinygrad_rnn.lab.anomaly import AnomalyError, detect_anomaly
from tinygrad_rnn.lab.contributions import Contributions, contributions
from tinygrad_rnn.lab.directions import path_directions, random_directions
from tinygrad_rnn.lab.flow import GradientFlow, gradient_flow
from tinygrad_rnn.lab.flow_of_layer import LayerFlow
from tinygrad_rnn.lab.gates import Saturation
from tinygrad_rnn.lab.monitor import Monitor
from tinygrad_rnn.lab.picture import (
    COLOURS,
    Panel,
    Picture,
    add_picture_options,
    draw_picture,
)
from tinygrad_rnn.lab.strip import Strip
from tinygrad_rnn.lab.surface import Surface, surface
from tinygrad_rnn.lab.telling import Telling, Unit
from tinygrad_rnn.lab.units import Units, units
from tinygrad_rnn.tape import Origin, look

__all__ = [
    "COLOURS",
    "AnomalyError",
    "Contributions",
    "GradientFlow",
    "LayerFlow",
    "Monitor",
    "Origin",
    "Panel",
    "Picture",
    "Saturation",
    "Strip",
    "Surface",
    "Telling",
    "Unit",
    "Units",
    "add_picture_options",
    "contributions",
    "detect_anomaly",
    "draw_picture",
    "gradient_flow",
    "look",
    "path_directions",
    "random_directions",
    "surface",
    "units",
]
