"""Whose threads use the cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nerfkit.kernels import _native


@contextmanager
def kernels_alone() -> Iterator[None]:
    """Leave the cores to the kernels' threads.

    Those of torch wait for its next operation by spinning, on the cores that a kernel in between
    could use: a third of a step of NeRF's was lost to that.
    """
    _native.num_threads()  # the kernels take their number from torch's: before that is reduced
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
