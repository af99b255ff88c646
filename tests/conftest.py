"""What every test can use: the three devices, and two Hypothesis profiles.

``pytest`` runs on the CPU and on the strict backend. ``pytest -m gpu`` runs the tests that need a
CUDA GPU, and fails where there is none. ``--hypothesis-profile=long`` draws many more examples.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from strict import STRICT

from tinygrad_rnn import backends, replay

backends.register(STRICT)
replay.verifying().__enter__()  # what every pass makes of a step, in all that follows

settings.register_profile("ci", max_examples=20, deadline=None, derandomize=True, database=None)
settings.register_profile(
    "long", max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ci")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the GPU tests out unless the command line names their marker."""
    if "gpu" in config.option.markexpr:
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]


def usable(device: str) -> str:
    """The device, or a failed test where it was asked for and is missing."""
    try:
        backends.backend_for(device)
    except backends.DeviceError as error:
        pytest.fail(f"this test was asked to run on {device!r}: {error}", pytrace=False)
    return device


@pytest.fixture(
    scope="session", params=["cpu", "strict", pytest.param("cuda", marks=pytest.mark.gpu)]
)
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn."""
    return usable(request.param)


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
