"""The dtypes that a Tensor can have: three floating ones, integers and bools."""

from __future__ import annotations

from typing import Any

import numpy as np

_DTYPES = {np.dtype(code) for code in "efd?bhilqBHILQ"}


def checked_dtype(dtype: Any, who: str) -> np.dtype[Any]:
    """``dtype`` as NumPy's, or one sentence on why a Tensor cannot have it."""
    try:
        kind = None if dtype is None else np.dtype(dtype)
    except TypeError:
        kind = None
    if kind is None or kind not in _DTYPES:
        raise TypeError(
            f"{who}: expected float16, float32, float64, integers or bools, got {kind or dtype}"
        )
    return kind
