"""What every recurrent layer asks of its arguments, said in one sentence where it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinygrad_rnn.backends import DeviceError, device_of, find_backend, to_host
from tinygrad_rnn.nn import Module, check_like
from tinygrad_rnn.ops import (
    broadcast_to,
    generator_state,
    primitives,
    reshape,
    set_generator_state,
    where,
)
from tinygrad_rnn.tape import in_order, is_tracing, leaves, rebuild, tree_map
from tinygrad_rnn.tensor import Tensor, tensor


def check_inputs(who: str, x: Any, shape: tuple[Any, ...], module: Module) -> None:
    """Refuse inputs that the layer cannot take. In ``shape`` a letter stands for any size."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{who}: inputs must be a Tensor, got {type(x).__name__}")
    fits = x.ndim == len(shape) and all(
        isinstance(want, str) or want == size for want, size in zip(shape, x.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, shape))
        raise ValueError(f"{who}: inputs must have shape ({wanted}), got {x.shape}")
    like = module.some_tensor()
    if like is not None:
        check_like(who, x, like)


class Layout(NamedTuple):
    """How the arguments of one call are laid out, and the way to (T, B, I) and back.

    Inputs are (T, B, I), with ``batch_first`` (B, T, I), without a batch (T, I), and of a stream's
    ``single`` step (B, I). Whatever has the methods of an array can be laid out.
    """

    batched: bool
    batch_first: bool
    single: bool

    @staticmethod
    def of(x: Any, batch_first: bool, single: bool) -> Layout:
        """That of inputs, which need not be what they should be yet."""
        batched = single or not (isinstance(x, Tensor) and x.array.ndim == 2)
        return Layout(batched, batch_first and batched and not single, single)

    def check(self, who: str, x: Any, size: int, module: Module) -> None:
        """Refuse inputs that the layer cannot take."""
        if self.single:
            check_inputs(who, x, ("B", size), module)
            return
        batched = ("B", "T", size) if self.batch_first else ("T", "B", size)
        check_inputs(who, x, batched if self.batched else ("T", size), module)
        if x.shape[int(self.batch_first)] == 0:
            raise ValueError(f"{who}: inputs must have at least one time step, got {x.shape}")

    def enter(self, x: Any) -> Any:
        """Inputs as (T, B, I)."""
        if self.single:
            return with_axis(x, 0)
        if not self.batched:
            return with_axis(x, 1)
        return x.swapaxes(0, 1) if self.batch_first else x

    def leave(self, y: Any) -> Any:
        """Outputs (T, B, ...) as the inputs were laid out."""
        if self.single:
            return without_axis(y, 0)
        if not self.batched:
            return without_axis(y, 1)
        return y.swapaxes(0, 1) if self.batch_first else y

    def fit_state(self, who: str, given: Any, module: HasState, batch: int, axis: int) -> Any:
        """The given state in the containers of the module's.

        Without a batch it has no batch axis, which would be ``axis``. If the module draws its first
        states, none is drawn here, as none is in a call that is known.
        """
        before = generator_state()
        if self.batched:
            fitted = fit_state(who, given, module, batch)
        else:
            no_batch = partial(tree_map, partial(without_axis, axis=axis))
            fitted = fit_state(who, given, module, None, no_batch)
        if not is_tracing():
            set_generator_state(before)
        return fitted

    def valid_steps(self, who: str, lengths: Any, x: Tensor) -> Any:
        """A mask (T, B) of the steps within each sequence's length, None without lengths."""
        valid = valid_steps(who, lengths, x, self.batch_first, self.batched)
        return None if valid is None else self.enter(valid)

    def kind_of(self, x: Any) -> Any:
        """The kind of inputs of any number of time steps, if there are any."""
        if self.single or not isinstance(x, Tensor):
            return kind_of(x)
        (shape, *kind), time = kind_of(x), int(self.batch_first)
        return shape[:time], shape[time : time + 1] > (0,), shape[time + 1 :], *kind


_SEQUENCE: Any = (tuple, list)  # quicker to ask for than a union


def kind_of(tree: Any) -> Any:
    """Containers, shapes, dtypes, devices and wanted gradients, to be compared."""
    if isinstance(tree, Tensor):
        array = tree.array
        where = None if type(array) is np.ndarray else device_of(array)
        return array.shape, array.dtype, where, tree.needs_grad
    if isinstance(tree, _SEQUENCE):
        return type(tree), *map(kind_of, tree)
    if isinstance(tree, dict):
        return dict, *((key, kind_of(tree[key])) for key in sorted(tree, key=repr))
    return type(tree)


def without_axis(v: Any, axis: int) -> Any:
    """A Tensor or an array without an axis of size one."""
    if isinstance(v, Tensor):
        return primitives.reshape(v, shape=(*v.shape[:axis], *v.shape[axis + 1 :]))
    return v[(slice(None),) * axis + (0,)]


def with_axis(v: Any, axis: int) -> Any:
    """A Tensor or an array with another axis of size one."""
    if isinstance(v, Tensor):
        return primitives.reshape(v, shape=(*v.shape[:axis], 1, *v.shape[axis:]))
    return v[(slice(None),) * axis + (None,)]


def on_host(lengths: Any) -> np.ndarray | None:
    """Lengths as a NumPy array: the one thing that is read back from a device."""
    if lengths is None:
        return None
    array = lengths.array if isinstance(lengths, Tensor) else lengths
    return np.asarray(array if find_backend(array) is None else to_host(array))


def valid_steps(
    who: str, lengths: Any, x: Tensor, batch_first: bool = False, batched: bool = True
) -> Tensor | None:
    """A mask of the steps within each sequence's length, None where no lengths are given.

    It has the leading axes of x: (T, B), with ``batch_first`` (B, T), and without a batch (T,).
    """
    values = on_host(lengths)
    if values is None:
        return None
    steps, batch = x.shape[:2] if batched else (x.shape[0], 1)
    if batched and batch_first:
        steps, batch = batch, steps
    if values.dtype.kind not in "iu" and values.size:
        raise TypeError(f"{who}: lengths must be integers, got {values.dtype}")
    if values.shape != (batch,):
        raise ValueError(
            f"{who}: lengths must have shape ({batch},), one per sequence, got {values.shape}"
        )
    wrong = [int(n) for n in values if not 0 <= n <= steps]
    if wrong:
        raise ValueError(f"{who}: a length must lie between 0 and T = {steps}, got {wrong[0]}")
    mask = np.arange(steps)[:, None] < values
    if not batched:
        mask = mask[:, 0]
    return tensor(mask.T if batch_first else mask, device=x.device)


def keep_valid(valid: Tensor, new: Tensor, old: Any) -> Tensor:
    """``new`` in the rows (or rows of all steps) that are valid, else ``old``."""
    shape = (*valid.shape, *(1,) * (new.ndim - valid.ndim))
    return where(reshape(valid, shape), new, old)


class HasState(Protocol):
    """What begins with a state."""

    def initial_state(self, batch_size: int) -> Any: ...


def fit_state(
    who: str,
    given: Any,
    module: HasState,
    batch: int | None,
    changed: Callable[[Any], Any] = lambda state: state,
) -> Any:
    """The given state in the containers of the module's initial one, which stands in for None.

    ``changed`` gives the state that is expected from the initial one; without a batch, where
    ``batch`` is None, from that of one row.
    """
    if given is None:
        return module.initial_state(1 if batch is None else batch)
    expected = changed(module.initial_state(1 if batch is None else batch))
    check_tree(f"{who}: the state", given, expected)
    return rebuild(expected, leaves(given))


def fit_probe(who: str, probe: Any, state: Any, steps: int) -> Any:
    """Tensors (T, B, ...) in the containers of the state, to be added to it at every step."""
    expected = tree_map(lambda s: broadcast_to(s.detach(), (steps, *s.shape)), state)
    check_tree(f"{who}: probe", probe, expected)
    return rebuild(state, leaves(probe))


def check_tree(what: str, given: Any, expected: Any) -> None:
    """Refuse Tensors in containers that are not what is expected."""
    found = leaves(given)
    error = None
    if not _same_form(given, expected):
        error = TypeError
    else:
        for have, want in zip(found, leaves(expected), strict=True):
            if have.shape != want.shape:
                error = ValueError
            elif have.dtype != want.dtype:
                error = TypeError
            elif have.device != want.device:
                error = DeviceError
            if error is not None:
                break
    if error is not None:
        raise error(f"{what} must be {_describe(expected)}, got {_describe(given)}")


def detach(state: Any) -> Any:
    """A state without its tape, such as to carry it from one batch to the next."""
    return tree_map(Tensor.detach, state)


def fields_of(state: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Tensor]]:
    """Every Tensor of a state with the names of the fields that lead to it."""
    if isinstance(state, Tensor):
        yield path or ("h",), state
        return
    pairs: Any = enumerate(state or ())
    if isinstance(state, dict):
        pairs = [(key, state[key]) for key in in_order(state)]
    elif hasattr(state, "_asdict"):
        pairs = state._asdict().items()
    for name, part in pairs:
        yield from fields_of(part, (*path, str(name)))


def _same_form(given: Any, expected: Any) -> bool:
    """Whether two states have the same containers; a plain tuple or list stands for any of them."""
    if isinstance(expected, Tensor):
        return isinstance(given, Tensor)
    if isinstance(given, dict) or isinstance(expected, dict):
        return (
            isinstance(given, dict)
            and isinstance(expected, dict)
            and given.keys() == expected.keys()
            and all(_same_form(given[key], expected[key]) for key in expected)
        )
    return (
        isinstance(given, tuple | list)
        and len(given) == len(expected)
        and all(map(_same_form, given, expected))
    )


def _describe(state: Any) -> str:
    if isinstance(state, Tensor):
        where = "" if state.device == "cpu" else f" on {state.device}"
        return f"{state.dtype} {state.shape}{where}"
    if isinstance(state, dict):
        return f"dict({', '.join(f'{key}: {_describe(part)}' for key, part in state.items())})"
    if isinstance(state, tuple | list):
        name = type(state).__name__
        return f"{name}({', '.join(_describe(part) for part in state)})"
    return f"a {type(state).__name__}"
