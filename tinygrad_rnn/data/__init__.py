"""Text and sequences on their way into a model: reading, encoding, batching.

Imports nn/ and what stands to its left.
"""

from tinygrad_rnn.data.batches import Batch, ContiguousBatches
from tinygrad_rnn.data.encodings import context_window, hash_letters, letter_ngrams
from tinygrad_rnn.data.generated import travel_requests
from tinygrad_rnn.data.generated_messages import generated_messages
from tinygrad_rnn.data.measures import accuracy, bits_per_character, class_score, perplexity
from tinygrad_rnn.data.messages import Message, read_messages
from tinygrad_rnn.data.ngrams import KneserNey
from tinygrad_rnn.data.padding import Padded, bucketed, pad
from tinygrad_rnn.data.problems import adding_problem, copy_problem
from tinygrad_rnn.data.scores import Score, SlotScores, slot_scores
from tinygrad_rnn.data.sentences import read_sentences
from tinygrad_rnn.data.series import Windows, read_series, windows
from tinygrad_rnn.data.tagging import Labels, Span, Tagged, read_tagged, spans
from tinygrad_rnn.data.text import fingerprint, python_reference, read_text, split_held_out
from tinygrad_rnn.data.vocabulary import Vocabulary

__all__ = [
    "Batch",
    "ContiguousBatches",
    "KneserNey",
    "Labels",
    "Message",
    "Padded",
    "Score",
    "SlotScores",
    "Span",
    "Tagged",
    "Vocabulary",
    "Windows",
    "accuracy",
    "adding_problem",
    "bits_per_character",
    "bucketed",
    "class_score",
    "context_window",
    "copy_problem",
    "fingerprint",
    "generated_messages",
    "hash_letters",
    "letter_ngrams",
    "pad",
    "perplexity",
    "python_reference",
    "read_messages",
    "read_sentences",
    "read_series",
    "read_tagged",
    "read_text",
    "slot_scores",
    "spans",
    "split_held_out",
    "travel_requests",
    "windows",
]
