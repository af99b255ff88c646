"""The Python in README.md and docs/ runs and prints what the page says.

The ``python`` blocks of a page run one after the other in one namespace. A ``text`` block right
after one is what it prints, and a comment ``raises`` marks a block that ends in the error which the
text block shows. Numbers may differ by one in their last digit or by the accuracy of float32, since
machines round differently.
"""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

import tinygrad_rnn as tg

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```\n(?:\n*```text\n(?P<printed>.*?)^```$)?",
    re.MULTILINE | re.DOTALL,
)
NUMBER = re.compile(r"-?\d+\.\d*(?:e[+-]?\d+)?")


def agree(got: str, said: str) -> bool:
    """Whether two texts are the same up to white space and the last digit of decimal fractions."""
    words = [" ".join(NUMBER.sub("#", text).split()) for text in (got, said)]
    if words[0] != words[1]:
        return False
    for a, b in zip(NUMBER.findall(got), NUMBER.findall(said), strict=True):
        mantissa, _, exponent = b.partition("e")
        digits = len(mantissa.partition(".")[2])
        unit = 10.0 ** (int(exponent or 0) - digits)
        if abs(float(a) - float(b)) > max(1.01 * unit, 1e-5 * abs(float(b))):
            return False
    return True


def run(code: str, where: str, namespace: dict[str, Any]) -> str:
    """What the code prints. An error is printed by its name and message."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(code, where, "exec"), namespace)
        except Exception as error:
            if "# raises" not in code:
                raise
            print(f"{type(error).__name__}: {error}")
        else:
            assert "# raises" not in code, f"{where} should have raised"
    return printed.getvalue()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run_and_print_what_the_page_says(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    tg.manual_seed(0)
    text = page.read_text(encoding="utf-8")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        printed = run(block["code"], f"{page.name}, block at line {line}", namespace)
        said = block["printed"]
        if said is not None:
            assert agree(printed, said), f"{page.name}:{line} prints\n{printed}"


def test_numbers_are_compared_to_their_last_digit() -> None:
    assert agree("loss 0.1235, -1.5e-03", "loss 0.1234, -1.4e-03")
    assert not agree("loss 0.1236", "loss 0.1234")
    assert not agree("loss 0.1234", "Loss 0.1234")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
