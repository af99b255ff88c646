"""What a backward pass begins with."""

from __future__ import annotations

import numbers
from typing import Any

from tinygrad_rnn.backends import DeviceError, as_array, backend_of, device_of
from tinygrad_rnn.tape.record import Traced


def seed(output: Traced, gradient: Any, who: str) -> Traced:
    """The cotangent with which a pass begins at ``output``: ``gradient``, or one for a scalar."""
    if not output.needs_grad:
        raise RuntimeError(f"{who}: the value does not depend on anything that requires a gradient")
    array = output.array
    if gradient is None:
        if array.size != 1:
            raise RuntimeError(
                f"{who}: a gradient can be left out only for a value of one element, got shape "
                f"{tuple(array.shape)}; reduce it (.sum(), .mean()) or pass a gradient"
            )
        backend = backend_of(array)
        return output.output_type(backend.there(array, backend.xp.ones_like)(array))
    if isinstance(gradient, numbers.Real):
        backend = backend_of(array)
        gradient = backend.there(array, backend.xp.asarray)(gradient, dtype=array.dtype)
    if not isinstance(gradient, Traced):
        gradient = output.output_type(as_array(gradient))
    if gradient.array.shape != array.shape or gradient.array.dtype != array.dtype:
        raise ValueError(
            f"{who}: the gradient must be {array.dtype} {tuple(array.shape)} as the value is, got "
            f"{gradient.array.dtype} {tuple(gradient.array.shape)}"
        )
    home, other = device_of(array), device_of(gradient.array)
    if home != other:
        raise DeviceError(f"{who}: the value is on {home}, the gradient on {other}")
    return gradient
