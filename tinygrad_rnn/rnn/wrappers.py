"""Layers made of layers: stacks, both directions, residual connections.

A recurrent layer is called as ``layer(x, state=None, *, lengths=None, record=(), reverse=False)``,
and with ``probe=`` where one is given. It returns ``(output, state)``, with ``record`` also the
inner values over time, and has an ``initial_state``. ``batch_first`` is an attribute where it may
be set, and a layer that can follow a stream has a ``step``. What has no ``initial_state``, such as
Dropout or Linear, is called with x alone, or with ``mask=``, which steps count, where an attribute
``takes_mask`` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_rnn.nn import BatchNorm1d, Module
from tinygrad_rnn.nn.place import inside, is_outside
from tinygrad_rnn.ops import concat
from tinygrad_rnn.rnn.arguments import keep_valid, on_host
from tinygrad_rnn.rnn.layer_checks import (
    check_layer,
    check_stream,
    common_layout,
    entries,
    has_state,
    mask_of,
)
from tinygrad_rnn.tape import current_modes
from tinygrad_rnn.tensor import Tensor

MERGES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "concat": lambda a, b: concat([a, b], -1),
    "sum": lambda a, b: a + b,
    "mean": lambda a, b: 0.5 * (a + b),
}


def _probed(probe: Any) -> dict[str, Any]:
    """What a layer is called with besides: its probe, if there is one."""
    return {} if probe is None else {"probe": probe}


class Wrapper(Module):
    """What layers made of layers share: how they are called."""

    batch_first: bool

    def forward(
        self,
        x: Any,
        state: Any = None,
        *,
        lengths: Any = None,
        record: Sequence[str] = (),
        reverse: bool = False,
        probe: Any = None,
    ) -> tuple[Any, ...]:
        """``(output, state)``, with ``record`` also the inner values over time.

        ``lengths``, ``record`` and ``reverse`` are handed on to every recurrent layer within, and
        of ``probe`` its own part; see :meth:`Recurrent.forward`. States, recorded values and probes
        are in the containers of ``initial_state``. With ``lengths`` outputs past a sequence's end
        are 0.
        """
        options: dict[str, Any] = {"lengths": on_host(lengths), "reverse": bool(reverse)}
        if record:
            options["record"] = record
        output, state, *recorded = self.through(x, state, probe, options)
        return (output, state, *recorded) if record else (output, state)

    def explain(self, batch_size: int = 8, gradients: bool = True) -> str:
        """What the replay makes of each layer within; see :meth:`Recurrent.explain`."""
        found: list[tuple[str, Any]] = [
            (name, module)
            for name, module in self.named_modules()
            if hasattr(module, "explain") and not isinstance(module, Wrapper)
        ]
        return "\n\n".join(f"{name}: {m.explain(batch_size, gradients)}" for name, m in found)

    def through(self, x: Any, state: Any, probe: Any, options: dict[str, Any]) -> tuple[Any, ...]:
        """(output, state), or (output, state, recorded) where the options have ``record``."""
        raise NotImplementedError


class Stacked(Wrapper):
    """Layers on top of each other, of any kind: each reads the outputs of the one below.

    Layers without a state (Dropout, Linear, LayerNorm, BatchNorm1d) may stand between. The state
    is a tuple with an entry per layer, None for those without one, and so is what was recorded.
    The features are the last axis throughout: a BatchNorm1d that leaves its ``axis`` open gets -1.
    """

    def __init__(self, layers: Sequence[Module]) -> None:
        if not isinstance(layers, Sequence) or not layers:
            raise ValueError("Stacked: expected a list of at least one layer")
        for layer in layers:
            check_layer("Stacked", layer)
            for module in layer.modules():
                if isinstance(module, BatchNorm1d) and module.axis is None:
                    module.axis = -1
        self.layers: list[Any] = list(layers)
        self.batch_first = common_layout("Stacked", layers)

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """The states that a call without one begins with."""
        return tuple(
            layer.initial_state(batch_size) if has_state(layer) else None for layer in self.layers
        )

    def through(self, x: Any, state: Any, probe: Any, options: dict[str, Any]) -> tuple[Any, ...]:
        states, probes = self._states(state), self._states(probe, "probe")
        recorded: list[Any] = [None] * len(self.layers)
        mask = None
        if not all(map(has_state, self.layers)):
            mask = mask_of("Stacked", x, options["lengths"], self.batch_first)
        if mask is not None:
            x = keep_valid(mask, x, 0)
        for k, layer in enumerate(self.layers):
            if has_state(layer):
                x, states[k], *found = layer(x, states[k], **options, **_probed(probes[k]))
                recorded[k] = found[0] if found else None
            else:
                takes_mask = mask is not None and getattr(layer, "takes_mask", False)
                x = layer(x, mask=mask) if takes_mask else layer(x)
                x = x if mask is None else keep_valid(mask, x, 0)
        return x, tuple(states), tuple(recorded)

    def step(self, x: Any, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream: inputs (B, I) to outputs (B, H) and the next state."""
        if current_modes.get().looking and is_outside(self):
            with inside(self):
                return self.step(x, state)
        states = self._states(state)
        for k, layer in enumerate(self.layers):
            if has_state(layer):
                check_stream("Stacked", layer)
                x, states[k] = layer.step(x, states[k])
            else:
                x = layer(x)
        return x, tuple(states)

    def _states(self, state: Any, what: str = "the state") -> list[Any]:
        states = entries("Stacked", state, len(self.layers), what)
        for k, layer in enumerate(self.layers):
            if not has_state(layer) and states[k] is not None:
                raise TypeError(
                    f"Stacked: layer {k} is a {type(layer).__name__}, which has no state: its "
                    f"entry must be None, got {type(states[k]).__name__}"
                )
        return states

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, k: int) -> Any:
        return self.layers[k]


class Bidirectional(Wrapper):
    """Two layers over the same inputs, one from each end, with their outputs merged step by step.

    Parameters
    ----------
    forward, backward : any recurrent layers, each written as running forward; the second is run in
        reverse, within each sequence's own length. They may be one and the same. They are kept as
        ``forward_layer`` and ``backward_layer``.
    merge : ``"concat"`` (the default: (T, B, 2 H)), ``"sum"``, ``"mean"``, or a function of the
        two outputs. The state is a pair of theirs. Source: Schuster, Paliwal 1997.
    """

    def __init__(
        self,
        forward: Module,
        backward: Module,
        merge: str | Callable[[Tensor, Tensor], Tensor] = "concat",
    ) -> None:
        for layer in (forward, backward):
            check_layer("Bidirectional", layer, recurrent=True)
        if not callable(merge) and merge not in MERGES:
            raise ValueError(
                f"Bidirectional: merge must be one of {sorted(MERGES)} or a function, got {merge!r}"
            )
        self.forward_layer: Any = forward
        self.backward_layer: Any = backward
        self.batch_first = common_layout("Bidirectional", (forward, backward))
        self.merge = merge

    def initial_state(self, batch_size: int) -> tuple[Any, Any]:
        """The states that a call without one begins with."""
        return (
            self.forward_layer.initial_state(batch_size),
            self.backward_layer.initial_state(batch_size),
        )

    def through(self, x: Any, state: Any, probe: Any, options: dict[str, Any]) -> tuple[Any, ...]:
        first, second = entries("Bidirectional", state, 2)
        probes = map(_probed, entries("Bidirectional", probe, 2, "probe"))
        turned = {**options, "reverse": not options["reverse"]}
        y, *first = self.forward_layer(x, first, **options, **next(probes))
        z, *second = self.backward_layer(x, second, **turned, **next(probes))
        if callable(self.merge):
            output = self.merge(y, z)
            mask = mask_of("Bidirectional", x, options["lengths"], self.batch_first)
            output = output if mask is None else keep_valid(mask, output, 0)
        else:
            output = MERGES[self.merge](y, z)
        return output, *zip(first, second, strict=True)

    def step(self, x: Any, state: Any = None) -> tuple[Tensor, Any]:
        """Refused: the second direction would have to begin at the end of the stream."""
        raise ValueError("Bidirectional.step: a stream has no end to begin the second direction at")

    def extra_repr(self) -> str:
        return f"merge={getattr(self.merge, '__name__', self.merge)}"


class Residual(Wrapper):
    """y = x + layer(x): a connection past a layer whose outputs are of the size of its inputs.

    Source: He et al. 2015; between recurrent layers: Wu et al. 2016.
    """

    def __init__(self, layer: Module) -> None:
        check_layer("Residual", layer, recurrent=True)
        self.layer: Any = layer
        self.batch_first = common_layout("Residual", [layer])

    def initial_state(self, batch_size: int) -> Any:
        """The state that a call without one begins with."""
        return self.layer.initial_state(batch_size)

    def through(self, x: Any, state: Any, probe: Any, options: dict[str, Any]) -> tuple[Any, ...]:
        y, *rest = self.layer(x, state, **options, **_probed(probe))
        mask = mask_of("Residual", x, options["lengths"], self.batch_first)
        if mask is not None:
            x = keep_valid(mask, x, 0)
        return self._add(x, y), *rest

    def step(self, x: Any, state: Any = None) -> tuple[Tensor, Any]:
        """One step of a stream."""
        if current_modes.get().looking and is_outside(self):
            with inside(self):
                return self.step(x, state)
        check_stream("Residual", self.layer)
        y, state = self.layer.step(x, state)
        return self._add(x, y), state

    @staticmethod
    def _add(x: Tensor, y: Tensor) -> Tensor:
        if x.shape != y.shape:
            raise ValueError(
                f"Residual: outputs must have the shape of the inputs, {x.shape}, got {y.shape}"
            )
        return x + y
