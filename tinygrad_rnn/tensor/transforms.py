"""Derivatives as functions: grad, vjp, jvp, jacobian, hessian, hvp.

They return new values and touch no ``.grad``. Arguments and results may be Tensors or containers
of them (tuples, NamedTuples, lists, dicts). Derivatives compose: ``grad(grad(f))`` and gradients
of gradients that reach parameters outside ``f`` are connected, unless taken within ``no_grad``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from tinygrad_rnn import ops, tape
from tinygrad_rnn.tensor.creation import ones_like, tensor, zeros, zeros_like
from tinygrad_rnn.tensor.tensor import Tensor


def _as_input(value: Any, who: str) -> Tensor:
    """A value of its own to differentiate with respect to, connected to where it came from."""
    given = value if isinstance(value, Tensor) else tensor(value)
    if given.dtype.kind != "f":
        raise TypeError(f"{who}: cannot differentiate with respect to {given.dtype} values")
    if not given.requires_grad and not tape.is_tracing():
        return Tensor(given.array, needs_grad=True)
    found = ops.identity(given)
    found.needs_grad = True
    return found


def _as_cotangent(value: Any, like: Tensor) -> Tensor:
    """A tangent or cotangent; a Python number takes the dtype and device of what it belongs to."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, int | float):
        return tensor(value, like.dtype, like.device)
    return tensor(value)


def _outputs(tree: Any, who: str) -> list[Tensor]:
    found = tape.leaves(tree)
    for value in found:
        if not isinstance(value, Tensor):
            raise TypeError(f"{who}: the function must return Tensors, got {type(value).__name__}")
    return found


def _arrived(found: Sequence[Any], values: Sequence[Tensor]) -> list[Tensor]:
    """The cotangents of values as Tensors; zeros where none has arrived."""
    return [
        zeros_like(x) if g is None else g if isinstance(g, Tensor) else Tensor(g)
        for x, g in zip(values, found, strict=True)
    ]


class _Trace:
    """One run of a function with the inputs and outputs that its derivatives are between."""

    def __init__(self, function: Callable[..., Any], args: Sequence[Any], who: str) -> None:
        self.who = who
        connect = tape.is_recording()
        self.start = tape.next_position()
        with tape.enable_grad():
            self.args = tape.tree_map(lambda value: _as_input(value, who), list(args))
            self.inputs: list[Tensor] = tape.leaves(self.args)
            self.result = function(*self.args)
        self.outputs = _outputs(self.result, who)
        self.connected = connect and self._reaches_outside()

    def _reaches_outside(self) -> bool:
        """Whether the result depends on values that want a gradient, besides the inputs."""
        own = {value for value in self.inputs if value.is_leaf}
        read = [*self.outputs, *tape.Tape(self.outputs, since=self.start).inputs]
        return any(
            value.needs_grad and value not in own
            for value in read
            if value.record is None or value.record.position < self.start
        )

    def pull(self, cotangents: Sequence[Tensor], create_graph: bool | None = None) -> list[Tensor]:
        """The cotangents of the inputs from those of the outputs; zeros where none arrives."""
        if create_graph is None:
            wanted = tape.is_recording() and any(g.needs_grad for g in cotangents)
            create_graph = self.connected or wanted or tape.is_tracing()
        pairs = [
            (y, tape.seed(y, g, self.who))
            for y, g in zip(self.outputs, cotangents, strict=True)
            if y.needs_grad
        ]
        found = tape.differentiate(
            [y for y, _ in pairs],
            [g for _, g in pairs],
            self.inputs,
            create_graph=create_graph,
            retain_graph=True,
            since=self.start,
        )
        return _arrived(found, self.inputs)

    def values(self) -> Any:
        """The result, without the tape where nothing outside needs it."""
        return self.result if self.connected else tape.tree_map(Tensor.detach, self.result)


def _traced(
    function: Callable[..., Any],
    argnums: int | Sequence[int],
    args: Sequence[Any],
    options: dict[str, Any],
    who: str,
) -> tuple[list[Any], _Trace]:
    """The chosen arguments, and a run of the function that is followed from these only."""
    chosen = [argnums] if isinstance(argnums, int) else list(argnums)
    for k in chosen:
        if not -len(args) <= k < len(args):
            raise IndexError(f"{who}: argnums names argument {k}, the function got {len(args)}")

    def of_chosen(*values: Any) -> Any:
        full = list(args)
        for k, value in zip(chosen, values, strict=True):
            full[k] = value
        return function(*full, **options)

    picked = [args[k] for k in chosen]
    return picked, _Trace(of_chosen, picked, who)


def value_and_grad(
    function: Callable[..., Any], argnums: int | Sequence[int] = 0
) -> Callable[..., tuple[Tensor, Any]]:
    """A function that returns ``f``'s scalar value and its gradient.

    ``argnums`` says with respect to which argument; for several, the gradients are a tuple. The
    gradient has the containers of its argument.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> tuple[Tensor, Any]:
        picked, trace = _traced(function, argnums, args, options, "grad")
        if not isinstance(trace.result, Tensor) or trace.result.size != 1:
            what = getattr(trace.result, "shape", type(trace.result).__name__)
            raise ValueError(f"grad: the function must return a scalar Tensor, got {what}")
        if trace.result.dtype.kind != "f":
            raise TypeError(f"grad: {trace.result.dtype} values carry no gradient")
        gradients = tape.rebuild(picked, trace.pull([ones_like(trace.result)]))
        return trace.values(), gradients[0] if isinstance(argnums, int) else tuple(gradients)

    return wrapped


def grad(function: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """A function that returns the gradient of the scalar-valued ``f``.

    >>> import tinygrad_rnn as tg
    >>> tg.grad(tg.grad(lambda x: x**3))(2.0)
    tensor(12., dtype=float32)
    """
    both = value_and_grad(function, argnums)

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        return both(*args, **options)[1]

    return wrapped


def vjp(function: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., tuple[Any, ...]]]:
    """``f(*primals)`` and its pullback, which may be called many times.

    The pullback takes a cotangent with the containers of the result and returns v^T J for each
    primal.
    """
    trace = _Trace(function, primals, "vjp")

    def pullback(cotangent: Any) -> tuple[Any, ...]:
        given = tape.matched(trace.result, cotangent, "vjp", "cotangents")
        gs = [_as_cotangent(g, y) for g, y in zip(given, trace.outputs, strict=True)]
        return tuple(tape.rebuild(list(primals), trace.pull(gs)))

    return trace.values(), pullback


def jvp(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]
) -> tuple[Any, Any]:
    """``f(*primals)`` and J v, the derivative in the direction of ``tangents``.

    The pullback is linear in its cotangent, so J v is the vjp of the pullback: no further rules
    are needed.
    """
    return _jvp(function, primals, tangents, "jvp")


def _jvp(
    function: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], who: str
) -> tuple[Any, Any]:
    trace = _Trace(function, primals, who)
    given = tape.matched(list(primals), list(tangents), who, "tangents")
    directions = [_as_cotangent(v, x) for v, x in zip(given, trace.inputs, strict=True)]
    if [v.shape for v in directions] != [x.shape for x in trace.inputs]:
        raise ValueError(
            f"{who}: tangents must have the shapes of the primals, "
            f"{[x.shape for x in trace.inputs]}, got {[v.shape for v in directions]}"
        )
    connected = trace.connected or (tape.is_recording() and any(v.needs_grad for v in directions))
    with tape.enable_grad():
        dummies = [Tensor(zeros_like(y).array, needs_grad=True) for y in trace.outputs]
        pulled = trace.pull(dummies, create_graph=True)
    pairs = [(g, v) for g, v in zip(pulled, directions, strict=True) if g.needs_grad]
    found = tape.differentiate(
        [g for g, _ in pairs],
        [tape.seed(g, v, who) for g, v in pairs],
        dummies,
        create_graph=connected,
    )
    return trace.values(), tape.rebuild(trace.result, _arrived(found, trace.outputs))


def _jacobians(
    y: Tensor, xs: Sequence[Tensor], pull: Callable[[Tensor], list[Tensor]]
) -> list[Tensor]:
    """Those of y by each x, whose rows are what unit cotangents of y pull back to."""
    shapes = [(*y.shape, *x.shape) for x in xs]
    if not y.size:
        return [zeros(shape, x.dtype, x.device) for shape, x in zip(shapes, xs, strict=True)]
    rows: list[list[Tensor]] = []
    for k in range(y.size):
        unit = ops.place(ones_like(y).reshape(-1)[k], k, (y.size,)).reshape(y.shape)
        rows.append(pull(unit.detach()))
    columns = zip(*rows, strict=True)
    return [ops.stack(c).reshape(shape) for c, shape in zip(columns, shapes, strict=True)]


def jacobian(function: Any, argnums: Any = 0) -> Any:
    """The Jacobian: ``jacobian(f)(x)`` of a function, or ``jacobian(y, x)`` of values on the tape.

    J[i, j] = dy_i / dx_j, of shape (*y.shape, *x.shape). In the second form ``x`` may be any value
    that ``y`` was computed from, such as the hidden state of an earlier time step, and the tape is
    kept.
    """
    if isinstance(function, Tensor):
        return _tape_jacobian(function, argnums)

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        picked, trace = _traced(function, argnums, args, options, "jacobian")
        if not isinstance(trace.result, Tensor):
            raise TypeError("jacobian: the function must return one Tensor")
        found = _jacobians(trace.result, trace.inputs, lambda unit: trace.pull([unit]))
        matrices = tape.rebuild(picked, found)
        return matrices[0] if isinstance(argnums, int) else tuple(matrices)

    return wrapped


def _tape_jacobian(y: Tensor, x: Any) -> Tensor:
    if not isinstance(x, Tensor):
        raise TypeError("jacobian: jacobian(y, x) takes the value x that y was computed from")
    if not x.requires_grad:
        raise RuntimeError("jacobian: x does not require a gradient, so that y's tape has no x")

    def pull(unit: Tensor) -> list[Tensor]:
        seeds = [tape.seed(y, unit, "jacobian")]
        graph = tape.is_tracing()
        found = tape.differentiate([y], seeds, [x], create_graph=graph, retain_graph=True)
        return _arrived(found, [x])

    return _jacobians(y, [x], pull)[0]


def hessian(function: Callable[..., Any], argnums: int = 0) -> Callable[..., Tensor]:
    """A function that returns H[i, j] = d^2 f / dx_i dx_j of the scalar-valued ``f``."""
    return jacobian(grad(function, argnums), argnums)


def hvp(function: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """The Hessian of the scalar-valued ``f`` times ``tangents``, without forming the Hessian.

    ``primals`` is the argument of ``f`` (or a tuple of its arguments), ``tangents`` has its form.
    """
    many = isinstance(primals, tuple)
    args = primals if many else (primals,)
    directions = tangents if many else (tangents,)
    chosen = tuple(range(len(args)))
    _, product = _jvp(grad(function, chosen), args, directions, "hvp")
    return product if many else product[0]
