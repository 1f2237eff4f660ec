"""Which backend is chosen for CUDA tensors, and what is said where it cannot run."""

import pytest
import torch

from nerfkit.kernels import _backend


class OnCuda:
    """Stands for a CUDA tensor on machines that have none."""

    is_cuda = True
    device = torch.device("cuda", 0)


@pytest.fixture
def without_triton(monkeypatch):
    there = _backend._is_there
    monkeypatch.setattr(_backend, "_is_there", lambda m: m != "triton" and there(m))
    monkeypatch.setattr(_backend, "_announced", set())


def test_cuda_tensors_get_triton(monkeypatch):
    monkeypatch.setattr(_backend, "_is_there", lambda module: True)
    assert _backend.choose("composite", OnCuda) == "gpu"


def test_without_triton_the_fallback_says_what_to_install(without_triton):
    with pytest.warns(
        UserWarning, match=r"composite runs the slow .* pip install 'nerfkit\[gpu\]'"
    ):
        assert _backend.choose("composite", OnCuda) == "reference"
    with pytest.raises(ValueError, match=r"Triton is not installed: pip install 'nerfkit\[gpu\]'"):
        _backend.choose("composite", OnCuda, "gpu")


def test_an_op_without_a_kernel_says_so(monkeypatch):
    monkeypatch.setattr(_backend, "_announced", set())
    with pytest.warns(UserWarning, match="no_such_op has no gpu kernel"):
        assert _backend.choose("no_such_op", OnCuda) == "reference"


def test_backends_take_tensors_of_their_own_device(monkeypatch):
    with pytest.raises(ValueError, match="the C\\+\\+ kernels take tensors of the CPU, got cuda:0"):
        _backend.choose("composite", OnCuda, "cpu")
    knobs = pytest.importorskip("triton.knobs")
    monkeypatch.setattr(knobs.runtime, "interpret", False)
    with pytest.raises(ValueError, match="the Triton kernels take tensors of a CUDA device"):
        _backend.choose("composite", torch.zeros(1), "gpu")


def test_shared_code_is_no_op():
    assert "shared" not in _backend.ops() and "composite" in _backend.ops()
