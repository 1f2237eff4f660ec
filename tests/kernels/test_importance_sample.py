"""importance_sample: C++ against the reference, both against the distribution itself."""

import pytest
import torch
from closeness import assert_close

from nerfkit.kernels import _native
from nerfkit.kernels.importance_sample import importance_sample

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
backends = pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_cpp)])

SHAPES = {"usual": (70, 64, 128), "odd": (5, 7, 3), "one_bin": (3, 1, 9), "one_sample": (130, 9, 1)}


def histogram(n_rays, n_bins, seed=0, floor=0.0):
    generator = torch.Generator().manual_seed(seed)
    widths = torch.rand(n_rays, n_bins + 1, generator=generator) * 0.05 + 0.01
    weights = torch.rand(n_rays, n_bins, generator=generator)
    return 2 + widths.cumsum(1), torch.where(weights < 0.5, floor, weights)


def cdf_at(t, t_edges, weights):
    """The distribution function at t, [R, n], in double precision."""
    t, t_edges, padded = t.double(), t_edges.double(), weights.double() + 1e-5
    cdf = torch.nn.functional.pad(padded.cumsum(1), (1, 0)) / padded.sum(1, keepdim=True)
    bin = (torch.searchsorted(t_edges, t, right=True) - 1).clamp(0, weights.shape[1] - 1)
    lower, upper = t_edges.gather(1, bin), t_edges.gather(1, bin + 1)
    inside = (t - lower) / (upper - lower)
    return cdf.gather(1, bin) + inside * (cdf.gather(1, bin + 1) - cdf.gather(1, bin))


@needs_cpp
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("sorted_u", [False, True])
def test_forward_matches_the_reference(shape, sorted_u):
    n_rays, n_bins, n = shape
    t_edges, weights = histogram(n_rays, n_bins, floor=0.02)
    u = torch.rand(n_rays, n, generator=torch.Generator().manual_seed(1))
    u = u.sort(1).values if sorted_u else u
    got, want = (
        importance_sample(t_edges, weights, n, u=u, backend=b) for b in ("cpu", "reference")
    )
    # Worst measured, AVX2: relative 1e-7, absolute 6.7e-6 (a position inside a bin of weight 0.02).
    assert_close("t", got, want, rel=1e-6, abs=2e-5)


@backends
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_samples_invert_the_distribution(shape, backend):
    n_rays, n_bins, n = shape
    t_edges, weights = histogram(n_rays, n_bins)
    u = torch.rand(n_rays, n, generator=torch.Generator().manual_seed(1)).sort(1).values
    t = importance_sample(t_edges, weights, n, u=u, backend=backend)
    assert (t.diff(dim=1) >= 0).all()
    assert ((t >= t_edges[:, :1]) & (t <= t_edges[:, -1:])).all()
    # Worst measured: relative 5.2e-6, absolute 9.3e-6, from the rounding of t itself near 2.
    assert_close("cdf(t)", cdf_at(t, t_edges, weights), u, rel=1.5e-5, abs=2e-5)


@backends
def test_rays_without_weight_are_uniform_over_bins(backend):
    t_edges = torch.tensor([[1.0, 2.0, 4.0]])
    t = importance_sample(t_edges, torch.zeros(1, 2), 4, deterministic=True, backend=backend)
    assert_close("t", t, torch.tensor([[1.25, 1.75, 2.5, 3.5]]), rel=1e-6, abs=1e-6)


@backends
def test_ends_of_the_range_and_one_row_of_u_for_all(backend):
    t_edges, weights = histogram(4, 6)
    u = torch.tensor([1.0, 0.0])
    t = importance_sample(t_edges, weights, 2, u=u, backend=backend)
    assert torch.equal(t, t_edges[:, [0, -1]])


@backends
def test_random_samples_are_stratified_and_repeatable(backend):
    t_edges, weights = histogram(6, 10)

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return importance_sample(t_edges, weights, 16, generator=generator, backend=backend)

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))
    stratum = cdf_at(draw(3), t_edges, weights) * 16
    distance = (stratum - (torch.arange(16) + 0.5)).abs()
    assert distance.max() < 0.5 + 1e-4


@backends
def test_no_gradient_flows(backend):
    t_edges, weights = histogram(2, 3)
    t = importance_sample(t_edges, weights.requires_grad_(), 4, deterministic=True, backend=backend)
    assert not t.requires_grad


@backends
@pytest.mark.parametrize("shape", [(0, 4, 3), (3, 4, 0)])
def test_empty(shape, backend):
    n_rays, n_bins, n = shape
    t_edges, weights = histogram(n_rays, n_bins)
    assert importance_sample(t_edges, weights, n, backend=backend).shape == (n_rays, n)


@needs_cpp
def test_non_contiguous_inputs():
    t_edges, weights = histogram(8, 5)
    apart = [x.t().contiguous().t() for x in (t_edges, weights)]
    want = importance_sample(t_edges, weights, 6, deterministic=True, backend="cpu")
    assert torch.equal(importance_sample(*apart, 6, deterministic=True, backend="cpu"), want)


def test_errors_name_the_argument():
    t_edges, weights = histogram(3, 4)
    with pytest.raises(ValueError, match=r"weights must have shape \(3, 4\), got \(3, 3\)"):
        importance_sample(t_edges, weights[:, 1:], 5)
    with pytest.raises(ValueError, match=r"u must have shape \(3, 5\) or \(5,\), got \(3, 4\)"):
        importance_sample(t_edges, weights, 5, u=torch.rand(3, 4))
    with pytest.raises(ValueError, match="u must be None"):
        importance_sample(t_edges, weights, 5, u=torch.rand(5), deterministic=True)
