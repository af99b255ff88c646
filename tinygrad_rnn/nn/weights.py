"""Parameters and buffers as a safetensors file: what Module.save and Module.load do."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from tinygrad_rnn.nn.disk import write_atomically
from tinygrad_rnn.nn.files import OURS, Stored, pack, unpack

KIND = "weights file, version 1"


class WeightsError(RuntimeError):
    """A file of weights that is missing, damaged, of another model, or cannot be written."""


def write_weights(path: str | os.PathLike[str], weights: Mapping[str, np.ndarray]) -> None:
    """Write the file, or leave what was there before."""
    try:
        write_atomically(Path(path), pack(KIND, "", weights))
    except OSError as error:
        reason = error.strerror or error
        raise WeightsError(f"cannot write the weights {str(path)!r}: {reason}") from error
    except ValueError as error:
        raise WeightsError(f"cannot write the weights {str(path)!r}: {error}") from None


@contextmanager
def open_weights(path: str | os.PathLike[str]) -> Generator[Mapping[str, Stored]]:
    """The arrays of a file that :func:`write_weights` or another program wrote, by name.

    They are read where they are asked for, within the block.
    """
    try:
        with unpack(Path(path), KIND, or_foreign=True) as (_, arrays):
            yield arrays
    except FileNotFoundError:
        raise WeightsError(f"there are no weights {str(path)!r}") from None
    except OSError as error:
        reason = error.strerror or error
        raise WeightsError(f"cannot read the weights {str(path)!r}: {reason}") from error
    except ValueError as error:
        advice = (
            "; take the weights out of it with model.load_state_dict(Checkpoint.load(path).model)"
        )
        is_checkpoint = str(error).startswith(f"is a {OURS}checkpoint")
        raise WeightsError(f"{str(path)!r} {error}{advice if is_checkpoint else ''}") from None
