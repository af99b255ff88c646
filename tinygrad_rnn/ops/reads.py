"""What the gradient rules read: a table. Whatever is not named may be overwritten after forward.

The words are those of :class:`tinygrad_rnn.tape.Primitive`: one text per rule, or one for all of
them. Shapes and dtypes do not count. Operations that are not in the table read everything. A test
fills what is not read with nan, so a rule that reads more than it says is found.
"""

from __future__ import annotations

from collections.abc import Sequence

from tinygrad_rnn.ops import (
    indexing,
    joining,
    linear_algebra,
    losses,
    reductions,
    scaled,
    shaping,
    whole_axis,
    writing,
)
from tinygrad_rnn.ops.elementwise import activations, arithmetic, choice, copies, erf
from tinygrad_rnn.ops.elementwise import functions as f
from tinygrad_rnn.ops.promotion import cast_p
from tinygrad_rnn.tape import Primitive

READS: dict[Primitive, str | Sequence[str]] = {
    # Arithmetic
    arithmetic.add: "",
    arithmetic.subtract: "",
    arithmetic.negative: "",
    arithmetic.multiply: ("x1", "x0"),
    arithmetic.divide: ("x1", "y x1"),
    arithmetic.power: ("x", "y x"),
    arithmetic.remainder: ("", "x"),
    # Functions of one argument, by what their derivative is written in
    **dict.fromkeys((f.abs, f.log, f.log1p, f.square, f.sin, f.cos, erf.erf), "x"),
    **dict.fromkeys((f.exp, f.expm1, f.sqrt, activations.tanh, activations.sigmoid), "y"),
    **dict.fromkeys((activations.relu, activations.leaky_relu_p, activations.softplus), "x"),
    # Choice
    **dict.fromkeys((choice.maximum, choice.minimum, choice.clip_p), "x"),
    choice.where: "x0",
    # The same values once more
    **dict.fromkeys((copies.identity, copies.copy, copies.to_device_p, cast_p), ""),
    # Moving values
    **dict.fromkeys((shaping.broadcast_to_p, shaping.sum_to_p, shaping.reshape_p), ""),
    **dict.fromkeys((shaping.transpose_p, shaping.flip_p, shaping.pad_p, shaping.unpad_p), ""),
    **dict.fromkeys((joining.concat_p, joining.split_p, joining.stack_p, joining.unstack_p), ""),
    **dict.fromkeys((indexing.getitem_p, indexing.place_p, writing.put_p), "indices"),
    **dict.fromkeys((indexing.take_p, indexing.scatter_add_p), "x1"),
    # Reductions and functions of a whole axis
    **dict.fromkeys((reductions.sum_p, reductions.mean_p, reductions.cumsum_p), ""),
    reductions.prod_p: "x",
    scaled.ldexp_p: "x1",
    **dict.fromkeys((whole_axis.softmax_p, whole_axis.log_softmax_p), "y"),
    # Products and losses
    linear_algebra.matmul_p: ("x1", "x0"),
    linear_algebra.linear_p: ("x1", "x0", ""),
    linear_algebra.einsum_p: "others",
    losses.cross_entropy_p: "x y1 y2",
    losses.cross_entropy_cotangent_p: "x0 x1 x2",
}

for _primitive, _reads in READS.items():
    _primitive.reads = _reads
