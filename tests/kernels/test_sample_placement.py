"""sample_placement: C++ against the torch reference; contiguity, ownership of cell centres."""

import math

import pytest
import torch

from nerfkit.kernels.sample_placement import place_samples


def random_intervals(n_rays, seed=0, most=6, touching=0.5):
    """Ordered disjoint intervals, half of them touching the one before; some rays have none."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, most, (n_rays,), generator=generator)
    total = int(counts.sum())
    lengths = torch.rand(total, generator=generator) * 0.3
    gaps = torch.rand(total, generator=generator) * 0.4
    gaps[torch.rand(total, generator=generator) < touching] = 0.0
    ends = (lengths + gaps).cumsum(0)
    rays = torch.repeat_interleave(torch.arange(n_rays), counts)
    starts = counts.cumsum(0) - counts
    if total:  # every ray begins anew; the same ends are the next starts, bit for bit
        before = torch.cat([ends.new_zeros(1), ends])
        ends = ends - before[starts[rays]] + 0.2
        t_starts = torch.cat([ends.new_zeros(1), ends[:-1]])
        t_starts[starts[counts > 0]] = 0.2
        t_starts = torch.where(gaps > 0, t_starts + gaps, t_starts)
        ends = torch.maximum(ends, t_starts)
    else:
        t_starts = ends
    jitter = torch.rand(n_rays, generator=generator)
    return torch.stack([starts, counts], dim=1), t_starts, ends, jitter


def assert_identical(got, want):
    for name, g, w in zip(got._fields, got, want, strict=True):
        assert torch.equal(g, w), name


@pytest.mark.parametrize("step", [0.01, 0.0371, 0.5])
@pytest.mark.parametrize("with_jitter", [False, True])
@pytest.mark.parametrize("n_rays", [0, 1, 5, 3000])
def test_matches_reference(n_rays, with_jitter, step):
    packed, t_starts, t_ends, jitter = random_intervals(n_rays)
    options = {"jitter": jitter if with_jitter else None}
    got = place_samples(packed, t_starts, t_ends, step, **options, backend="cpu")
    want = place_samples(packed, t_starts, t_ends, step, **options, backend="reference")
    assert torch.equal(got.packed_info, want.packed_info)
    assert torch.equal(got.ray_indices, want.ray_indices)
    assert torch.equal(got.interval_indices, want.interval_indices)
    # One rounding of the same exact number: measured equal.
    assert torch.allclose(got.t_starts, want.t_starts, rtol=1e-7, atol=0)
    assert torch.allclose(got.t_ends, want.t_ends, rtol=1e-7, atol=0)
    if n_rays > 1000:
        assert len(got.t_starts) > 500


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_known_values(backend):
    packed = torch.tensor([[0, 2], [2, 0], [2, 1]])
    t_starts, t_ends = torch.tensor([0.0, 1.5, -0.75]), torch.tensor([1.0, 2.25, 0.25])
    got = place_samples(packed, t_starts, t_ends, 0.5, backend=backend)
    assert got.packed_info.tolist() == [[0, 3], [3, 0], [3, 2]]
    # Centres 0.25 and 0.75 | 1.75, and 2.25 is the open end | -0.75 is the closed start, -0.25.
    assert got.t_starts.tolist() == [0.0, 0.5, 1.5, -1.0, -0.5]
    assert got.t_ends.tolist() == [0.5, 1.0, 2.0, -0.5, 0.0]
    assert got.ray_indices.tolist() == [0, 0, 0, 2, 2]
    assert got.interval_indices.tolist() == [0, 0, 1, 2, 2]
    jitter = torch.tensor([0.25, 0.0, 0.5])
    got = place_samples(packed, t_starts, t_ends, 0.5, jitter=jitter, backend=backend)
    assert got.t_starts.tolist() == [0.125, 0.625, 1.625, -0.75, -0.25]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_cutting_a_stretch_changes_nothing(backend):
    """Touching intervals give the samples of their union: no duplicate, no gap, same bits."""
    cuts = torch.rand(200, generator=torch.Generator().manual_seed(0)).sort().values * 3
    one = torch.tensor([[0, 1]])
    many = torch.tensor([[0, len(cuts) - 1]])
    for step, jitter in ((0.013, 0.0), (0.1, 0.37), (1.0, 0.999)):
        shift = torch.tensor([jitter])
        whole = place_samples(one, cuts[:1], cuts[-1:], step, jitter=shift, backend=backend)
        parts = place_samples(many, cuts[:-1], cuts[1:], step, jitter=shift, backend=backend)
        assert torch.equal(parts.t_starts, whole.t_starts)
        assert torch.equal(parts.t_ends, whole.t_ends)
        assert torch.equal(parts.t_starts[1:], parts.t_ends[:-1])


def test_centres_lie_in_their_interval():
    packed, t_starts, t_ends, jitter = random_intervals(2000, seed=1)
    got = place_samples(packed, t_starts, t_ends, 0.02, jitter=jitter, backend="cpu")
    centres = (got.t_starts.double() + got.t_ends) / 2
    slack = 1e-7  # t is rounded to float32
    assert (centres >= t_starts[got.interval_indices] - slack).all()
    assert (centres < t_ends[got.interval_indices] + slack).all()
    lengths = (t_ends - t_starts).sum().item()
    assert abs(len(centres) * 0.02 / lengths - 1) < 0.002  # measured 0.0004


def test_strided_and_reordered_intervals():
    packed, t_starts, t_ends, jitter = random_intervals(40)
    want = place_samples(packed, t_starts, t_ends, 0.05, jitter=jitter, backend="cpu")
    spaced = [torch.stack([t, t], dim=1)[:, 0] for t in (t_starts, t_ends, jitter)]
    assert not spaced[0].is_contiguous()
    got = place_samples(packed.T.contiguous().T, *spaced[:2], 0.05, jitter=spaced[2], backend="cpu")
    assert_identical(got, want)
    # Rays need not be stored in order.
    flipped = packed.flip(0)
    assert_identical(
        place_samples(flipped, t_starts, t_ends, 0.05, backend="cpu"),
        place_samples(flipped, t_starts, t_ends, 0.05, backend="reference"),
    )


def test_bad_arguments():
    packed, t = torch.zeros(3, 2, dtype=torch.int64), torch.zeros(4)
    with pytest.raises(ValueError, match=r"`packed_info` must be int64 of shape \(R, 2\)"):
        place_samples(packed.int(), t, t, 0.1)
    with pytest.raises(ValueError, match="`t_starts` and `t_ends` must have one shape"):
        place_samples(packed, t, t[:3], 0.1)
    with pytest.raises(ValueError, match=r"`jitter` must have shape \(3,\), got \(4,\)"):
        place_samples(packed, t, t, 0.1, jitter=t)
    for step in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="`step` must be positive"):
            place_samples(packed, t, t, step)
    with pytest.raises(ValueError, match="`t_ends` must be float32"):
        place_samples(packed, t, t.double(), 0.1, backend="cpu")
