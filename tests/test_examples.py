"""What all examples have in common; CI runs each of them with --quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))

each = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


def ran(example: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(example), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@each
def test_help_says_what_is_to_be_seen(example: Path) -> None:
    found = ran(example, "--help")
    assert found.returncode == 0, found.stderr
    for option in ("--quick", "--device", "--seed"):
        assert option in found.stdout
    assert len(found.stdout.split("options:")[0].split()) > 10
    document = ast.get_docstring(ast.parse(example.read_text("utf-8")))
    assert document is not None
    assert f"python examples/{example.name}" in document


@each
def test_a_device_that_is_not_there(example: Path) -> None:
    found = ran(example, "--quick", "--device", "abacus")
    assert found.returncode != 0
    # an example whose data come with a library that is missing says so first
    assert "abacus" in found.stderr or "pip install" in found.stderr
    assert "Traceback" not in found.stderr
