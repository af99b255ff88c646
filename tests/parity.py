"""PyTorch, for the comparisons with it: they are skipped without it, but not in CI."""

from __future__ import annotations

import os

import pytest

if os.environ.get("CI"):
    import torch
else:
    torch = pytest.importorskip("torch", reason="the comparison needs PyTorch 2.13.0")

__all__ = ["torch"]
