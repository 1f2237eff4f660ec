"""nerf_samples: what coarse samples, rounds and unions are, by the reference."""

import pytest
import torch

from nerfkit.fields.spans import Guide
from nerfkit.kernels.nerf_samples import (
    Coarse,
    March,
    Rays,
    Samples,
    coarse_samples,
    columns,
    ended,
    next_samples,
    uniform,
    union_samples,
)
from nerfkit.octree import Octree

LOW = torch.tensor([-2.0, -1.0, -3.0])
SIZE, DEPTH = 4.0, 3


def octree() -> Octree:
    cells = torch.rand(150, 3, generator=torch.Generator().manual_seed(3)) * 2**DEPTH
    return Octree.from_cells(LOW, SIZE, DEPTH, cells.long().unique(dim=0))


def rays(n: int, ndc: bool = False, tree: Octree | None = None) -> Rays:
    """From all around; every fifth looks away. Origins and directions are not contiguous."""
    generator = torch.Generator().manual_seed(4)
    origins = torch.nn.functional.normalize(torch.randn(3, n, generator=generator), dim=0) * 9
    targets = LOW[:, None] + SIZE * torch.rand(3, n, generator=generator)
    directions = torch.nn.functional.normalize(targets - origins, dim=0)
    directions[:, ::5] *= -1
    origins, directions = origins.t(), directions.t()
    depth = None
    if ndc:
        part = torch.rand(4, n, generator=generator)
        depth = torch.stack([part[0], -0.1 - part[1], -0.5 - part[2], 20 + part[3]]).t()
    spans = Guide(tree or octree()).spans(origins, directions, 0.5)
    return Rays(origins, directions, spans, LOW + SIZE / 2, 3 / SIZE, depth)


def random(*shape: int, seed: int = 6) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def marched(given: Rays, coarse: Coarse, rounds: tuple[int, ...], dark: float, **backend) -> list:
    """The rounds, each with its random sigma_raw."""
    found, march, sigma_raw = [], None, None
    for i, last in enumerate(rounds):
        march = next_samples(given, coarse, march, sigma_raw, last, dark=dark, **backend)
        sigma_raw = 4 * random(len(march.places), seed=i).to(march.points.device) - 1
        found.append((march, sigma_raw))
    return found


def merged(given: Rays, coarse: Coarse, march: March, drawn: torch.Tensor) -> Samples:
    """A loop over rays."""
    parts, counts = [], []
    for ray, seen in enumerate(march.seen.tolist()):
        end = coarse.edges[ray, seen]
        s = torch.cat([coarse.s[ray, :seen], drawn[ray]]).sort().values
        s = s[s < end]
        counts.append(len(s))
        if len(s):
            one = torch.tensor([ray])
            t = given.spans.select(one).t(s[None])[0]
            points = given.origins[ray] + t[:, None] * given.directions[ray]
            steps = torch.cat([s, end[None]]).diff() * given.scale
            indices = torch.full((len(s),), ray)
            parts.append(((points - given.center) * given.scale, indices, t, steps))
    counts = torch.tensor(counts)
    packed = torch.stack([counts.cumsum(0) - counts, counts], 1)
    return Samples(*(torch.cat(values) for values in zip(*parts, strict=True)), packed)


@pytest.mark.parametrize("spacing", [0.0, 0.3, 1e-6])
@pytest.mark.parametrize("with_where", [False, True])
def test_a_sample_in_each_stratum_inside_leaves(spacing, with_where):
    given, tree = rays(40), octree()
    n = columns(given, 12, spacing)
    where = random(40, n) if with_where else None
    coarse = coarse_samples(given, n, spacing=spacing, where=where)
    lengths = given.spans.lengths()
    alive = lengths > 0
    assert 10 < alive.sum() < 40 and not coarse.counts[~alive].any() and not coarse.t[~alive].any()
    wanted = (lengths / spacing).ceil().clamp(1, 12) if spacing else torch.full_like(lengths, 12)
    assert torch.equal(coarse.counts, torch.where(alive, wanted, 0).int())
    assert torch.equal(coarse.edges[:, -1], lengths) and coarse.counts.max() == n
    low, high = coarse.edges[:, :-1], coarse.edges[:, 1:]
    assert ((low <= coarse.s) & (coarse.s <= high)).all()
    there = torch.arange(n) < coarse.counts[:, None]
    assert torch.equal(low < high, there)
    widths = (high - low)[there] / (lengths / wanted)[:, None].expand_as(low)[there]
    torch.testing.assert_close(widths, torch.ones_like(widths), atol=2e-6, rtol=0)  # 9e-7
    place = random(40, n) if with_where else torch.full((40, n), 0.5)
    torch.testing.assert_close(coarse.s, low + (high - low) * place, atol=1e-6, rtol=0)  # 5e-7
    points = given.origins[:, None] + coarse.t[..., None] * given.directions[:, None]
    inside = tree.contains(points[there])
    # a sample on a face may be on its other side
    assert inside.float().mean() > 0.99


def test_rounds_have_every_sample_of_rays_with_light_left():
    given, dark = rays(40), 1.0
    coarse = coarse_samples(given, 12, spacing=0.2, where=random(40, 12))
    found = marched(given, coarse, (3, 7, 12), dark)
    following = torch.cat([coarse.s, coarse.edges[:, -1:]], 1)[:, 1:]
    thickness, seen = torch.zeros(40), torch.zeros(40, dtype=torch.int32)
    lefts = 0
    for (march, sigma_raw), last in zip(found, (3, 7, 12), strict=True):
        torch.testing.assert_close(march.thickness, thickness, atol=1e-6, rtol=1e-6)  # 1.2e-7
        places = []
        for ray in range(40):
            if thickness[ray] < dark:
                most = min(last, int(coarse.counts[ray]))
                places += [12 * ray + i for i in range(int(seen[ray]), most)]
                seen[ray] = max(most, int(seen[ray]))
            else:
                lefts += 1
        assert torch.equal(march.places, torch.tensor(places)) and torch.equal(march.seen, seen)
        assert torch.equal(march.ray_indices, march.places // 12)
        assert torch.equal(march.sums, march.number.cumsum(0)) and march.sums[-1] == len(places)
        t = coarse.t.view(-1)[march.places, None]
        points = given.origins[march.ray_indices] + t * given.directions[march.ray_indices]
        torch.testing.assert_close(march.points, (points - given.center) * given.scale)
        steps = (following - coarse.s).view(-1)[march.places] * given.scale
        thickness = thickness.index_add(0, march.ray_indices, sigma_raw.relu() * steps)
    assert lefts > 5
    there, steps, packed = ended(given, coarse, march)
    assert torch.equal(there, torch.arange(12) < seen[:, None])
    assert torch.equal(packed[:, 0], 12 * torch.arange(40)) and torch.equal(packed[:, 1], seen)
    ends = coarse.edges.gather(1, seen[:, None].long())[:, 0]
    first = torch.where(seen > 0, coarse.s[:, 0], 0)
    assert not steps.view(40, 12)[~there].any()
    # They fill the way from the first sample to the end.
    whole = steps.view(40, 12).sum(1)
    torch.testing.assert_close(whole, (ends - first) * given.scale, atol=2e-6, rtol=0)  # 4e-7


@pytest.mark.parametrize("n_drawn", [0, 1, 9])
@pytest.mark.parametrize("ndc", [False, True])
def test_a_union_is_in_order(n_drawn, ndc):
    given = rays(40, ndc)
    coarse = coarse_samples(given, 12, spacing=0.2, where=random(40, 12))
    march, _ = marched(given, coarse, (3, 7, 12), 1.0)[-1]
    drawn = (random(40, n_drawn) * coarse.edges[:, -1:]).sort(1).values
    if n_drawn:
        drawn[3:9, 0] = coarse.s[3:9, 0]  # ties
        drawn = drawn.sort(1).values
    got = union_samples(given, coarse, march, drawn)
    want = merged(given, coarse, march, drawn)
    assert torch.equal(got.packed_info, want.packed_info)
    assert torch.equal(got.ray_indices, want.ray_indices)
    torch.testing.assert_close(got.points, want.points)
    torch.testing.assert_close(got.steps, want.steps)
    if ndc:
        start, z, slope, whole = given.depth[got.ray_indices].unbind(1)
        part = want.distances / whole
        assert torch.allclose(got.distances, start + part * z / (slope * (1 - part)))
    else:
        torch.testing.assert_close(got.distances, want.distances)


def test_rays_that_cross_nothing_take_no_random_numbers():
    given = rays(10)
    alive = given.spans.lengths() > 0
    got = uniform(given, 4, torch.Generator().manual_seed(2))
    want = torch.rand(int(alive.sum()), 4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(got[alive], want) and (got[~alive] == 0.5).all()
    assert uniform(given, 4, None) is None


def test_no_rays_and_rays_of_nothing():
    away = rays(5)
    away = rays(5)._replace(
        spans=Guide(octree()).spans(away.origins, away.origins / 9, 0.5),
        directions=away.origins / 9,
    )
    for given in (rays(0), away):
        n_rays, n = len(given.origins), columns(given, 7, 0.3)
        assert n == 1 and columns(given, 7, 0.0) == 7
        coarse = coarse_samples(given, n, spacing=0.3)
        (march, _), *_ = marched(given, coarse, (1,), 1.0)
        samples = union_samples(given, coarse, march, torch.zeros(n_rays, 3))
        assert len(march.points) == len(samples.points) == 0 and not samples.packed_info.any()
        assert not ended(given, coarse, march).steps.any() and not coarse.t.any()


def test_wrong_arguments_are_named():
    given = rays(5)
    with pytest.raises(ValueError, match=r"where must have shape \(5, 3\), got \(5, 2\)"):
        coarse_samples(given, 3, spacing=0.1, where=torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"center must have shape \(3,\), got \(2,\)"):
        coarse_samples(given._replace(center=torch.zeros(2)), 3, spacing=0.1)
    with pytest.raises(ValueError, match="n must be positive"):
        coarse_samples(given, 0, spacing=0.1)
    coarse = coarse_samples(given, 3, spacing=0.1)
    march = next_samples(given, coarse, None, None, 2, dark=1.0)
    with pytest.raises(ValueError, match="must be given together"):
        next_samples(given, coarse, march, None, 3, dark=1.0)
    with pytest.raises(ValueError, match="sigma_raw must have shape"):
        next_samples(given, coarse, march, torch.zeros(1), 3, dark=1.0)
    with pytest.raises(ValueError, match=r"drawn must have shape \(5, F\), got \(4, 2\)"):
        union_samples(given, coarse, march, torch.zeros(4, 2))
