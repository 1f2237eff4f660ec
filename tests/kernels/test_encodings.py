"""encodings: C++ against the reference, the reference against definitions of the functions."""

import math

import numpy as np
import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients

from nerfkit.kernels import _native
from nerfkit.kernels.encodings import frequency_encoding, spherical_harmonics

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
backends = pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpp)])
ROWS = [0, 1, 3, 16, 2051]


def random_directions(n, seed=0):
    d = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(d, dim=1)


def random_points(n, channels, scale=4.0, seed=0):
    return scale * torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))


# Worst measured, AVX2: values 4.2e-8 relative, 1.2e-7 absolute; gradients 1e-7 and 1.9e-6.
@needs_cpp
@pytest.mark.parametrize("n", ROWS)
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
def test_harmonics_match_the_reference(n, degree):
    inputs = {"directions": random_directions(n)}
    got, want = (
        spherical_harmonics(**inputs, degree=degree, backend=b) for b in ("cpu", "reference")
    )
    assert_close("out", got, want, rel=1e-6, abs=2e-6)
    got, want = (
        gradients(
            lambda directions, b=b: spherical_harmonics(directions, degree, backend=b),
            inputs,
            ["directions"],
        )
        for b in ("cpu", "reference")
    )
    assert_gradients_close(got, want, rel=1e-6, abs=1e-5)


# Worst measured, AVX2: values 3.4e-8 relative, 6e-8 absolute; gradients 2.6e-7 and 7e-4 (of some
# 10^3: the factor 2^9).
@needs_cpp
@pytest.mark.parametrize("n", [0, 1, 7, 1027])
@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("n_frequencies", [0, 1, 10])
@pytest.mark.parametrize("include_input", [False, True])
def test_frequencies_match_the_reference(n, channels, n_frequencies, include_input):
    inputs = {"x": random_points(n, channels)}

    def op(x, backend):
        return frequency_encoding(x, n_frequencies, include_input=include_input, backend=backend)

    got, want = (op(inputs["x"], b) for b in ("cpu", "reference"))
    assert got.shape == (n, channels * (2 * n_frequencies + include_input))
    assert_close("out", got, want, rel=1e-6, abs=5e-7)
    got, want = (gradients(lambda x, b=b: op(x, b), inputs, ["x"]) for b in ("cpu", "reference"))
    assert_gradients_close(got, want, rel=1e-6, abs=2e-3)


def test_reference_gradcheck():
    d = random_directions(5).double().requires_grad_()
    x = random_points(4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda d: spherical_harmonics(d, 4, backend="reference"), d)
    assert torch.autograd.gradcheck(lambda x: frequency_encoding(x, 3, backend="reference"), x)


@backends
def test_harmonics_are_orthonormal(backend):
    """Integrals of products over the sphere: Gauss points in z, equal steps in azimuth."""
    z, weight = (torch.tensor(a) for a in np.polynomial.legendre.leggauss(8))
    azimuth = torch.arange(16) * (2 * math.pi / 16)
    ring = (1 - z * z).sqrt()[:, None]
    d = torch.stack(
        [ring * azimuth.cos(), ring * azimuth.sin(), z[:, None].expand(8, 16)], -1
    ).reshape(-1, 3)
    basis = spherical_harmonics(d.float(), 4, backend=backend).double()
    area = (weight[:, None] * (2 * math.pi / 16)).expand(8, 16).reshape(-1, 1)
    gram = (basis * area).T @ basis
    # Worst measured: relative 2e-7, absolute 2.7e-7.
    assert_close("gram", gram, torch.eye(16), rel=1e-6, abs=1e-6)


@backends
def test_harmonics_follow_the_published_order(backend):
    """Values on the axes by hand: only m = 0 lives on +z; band 1 is (-y, z, -x)."""
    axes = torch.eye(3)
    out = spherical_harmonics(axes, 4, backend=backend)
    want = 0.48860251 * torch.tensor([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert_close("band 1", out[:, 1:4], want, rel=1e-6, abs=1e-6)
    assert out[2].nonzero().flatten().tolist() == [0, 2, 6, 12]


@backends
@pytest.mark.parametrize("scale", [1.0, 2.0**10, 1e5])
def test_frequencies_are_accurate_at_large_arguments(scale, backend):
    x = random_points(500, 3, scale)
    out = frequency_encoding(x, 10, backend=backend)
    exact = frequency_encoding(x.double(), 10, backend="reference")
    # Worst measured, AVX2: relative 3e-8, absolute 9e-8.
    assert_close("sines", out[:, 3:], exact[:, 3:], rel=1e-6, abs=3e-7)
    assert torch.equal(out[:, :3], x)


@backends
def test_shift_by_a_period_changes_nothing(backend):
    x = random_points(50, 2)
    near, far = (
        frequency_encoding(v, 4, include_input=False, backend=backend) for v in (x, x + 2 * math.pi)
    )
    # Worst measured: relative 1.3e-6, absolute 5.2e-6: x + 2 pi itself is rounded.
    assert_close("sines", far, near, rel=1e-5, abs=1e-5)


@needs_cpp
def test_non_contiguous_inputs():
    d = random_directions(20)
    apart = d.t().contiguous().t()
    assert torch.equal(
        spherical_harmonics(apart, 3, backend="cpu"), spherical_harmonics(d, 3, backend="cpu")
    )
    assert torch.equal(
        frequency_encoding(apart, 5, backend="cpu"), frequency_encoding(d, 5, backend="cpu")
    )


def test_errors_name_the_argument():
    with pytest.raises(ValueError, match=r"directions must have shape \(n, 3\), got \(2, 4\)"):
        spherical_harmonics(torch.zeros(2, 4), 2)
    with pytest.raises(ValueError, match="degree must be 1 to 4, got 5"):
        spherical_harmonics(torch.zeros(2, 3), 5)
    with pytest.raises(ValueError, match="n_frequencies must be 0 to 16, got 17"):
        frequency_encoding(torch.zeros(2, 3), 17)
