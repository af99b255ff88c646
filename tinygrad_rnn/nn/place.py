"""Which layer runs: the names of modules in what is recorded while somebody looks."""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.tape import PlaceSwitch, current_place, in_layer


def is_outside(module: Any) -> bool:
    """Whether the module is not yet said to be what runs."""
    owners = current_place.get().owners
    return not (owners and owners[-1][0] is module)


def inside(module: Any, name: str | None = None) -> PlaceSwitch:
    """The module runs within the block: it is the layer of what is recorded there.

    The layer is the path to the module from the outermost one that runs, found in the tree of the
    innermost one that has it. ``name`` is that of a module which the tree does not have, by
    default its class. When the outermost module begins, its parameters get their names.
    """
    owners = current_place.get().owners
    if not owners:
        module.parameters()
    return in_layer(module, _layer(module, name, owners))


def _layer(module: Any, name: str | None, owners: tuple[tuple[Any, str], ...]) -> str:
    if not owners:
        return name or ""
    if name is None:
        for owner, layer in reversed(owners):
            if owner is module:
                return layer
        for owner, layer in reversed(owners):
            for path, below in owner.named_modules():
                if below is module:
                    return _joined(layer, path)
    return _joined(owners[-1][1], name or type(module).__name__)


def _joined(*parts: str) -> str:
    return ".".join(filter(None, parts))
