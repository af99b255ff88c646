"""What all examples have in common; CI runs each of them with --quick."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from programs import EXAMPLES, run_python

each = pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)

DRAWING = [
    path for path in sorted(EXAMPLES.glob("*.py")) if "draw_picture(" in path.read_text("utf-8")
]


@each
def test_help_says_what_is_to_be_seen(example: Path) -> None:
    said = run_python("-W", "error", example, "--help").stdout
    for option in ("--quick", "--device", "--seed"):
        assert option in said
    assert len(said.split("options:")[0].split()) > 10
    document = ast.get_docstring(ast.parse(example.read_text("utf-8")))
    assert document is not None
    assert f"python examples/{example.name}" in document


@pytest.mark.parametrize("example", DRAWING, ids=lambda path: path.stem)
def test_what_draws_takes_the_options_of_a_picture(example: Path) -> None:
    said = run_python("-W", "error", example, "--help").stdout
    assert "--panels" in said
    assert "--format" in said


@each
def test_a_device_that_is_not_there(example: Path) -> None:
    command = [sys.executable, "-W", "error", example, "--quick", "--device", "abacus"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert found.returncode != 0
    # an example whose data come with a library that is missing says so first
    assert "abacus" in found.stderr or "pip install" in found.stderr
    assert "Traceback" not in found.stderr
