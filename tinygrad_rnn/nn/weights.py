"""Parameters and buffers as a safetensors file: what Module.save and Module.load do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tinygrad_rnn.nn.files import OURS, pack, unpack, write_atomically

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


def read_weights(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a file that :func:`write_weights` or another program wrote, by name."""
    try:
        return unpack(Path(path), KIND, or_foreign=True)[1]
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
