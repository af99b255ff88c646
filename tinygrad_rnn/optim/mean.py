"""The gradient of a mean over several batches, from the mean over each and what it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tinygrad_rnn.nn import Parameter
from tinygrad_rnn.tape import no_grad
from tinygrad_rnn.tensor import Tensor


class BatchMean:
    """sum_k count_k mean_k / sum_k count_k, and its gradient in ``.grad``.

    Gradients are weighed and added up as batches come, and divided once at the end; clip after
    that. The weights are the counts over the first of them that is not 0: so a batch alone, and
    batches that count alike, are weighed by exactly 1, and no large count overflows in float16.
    Gradients are those of what ``scaled`` makes of a mean: that mean times a number.

    >>> from tinygrad_rnn import nn, tensor
    >>> p = nn.Parameter([2.0])
    >>> whole = BatchMean()
    >>> for part in ([1.0, 2.0, 3.0], [6.0]):
    ...     whole.add((p * tensor(part)).mean(), len(part))
    >>> whole.finish([p]), p.grad  # the mean of 2, 4, 6 and 12
    (6.0, tensor([3.], dtype=float32))
    """

    def __init__(self, scaled: Callable[[Tensor], Tensor] = lambda loss: loss) -> None:
        self._scaled = scaled
        self._unit = self._weights = self._value = 0.0

    def add(self, mean: Tensor, count: float) -> None:
        """Differentiate the mean over a batch, and add the gradient as often as it counts."""
        self._unit = self._unit or count
        weight = count / self._unit if count else 0.0
        self._weights += weight
        self._value += weight * mean.item() if weight else 0.0
        self._scaled(mean if weight == 1 else mean * weight).backward()

    def finish(self, parameters: Iterable[Parameter]) -> float:
        """The mean over all batches; the gradients of the parameters are divided to be its own.

        Where nothing counts, it is 0 and so are they.
        """
        weights = self._weights or 1.0
        with no_grad():
            for parameter in parameters if weights != 1 else ():
                if parameter.grad is not None:
                    parameter.grad /= weights
        return self._value / weights
