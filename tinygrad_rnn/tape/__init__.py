"""Recording and walking back. This room knows no mathematics and no operators.

Imports backends/ only. Read record.py first, then primitive.py and walk.py.
"""

from tinygrad_rnn.tape.clock import is_overwritten, mark_overwritten, next_position, version_of
from tinygrad_rnn.tape.cotangent import Deferred, contribution, register_conform
from tinygrad_rnn.tape.folding import Group, LayerTotal
from tinygrad_rnn.tape.hooks import Handle, Watch
from tinygrad_rnn.tape.html import html_paragraph, html_table
from tinygrad_rnn.tape.modes import (
    Modes,
    Observer,
    current_modes,
    enable_grad,
    is_recording,
    is_tracing,
    look,
    no_grad,
    observe,
    reading,
    tracing,
    unseen,
)
from tinygrad_rnn.tape.names import printable
from tinygrad_rnn.tape.operation import Function, Promotion
from tinygrad_rnn.tape.order import collect
from tinygrad_rnn.tape.origin import (
    Origin,
    Place,
    PlaceSwitch,
    code_at,
    current_place,
    in_layer,
    in_place,
    in_step,
    user_line,
    with_origin,
)
from tinygrad_rnn.tape.primitive import Primitive, register_kernel_check
from tinygrad_rnn.tape.record import Record, Traced, key_of
from tinygrad_rnn.tape.rows import format_bytes
from tinygrad_rnn.tape.seed import seed
from tinygrad_rnn.tape.tape import Tape
from tinygrad_rnn.tape.tree import in_order, leaves, matched, rebuild, tree_map
from tinygrad_rnn.tape.unchanged import read_by
from tinygrad_rnn.tape.walk import backward, differentiate

__all__ = [
    "Deferred",
    "Function",
    "Group",
    "Handle",
    "LayerTotal",
    "Modes",
    "Observer",
    "Origin",
    "Place",
    "PlaceSwitch",
    "Primitive",
    "Promotion",
    "Record",
    "Tape",
    "Traced",
    "Watch",
    "backward",
    "code_at",
    "collect",
    "contribution",
    "current_modes",
    "current_place",
    "differentiate",
    "enable_grad",
    "format_bytes",
    "html_paragraph",
    "html_table",
    "in_layer",
    "in_order",
    "in_place",
    "in_step",
    "is_overwritten",
    "is_recording",
    "is_tracing",
    "key_of",
    "leaves",
    "look",
    "mark_overwritten",
    "matched",
    "next_position",
    "no_grad",
    "observe",
    "printable",
    "read_by",
    "reading",
    "rebuild",
    "register_conform",
    "register_kernel_check",
    "seed",
    "tracing",
    "tree_map",
    "unseen",
    "user_line",
    "version_of",
    "with_origin",
]
