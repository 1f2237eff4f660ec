"""ray_box: C++ against the torch reference; faces, zero components, starting inside."""

import pytest
import torch
from closeness import assert_close

from nerfkit.kernels.ray_box import ray_box

BOX = torch.tensor([-1.0, -0.5, 0.25]), torch.tensor([1.0, 0.75, 1.5])


def random_rays(n, seed=0):
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(n, 3, generator=generator) * 1.5
    directions = torch.randn(n, 3, generator=generator)
    zero = torch.rand(n, 3, generator=generator) < 0.2
    signs = torch.where(torch.rand(n, 3, generator=generator) < 0.5, -0.0, 0.0)
    directions = torch.where(zero & ~zero.all(dim=1, keepdim=True), signs, directions)
    return origins, torch.nn.functional.normalize(directions, dim=1)


@pytest.mark.parametrize("near", [0.0, 0.7])
@pytest.mark.parametrize("n", [0, 1, 7, 20000])
def test_matches_reference(n, near):
    origins, directions = random_rays(n)
    got = ray_box(origins, directions, *BOX, near=near, backend="cpu")
    want = ray_box(
        origins.double(),
        directions.double(),
        *(b.double() for b in BOX),
        near=near,
        backend="reference",
    )
    assert torch.equal(got[0] < got[1], want[0] < want[1])
    if n > 1000:
        assert 0.05 < (got[0] < got[1]).float().mean() < 0.95
    for name, g, w in zip(("t_near", "t_far"), got, want, strict=True):
        assert_close(name, g, w, rel=6e-8, abs=1e-6)  # float32 rounding: measured 2.6e-8, 2.4e-7


@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_parallel_rays_own_the_low_face_only(backend, zero):
    low, high = BOX
    for axis in range(3):
        direction = torch.full((1, 3), zero)
        direction[0, (axis + 1) % 3] = 1.0
        inside = ((low + high) / 2)[None]
        for value, hit in [
            (low[axis], True),
            (torch.nextafter(high[axis], low[axis]), True),
            (high[axis], False),
            (torch.nextafter(low[axis], low[axis] - 1), False),
        ]:
            origin = inside.clone()
            origin[0, axis] = value
            t_near, t_far = ray_box(origin, direction, low, high, backend=backend)
            assert bool(t_near < t_far) == hit
            assert t_near.item() == 0.0
            if not hit:
                assert t_far.item() == 0.0


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_known_values(backend):
    origins = torch.tensor([[0.0, 0, 0.5], [-3, 0, 0.5], [3, 0, 0.5], [3, 0, 0.5], [1, 0, 0.5]])
    directions = torch.tensor([[1.0, 0, -0.0], [1, 0, 0], [-1, 0, 0], [1, 0, 0], [1, 0, 0]])
    t_near, t_far = ray_box(origins, directions, *BOX, near=0.25, backend=backend)
    assert t_near.tolist() == [0.25, 2.0, 2.0, 0.25, 0.25]  # inside, ahead, ahead, behind, touching
    assert t_far.tolist() == [1.0, 4.0, 4.0, 0.25, 0.25]


def test_tiny_components_stay_finite():
    directions = torch.tensor([[1.0, 1e-42, 0.0], [1.0, 1e-19, -1e-30]])
    origins = torch.tensor([[-3.0, 0.0, 0.5]]).expand(2, 3)  # non-contiguous too
    t_near, t_far = ray_box(origins, directions, *BOX, backend="cpu")
    assert t_near.tolist() == [2.0, 2.0] and t_far.tolist() == [4.0, 4.0]


def test_the_interval_is_inside_the_box():
    origins, directions = random_rays(5000, seed=1)
    t_near, t_far = ray_box(origins, directions, *BOX, backend="cpu")
    hit = t_near < t_far
    for fraction in (0.0, 0.5, 1.0):
        t = t_near + fraction * (t_far - t_near)
        points = (origins + t[:, None] * directions)[hit]
        outside = torch.maximum(BOX[0] - points, points - BOX[1]).max().item()
        assert outside < 2e-6  # measured 7e-7


def test_bad_arguments():
    o = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"`directions` must have shape \(R, 3\) with R = 4"):
        ray_box(o, o[:2], *BOX)
    with pytest.raises(ValueError, match=r"`box_max` must have shape \(3,\)"):
        ray_box(o, o, BOX[0], torch.zeros(2))
    with pytest.raises(ValueError, match="`origins` must be float32"):
        ray_box(o.double(), o, *BOX, backend="cpu")
