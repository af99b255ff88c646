"""``cupyx`` of the stand-in."""

from __future__ import annotations

from typing import Any

import numpy as np


def empty_pinned(shape: Any, dtype: Any = float, order: Any = "C") -> np.ndarray:
    return np.empty(shape, dtype, order)
