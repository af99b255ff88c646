"""Recording and walking back. This room knows no mathematics and no operators.

Imports backends/ only. Read primitive.py first, then walk.py.
"""

from tinygrad_rnn.tape.cotangent import Deferred, register_conform
from tinygrad_rnn.tape.hooks import Handle, Watch
from tinygrad_rnn.tape.listing import format_bytes
from tinygrad_rnn.tape.order import collect, key_of
from tinygrad_rnn.tape.primitive import (
    Function,
    Primitive,
    Record,
    Traced,
    next_position,
    user_line,
)
from tinygrad_rnn.tape.state import (
    Observer,
    State,
    enable_grad,
    is_observed,
    is_quiet,
    is_recording,
    is_tracing,
    no_grad,
    observe,
    reading,
    record_frames,
    tracing,
)
from tinygrad_rnn.tape.tape import Tape
from tinygrad_rnn.tape.tree import leaves, rebuild, tree_map
from tinygrad_rnn.tape.walk import backward, differentiate, seed

__all__ = [
    "Deferred",
    "Function",
    "Handle",
    "Observer",
    "Primitive",
    "Record",
    "State",
    "Tape",
    "Traced",
    "Watch",
    "backward",
    "collect",
    "differentiate",
    "enable_grad",
    "format_bytes",
    "is_observed",
    "is_quiet",
    "is_recording",
    "is_tracing",
    "key_of",
    "leaves",
    "next_position",
    "no_grad",
    "observe",
    "reading",
    "rebuild",
    "record_frames",
    "register_conform",
    "seed",
    "tracing",
    "tree_map",
    "user_line",
]
