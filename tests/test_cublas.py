"""cuBLAS by ctypes, on a card or on the stand-in: products of all layouts, and what it refuses."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from conftest import usable

from tinygrad_rnn import backends
from tinygrad_rnn.backends import cublas

pytestmark = pytest.mark.gpu
KINDS = [("f", "f", 1e-5), ("d", "d", 1e-13), ("e", "f", 1e-5), ("e", "e", 2e-2)]
FORMS = ("by rows", "by columns", "within rows", "within columns")


@pytest.fixture(scope="module")
def card() -> Any:
    backend: Any = backends.backend_for(usable("cuda"))
    assert backend.why_no_capture() is None
    return backend


def placed(card: Any, values: np.ndarray, form: str) -> Any:
    """A matrix on the card that lies as it is said."""
    rows, columns = values.shape
    turned = form.endswith("columns")
    whole = values.T if turned else values
    offset, gap = (1, 3) if form.startswith("within") else (0, 0)
    wide = np.full((whole.shape[0] + 1, whole.shape[1] + gap), np.nan, values.dtype)
    wide[: whole.shape[0], offset : offset + whole.shape[1]] = whole
    length = wide.shape[1]
    strides = (1, length) if turned else (length, 1)
    return card.strided(card.from_host(wide, "cuda"), (rows, columns), strides, offset)


@pytest.mark.parametrize(("given", "gives", "tolerance"), KINDS)
@pytest.mark.parametrize(("m", "k", "n"), [*itertools.product((1, 2, 5), (1, 3), (1, 4))])
def test_products(
    card: Any, given: str, gives: str, tolerance: float, m: int, k: int, n: int
) -> None:
    rng = np.random.default_rng(m + 10 * k + 100 * n)
    a, b = (rng.standard_normal(shape).astype(given) for shape in ((m, k), (k, n)))
    want = a.astype("d") @ b.astype("d")
    for left, right, into in itertools.product(FORMS, FORMS, FORMS[::2]):
        out = placed(card, np.full((m, n), 7, gives), into)
        begin, run = card.prepared_product(placed(card, a, left), placed(card, b, right), out)
        begin()
        run(0)
        np.testing.assert_allclose(card.to_host(out), want, tolerance, tolerance)


def test_a_product_over_time(card: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 2, 3)), rng.standard_normal((3, 5))
    x, y, out = (card.from_host(v, "cuda") for v in (a, b, np.zeros((4, 2, 5))))
    begin, run = card.prepared_product(x, y, out)
    begin()
    for t in (3, 0, 1):
        run(t)
    want = a @ b
    want[2] = 0
    np.testing.assert_allclose(card.to_host(out), want, 1e-13, 1e-13)


def test_what_is_nothing_for_cublas(card: Any) -> None:
    def there(*shape: int, dtype: str = "f") -> Any:
        return card.from_host(np.zeros(shape, dtype), "cuda")

    apart = card.strided(there(30), (3, 4), (8, 2))
    repeated = card.strided(there(4), (3, 4), (0, 1))
    for a in (apart, repeated, there(3, 4, dtype="d"), there(3, 4, dtype="i")):
        assert card.prepared_product(a, there(4, 5), there(3, 5)) is None
    assert card.prepared_product(there(3, 4), there(4, 5), there(5, 3).T) is None
    assert card.prepared_product(there(3, 0), there(0, 5), there(3, 5)) is None


@pytest.mark.parametrize("stacked", ["neither", "left", "right", "both"])
def test_wide_products(card: Any, stacked: str) -> None:
    """float16 in, float32 sums and float32 out: 2,000 times 40 would be no float16."""
    rng = np.random.default_rng(0)
    a = (40 + rng.standard_normal((3, 2, 2000))).astype(np.float16)
    b = (1 + rng.standard_normal((3, 2000, 5))).astype(np.float16)
    a, b = (x if stacked in (which, "both") else x[0] for x, which in ((a, "left"), (b, "right")))
    want = a.astype("d") @ b.astype("d")
    assert np.abs(want).max() > np.finfo(np.float16).max
    x, y = card.from_host(a, "cuda"), card.from_host(b, "cuda")
    found = card.matmul_wide(x, y)
    assert found.dtype == np.float32
    np.testing.assert_allclose(card.to_host(found), want, 1e-5)
    out = card.from_host(np.zeros(want.shape, np.float32), "cuda")
    assert card.matmul_wide(x, y, out) is out
    np.testing.assert_allclose(card.to_host(out), want, 1e-5)


def test_an_error_is_one_sentence(card: Any) -> None:
    with pytest.raises(cublas.CuBLASError, match=r"^a product .* failed: \w+_INVALID_VALUE$"):
        card.blas.call("cublasGemmEx", card._handle()._value, 7, *[0] * 18)


def test_a_library_that_is_not_there() -> None:
    assert cublas.find(1) is None
