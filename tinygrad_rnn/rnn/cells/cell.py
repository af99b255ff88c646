"""What a cell is, and what cells share: gate blocks, first values, nonlinearities by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinygrad_rnn.backends import backend_of
from tinygrad_rnn.nn import Module, Parameter, check_size
from tinygrad_rnn.nn.parameter import drawn
from tinygrad_rnn.ops import identity, leaky_relu, relu, sigmoid, tanh
from tinygrad_rnn.rnn.arguments import check_inputs, fit_state
from tinygrad_rnn.rnn.watched import step_of
from tinygrad_rnn.tensor import Tensor, zeros

Nonlinearity = str | Callable[[Tensor], Tensor]

NONLINEARITIES: dict[str, Callable[[Tensor], Tensor]] = {
    "identity": identity,
    "leaky_relu": leaky_relu,
    "relu": relu,
    "sigmoid": sigmoid,
    "tanh": tanh,
}


_NO_PART_OF_A_STEP = (
    "__init__", "__dict__", "__weakref__", "__doc__", "__annotations__", "initial_state",
    "extra_repr", "__repr__",
)  # fmt: skip


class Cell(Module):
    """The equations of one time step. A cell of your own defines ``step`` and ``initial_state``.

    ``step(x, state)`` returns ``(y, state)``. A state is a Tensor or a NamedTuple of them, with
    the batch as first axis; nothing outside the cell looks into it. ``input_size`` and
    ``hidden_size`` are attributes.

    A class that says ``pure = True`` promises that its step depends on x, the state, its parameters
    and plain attributes alone: numbers, strings, None, dtypes, and tuples of these. Such a step is
    traced once and not at each call, as long as all of these are as they were. Whoever overrides
    a method that it may use promises anew. :func:`tinygrad_rnn.rnn.check_cell` finds a promise that
    is not kept.

    >>> import tinygrad_rnn as tg
    >>> class Leaky(tg.rnn.Cell):
    ...     pure = True
    ...     def __init__(self, input_size, hidden_size):
    ...         self.input_size, self.hidden_size = input_size, hidden_size
    ...         self.weight = tg.nn.Parameter(tg.zeros((hidden_size, input_size)))
    ...     def step(self, x, h):
    ...         h = 0.9 * h + tg.tanh(tg.linear(x, self.weight))
    ...         return h, h
    >>> output, h = tg.rnn.Recurrent(Leaky(3, 5))(tg.ones((7, 2, 3)))
    >>> output.shape, h.shape
    ((7, 2, 5), (2, 5))
    """

    input_size: int
    hidden_size: int
    pure: bool = False

    @property
    def is_pure(self) -> bool:
        """Whether the class says that it is pure, or inherits that and overrides nothing."""
        for kind in type(self).__mro__:
            if "pure" in vars(kind):
                return bool(vars(kind)["pure"])
            if any(
                hasattr(member, "__get__")
                for name, member in vars(kind).items()
                if name not in _NO_PART_OF_A_STEP
            ):
                return False
        return False

    @property
    def output_size(self) -> int:
        """The size of y: by default that of the hidden state."""
        return self.hidden_size

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """(y_t, state_t) from x_t and state_{t-1}."""
        raise NotImplementedError(f"{type(self).__name__} has no step")

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step: by default h = 0, of shape (B, H)."""
        return self.zeros(batch_size, self.hidden_size)

    def zeros(self, *shape: int) -> Tensor:
        """Zeros in the dtype and on the device of the cell's parameters."""
        like = self.some_tensor()
        if like is None:
            return zeros(shape)
        backend = backend_of(like.array)
        values = np.zeros(shape, like.array.dtype)
        return like.output_type(backend.from_host(values, backend.device_of(like.array)))

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step from inputs (B, I) and a state (by default the initial one)."""
        who = type(self).__name__
        check_inputs(who, x, ("B", self.input_size), self)
        return step_of(self, x, fit_state(who, state, self, x.shape[0]))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}"


class GatedCell(Cell):
    """What cells share whose gates are one product of x and one of h, each with a bias.

    weight_ih (G H, I), weight_hh (G H, Y), bias_ih and bias_hh (G H,), for G gates and outputs of
    size Y, which is H unless the cell projects them.
    """

    gates: int

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True) -> None:
        check_size(type(self).__name__, input_size=input_size, hidden_size=hidden_size)
        self.input_size, self.hidden_size = input_size, hidden_size
        rows = self.gates * hidden_size
        self.weight_ih = drawn(hidden_size, rows, input_size)
        self.weight_hh = drawn(hidden_size, rows, self.output_size)
        self.bias_ih = drawn(hidden_size, rows) if bias else None
        self.bias_hh = drawn(hidden_size, rows) if bias else None


def check_number(
    who: str, name: str, given: Any, lowest: float = -math.inf, highest: float = math.inf
) -> None:
    """Refuse what is no finite number, or lies beyond these two."""
    number = isinstance(given, int | float | np.number) and not isinstance(given, bool)
    if not number or not math.isfinite(given) or not lowest <= given <= highest:
        wanted = f"satisfy {lowest} <= {name} <= {highest}"
        if highest == math.inf:
            wanted = "be a number" if lowest == -math.inf else f"be a number from {lowest}"
        raise ValueError(f"{who}: {name} must {wanted}, got {given!r}")


def check_nonlinearity(who: str, name: str, given: Any) -> None:
    """Refuse what is neither a function nor the name of one."""
    if not callable(given) and not (isinstance(given, str) and given in NONLINEARITIES):
        raise ValueError(
            f"{who}: {name} must be one of {sorted(NONLINEARITIES)} or a function, got {given!r}"
        )


def function_of(nonlinearity: Nonlinearity) -> Callable[[Tensor], Tensor]:
    """The function that a name stands for, or the function itself."""
    return NONLINEARITIES[nonlinearity] if isinstance(nonlinearity, str) else nonlinearity


def set_bias(
    cell: Cell, gate: int, value: float, first: Parameter | None, second: Parameter | None
) -> None:
    """Let the two biases of a gate add up to a value: the first holds it, the second 0."""
    check_number(type(cell).__name__, "forget_bias", value)
    if first is None or second is None:
        raise ValueError(f"{type(cell).__name__}: forget_bias needs bias=True")
    rows = slice(gate * cell.hidden_size, (gate + 1) * cell.hidden_size)
    for parameter, number in ((first, value), (second, 0.0)):
        parameter.data = parameter.detach().at[rows].set(number)


def described(cell: Cell, **defaults: Any) -> str:
    """The sizes of a cell, and its options where they are not the defaults."""
    parts = [f"{cell.input_size}, {cell.hidden_size}"]
    for name, default in defaults.items():
        value = getattr(cell, name)
        if value != default:
            parts.append(f"{name}={getattr(value, '__name__', repr(value))}")
    return ", ".join(parts)
