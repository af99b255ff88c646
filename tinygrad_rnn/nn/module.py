"""Module: a tree of parameters with a forward function."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import numpy as np

from tinygrad_rnn import backends
from tinygrad_rnn.nn.files import Stored
from tinygrad_rnn.nn.tree import attributes, check_company, check_replaced, holds, leads_back
from tinygrad_rnn.nn.weights import WeightsError, open_weights, some_of, write_weights
from tinygrad_rnn.tape import Handle
from tinygrad_rnn.tensor import Tensor, tensor

Self = TypeVar("Self", bound="Module")
AnyTensor = TypeVar("AnyTensor", bound=Tensor)


class Parameter(Tensor):
    """A leaf Tensor that a Module owns and an optimizer changes."""

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True) -> None:
        super().__init__(tensor(data).array, requires_grad)
        if requires_grad and self.dtype.kind != "f":
            raise TypeError(f"Parameter: expected floating values, got {self.dtype}")


class Buffer(Tensor):
    """A leaf Tensor that belongs to the state of a Module and that no optimizer changes."""

    __slots__ = ()

    def __init__(self, data: Any) -> None:
        super().__init__(tensor(data).array)


_KEPT = (Parameter, Buffer)


class Module:
    """A part of a model: parameters, buffers and further modules as attributes, and ``forward``.

    Every attribute that holds a Parameter, a Buffer or a Module, or a list, tuple or dict of them
    (nested if need be), belongs to the tree, whatever its name. There is nothing to register and no
    ``super().__init__()`` to call. A class that has attributes which do not belong to it names
    them in a tuple of its own, ``hidden = ("_cache",)``.

    A module may refer back to one that holds it, as in ``child.parent = self``: a module that
    leads back to itself is part of the tree once, under the first name that leads to it.

    Raises
    ------
    TypeError
        where something else than a Parameter, a Buffer or None is put in the place of a Parameter
        or a Buffer, which would then be neither trained nor saved. ``module.weight.data = values``
        gives it new values; ``del module.weight`` makes room.
    """

    training: bool = True
    hidden: ClassVar[tuple[str, ...]] = ("_before", "_after")

    def __setattr__(self, name: str, value: Any) -> None:
        old = self.__dict__.get(name)
        if holds(old, _KEPT):
            check_replaced(type(self).__name__, name, old, value, _KEPT)
        super().__setattr__(name, value)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What calling the module computes. To be written by each kind of module."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        try:
            if not (self._before or self._after):
                return self.forward(*inputs, **options)
            for hook in tuple(self._before.values()):
                found = hook(self, inputs)
                if found is not None:
                    inputs = found if isinstance(found, tuple) else (found,)
            output = self.forward(*inputs, **options)
            for hook in tuple(self._after.values()):
                found = hook(self, inputs, output)
                output = output if found is None else found
            return output
        except TypeError as error:  # arguments that forward does not take: of which module?
            _, of_forward, why = str(error).partition(".forward() ")
            if of_forward and error.__traceback__ and error.__traceback__.tb_next is None:
                error.args = (f"{type(self).__name__}: forward() {why}",)
            raise

    # Hooks

    @property
    def has_hooks(self) -> bool:
        """Whether anything is called before or after this module."""
        return bool(self._before or self._after)

    _before: Mapping[Handle, Callable[..., Any]] = MappingProxyType({})
    _after: Mapping[Handle, Callable[..., Any]] = MappingProxyType({})

    def register_forward_pre_hook(self, hook: Callable[[Any, tuple[Any, ...]], Any]) -> Handle:
        """Call ``hook(module, inputs)`` before each call of the module, until ``remove()``.

        ``inputs`` is the tuple of positional arguments. What the hook returns takes its place (a
        single value that of the only one), unless it is None.
        """
        return Handle(vars(self).setdefault("_before", {}), hook)

    def register_forward_hook(self, hook: Callable[[Any, tuple[Any, ...], Any], Any]) -> Handle:
        """Call ``hook(module, inputs, output)`` after each call of the module, until ``remove()``.

        What the hook returns takes the place of the output, unless it is None.
        """
        return Handle(vars(self).setdefault("_after", {}), hook)

    # The tree

    def _paths(self) -> Iterator[tuple[tuple[str, ...], Module]]:
        """Every way down to a module, but only the first to one that leads back to itself."""
        seen: set[int] = set()
        ways: list[tuple[tuple[str, ...], Module]] = [((), self)]
        while ways:
            keys, module = ways.pop()
            if id(module) in seen and leads_back(module, Module):
                continue
            seen.add(id(module))
            yield keys, module
            found = [(key, value) for key, value in attributes(module) if isinstance(value, Module)]
            ways += [((*keys, key), value) for key, value in reversed(found)]

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """The module itself and all below it, each once, with their dotted names."""
        seen: set[int] = set()
        for keys, module in self._paths():
            if id(module) not in seen:
                seen.add(id(module))
                yield ".".join(keys), module

    def modules(self) -> Iterator[Module]:
        """The module itself and all below it, each once."""
        for _, module in self.named_modules():
            yield module

    def _named_tensors(self, kind: type[AnyTensor]) -> Iterator[tuple[str, AnyTensor]]:
        """Every name of every Tensor of a kind, tied ones under each of their names."""
        for keys, module in self._paths():
            found = [*attributes(module)]
            if issubclass(kind, Parameter):
                check_company(type(module).__name__, found, _KEPT)
            for key, value in found:
                if isinstance(value, kind):
                    yield ".".join((*keys, key)), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their dotted names, a tied one once.

        The longest name that a parameter is found under is what errors call it.
        """
        seen: set[int] = set()
        for name, parameter in self._named_tensors(Parameter):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                if parameter.name is None or name.endswith(f".{parameter.name}"):
                    parameter.name = name
                yield name, parameter

    def parameters(self) -> list[Parameter]:
        """The parameters, a tied one once."""
        return [parameter for _, parameter in self.named_parameters()]

    def some_tensor(self) -> Tensor | None:
        """Some floating Tensor in the tree, whose dtype and device are those of the module."""
        return next((value for value in self.tensors() if value.dtype.kind == "f"), None)

    def tensors(self) -> Iterator[Tensor]:
        """Every Tensor in the tree, Parameters, Buffers and others."""
        for _, value in self._named_tensors(Tensor):
            yield value

    # State

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and buffer as a NumPy array, by dotted name."""
        named = [*self._named_tensors(Parameter), *self._named_tensors(Buffer)]
        return {name: np.array(value.numpy()) for name, value in named}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take the values of ``state`` (arrays or Tensors by dotted name).

        Nothing is changed unless everything fits. With ``strict=False`` names that only one side
        has are passed over.

        Raises
        ------
        KeyError
            where names are missing or unknown, listing them.
        ValueError
            where a shape differs, or two names of one tied parameter disagree.
        """
        own = dict([*self._named_tensors(Parameter), *self._named_tensors(Buffer)])
        who = f"{type(self).__name__}.load_state_dict"
        missing = [name for name in own if name not in state]
        unknown = [name for name in state if name not in own]
        if strict and (missing or unknown):
            parts = [f"missing {some_of(missing)}"] * bool(missing)
            parts += [f"unknown {some_of(unknown)}"] * bool(unknown)
            raise KeyError(f"{who}: names do not match: {'; '.join(parts)}")
        loaded: dict[int, tuple[str, Tensor, np.ndarray | Stored]] = {}
        for name, target in own.items():
            if name not in state:
                continue
            given = state[name]
            given = given.numpy() if isinstance(given, Tensor) else given
            # What lies in a file stays there until everything is known to fit.
            values = given if isinstance(given, Stored) else np.asarray(given)
            if values.shape != tuple(target.shape):
                raise ValueError(
                    f"{who}: {name} has shape {tuple(target.shape)}, the given values have "
                    f"{values.shape}"
                )
            if values.dtype.kind not in "fiub" or (values.dtype.kind == "f") != (
                target.dtype.kind == "f"
            ):
                raise ValueError(
                    f"{who}: {name} is {target.dtype}, the given values are {values.dtype}"
                )
            first, _, before = loaded.setdefault(id(target), (name, target, values))
            if before is not values and not np.array_equal(before, values, equal_nan=True):
                raise ValueError(f"{who}: {first} and {name} are tied, the given values differ")
        arrays = [
            (target, backends.transfer(np.array(values, target.dtype), target.device))
            for _, target, values in loaded.values()
        ]
        for target, array in arrays:
            target.data = array

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write every parameter and buffer to a safetensors file, which other programs can read.

        The file is whole or, where anything goes wrong, the one that was there before.

        Raises
        ------
        WeightsError
            where it cannot be written: a full disk, a folder without the right to write.
        """
        write_weights(path, self.state_dict())

    def load(self: Self, path: str | os.PathLike[str], strict: bool = True) -> Self:
        """Take the parameters and buffers of a safetensors file, as :meth:`load_state_dict` does.

        It may come from :meth:`save` or from another program, such as PyTorch for the same layers,
        in any floating dtype. Nothing in it is ever executed.

        Raises
        ------
        WeightsError
            where it is missing, damaged, or does not fit, saying which names or shapes. Nothing
            has been changed then.
        """
        with open_weights(path) as weights:
            try:
                self.load_state_dict(weights, strict)
            except (KeyError, ValueError) as error:
                raise WeightsError(f"{str(path)!r} does not fit: {error.args[0]}") from None
        return self

    def to(self: Self, target: Any) -> Self:
        """Move everything to a device, or cast what is floating to a dtype, gradients included."""
        to_device = isinstance(target, str) and target not in np.sctypeDict
        if not to_device and np.dtype(target).kind != "f":
            raise TypeError(
                f"{type(self).__name__}.to: expected a device or a floating dtype, got "
                f"{np.dtype(target)}"
            )
        values = [v for kind in (Parameter, Buffer) for _, v in self._named_tensors(kind)]
        chosen = {id(v): v for v in values if to_device or v.dtype.kind == "f"}.values()
        moved = [(v, v.detach().to(target), v.grad) for v in chosen]
        gradients = [None if g is None else g.detach().to(target) for _, _, g in moved]
        for (value, new, _), g in zip(moved, gradients, strict=True):
            if new.array is not value.array:
                value.replace_array(new.array)
                value.grad = g
        return self

    def train(self: Self, mode: bool = True) -> Self:
        """Switch the module and all below it to training (dropout is on)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: Self) -> Self:
        """Switch the module and all below it to evaluation (dropout is off)."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def __repr__(self) -> str:
        """The tree of modules with their parameter counts, one line each."""
        lines: list[str] = []
        for keys, module in self._paths():
            own = [v for _, v in attributes(module) if isinstance(v, Parameter)]
            count = f", {sum(p.size for p in own):,} parameters" if own else ""
            label = f"({keys[-1]}) " if keys else ""
            indent = "  " * len(keys)
            lines.append(f"{indent}{label}{type(module).__name__}({module.extra_repr()}){count}")
        return "\n".join(lines)

    def parameter_table(self) -> str:
        """Name, shape, dtype and number of elements of every parameter, and the sum, as text.

        A tied parameter counts once; its further names say whose they are.
        """
        names: dict[int, str] = {}
        rows = [("name", "shape", "dtype", "elements", "")]
        for name, p in self._named_tensors(Parameter):
            first = names.setdefault(id(p), name)
            count, note = f"{p.size:,}", "" if p.requires_grad else "no gradient"
            if first != name:
                count, note = "", f"tied to {first}"
            rows.append((name, str(tuple(p.shape)), str(p.dtype), count, note))
        rows.append(("total", "", "", f"{sum(p.size for p in self.parameters()):,}", ""))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            f"{name:{widths[0]}}  {shape:{widths[1]}}  {dtype:{widths[2]}}  {count:>{widths[3]}}"
            f"  {note}".rstrip()
            for name, shape, dtype, count, note in rows
        )

    def extra_repr(self) -> str:
        """What is worth saying about this module in a printed tree, such as its sizes."""
        return ""
