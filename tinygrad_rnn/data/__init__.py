"""Text and sequences on their way into a model: reading, encoding, batching.

Imports tensor/ and what stands to its left.
"""

from tinygrad_rnn.data.batches import Batch, ContiguousBatches
from tinygrad_rnn.data.text import fingerprint, python_reference, read_text, split_held_out
from tinygrad_rnn.data.vocabulary import Vocabulary

__all__ = [
    "Batch",
    "ContiguousBatches",
    "Vocabulary",
    "fingerprint",
    "python_reference",
    "read_text",
    "split_held_out",
]
