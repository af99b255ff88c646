"""docs/networks.md: a row for every cell, and the names in its state_dict as they are."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from programs import loaded

from tinygrad_rnn import rnn

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "networks.md").read_text("utf-8").splitlines()


@pytest.fixture(scope="module")
def page() -> ModuleType:
    """The benchmark that prints the page's tables."""
    folder = ROOT / "benchmarks"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        return loaded(folder / "networks.py")


def test_every_cell_has_a_row(page: ModuleType) -> None:
    kinds = {
        kind.__name__
        for kind in vars(rnn).values()
        if isinstance(kind, type) and issubclass(kind, rnn.Cell) and kind is not rnn.Cell
    }
    round_others = {"VariationalDropout", "Zoneout"}
    assert kinds - round_others == {name.partition("(")[0] for name in page.NETWORKS}


def test_rows_of_the_page(page: ModuleType) -> None:
    """Equations, source and number of parameters, and names and shapes of what is saved."""
    sizes = (page.I, page.H)
    for name in page.NETWORKS:
        row = page.table(page.about(name, sizes), []).splitlines()[0]
        assert [line for line in PAGE if line.startswith(row.removesuffix(" |"))], row
        row = page.table(page.state(name, sizes), []).splitlines()[0]
        assert row in PAGE
