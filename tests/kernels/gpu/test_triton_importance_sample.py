"""importance_sample: Triton against the reference."""

import pytest
import torch
from closeness import assert_close
from on_device import DEVICE
from test_importance_sample import cdf_at, histogram

from nerfkit.kernels.importance_sample import importance_sample

pytest.importorskip("triton")

SHAPES = {"usual": (17, 63, 40), "odd": (5, 7, 3), "one_bin": (3, 1, 9), "one_sample": (4, 9, 1)}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("sorted_u", [False, True])
def test_matches_the_reference(shape, sorted_u):
    n_rays, n_bins, n = shape
    t_edges, weights = histogram(n_rays, n_bins, floor=0.02)
    u = torch.rand(n_rays, n, generator=torch.Generator().manual_seed(1))
    u = u.sort(1).values if sorted_u else u
    given = [x.to(DEVICE) for x in (t_edges, weights)]
    got = importance_sample(*given, n, u=u.to(DEVICE), backend="gpu")
    want = importance_sample(t_edges, weights, n, u=u, backend="reference")
    assert (got.diff(dim=1) >= 0).all()
    # Worst measured: absolute 1.5e-6.
    assert_close("t", got, want, rel=1e-6, abs=2e-5)
    assert_close("cdf(t)", cdf_at(got.cpu(), t_edges, weights), u.sort(1).values, 1.5e-5, 2e-5)


def test_ends_of_the_range_one_row_of_u_and_no_weight():
    t_edges, weights = (x.to(DEVICE) for x in histogram(4, 6))
    u = torch.tensor([1.0, 0.0], device=DEVICE)
    t = importance_sample(t_edges, weights, 2, u=u, backend="gpu")
    assert torch.equal(t, t_edges[:, [0, -1]])
    apart = t_edges.t().contiguous().t(), weights.t().contiguous().t()
    assert torch.equal(importance_sample(*apart, 2, u=u, backend="gpu"), t)
    edges = torch.tensor([[1.0, 2.0, 4.0]], device=DEVICE)
    nothing = torch.zeros(1, 2, device=DEVICE)
    t = importance_sample(edges, nothing, 4, deterministic=True, backend="gpu")
    assert_close("t", t, torch.tensor([[1.25, 1.75, 2.5, 3.5]]), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("shape", [(0, 4, 3), (3, 4, 0)])
def test_empty(shape):
    n_rays, n_bins, n = shape
    t_edges, weights = (x.to(DEVICE) for x in histogram(n_rays, n_bins))
    assert importance_sample(t_edges, weights, n, backend="gpu").shape == (n_rays, n)


def test_too_many_bins_are_an_error():
    t_edges, weights = (x.to(DEVICE) for x in histogram(1, 5000))
    with pytest.raises(ValueError, match="at most 4096 bins and samples, got 5000 and 3"):
        importance_sample(t_edges, weights, 3, backend="gpu")
