"""Simplifying: equal lines are computed once, and slices move up through elementwise work.

The gates of an LSTM are slices of one sum of products. Where nothing else reads that sum, each
gate becomes a sum of slices of the products, so that no array of the width of all gates is written
in between and every elementwise line of the cell has one shape.
"""

from __future__ import annotations

from typing import Any

from tinygrad_rnn.replay.passes.lower import Lowering
from tinygrad_rnn.replay.passes.plain import SLICE, is_elementwise
from tinygrad_rnn.replay.program.program import Op, Program, Value, canonical, consumers
from tinygrad_rnn.replay.program.rewrite import Rewriter, rewrite
from tinygrad_rnn.replay.program.verify import verified, verify_rewritten


@verified(verify_rewritten)
def merge_equal(program: Program) -> Program:
    """Lines that compute the same from the same are one line."""
    seen: dict[Any, Op] = {}

    def rule(rewriter: Rewriter, op: Op) -> bool:
        inputs = tuple(rewriter.current(x) for x in op.inputs)
        key = (
            op.primitive,
            *((id(x),) if isinstance(x, Value) else canonical(x) for x in inputs),
            canonical(op.params),
        )
        first = seen.setdefault(key, op)
        if first is op:
            return False
        rewriter.replacement.update(zip(op.outputs, first.outputs, strict=True))
        rewriter.stands_for(first.outputs[0])
        return True

    return rewrite(program, rule)


@verified(verify_rewritten)
def raise_slices(program: Program) -> Program:
    """Slices of elementwise results are taken from the operands instead."""
    readers = consumers(program.ops)
    kept = set(program.outputs)
    only_sliced: set[Value] = set()
    for op in reversed(program.ops):
        for y in op.outputs:
            if y not in kept and all(
                reader.primitive is SLICE
                or (is_elementwise(reader) and reader.outputs[0] in only_sliced)
                for reader in readers.get(y, [])
            ):
                only_sliced.add(y)
    known: dict[tuple[Value, int, int, int], Value] = {}

    def sliced(r: Rewriter, x: Value, axis: int, start: int, stop: int) -> Value:
        if (start, stop) == (0, x.shape[axis]):
            return x
        key = (x, axis, start, stop)
        if key in known:
            r.stands_for(known[key])
        else:
            known[key] = _sliced(r, x, axis, start, stop)
        return known[key]

    def _sliced(r: Rewriter, x: Value, axis: int, start: int, stop: int) -> Value:
        op = producers.get(x)
        if op is None or x not in only_sliced:
            return Lowering(r).slice(x, axis, start, stop)
        inputs = [operand(r, w, axis - len(x.shape), start, stop) for w in op.inputs]
        shape = (*x.shape[:axis], stop - start, *x.shape[axis + 1 :])
        y = r.emit(op.primitive, inputs, shape, x.dtype, **op.params)
        producers[y] = r.ops[-1] = Op(op.primitive, inputs, op.params, [y], [op])
        return y

    def operand(r: Rewriter, w: Any, axis: int, start: int, stop: int) -> Any:
        """The part of an operand, whose axes are counted from the end as broadcasting does."""
        if not isinstance(w, Value) or len(w.shape) < -axis or w.shape[axis] == 1:
            return w
        return sliced(r, w, axis + len(w.shape), start, stop)

    producers: dict[Value, Op] = {}

    def rule(rewriter: Rewriter, op: Op) -> bool:
        if op.primitive is not SLICE:
            if is_elementwise(op):
                inputs = [rewriter.current(x) for x in op.inputs]
                producers[op.outputs[0]] = Op(op.primitive, inputs, op.params, op.outputs, [op])
            return False
        x = rewriter.current(op.inputs[0])
        part = rewriter.replacement[op.outputs[0]] = sliced(rewriter, x, **op.params)
        if op.outputs[0] in only_sliced:
            only_sliced.add(part)
        return True

    return rewrite(program, rule)


def simplify(program: Program) -> Program:
    """Both."""
    return merge_equal(raise_slices(merge_equal(program)))
