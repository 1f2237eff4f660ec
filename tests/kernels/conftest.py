"""Every kernel test runs with uninitialised tensors poisoned."""

from collections.abc import Iterator

import pytest

from nerfkit.kernels import _native


@pytest.fixture(autouse=True)
def _poisoned(poison_empty: None) -> None:
    pass


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads take tiles as they come and add up in any order: only one repeats to the bit."""
    threads = _native.num_threads()
    _native.set_num_threads(1)
    yield
    _native.set_num_threads(threads)
