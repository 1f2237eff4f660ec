"""Fixtures for all tests.

`poison_empty` fills what `torch.empty` returns with NaN, so that an output element which a kernel
forgets to write fails its test instead of passing by luck. `tests/kernels` always runs under it.

Without a CUDA device the Triton kernels are tested in Triton's interpreter, on CPU tensors.

With `-n auto` each core has a worker, so each worker computes with one thread: threads that wait by
spinning would take the cores of the other workers.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["NERFKIT_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # before torch loads OpenMP

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported


@pytest.fixture
def poison_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make torch.empty, torch.empty_like and Tensor.new_empty return NaN for floating dtypes."""

    def poisoned(allocate):
        def wrapper(*args, **kwargs):
            tensor = allocate(*args, **kwargs)
            return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

        return wrapper

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poisoned(torch.Tensor.new_empty))
