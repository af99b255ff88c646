"""Products by MKL equal NumPy's; what MKL cannot take is left to NumPy."""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import run_python

from tinygrad_rnn.backends import backend_of, blas, products, using
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
    with using(packed=False):
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


BESIDE_ANOTHER_OPENMP = """
import ctypes, sys
import numpy as np
exec(sys.argv[1])
from tinygrad_rnn.backends import backend_of
from tinygrad_rnn.backends.blas import mkl
random = np.random.default_rng(0)
a, b = random.standard_normal((256, 2048)), random.standard_normal((2048, 1024))
want = a @ b
for _ in range(3):
    np.testing.assert_allclose(backend_of(a).matmul(a, b), want, rtol=1e-10, atol=1e-10)
if mkl() is not None:
    import tinygrad_rnn as tg
    layer, x = tg.rnn.LSTM(5, 256), tg.randn((40, 64, 5))
    found = []
    for packed in (True, False):
        layer.zero_grad()
        with tg.replay.using(packed=packed):
            layer(x)[0].sum().backward()
        found.append([p.grad.numpy() for p in layer.parameters()])
    for one, other in zip(*found):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
print("not used" if mkl() is None else "used")
"""


def beside(first: str, **environment: str) -> str:
    """Whether MKL is used after these lines of Python; its products were right."""
    return run_python("-c", BESIDE_ANOTHER_OPENMP, first, **environment).stdout.strip()


@pytest.fixture
def gnu(gnu_openmp: str) -> str:
    """Loads GNU's OpenMP for all of the process, as PyTorch's wheels do."""
    return f"ctypes.CDLL({gnu_openmp!r}, ctypes.RTLD_GLOBAL)"


@needs_mkl
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a library names the one it calls")
@pytest.mark.parametrize("layer", [None, "INTEL", "GNU", "SEQUENTIAL"])
def test_another_openmp_is_there_before_mkl(gnu: str, layer: str | None) -> None:
    """Threads of Intel's that GNU's OpenMP counts give wrong products, whoever asked for them."""
    assert beside(gnu, **({"MKL_THREADING_LAYER": layer} if layer else {})) == "used"


@needs_mkl
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a library names the one it calls")
def test_another_library_chose_threads_that_give_wrong_products(gnu: str) -> None:
    found = mkl()
    assert found is not None
    library = f"ctypes.CDLL({found.library._name!r})"
    chosen = f"{gnu}; m = {library}; m.MKL_Set_Threading_Layer(0); m.MKL_Get_Max_Threads()"
    assert beside(chosen) == "not used"


FORKED = """
import os, signal
{first}
import tinygrad_rnn as tg
layer, x = tg.rnn.LSTM(5, 256), tg.randn((40, 64, 5))
layer(x)[0].sum().backward()
child = os.fork()
if child == 0:
    signal.alarm(60)
    layer(x)[0].sum().backward()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@needs_mkl
@pytest.mark.skipif(sys.platform != "linux", reason="processes begin otherwise elsewhere")
@pytest.mark.parametrize("first", ["intel", "gnu"])
def test_a_process_that_forks(first: str, gnu: str) -> None:
    """A child has no threads to wait for: not GNU's, nor Intel's after ``import sklearn``, which
    sets KMP_INIT_AT_FORK, as here.
    """
    code = FORKED.format(first=f"import ctypes; {gnu}" if first == "gnu" else "")
    run_python("-c", code, KMP_INIT_AT_FORK="FALSE")


@needs_mkl
@pytest.mark.skipif(find_spec("torch") is None, reason="needs PyTorch")
@pytest.mark.parametrize("first", ["import torch", "import tinygrad_rnn, torch"])
def test_pytorch_is_there_before_mkl(first: str) -> None:
    assert beside(first) == "used"


# Where MKL is looked for


@pytest.fixture
def without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package ``mkl``."""

    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.distribution", missing)


@needs_mkl
@pytest.mark.parametrize("numpy", ["/numpy/__init__.py", "/a/numpy/__init__.py"])
def test_fault_52_numpy_in_a_short_path(monkeypatch: pytest.MonkeyPatch, numpy: str) -> None:
    found = list(blas._mkl_libraries())
    assert found[0] == found[-1]  # in the environment, and as the package says
    monkeypatch.setattr(np, "__file__", numpy)
    assert list(blas._mkl_libraries()) == found


def planted(folder: Path) -> Path:
    library = folder / "lib" / "libmkl_rt.so.9"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"")
    return library


@pytest.mark.usefixtures("without_pip")
@pytest.mark.skipif(sys.platform == "win32", reason="the library is called otherwise")
def test_fault_52_only_where_the_environment_lies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Not four folders above NumPy, where it is no part of any."""
    library = planted(tmp_path.resolve())
    numpy = tmp_path.resolve() / "lib" / "python3.11" / "site-packages" / "numpy" / "__init__.py"
    monkeypatch.setattr(np, "__file__", str(numpy))
    assert library not in list(blas._mkl_libraries())
    for name in ("prefix", "base_prefix"):
        with monkeypatch.context() as patch:
            patch.setattr(sys, name, str(tmp_path))
            assert library in list(blas._mkl_libraries())
    monkeypatch.setattr(np, "__file__", "/elsewhere/numpy/__init__.py")
    monkeypatch.setattr(sys, "base_prefix", str(tmp_path))
    assert library not in list(blas._mkl_libraries())


@pytest.mark.usefixtures("without_pip")
@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="modes are POSIX's")
def test_fault_52_no_library_that_anyone_may_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    library = planted(tmp_path.resolve())
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert list(blas._mkl_libraries()) == [library]
    for place in (library, library.parent):
        mode = place.stat().st_mode
        place.chmod(mode | 0o002)
        assert not list(blas._mkl_libraries())
        place.chmod(mode)
    target = library.rename(tmp_path / "aside")
    library.symlink_to(target)
    assert list(blas._mkl_libraries()) == [library]
    tmp_path.chmod(0o777)
    assert not list(blas._mkl_libraries())


@needs_mkl
def test_fault_52_a_layer_runs_wherever_numpy_lies() -> None:
    assert beside("np.__file__ = '/numpy/__init__.py'") == "used"
