"""A batch of an update once more, as it was: what is kept for that, and how it is done."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tinygrad_rnn.backends import Array
from tinygrad_rnn.nn import Buffer, Module
from tinygrad_rnn.ops import generator_state, set_generator_state
from tinygrad_rnn.optim import Optimizer
from tinygrad_rnn.tensor import Tensor
from tinygrad_rnn.training.arguments import loss_state_count

Repeat = Callable[[Callable[[], None]], Any]
"""``repeat(run_again)`` calls ``run_again()``, which makes the loss and the gradient of a batch
anew, and returns what it found out: an exception, a text, or None for nothing.
"""


class Moment(NamedTuple):
    """What models and the generator of random numbers are like, but for the parameters.

    The attributes of each module are remembered, modes among them, and the values of the buffers.
    """

    generator: dict[str, Any]
    attributes: list[tuple[dict[str, Any], dict[str, Any]]]
    buffers: list[tuple[Buffer, Array]]

    @classmethod
    def of(cls, *models: Module) -> Moment:
        """What they are like now."""
        held = [(vars(m), dict(vars(m))) for model in models for m in model.modules()]
        tensors = [x for model in models for x in model.tensors()]
        buffers = [(x, x.array.copy()) for x in tensors if isinstance(x, Buffer)]
        return cls(generator_state(), held, buffers)

    def restore(self) -> None:
        """Make them so again."""
        set_generator_state(self.generator)
        for present, before in self.attributes:
            present.update(before)  # first, so that no module is without what it had
            if [*present] != [*before]:  # others, too, or in another order
                present.clear()
                present.update(before)
        for buffer, array in self.buffers:
            buffer.replace_array(array.copy())


class Again:
    """The batches of one update, each as it was before it was used."""

    def __init__(self, model: Module, optimizer: Optimizer) -> None:
        self.model, self.optimizer = model, optimizer
        self.scale = copy.copy(optimizer.loss_scale)  # which the optimizer's step changes
        self._kept: list[tuple[Any, Any, Moment]] = []

    def keep(self, batch: Any, state: Any) -> None:
        """Remember all that the loss of a batch depends on, but for the parameters."""
        self._kept.append((batch, state, Moment.of(self.model)))

    def ask(self, repeat: Repeat, loss: Callable[[Any, Any], Any], only_last: bool) -> Any:
        """What ``repeat`` says, and of which batch: (number, what); (None, None) for nothing.

        Of the last batch alone, or of one after the other until it says something. All is left as
        it was.
        """
        now, parameters = Moment.of(self.model), self.optimizer.parameters
        gradients = [p.grad for p in parameters]
        first = len(self._kept) - 1 if only_last else 0
        try:
            for k in range(first, len(self._kept)):
                found = repeat(partial(self._run, loss, *self._kept[k]))
                if found is not None:
                    return k, found
            return None, None
        finally:
            now.restore()
            for p, g in zip(parameters, gradients, strict=True):
                p.grad = g

    def _run(self, loss: Callable[[Any, Any], Any], batch: Any, state: Any, before: Moment) -> None:
        before.restore()
        self.optimizer.zero_grad()
        value: Tensor = loss_state_count(loss(batch, state))[0]
        (value if self.scale is None else self.scale.scaled(value)).backward()
