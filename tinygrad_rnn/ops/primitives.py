"""The primitives behind the functions, by name, for who looks at a tape and asks what is on it."""

from tinygrad_rnn.ops import (
    indexing,
    joining,
    linear_algebra,
    promotion,
    reductions,
    shaping,
    whole_axis,
)
from tinygrad_rnn.ops.elementwise import copies

identity = copies.identity
getitem = indexing.getitem_p
place = indexing.place_p
scatter_add = indexing.scatter_add_p
concat = joining.concat_p
split = joining.split_p
stack = joining.stack_p
unstack = joining.unstack_p
zeros_like = joining.zeros_like_p
einsum = linear_algebra.einsum_p
linear = linear_algebra.linear_p
matmul = linear_algebra.matmul_p
cast = promotion.cast_p
max = reductions.max_p
mean = reductions.mean_p
min = reductions.min_p
sum = reductions.sum_p
broadcast_to = shaping.broadcast_to_p
pad = shaping.pad_p
reshape = shaping.reshape_p
sum_to = shaping.sum_to_p
transpose = shaping.transpose_p
unpad = shaping.unpad_p
log_softmax = whole_axis.log_softmax_p
logsumexp = whole_axis.logsumexp_p
softmax = whole_axis.softmax_p
