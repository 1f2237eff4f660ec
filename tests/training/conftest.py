"""A data set small enough to fit in seconds: a coloured sphere, RGBA, seen from all around."""

from pathlib import Path

import pytest
from sphere_run import SphereRun, cameras_around, write_blender

from nerfkit.kernels import _native
from nerfkit.training import FitConfig, fit

STEPS = 150


@pytest.fixture(scope="session")
def sphere_data(tmp_path_factory) -> Path:
    """Blender set, 14 training and test views of 32x24 pixels."""
    folder = tmp_path_factory.mktemp("sphere")
    write_blender(folder, SphereRun(folder, folder, cameras_around(14)), count=14)
    return folder


@pytest.fixture(scope="session")
def make_fit(sphere_data):
    """Fit the sphere into a folder, with one thread: results repeat to the bit."""

    def run(folder: Path, **options) -> Path:
        options = {"steps": STEPS, "finest": 64, "samples": 40_000, **options}
        threads = _native.num_threads()
        _native.set_num_threads(1)
        try:
            return fit(FitConfig(data=sphere_data, output=folder, **options))
        finally:
            _native.set_num_threads(threads)

    return run


@pytest.fixture(scope="session")
def fitted(make_fit, tmp_path_factory) -> Path:
    """A finished run; do not change it."""
    return make_fit(tmp_path_factory.mktemp("runs") / "fitted")
