"""What all optimizers share: groups, clipping, and refusing what is not finite."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy as np

from tinygrad_rnn.backends import Array, Backend, backend_of, device_of, transfer
from tinygrad_rnn.nn import Parameter
from tinygrad_rnn.optim.checks import check_writable, checked_gradients
from tinygrad_rnn.optim.clipping import Clip, without_nonfinite
from tinygrad_rnn.optim.common import check_common
from tinygrad_rnn.optim.groups import Parameters, check_number, make_groups, set_rate
from tinygrad_rnn.optim.loss_scale import LossScale
from tinygrad_rnn.optim.norms import norms, working_dtype
from tinygrad_rnn.optim.report import History, StepReport
from tinygrad_rnn.optim.rules import completed, largest_to_square
from tinygrad_rnn.optim.saved import load_state, saved_state
from tinygrad_rnn.tensor import Tensor


class Optimizer(ABC):
    """Changes parameters in place, given their ``.grad``.

    Parameters
    ----------
    params : what to change, such as ``model.parameters()``; or a list of groups, dicts with
        ``"params"`` and whatever hyperparameter is a group's own, as in
        ``SGD([{"params": a}, {"params": b, "lr": 0.1}], lr=0.01)``.
    options : the hyperparameters by name. All optimizers have ``lr``, the learning rate;
        ``weight_decay``, which adds weight_decay p to the gradient; and ``l1``, which adds
        l1 sign(p).
    clip : ClipNorm, ClipValue, ClipPerParameter or ClipAdaptive, applied to the gradients of all
        groups together.
    nonfinite : what to do about inf or nan in a gradient: ``"raise"`` an error that names the
        parameter, ``"skip"`` the update (but raise after ``max_skips`` in a row), or ``"zero"``
        those elements.
    max_skips : how many updates in a row may be skipped.
    loss_scale : a LossScale, by which the losses are multiplied: see :meth:`scaled`.

    Attributes
    ----------
    groups : the groups; ``optimizer.groups[1].lr = 0.1`` changes one hyperparameter of one.
    parameters : the parameters of all groups.

    Optimizers that square the gradient, all but SGD, take an element beyond +-1.8e16 (+-1.3e151 in
    float64) for that, so that what they keep stays finite; else it would be inf, as in PyTorch, and
    the element would never move again. The report counts this as clipping. It comes after ``clip``.

    On a GPU nothing of this waits for the device: a gradient that is not finite leaves every
    parameter as it is, on the device, and the next ``step()`` or a look at the report raises or
    counts. To write an optimizer, give it ``slots`` and :meth:`rule`, and :meth:`numbers`
    where the rule takes others than the hyperparameters.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    """The names of the arrays that are kept for each parameter."""
    decoupled: ClassVar[bool] = False
    """Whether weight_decay and l1 act on the parameter itself, and not through the gradient."""
    squares: ClassVar[bool] = False
    """Whether the rule squares gradients: then elements too large to be squared are limited."""

    def __init__(
        self,
        params: Parameters,
        options: Mapping[str, Any],
        clip: Clip | None = None,
        nonfinite: str = "raise",
        max_skips: int = 10,
        loss_scale: LossScale | None = None,
    ) -> None:
        who = type(self).__name__
        self.groups = make_groups(who, params, options)
        self.parameters: list[Parameter] = [p for group in self.groups for p in group.params]
        for k, group in enumerate(self.groups):
            self.check(f"{who}, group {k}" if len(self.groups) > 1 else who, group.options)
        check_common(who, clip, nonfinite, max_skips, loss_scale)
        self.clip, self.nonfinite, self.max_skips = clip, nonfinite, max_skips
        self.loss_scale = loss_scale
        self._groups_of = [group for group in self.groups for _ in group.params]
        self._history = History(who, self.parameters)
        self._slots: dict[int, dict[str, Array]] = {}

    # What a kind of optimizer is

    @staticmethod
    @abstractmethod
    def rule(xp: Any, g: Array, p: Array, *slots: Any, **numbers: Any) -> None:
        """Change p and the slots (None: one that is not kept) in place, given the gradient g.

        Elementwise: arithmetic and functions of ``xp`` only, so that a backend can make one
        kernel of it. It may branch on a number that is a bool, or on whether one is 0.
        """

    def numbers(self, o: Mapping[str, Any], t: int) -> dict[str, float]:
        """The numbers of the rule at a parameter's t-th update, from 1, given hyperparameters.

        These themselves, where an optimizer does not say otherwise.
        """
        return {name: value for name, value in o.items() if name != "initial_lr"}

    def initial(self, o: Mapping[str, Any]) -> dict[str, float]:
        """The slots that are kept under these hyperparameters, and what they begin with."""
        return dict.fromkeys(self.slots, 0.0)

    def check(self, who: str, o: Mapping[str, Any]) -> None:
        """Refuse hyperparameters that make no sense; to be extended."""
        for name in ("lr", "weight_decay", "l1"):
            check_number(who, name, o[name])

    # Use

    @property
    def lr(self) -> float:
        """The learning rate of the first group.

        Assigning it scales the rates of all groups: they keep the proportion of their
        ``initial_lr``.
        """
        return self.groups[0].lr

    @lr.setter
    def lr(self, lr: float) -> None:
        set_rate(type(self).__name__, self.groups, lr)

    @property
    def updates(self) -> int:
        """How many updates have been made."""
        return self._history.counters["updates"]

    @property
    def consecutive_skips(self) -> int:
        """How many updates were skipped since the last one that was not."""
        return self._history.counters["consecutive_skips"]

    @property
    def nonfinite_steps(self) -> int:
        """How many times a gradient was not finite, whatever came of it."""
        return self._history.counters["nonfinite_steps"]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters:
            parameter.grad = None

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss times the ``loss_scale``, where there is one: ``scaled(loss).backward()``."""
        return loss if self.loss_scale is None else self.loss_scale.scaled(loss)

    def step(self) -> StepReport:
        """Update every parameter that has a gradient.

        Raises
        ------
        NonFiniteGradientError
            naming the parameter, where a gradient is not finite and the policy says so. Nothing
            has been changed then. On a GPU it is about the step before, and this one is not made.
        TypeError, ValueError, DeviceError
            naming the parameter, where a gradient is not of its shape, dtype and device, or its
            values are in read-only memory. Nothing has been changed then.
        """
        first = self.parameters[0].array
        return backend_of(first).there(first, self._step)()

    def _step(self) -> StepReport:
        history = self._history
        history.settle()
        active = [k for k, p in enumerate(self.parameters) if p.grad is not None]
        if not active:
            return history.add([], lambda: np.empty((2, 0)), self.nonfinite, self.max_skips)
        who = type(self).__name__
        gradients = checked_gradients(who, self.parameters, active)
        check_writable(who, self.parameters, active)
        scale = self.loss_scale
        if scale is not None:
            gradients = scale.unscaled(gradients)
        backend = backend_of(gradients[0])
        xp, later = backend.xp, backend.asynchronous
        measured = sizes = norms(gradients)
        sound = xp.isfinite(measured)
        clips = xp.zeros_like(sizes)
        if self.nonfinite == "zero" and (later or not sound.all()):
            gradients = [without_nonfinite(g) for g in gradients]
            sizes = norms(gradients)
        keep = None if self.nonfinite == "zero" else xp.all(sound)
        if later or keep is None or keep:
            # what is thrown away on the device may well be inf * 0
            with np.errstate(all="ignore") if later else nullcontext():
                clips = self._apply(backend, active, gradients, sizes, keep if later else None)
        if scale is not None:
            scale.update(xp.all(sound))
        facts = backend.fetch(xp.stack([measured, clips.astype(np.float64)]))
        return history.add(active, facts, self.nonfinite, self.max_skips, later)

    def _apply(
        self,
        backend: Backend,
        active: list[int],
        gradients: list[Array],
        sizes: Array,
        keep: Array | None,
    ) -> Array:
        """Clip and update; says which gradients were clipped."""
        clips = backend.xp.zeros_like(sizes, dtype=np.bool_)
        if self.clip is not None:
            arrays = [self.parameters[k].array for k in active]
            gradients, clips = self.clip.apply(gradients, arrays, sizes)
        largest = 0.0
        if self.squares:
            top = min(largest_to_square(self.parameters[k].dtype) for k in active)
            beyond = sizes > top  # no element is larger than the norm
            if backend.asynchronous or beyond.any():
                largest, clips = top, clips | beyond
        # All that can be refused is refused here, before the first parameter changes.
        prepared = [self._prepared(backend, k, largest) for k in active]
        rule = completed(type(self).rule, self.decoupled)

        def update() -> None:
            for k, g, (dtype, targets, numbers) in zip(active, gradients, prepared, strict=True):
                backend.update(rule, dtype, targets, g, numbers, keep)
                self.parameters[k].mark_changed()

        backend.flushed(update)
        return clips

    def _prepared(
        self, backend: Backend, k: int, largest: float
    ) -> tuple[np.dtype[Any], list[Array | None], dict[str, float]]:
        """The dtype, the targets and the numbers of a parameter's next update."""
        parameter, options = self.parameters[k], self._groups_of[k].options
        if not parameter.array.flags.c_contiguous:
            parameter.replace_array(backend.xp.ascontiguousarray(parameter.array))
        p = parameter.array
        dtype = working_dtype(p.dtype)
        kept = self._slots.get(k, {})
        slots: dict[str, Array] = {}
        for name, start in self.initial(options).items():
            slot = kept.get(name)
            if slot is None:
                slot = backend.xp.full_like(p, start, dtype=dtype)
            elif slot.dtype != dtype or device_of(slot) != device_of(p):
                slot = transfer(slot, parameter.device).astype(dtype)  # it was cast or moved
            slots[name] = slot
        self._slots[k] = slots
        numbers = self.numbers(options, self._history.counts[k] + 1)
        numbers |= {name: options[name] for name in ("weight_decay", "l1")}
        numbers |= {"largest": largest}
        numbers = {n: v if isinstance(v, bool) else float(v) for n, v in numbers.items()}
        return dtype, [p, *(slots.get(name) for name in self.slots)], numbers

    # State

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next update depends on besides the parameters.

        ``{"kind", "updates", "consecutive_skips", "nonfinite_steps", "counts", "groups",
        "arrays"}``: ``counts`` has the updates of each parameter, ``groups`` the hyperparameters
        and, as ``"params"``, the number of parameters of each group; arrays are copies, named
        ``"<number of the parameter>.<slot>"``. All but the arrays is JSON. With a loss scale there
        is ``"loss_scale"``: it, and the updates since it changed.
        """
        history = self._history
        kind, scale = type(self).__name__, self.loss_scale
        state = saved_state(kind, self.groups, history.counters, history.counts, self._slots)
        return state if scale is None else {**state, "loss_scale": scale.saved()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where :meth:`state_dict` was taken; nothing is changed unless everything fits.

        Raises
        ------
        KeyError
            where an entry is missing.
        ValueError
            where it is the state of another kind of optimizer, of other groups or parameters.
        """
        loaded = load_state(state, self.state_dict(), self.groups, self.initial, self.check)
        if self.loss_scale is not None:
            self.loss_scale.load(f"{type(self).__name__}.load_state_dict", state["loss_scale"])
        for group, options in zip(self.groups, loaded.groups, strict=True):
            for name, value in options.items():
                setattr(group, name, value)
        self._slots = loaded.slots
        self._history.load(loaded.counters, loaded.counts)
