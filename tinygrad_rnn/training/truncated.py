"""Truncated backpropagation through time, with an update more often than gradients end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tinygrad_rnn.nn import Module, check_size
from tinygrad_rnn.ops import concat
from tinygrad_rnn.rnn import detach
from tinygrad_rnn.tape import leaves, tree_map
from tinygrad_rnn.tensor import Tensor, tensor


class Window(NamedTuple):
    """What :meth:`TruncatedBPTT.windows` gives for one update.

    Attributes
    ----------
    steps : which steps of the inputs are new, and count in the loss: at most k1 of them.
    outputs : the outputs at these steps; their gradient travels back through k2 steps.
    state : what to hand to the next call, to go on after these steps.
    """

    steps: slice
    outputs: Any
    state: Any


class TruncatedBPTT:
    """A recurrent layer whose gradients travel back k2 steps while it is updated every k1 steps.

    Called as the layer is, with the next k1 steps of a long sequence, it returns the outputs at
    these. Where k2 is more than k1, it begins k2 - k1 steps earlier: from the state that it saved
    there when it first came by, detached, it computes these steps again with the present
    parameters. So the loss counts each step once, and every gradient is that of k2 steps. With
    k1 = k2 this is training in chunks, and nothing is computed again.

    Parameters
    ----------
    layer : ``layer(x, state) -> (y, state)``, time first; inputs, outputs and state are Tensors or
        nested containers of them. It is given None as the first state if you give none.
    k1 : steps from one update to the next.
    k2 : steps that gradients travel back, at least k1.

    Source: Williams and Peng 1990, BPTT(h; h'), with h = k2 and h' = k1.

    >>> from tinygrad_rnn import ones, rnn
    >>> layer = TruncatedBPTT(rnn.GRU(3, 4), k1=2, k2=5)
    >>> for steps, outputs, state in layer.windows(ones((6, 1, 3))):
    ...     print(steps.start, steps.stop, outputs.shape)  # here: loss, backward, optimizer step
    0 2 (2, 1, 4)
    2 4 (2, 1, 4)
    4 6 (2, 1, 4)
    """

    def __init__(
        self, layer: Callable[[Any, Any], tuple[Any, Any]], k1: int, k2: int | None = None
    ) -> None:
        k2 = k1 if k2 is None else k2
        if not callable(layer):
            raise TypeError(
                f"TruncatedBPTT: layer must be called as layer(x, state), got {layer!r:.80}"
            )
        check_size("TruncatedBPTT", k1=k1, k2=k2)
        if k2 < k1:
            raise ValueError(f"TruncatedBPTT: k2 must be at least k1, got k1 = {k1} and k2 = {k2}")
        self.layer, self.k1, self.k2 = layer, int(k1), int(k2)

    def __call__(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        """The outputs at the next steps, at most k1 of them, and what to hand to the next call.

        That is ``(past, now)``: the steps that will be computed again, as pieces, each with the
        state saved before it; and the state of the layer after x. All of it is detached. To begin
        with a state of the layer, give ``((), state)``.
        """
        x = tree_map(self._tensor, x)
        length, again = _length(x), self.k2 - self.k1
        if length > self.k1:
            raise ValueError(f"TruncatedBPTT: expected at most k1 = {self.k1} steps, got {length}")
        past, now = _carried(state)
        begin = past[0][1] if past else now
        # Windows begin `again` steps before a multiple of k1: one of them at this step of x.
        cut = -again % self.k1 or length
        head, tail = _steps(x, 0, cut), _steps(x, cut, length)
        outputs, after = self._run(_join([*(piece for piece, _ in past), head]), begin)
        outputs = _last(outputs, _length(head))
        saved = detach(after)
        if again % self.k1 == 0:
            past = (*past, (detach(x), now))
        else:
            *whole, (open_piece, before) = past or ((None, now),)
            joined = head if open_piece is None else _join([open_piece, head])
            past = (*whole, (detach(joined), before))
        if _length(tail):
            more, after = self._run(tail, after)
            outputs = _join([outputs, more])
            past = (*past, (detach(tail), saved))
        while past and sum(_length(piece) for piece, _ in past[1:]) >= again:
            past = past[1:]
        return outputs, (past, detach(after))

    def windows(self, inputs: Any, state: Any = None) -> Iterator[Window]:
        """One window after the other over a sequence; update the parameters in between."""
        inputs = tree_map(self._tensor, inputs)
        length = _length(inputs)
        for start in range(0, length, self.k1):
            steps = slice(start, min(start + self.k1, length))
            outputs, state = self(_steps(inputs, steps.start, steps.stop), state)
            yield Window(steps, outputs, state)

    def _run(self, x: Any, state: Any) -> tuple[Any, Any]:
        answer = self.layer(x, state)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise TypeError(
                "TruncatedBPTT: layer(x, state) must return (outputs, state), got "
                f"{type(answer).__name__}"
            )
        return answer

    def _tensor(self, x: Any) -> Tensor:
        if isinstance(x, Tensor):
            return x
        like = self.layer.some_tensor() if isinstance(self.layer, Module) else None
        return tensor(x, device=None if like is None else like.device)


def _carried(state: Any) -> tuple[tuple[Any, ...], Any]:
    if state is None:
        return (), None
    if not (isinstance(state, tuple) and len(state) == 2 and isinstance(state[0], tuple)):
        raise TypeError(
            "TruncatedBPTT: state must be what the call before returned, or ((), state) with a "
            f"state of the layer, got {type(state).__name__}"
        )
    return state


def _length(tree: Any) -> int:
    """The number of time steps."""
    lengths = {leaf.shape[0] if leaf.ndim else -1 for leaf in leaves(tree)}
    if len(lengths) != 1 or -1 in lengths:
        raise ValueError(
            "TruncatedBPTT: inputs must have the same number of steps as their first axis, got "
            f"shapes {[leaf.shape for leaf in leaves(tree)]}"
        )
    return lengths.pop()


def _steps(tree: Any, start: int, stop: int) -> Any:
    return tree_map(lambda leaf: leaf[start:stop], tree)


def _last(tree: Any, count: int) -> Any:
    return tree_map(lambda leaf: leaf if len(leaf) == count else leaf[len(leaf) - count :], tree)


def _join(pieces: list[Any]) -> Any:
    """Pieces of time one after the other; a single one as it is."""
    return pieces[0] if len(pieces) == 1 else tree_map(lambda *each: concat(each), *pieces)
