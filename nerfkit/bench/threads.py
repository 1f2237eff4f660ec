"""How many threads torch and the C++ kernels use while something is measured."""

import contextlib
from collections.abc import Iterator

import torch

from nerfkit.kernels import _native


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch and the C++ kernels on `count` threads."""
    before = torch.get_num_threads(), _native.num_threads()
    torch.set_num_threads(count)
    _native.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        _native.set_num_threads(before[1])
