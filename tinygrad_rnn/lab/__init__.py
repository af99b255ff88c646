"""Looking inside: what a network does and where it goes wrong. Nothing to the left imports it."""

from tinygrad_rnn.lab.activations.inner import Inner
from tinygrad_rnn.lab.activations.strip import Strip
from tinygrad_rnn.lab.activations.telling import Telling, Unit
from tinygrad_rnn.lab.activations.units import Units, units
from tinygrad_rnn.lab.anomaly.detection import detect_anomaly, explain
from tinygrad_rnn.lab.anomaly.finding import AnomalyError, Finding
from tinygrad_rnn.lab.anomaly.ranges import Range
from tinygrad_rnn.lab.drawing import draw
from tinygrad_rnn.lab.flow.contributions import Contributions, contributions
from tinygrad_rnn.lab.flow.gates import Saturation
from tinygrad_rnn.lab.flow.gradient_flow import GradientFlow, gradient_flow
from tinygrad_rnn.lab.flow.layer_flow import LayerFlow
from tinygrad_rnn.lab.monitoring.monitor import Monitor
from tinygrad_rnn.lab.page import to_html
from tinygrad_rnn.lab.picture import COLOURS, Panel, Picture, add_picture_options, draw_picture
from tinygrad_rnn.lab.profiling import Loops, Profile, profile
from tinygrad_rnn.lab.replayed import Replayed, stages
from tinygrad_rnn.lab.sizes.model_summary import Summary, summary
from tinygrad_rnn.lab.surfaces.directions import path_directions, random_directions
from tinygrad_rnn.lab.surfaces.surface import Surface, surface
from tinygrad_rnn.tape import Origin, look

__all__ = [
    "COLOURS",
    "AnomalyError",
    "Contributions",
    "Finding",
    "GradientFlow",
    "Inner",
    "LayerFlow",
    "Loops",
    "Monitor",
    "Origin",
    "Panel",
    "Picture",
    "Profile",
    "Range",
    "Replayed",
    "Saturation",
    "Strip",
    "Summary",
    "Surface",
    "Telling",
    "Unit",
    "Units",
    "add_picture_options",
    "contributions",
    "detect_anomaly",
    "draw",
    "draw_picture",
    "explain",
    "gradient_flow",
    "look",
    "path_directions",
    "profile",
    "random_directions",
    "stages",
    "summary",
    "surface",
    "to_html",
    "units",
]
