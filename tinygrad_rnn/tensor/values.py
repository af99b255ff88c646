"""What a Tensor holds: its shape and dtype, and what its values can be turned into."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np

from tinygrad_rnn import backends, tape


class Values(tape.Traced):
    """Values that can be asked for, and leave the tape: as an array, a number, a text."""

    __slots__ = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """How long each axis is."""
        return self.array.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.array.ndim

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.array.size

    @property
    def nbytes(self) -> int:
        """The memory that the elements take, in bytes."""
        return self.array.nbytes

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements, as NumPy's."""
        return self.array.dtype

    @property
    def device(self) -> str:
        """The name of the device that holds the values: ``"cpu"``, ``"cuda:0"``."""
        return backends.device_of(self.array)

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array: shared memory on the CPU, a copy from a GPU."""
        tape.reading(self)
        return backends.to_host(self.array)

    def item(self) -> Any:
        """The single element as a Python number."""
        if self.array.size != 1:
            raise ValueError(f"item: expected one element, got shape {tuple(self.shape)}")
        return self.numpy().item()

    def tolist(self) -> Any:
        """The values as nested lists of Python numbers."""
        return self.numpy().tolist()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        tape.reading(self)
        if self.needs_grad:
            raise TypeError(
                "a NumPy function would lose the gradient of this Tensor: use a function of "
                "tinygrad_rnn, or tensor.detach().numpy() for its values"
            )
        if self.device != "cpu":
            raise TypeError(f"the Tensor is on {self.device}: copy its values with .numpy()")
        return np.array(self.array, dtype=dtype, copy=copy)

    def __dlpack__(self, **options: Any) -> Any:
        tape.reading(self)
        if self.needs_grad:
            raise TypeError("DLPack would lose the gradient of this Tensor: pass tensor.detach()")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()

    def __bool__(self) -> bool:
        if self.array.size != 1:
            raise ValueError(
                f"the truth of a Tensor of shape {tuple(self.shape)} is ambiguous; use "
                ".any() or .all()"
            )
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self.array.dtype.kind not in "iu":
            raise TypeError(f"only an integer Tensor can be an index, got {self.dtype}")
        return int(self.item())

    def __len__(self) -> int:
        if self.array.ndim == 0:
            raise TypeError("a 0-d Tensor has no length")
        return self.array.shape[0]

    def __repr__(self) -> str:
        values = np.array2string(self.numpy(), separator=", ", prefix="tensor(", threshold=200)
        notes = f", dtype={self.dtype}"
        if self.device != "cpu":
            notes += f", device={self.device!r}"
        if self.needs_grad:
            notes += ", requires_grad=True"
        return f"tensor({values}{notes})"

    def _repr_html_(self) -> str:
        """The values as a table where they have two axes at most, in the middle cut if long."""
        kind = f"{self.dtype} {tuple(self.shape)} on {self.device}"
        facts = (self.name, kind, "requires a gradient" if self.needs_grad else "")
        head = tape.html_paragraph(", ".join(filter(None, facts)))
        values = self.numpy()
        if values.ndim > 2:
            return head + f"<pre>{escape(np.array2string(values, threshold=200))}</pre>"
        values = np.atleast_2d(values)
        rows, columns = map(_shown, values.shape)
        form = "{:.6g}" if self.dtype.kind == "f" else "{}"
        table = [
            ["..." if i is None or j is None else form.format(values[i, j]) for j in columns]
            for i in rows
        ]
        numbers = ["..." if j is None else str(j) for j in columns]
        return head + tape.html_table(numbers, table)

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)


def _shown(count: int, most: int = 12) -> list[int | None]:
    """The numbers of the rows or columns to show, None for those that are left out."""
    if count <= most:
        return [*range(count)]
    return [*range(most // 2), None, *range(count - most // 2, count)]
