"""Groups of parameters, each with its own hyperparameters, and the checks of what is given."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from tinygrad_rnn.nn import Module, Parameter

Parameters: TypeAlias = Iterable[Parameter] | Iterable[Mapping[str, Any]]
"""What an optimizer is given: parameters, or dicts with ``"params"`` and hyperparameters."""


class Group:
    """Some parameters and their hyperparameters, each of them an attribute that can be assigned.

    ``params`` are the parameters, ``lr`` the learning rate, ``initial_lr`` the one at the start,
    to which schedules refer; the others have the names of the optimizer's arguments.
    """

    params: tuple[Parameter, ...]
    lr: float
    initial_lr: float

    def __init__(
        self, owner: str, params: tuple[Parameter, ...], options: Mapping[str, Any]
    ) -> None:
        vars(self).update(_owner=owner, params=params, **options)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.options:
            raise AttributeError(
                f"{vars(self)['_owner']}: a group has no {name!r} to assign; it has "
                f"{', '.join(self.options)}"
            )
        super().__setattr__(name, value)

    @property
    def options(self) -> dict[str, Any]:
        """A copy of the hyperparameters."""
        return {name: v for name, v in vars(self).items() if name not in ("_owner", "params")}

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        return f"Group({len(self.params)} parameters, {options})"


def make_groups(who: str, params: Any, defaults: Mapping[str, Any]) -> list[Group]:
    """The groups that an optimizer's first argument describes; a plain iterable is one group.

    Raises
    ------
    TypeError, ValueError
        where a group has an unknown key or no parameters, or a parameter is given twice.
    """
    given = params
    if isinstance(params, Iterable) and not isinstance(params, Parameter | Module | Mapping):
        given = list(params)
    if not (isinstance(given, list) and any(isinstance(item, Mapping) for item in given)):
        given = [{"params": given}]
        names = [who]
    else:
        names = [f"{who}, group {k}" for k in range(len(given))]
    groups: list[Group] = []
    owner: dict[int, str] = {}
    for name, item in zip(names, given, strict=True):
        if not isinstance(item, Mapping):
            raise TypeError(
                f"{name}: expected a dict as the other groups, got {type(item).__name__}"
            )
        if "params" not in item:
            raise ValueError(f"{name}: there is no 'params' in it")
        unknown = [key for key in item if key not in ("params", *defaults)]
        if unknown:
            raise ValueError(
                f"{name}: {unknown[0]!r} is unknown; a group has params, {', '.join(defaults)}"
            )
        found = check_parameters(name, item["params"])
        if not found:
            raise ValueError(f"{name}: there are no parameters")
        for parameter in found:
            if id(parameter) in owner:
                raise ValueError(
                    f"{name}: parameter {parameter.name or tuple(parameter.shape)} is in "
                    f"{owner[id(parameter)].removeprefix(f'{who}, ')} already"
                )
            owner[id(parameter)] = name
        options = dict(defaults) | {key: v for key, v in item.items() if key != "params"}
        options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
        groups.append(Group(who, tuple(found), options | {"initial_lr": options["lr"]}))
    return groups


def set_rate(who: str, groups: Sequence[Group], lr: float) -> None:
    """Give the first group a learning rate, and the others in proportion to their initial ones."""
    first = groups[0].initial_lr
    for group in groups:
        if group.initial_lr == first:
            group.lr = lr
        elif first:
            group.lr = group.initial_lr * (lr / first)
        else:
            raise ValueError(
                f"{who}: lr of the first group was 0 at the start, so that of the others has no "
                "proportion to it; assign groups[k].lr"
            )


def check_parameters(who: str, parameters: Any) -> list[Parameter]:
    """The parameters as a list, in which each is a Parameter and appears once."""
    if isinstance(parameters, Parameter | Module) or not isinstance(parameters, Iterable):
        raise TypeError(
            f"{who}: expected an iterable of Parameters such as model.parameters(), got "
            f"{type(parameters).__name__}"
        )
    found: list[Any] = list(parameters)
    for parameter in found:
        if not isinstance(parameter, Parameter):
            raise TypeError(f"{who}: expected Parameters, got {type(parameter).__name__}")
    if len({id(p) for p in found}) < len(found):
        raise ValueError(f"{who}: a parameter is given twice")
    return found


def check_number(
    who: str, name: str, value: Any, above: float | None = None, below: float = math.inf
) -> None:
    """Refuse what is no finite number >= 0, or > ``above``; and one that is not < ``below``."""
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    fits = number and (value >= 0 if above is None else value > above) and value < below
    if not (fits and math.isfinite(value)):
        wanted = "be a finite number >= 0" if above is None else f"be a finite number > {above}"
        if below < math.inf:
            least = "0 <=" if above is None else f"{above} <"
            wanted = f"satisfy {least} {name} < {below}"
        raise ValueError(f"{who}: {name} must {wanted}, got {value!r}")
