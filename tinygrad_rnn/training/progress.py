"""The progress bar of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tqdm import tqdm


class ProgressBar(tqdm):
    """How many updates are done, of ``total`` (inf: nobody knows), and what the last one was."""

    def __init__(self, total: float, done: int, shown: bool) -> None:
        super().__init__(
            total=None if math.isinf(total) else int(total),
            initial=done,
            disable=not shown,
            dynamic_ncols=True,
            bar_format="|{bar:6}| {n_fmt}/{total_fmt} {remaining}{postfix}",
        )

    def show(self, row: Mapping[str, float]) -> None:
        """An update is done, and this is its row."""
        self.set_postfix_str(shown(row), refresh=False)
        self.update()


def shown(row: Mapping[str, float]) -> str:
    """A row in so few words that a progress bar of 80 columns has room for it."""
    hidden = ("update", "epoch", "learning_rate")
    words = {"gradient_norm": "norm", "tokens_per_second": "tokens/s"}
    return ", ".join(
        f"{words.get(name, name.replace('_', ' '))} "
        + (f"{value:,.0f}" if 1e3 <= abs(value) < 1e9 else f"{value:.3g}")
        for name, value in row.items()
        if name not in hidden
    )
