"""What every test can use: devices, ways to run loops, examples as modules, Hypothesis profiles.

``pytest`` runs on the CPU and on the strict backend. ``pytest -m gpu`` runs the tests that need a
CUDA GPU, and fails where there is none. ``--hypothesis-profile=long`` draws many more examples.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from programs import EXAMPLES, loaded
from row_emitter import in_parts, row_by_row
from strict import STRICT

from tinygrad_rnn import backends, replay
from tinygrad_rnn.replay.cache import CACHE
from tinygrad_rnn.replay.emit import choice
from tinygrad_rnn.replay.emit.choice import has_numba

# Their assertions say what they compared, as those of test files do.
pytest.register_assert_rewrite(
    "effects", "equations", "networks", "op_checks", "optimizers", "refusals", "replayed", "runs"
)
backends.register(STRICT)
replay.verifying().__enter__()  # what every pass makes of a step, in all that follows

settings.register_profile("ci", max_examples=20, deadline=None, derandomize=True, database=None)
settings.register_profile(
    "long", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")


TELLING = (
    "test_cuda_source", "test_cuda_emitter", "test_rnn", "test_layers", "test_cells",
    "test_optim", "test_clipping", "test_nonfinite", "test_faults_optim", "test_ops",
)  # fmt: skip
"""The order of the GPU tests by their files, those first that say most about a card; then others.

Kernels, loops of kernels, replayed layers, optimizers, single operations.
"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the GPU tests out unless the command line names their marker."""
    if "gpu" in config.option.markexpr:
        places = {name: k for k, name in enumerate(TELLING)}
        items.sort(key=lambda item: places.get(item.path.stem, len(TELLING)))
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """After an error that leaves a card's context unusable, end the process of pytest-xdist.

    It is replaced by a new one; without that, every test that follows would fail for one.
    """
    done = yield
    if item.get_closest_marker("gpu") and hasattr(item.config, "workerinput"):
        cupy = sys.modules.get("cupy")
        try:
            if cupy is not None:
                cupy.cuda.runtime.deviceSynchronize()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            print(f"after {item.nodeid}: {error}", file=sys.__stderr__, flush=True)
            os._exit(1)
    return done


def usable(device: str) -> str:
    """The device by its full name, or a failed test where it was asked for and is missing.

    Of several GPUs it is the last, since the first is the current one, and that is the easy case.
    """
    try:
        return backends.backend_for(device).devices()[-1]
    except backends.DeviceError as error:
        pytest.fail(f"this test was asked to run on {device!r}: {error}", pytrace=False)


@pytest.fixture(
    scope="session", params=["cpu", "strict", pytest.param("cuda", marks=pytest.mark.gpu)]
)
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn."""
    return usable(request.param)


@pytest.fixture(scope="module")
def program(request: pytest.FixtureRequest) -> ModuleType:
    """The example that a test file is named after, as a module."""
    return loaded(EXAMPLES / f"{request.path.stem.removeprefix('test_')}.py")


@pytest.fixture
def main(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., None]:
    """Runs the example with these options, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def main(*options: str) -> None:
        monkeypatch.setattr(sys, "argv", [program.__file__, *options])
        program.main()

    return main


@pytest.fixture
def by_numpy() -> Iterator[None]:
    """Without compiled loops."""
    with replay.using(jit=False):
        yield


@pytest.fixture(params=["array", "jit"])
def by_numpy_and_numba(request: pytest.FixtureRequest) -> Iterator[None]:
    """Without compiled loops, and with them."""
    with replay.using(jit=request.param == "jit"):
        yield


OWN = {"rows": row_by_row, "parts": in_parts}


@pytest.fixture(params=["array", "jit", *OWN])
def emitter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Array calls, Numba where that is installed, all that the contract of a loop allows, and parts
    of the rows one after the other.
    """
    if request.param in OWN:
        CACHE.known.clear()
        monkeypatch.setattr(choice, "emit", OWN[request.param])
    if request.param == "jit" and not has_numba():
        pytest.skip("the extra jit is not installed")
    with replay.using(jit=request.param == "jit"), np.errstate(all="ignore"):
        yield request.param
    if request.param in OWN:
        CACHE.known.clear()


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of the file's own, so that what is compiled in it is compiled now."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYGRAD_RNN_CACHE", str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture
def gnu_openmp() -> str:
    """A file of GNU's OpenMP, which PyTorch's wheels load for all of the process."""
    sklearn = pytest.importorskip("sklearn")
    folder = Path(sklearn.__file__).parents[1] / "scikit_learn.libs"
    library = next(folder.glob("libgomp*"), None)
    if library is None:
        pytest.skip("scikit-learn brings no OpenMP along")
    return str(library)


@pytest.fixture
def sample() -> Callable[[int], int]:
    """How many out of so many cases to try: all in the long profile, else one in fifty."""
    share = min(settings().max_examples / 1000, 1)
    return lambda cases: max(round(cases * share), 1)
