"""What all optimizers share: collecting gradients, clipping, refusing what is not finite."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinygrad_rnn.backends import Array, backend_of, device_of, to_host, transfer
from tinygrad_rnn.nn import Parameter
from tinygrad_rnn.optim.clipping import Clip, check_number, check_parameters, global_norm

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
    max_skips : how many updates in a row may be skipped.

    Attributes
    ----------
    updates : how many updates have been made.
    """

    slots: tuple[str, ...] = ()
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
        self.parameters = check_parameters(who, parameters)
        if not self.parameters:
            raise ValueError(f"{who}: there are no parameters")
        check_number(who, "lr", lr)
        check_number(who, "max_skips", max_skips)
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
        self._counts = [0] * len(self.parameters)

    @abstractmethod
    def update(self, xp: Any, t: int, p: Array, g: Array, *slots: Array) -> None:
        """Change ``p`` and the slots in place, given the gradient ``g``; all are flat blocks.

        It is the t-th update of this parameter, from 1.
        """

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
        if self.nonfinite == "skip" and self.consecutive_skips < self.max_skips:
            self.consecutive_skips += 1
            return False
        k, parameter = next(
            (k, p) for k, p in active if not math.isfinite(global_norm([p.grad.array]))
        )
        name = parameter.name or f"number {k}"
        advice = (
            f" after {self.max_skips} skipped updates in a row; lower the learning rate"
            if self.nonfinite == "skip"
            else "; lower the learning rate, clip, or choose nonfinite='skip'"
        )
        raise NonFiniteGradientError(
            f"{type(self).__name__}: the gradient of parameter {name} {parameter.shape} holds inf "
            f"or nan at update {self.updates + 1}{advice}"
        )

    def _update_one(self, k: int, parameter: Parameter, g: Array) -> None:
        array = parameter.array
        backend = backend_of(array)
        if not array.flags.c_contiguous:
            array = parameter.array = backend.xp.ascontiguousarray(array)
        dtype = _working_dtype(array.dtype)
        slots = self._state.get(k)
        if slots is None:
            slots = tuple(backend.xp.zeros_like(array, dtype=dtype) for _ in self.slots)
        elif slots and (slots[0].dtype != dtype or device_of(slots[0]) != device_of(array)):
            # the parameter was cast or moved since
            slots = tuple(transfer(s.astype(dtype), parameter.device) for s in slots)
        self._state[k] = slots
        self._counts[k] += 1
        flat = [a.reshape(-1) for a in (array, g, *slots)]
        step = BLOCK if backend.name == "cpu" else max(array.size, 1)
        for start in range(0, array.size, step):
            p, *others = (a[start : start + step] for a in flat)
            wide = p.astype(dtype, copy=False)
            self.update(
                backend.xp, self._counts[k], wide, *(a.astype(dtype, copy=False) for a in others)
            )
            if wide is not p:
                p[...] = wide
        parameter.mark_changed()

    # State

    def _named_slots(self) -> Iterator[tuple[str, Array]]:
        for k, arrays in self._state.items():
            for name, array in zip(self.slots, arrays, strict=True):
                yield f"{k}.{name}", array

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on besides parameters and constructor arguments.

        ``{"kind", "lr", "updates", "counts", "consecutive_skips", "arrays"}``: ``counts`` has the
        updates of each parameter; arrays are copies, named ``"<number of the parameter>.<slot>"``.
        """
        return {
            "kind": type(self).__name__,
            "lr": self.lr,
            "updates": self.updates,
            "counts": list(self._counts),
            "consecutive_skips": self.consecutive_skips,
            "arrays": {name: np.array(to_host(array)) for name, array in self._named_slots()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken; nothing is changed unless everything fits.

        Raises
        ------
        KeyError
            where an entry is missing.
        ValueError
            where it is the state of another kind of optimizer, or of other parameters.
        """
        who = f"{type(self).__name__}.load_state_dict"
        missing = [name for name in self.state_dict() if name not in state]
        if missing:
            raise KeyError(f"{who}: the state has no {missing}")
        if state["kind"] != type(self).__name__:
            raise ValueError(f"{who}: the state is that of {state['kind']!r}")
        counts = [int(count) for count in state["counts"]]
        if len(counts) != len(self.parameters):
            raise ValueError(
                f"{who}: the state is that of {len(counts)} parameters, there are "
                f"{len(self.parameters)}"
            )
        loaded: dict[int, tuple[Array, ...]] = {}
        arrays = dict(state["arrays"])
        for k, parameter in enumerate(self.parameters):
            names = [f"{k}.{slot}" for slot in self.slots]
            if not any(name in arrays for name in names):
                continue
            lost = [name for name in names if name not in arrays]
            if lost:
                raise ValueError(f"{who}: the state has no array {lost[0]!r}")
            found = [np.asarray(arrays.pop(name)) for name in names]
            for name, values in zip(names, found, strict=True):
                dtype = _working_dtype(parameter.dtype)
                if values.shape != tuple(parameter.shape) or values.dtype != dtype:
                    raise ValueError(
                        f"{who}: {name} should be {dtype} {parameter.shape} to fit its parameter, "
                        f"got {values.dtype} {values.shape}"
                    )
            loaded[k] = tuple(transfer(values.copy(), parameter.device) for values in found)
        if arrays:
            raise ValueError(f"{who}: there is no parameter for {sorted(arrays)}")
        self._state, self._counts = loaded, counts
        self.lr = state["lr"]
        self.updates = state["updates"]
        self.consecutive_skips = state["consecutive_skips"]


def _working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of slots and updates: in float16, Adam's eps would be 0 and its v underflow."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _zero_nonfinite(g: Array) -> Array:
    xp = backend_of(g).xp
    return xp.where(xp.isfinite(g), g, 0).astype(g.dtype)
