"""Module: a tree of parameters with a forward function."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Self, TypeVar

import numpy as np

from tinygrad_rnn.nn import tree
from tinygrad_rnn.nn.parameter import Buffer, Parameter
from tinygrad_rnn.nn.place import inside, is_outside
from tinygrad_rnn.nn.state import fitted
from tinygrad_rnn.nn.weights import WeightsError, open_weights, write_weights
from tinygrad_rnn.tape import Handle, current_modes, html_paragraph, html_table
from tinygrad_rnn.tensor import Tensor

AnyTensor = TypeVar("AnyTensor", bound=Tensor)


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
        if tree.holds_kept(old):
            tree.check_replaced(type(self).__name__, name, old, value)
        super().__setattr__(name, value)
        if isinstance(value, Parameter | Module) or type(value) in tree.CONTAINERS:
            tree.name_parameters(self, name, value)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What calling the module computes. To be written by each kind of module."""
        raise NotImplementedError(f"{type(self).__name__} has no forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        if current_modes.get().looking and is_outside(self):
            with inside(self):
                return self(*inputs, **options)
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
            if id(module) in seen and tree.leads_back(module, Module):
                continue
            seen.add(id(module))
            yield keys, module
            found = [pair for pair in tree.attributes(module) if isinstance(pair[1], Module)]
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
            found = [*tree.attributes(module)]
            if issubclass(kind, Parameter):
                tree.check_company(type(module).__name__, found)
            for key, value in found:
                if isinstance(value, kind):
                    yield ".".join((*keys, key)), value

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters with their dotted names, a tied one once.

        What errors and printed tapes call a parameter is the longest name that it is found under,
        unless the user has given it one.
        """
        seen: set[int] = set()
        for name, parameter in self._named_tensors(Parameter):
            if id(parameter) not in seen:
                seen.add(id(parameter))
                parameter.called(name)
                yield name, parameter

    def parameters(self) -> list[Parameter]:
        """The parameters, a tied one once."""
        return [parameter for _, parameter in self.named_parameters()]

    def some_tensor(self) -> Tensor | None:
        """Some floating Tensor in the tree, whose dtype and device are those of the module."""
        hidden = tree.hidden_by(type(self))
        for name, value in [*vars(self).items()]:  # most often it is an attribute, found at once
            if name not in hidden:
                if isinstance(value, Tensor) and value.dtype.kind == "f":
                    return value
                if isinstance(value, tree.CONTAINERS):
                    break
        return next((value for value in self.tensors() if value.dtype.kind == "f"), None)

    def tensors(self) -> Iterator[Tensor]:
        """Every Tensor in the tree, Parameters, Buffers and others."""
        for _, value in self._named_tensors(Tensor):
            yield value

    # State

    def _kept_tensors(self) -> dict[str, Tensor]:
        """Every parameter and buffer by dotted name, a tied one under each of its names."""
        return dict([*self._named_tensors(Parameter), *self._named_tensors(Buffer)])

    def state_dict(self) -> dict[str, np.ndarray]:
        """A copy of every parameter and buffer as a NumPy array, by dotted name."""
        return {name: np.array(value.numpy()) for name, value in self._kept_tensors().items()}

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
        who = f"{type(self).__name__}.load_state_dict"
        for target, array in fitted(who, self._kept_tensors(), state, strict):
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

    def load(self, path: str | os.PathLike[str], strict: bool = True) -> Self:
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

    def to(self, target: Any) -> Self:
        """Move everything to a device, or cast what is floating to a dtype, gradients included."""
        to_device = isinstance(target, str) and target not in np.sctypeDict
        if not to_device and np.dtype(target).kind != "f":
            raise TypeError(
                f"{type(self).__name__}.to: expected a device or a floating dtype, got "
                f"{np.dtype(target)}"
            )
        values = self._kept_tensors().values()
        chosen = {id(v): v for v in values if to_device or v.dtype.kind == "f"}.values()
        moved = [(v, v.detach().to(target), v.grad) for v in chosen]
        gradients = [None if g is None else g.detach().to(target) for _, _, g in moved]
        for (value, new, _), g in zip(moved, gradients, strict=True):
            if new.array is not value.array:
                value.replace_array(new.array)
                value.grad = g
        return self

    def train(self, mode: bool = True) -> Self:
        """Switch the module and all below it to training (dropout is on)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Self:
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
            own = [v for _, v in tree.attributes(module) if isinstance(v, Parameter)]
            count = f", {sum(p.size for p in own):,} parameters" if own else ""
            label = f"({keys[-1]}) " if keys else ""
            indent = "  " * len(keys)
            lines.append(f"{indent}{label}{type(module).__name__}({module.extra_repr()}){count}")
        return "\n".join(lines)

    def parameter_table(self) -> str:
        """Name, shape, dtype and number of elements of every parameter, and the sum, as text.

        A tied parameter counts once; its further names say whose they are.
        """
        return tree.table(tree.rows(self._named_tensors(Parameter)))

    def _repr_html_(self) -> str:
        """The class, and the table of parameters, for notebooks."""
        head, *rows = tree.rows(self._named_tensors(Parameter))
        return html_paragraph(type(self).__name__) + html_table(head, rows)

    def extra_repr(self) -> str:
        """What is worth saying about this module in a printed tree, such as its sizes."""
        return ""
