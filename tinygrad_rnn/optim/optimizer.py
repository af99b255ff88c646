"""What all optimizers share: collecting gradients, clipping, refusing what is not finite."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tinygrad_rnn.backends import Array, backend_of, to_host, transfer
from tinygrad_rnn.nn import Parameter
from tinygrad_rnn.optim.clipping import Clip, global_norm

BLOCK = 32_768
"""Elements that an update takes at a time on the CPU, so that its temporaries stay in cache."""


class NonFiniteGradientError(FloatingPointError):
    """A gradient holds inf or nan, and the policy is to raise."""


@dataclass(frozen=True)
class StepReport:
    """What one update did.

    Attributes
    ----------
    norm : the global norm of the gradients before clipping.
    clipped : whether clipping changed them.
    skipped : whether the update was left out because a gradient was not finite.
    """

    norm: float
    clipped: bool
    skipped: bool


class Optimizer(ABC):
    """Changes parameters in place, given their ``.grad``.

    Parameters
    ----------
    parameters : what to change, such as ``model.parameters()``.
    lr : the learning rate; assign ``optimizer.lr`` to change it.
    clip : ClipNorm or ClipValue, applied to the gradients of all parameters together.
    nonfinite : what to do about inf or nan in a gradient: ``"raise"`` an error that names the
        parameter, ``"skip"`` the update (but raise after ``max_skips`` in a row), or ``"zero"``
        those elements.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    """The names of the arrays that are kept for each parameter."""

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float,
        clip: Clip | None = None,
        nonfinite: str = "raise",
        max_skips: int = 10,
    ) -> None:
        who = type(self).__name__
        self.parameters = list(parameters)
        if not self.parameters:
            raise ValueError(f"{who}: there are no parameters")
        for parameter in self.parameters:
            if not isinstance(parameter, Parameter):
                raise TypeError(f"{who}: expected Parameters, got {type(parameter).__name__}")
        if len({id(p) for p in self.parameters}) < len(self.parameters):
            raise ValueError(f"{who}: a parameter is given twice")
        if not (math.isfinite(lr) and lr >= 0):
            raise ValueError(f"{who}: lr must be a finite number >= 0, got {lr}")
        if clip is not None and not isinstance(clip, Clip):
            raise TypeError(f"{who}: clip must be ClipNorm(...) or ClipValue(...), got {clip!r}")
        if nonfinite not in ("raise", "skip", "zero"):
            raise ValueError(
                f"{who}: nonfinite must be 'raise', 'skip' or 'zero', got {nonfinite!r}"
            )
        self.lr = lr
        self.clip = clip
        self.nonfinite = nonfinite
        self.max_skips = max_skips
        self.updates = 0
        self.consecutive_skips = 0
        self._state: dict[int, tuple[Array, ...]] = {}

    @abstractmethod
    def update(self, xp: Any, p: Array, g: Array, *slots: Array) -> None:
        """Change ``p`` and the slots in place, given the gradient ``g``; all are flat blocks."""

    def step(self) -> StepReport:
        """Update every parameter that has a gradient.

        Raises
        ------
        NonFiniteGradientError
            naming the parameter, where a gradient is not finite and the policy says so. Nothing
            has been changed then.
        """
        active = [(k, p) for k, p in enumerate(self.parameters) if p.grad is not None]
        gradients = [p.grad.array for _, p in active]
        norm = global_norm(gradients)
        if not math.isfinite(norm):
            if not self._accept(active):
                return StepReport(norm, clipped=False, skipped=True)
            gradients = [_zero_nonfinite(g) for g in gradients]
        self.consecutive_skips = 0
        clipped = False
        if self.clip is not None and gradients:
            kept = norm if math.isfinite(norm) else global_norm(gradients)
            gradients, clipped = self.clip.apply(gradients, kept)
        self.updates += 1
        for (k, parameter), g in zip(active, gradients, strict=True):
            self._update_one(k, parameter, g)
        return StepReport(norm, clipped, skipped=False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.grad = None

    def _accept(self, active: list[tuple[int, Parameter]]) -> bool:
        """Whether to go on although a gradient is not finite; True under ``"zero"``."""
        if self.nonfinite == "zero":
            return True
        self.consecutive_skips += 1
        if self.nonfinite == "skip" and self.consecutive_skips <= self.max_skips:
            return False
        k, parameter = next(
            (k, p) for k, p in active if not math.isfinite(global_norm([p.grad.array]))
        )
        name = parameter.name or f"number {k}"
        again = (
            f", {self.consecutive_skips} times in a row" if self.nonfinite == "skip" else ""
        )
        raise NonFiniteGradientError(
            f"{type(self).__name__}: the gradient of parameter {name} {parameter.shape} holds inf "
            f"or nan at update {self.updates + 1}{again}; lower the learning rate, clip, or choose "
            "nonfinite='skip'"
        )

    def _update_one(self, k: int, parameter: Parameter, g: Array) -> None:
        array = parameter.array
        backend = backend_of(array)
        if not array.flags.c_contiguous:
            array = parameter.array = backend.xp.ascontiguousarray(array)
        if k not in self._state:
            self._state[k] = tuple(backend.xp.zeros_like(array) for _ in self.slots)
        flat = [a.reshape(-1) for a in (array, g, *self._state[k])]
        step = BLOCK if backend.name == "cpu" else max(array.size, 1)
        for start in range(0, array.size, step):
            self.update(backend.xp, *(a[start : start + step] for a in flat))
        parameter.mark_changed()

    # State

    def _named_slots(self) -> Iterator[tuple[str, Array]]:
        for k, arrays in self._state.items():
            for name, array in zip(self.slots, arrays, strict=True):
                yield f"{k}.{name}", array

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on besides the parameters.

        ``{"kind", "lr", "updates", "consecutive_skips", "arrays"}``; arrays are copies, named
        ``"<number of the parameter>.<slot>"``.
        """
        return {
            "kind": type(self).__name__,
            "lr": self.lr,
            "updates": self.updates,
            "consecutive_skips": self.consecutive_skips,
            "arrays": {name: np.array(to_host(array)) for name, array in self._named_slots()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken. Nothing is changed unless everything fits."""
        who = f"{type(self).__name__}.load_state_dict"
        if state.get("kind") != type(self).__name__:
            raise ValueError(f"{who}: the state is that of {state.get('kind')!r}")
        loaded: dict[int, tuple[Array, ...]] = {}
        arrays = dict(state["arrays"])
        for k, parameter in enumerate(self.parameters):
            names = [f"{k}.{slot}" for slot in self.slots]
            if not any(name in arrays for name in names):
                continue
            found = [np.asarray(arrays.pop(name, None)) for name in names]
            for name, values in zip(names, found, strict=True):
                if values.shape != tuple(parameter.shape) or values.dtype != parameter.dtype:
                    raise ValueError(
                        f"{who}: {name} should be {parameter.dtype} {parameter.shape} as the "
                        f"parameter is, got {values.dtype} {values.shape}"
                    )
            loaded[k] = tuple(transfer(values.copy(), parameter.device) for values in found)
        if arrays:
            raise ValueError(f"{who}: there is no parameter for {sorted(arrays)}")
        self._state = loaded
        self.lr = state["lr"]
        self.updates = state["updates"]
        self.consecutive_skips = state["consecutive_skips"]


def _zero_nonfinite(g: Array) -> Array:
    xp = backend_of(g).xp
    return xp.where(xp.isfinite(g), g, 0).astype(g.dtype)
