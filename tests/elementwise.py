"""Every primitive of ops/elementwise/ by its name."""

from __future__ import annotations

import importlib
import pkgutil

from tinygrad_rnn.ops import elementwise
from tinygrad_rnn.tape import Primitive

ALL: dict[str, Primitive] = {
    value.name: value
    for module in pkgutil.iter_modules(elementwise.__path__, f"{elementwise.__name__}.")
    for value in vars(importlib.import_module(module.name)).values()
    if isinstance(value, Primitive)
}
PRIMITIVES = {name: primitive for name, primitive in ALL.items() if primitive.kernel}
"""Those that have a kernel."""
