"""Products by MKL equal NumPy's; what MKL cannot take is left to NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tinygrad_rnn.backends import backend_of, products, using_mkl
from tinygrad_rnn.backends.blas import mkl

RNG = np.random.default_rng(0)
needs_mkl = pytest.mark.skipif(mkl() is None, reason="needs the extra mkl")


def matrix(rows: int, columns: int, form: str, dtype: Any) -> np.ndarray:
    if form == "transposed":
        return RNG.standard_normal((columns, rows)).astype(dtype).T
    if form == "columns of a wider one":
        return RNG.standard_normal((rows, columns + 5)).astype(dtype)[:, 2:-3]
    if form == "every other row":
        return RNG.standard_normal((2 * rows, columns)).astype(dtype)[::2]
    return RNG.standard_normal((rows, columns)).astype(dtype)


FORMS = ["plain", "transposed", "columns of a wider one", "every other row"]


@needs_mkl
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("left", FORMS)
@pytest.mark.parametrize("right", FORMS)
def test_products_equal_numpys(dtype: Any, left: str, right: str) -> None:
    a, b = matrix(70, 65, left, dtype), matrix(65, 80, right, dtype)
    want = np.matmul(a.astype(np.float64), b)
    rtol = 1e-4 if dtype == np.float32 else 1e-12
    found = products.multiply(a, b, None)
    assert found is not None
    np.testing.assert_allclose(found, want, rtol=rtol, atol=rtol)
    out = np.full((70, 80), np.nan, dtype)
    assert backend_of(a).matmul(a, b, out) is out
    np.testing.assert_allclose(out, want, rtol=rtol, atol=rtol)


@needs_mkl
def test_what_is_left_to_numpy() -> None:
    big = RNG.standard_normal((100, 100))
    assert products.multiply(big, big, None) is not None
    assert products.multiply(big[:5], big[:, :5], None) is None  # small
    assert products.multiply(big[:, ::2], big[::2], None) is None  # elements apart
    assert products.multiply(big, big.astype(np.float32), None) is None
    assert products.multiply(big.astype(np.int64), big.astype(np.int64), None) is None
    assert products.multiply(np.stack([big] * 2), big, None) is None
    with using_mkl(False):
        assert products.multiply(big, big, None) is None


def test_matmul_of_all_kinds() -> None:
    """Whichever library is there: stacks of matrices, mixed dtypes, no elements, wrong shapes."""
    backend = backend_of(np.zeros(1))
    big = RNG.standard_normal((100, 100))
    for a, b in (
        (np.stack([big] * 2), big),
        (big, big.astype(np.float32)),
        (big[:0], big),
        (big[:, :0], big[:0]),
        (big[:, ::2], big[::2]),
    ):
        np.testing.assert_allclose(backend.matmul(a, b), np.matmul(a, b), rtol=1e-12)
    with pytest.raises(ValueError, match="mismatch"):
        backend.matmul(big, big[:50])
