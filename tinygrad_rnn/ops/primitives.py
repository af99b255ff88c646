"""The primitives behind the functions, by name, for who looks at a tape and asks what is on it."""

from tinygrad_rnn.ops.elementwise.copies import identity
from tinygrad_rnn.ops.indexing import getitem_p as getitem
from tinygrad_rnn.ops.indexing import place_p as place
from tinygrad_rnn.ops.indexing import scatter_add_p as scatter_add
from tinygrad_rnn.ops.joining import concat_p as concat
from tinygrad_rnn.ops.joining import split_p as split
from tinygrad_rnn.ops.joining import stack_p as stack
from tinygrad_rnn.ops.joining import unstack_p as unstack
from tinygrad_rnn.ops.joining import zeros_like_p as zeros_like
from tinygrad_rnn.ops.linear_algebra import einsum_p as einsum
from tinygrad_rnn.ops.linear_algebra import linear_p as linear
from tinygrad_rnn.ops.linear_algebra import matmul_p as matmul
from tinygrad_rnn.ops.promotion import cast_p as cast
from tinygrad_rnn.ops.reductions import max_p as max
from tinygrad_rnn.ops.reductions import mean_p as mean
from tinygrad_rnn.ops.reductions import min_p as min
from tinygrad_rnn.ops.reductions import sum_p as sum
from tinygrad_rnn.ops.shaping import broadcast_to_p as broadcast_to
from tinygrad_rnn.ops.shaping import pad_p as pad
from tinygrad_rnn.ops.shaping import reshape_p as reshape
from tinygrad_rnn.ops.shaping import sum_to_p as sum_to
from tinygrad_rnn.ops.shaping import transpose_p as transpose
from tinygrad_rnn.ops.shaping import unpad_p as unpad
from tinygrad_rnn.ops.whole_axis import log_softmax_p as log_softmax
from tinygrad_rnn.ops.whole_axis import logsumexp_p as logsumexp
from tinygrad_rnn.ops.whole_axis import softmax_p as softmax

__all__ = [
    "broadcast_to",
    "cast",
    "concat",
    "einsum",
    "getitem",
    "identity",
    "linear",
    "log_softmax",
    "logsumexp",
    "matmul",
    "max",
    "mean",
    "min",
    "pad",
    "place",
    "reshape",
    "scatter_add",
    "softmax",
    "split",
    "stack",
    "sum",
    "sum_to",
    "transpose",
    "unpad",
    "unstack",
    "zeros_like",
]
