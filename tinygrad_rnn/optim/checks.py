"""What must hold of all parameters and gradients before one of them is changed."""

from __future__ import annotations

from collections.abc import Sequence

from tinygrad_rnn.backends import Array, DeviceError, device_of
from tinygrad_rnn.nn import Parameter
from tinygrad_rnn.tensor import Tensor


def called(parameter: Parameter, number: int) -> str:
    """What an error calls a parameter: its name, or else its place among all."""
    return parameter.name or f"number {number}"


def checked_gradients(
    who: str, parameters: Sequence[Parameter], active: Sequence[int]
) -> list[Array]:
    """The gradients of the active parameters.

    Raises
    ------
    TypeError, ValueError, DeviceError
        where one is not what its parameter is, in shape, dtype and device, or where the parameters
        are on several devices.
    """
    gradients: list[Array] = []
    devices: set[str] = set()
    for k in active:
        parameter, g = parameters[k], parameters[k].grad
        p = parameter.array
        if not isinstance(g, Tensor):
            raise TypeError(
                f"{who}: the gradient of parameter {called(parameter, k)} must be a Tensor, got "
                f"{type(g).__name__}"
            )
        if g.array.shape != p.shape or g.array.dtype != p.dtype:
            kind = TypeError if g.array.shape == p.shape else ValueError
            raise kind(
                f"{who}: the gradient of parameter {called(parameter, k)} must be {p.dtype} "
                f"{tuple(p.shape)} as its values are, got {g.dtype} {tuple(g.shape)}"
            )
        device = device_of(p)
        if device_of(g.array) != device:
            raise DeviceError(
                f"{who}: the gradient of parameter {called(parameter, k)} must be on {device} as "
                f"its values are, got {g.device}"
            )
        devices.add(device)
        gradients.append(g.array)
    if len(devices) > 1:
        raise DeviceError(
            f"{who}: parameters must be on one device, got {' and '.join(sorted(devices))}"
        )
    return gradients


def check_writable(who: str, parameters: Sequence[Parameter], active: Sequence[int]) -> None:
    """Refuse values in memory that cannot be written, such as those of a read-only array."""
    for k in active:
        if not getattr(parameters[k].array.flags, "writeable", True):  # CuPy's always are
            raise ValueError(
                f"{who}: the values of parameter {called(parameters[k], k)} "
                f"{tuple(parameters[k].shape)} are in read-only memory, where no update can change "
                "them; make a Parameter of a copy, nn.Parameter(array.copy())"
            )
