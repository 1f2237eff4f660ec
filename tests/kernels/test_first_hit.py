"""first_hit: C++ against the reference, both against a walk over single points."""

import math

import pytest
import torch
from voxel_scene import SIZE, layout, rays_around, shell

from nerfkit.kernels import _native
from nerfkit.kernels.first_hit import Occupancy, first_hit
from nerfkit.kernels.first_hit.reference import lattice_points
from nerfkit.octree import Octree

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
BACKENDS = ["reference", pytest.param("cpu", marks=needs_cpp)]


def parallel_rays():
    """Along axes with zero components of both signs, through and past the cube."""
    rows = []
    for axis in range(3):
        for sign in (1.0, -1.0):
            for zero in (0.0, -0.0):
                for shift in (0.013, 0.337, 1.8, -2.0):
                    d, o = [zero] * 3, [shift - 0.1, shift - 0.2, shift - 0.3]
                    d[axis], o[axis] = sign, -3.0 * sign
                    rows.append((o, d))
    origins, directions = zip(*rows, strict=True)
    return torch.tensor(origins), torch.tensor(directions)


def on_a_face(origins, directions, occupancy, step):
    """Rays with a lattice point within 1e-5 voxels of a face that they cross."""
    everywhere = Octree.full(
        torch.tensor(occupancy.box_min), SIZE, int(math.log2(occupancy.resolution))
    )
    found = lattice_points(origins.double(), directions.double(), Occupancy.of(everywhere), step)
    close = (found.points - found.points.round()).abs() < 1e-5
    close &= directions[found.ray_indices] != 0
    tied = torch.zeros(len(origins), dtype=torch.bool)
    tied[found.ray_indices[close.any(1)]] = True
    return tied


@needs_cpp
@pytest.mark.parametrize("depth", [0, 1, 2, 4, 5])
@pytest.mark.parametrize("steps_a_voxel", [0.4, 2, 7])
def test_matches_the_reference(depth, steps_a_voxel):
    octree = shell(depth, *((-1, 9) if depth < 3 else (0.5, 0.7)))
    occupancy = Occupancy.of(octree)
    step = octree.voxel / steps_a_voxel
    for origins, directions in (rays_around(400), parallel_rays(), rays_around(1), rays_around(0)):
        tied = on_a_face(origins, directions, occupancy, step)
        assert tied.sum() <= 0.03 * len(tied)
        got = first_hit(origins, directions, occupancy, step, backend="cpu")[~tied]
        want = first_hit(
            origins.double(), directions.double(), occupancy, step, backend="reference"
        )[~tied]
        assert torch.equal(got.isinf(), want.isinf())
        hit = want.isfinite()
        torch.testing.assert_close(got[hit].double(), want[hit], rtol=1e-6, atol=1e-6)
        if len(want) == 400:
            assert hit.double().mean() > 0.1
            assert depth < 3 or hit.double().mean() < 0.99


@pytest.mark.parametrize("backend", BACKENDS)
def test_is_the_first_point_that_the_octree_contains(backend):
    octree, _, grid = layout()
    step = octree.voxel / 2
    origins, directions = rays_around(60, seed=4)
    got = first_hit(origins, directions, grid, step, backend=backend)
    t = (torch.arange(200) + 0.5) * step
    points = origins[:, None] + t[:, None] * directions[:, None]
    contained = octree.contains(points.reshape(-1, 3)).view(len(origins), -1)
    first = torch.where(contained, t, torch.inf).amin(1)
    assert (~torch.isclose(got, first, rtol=1e-5)).sum() <= 1  # a point on a face


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_occupied_is_never_hit(backend):
    octree = shell(4)
    occupancy = Occupancy.of(octree.keep(torch.zeros(len(octree), dtype=torch.bool)))
    assert first_hit(*rays_around(50), occupancy, 0.1, backend=backend).isposinf().all()


@needs_cpp
def test_rays_of_no_use_end():
    """A march that never ends could not even be interrupted from the keyboard."""
    _, _, grid = layout()
    up = torch.tensor([0.0, 0.0, 1.0])
    nan, inf, zero = torch.full((3,), math.nan), torch.full((3,), math.inf), torch.zeros(3)
    origins = torch.stack([nan, zero, zero, inf, up * 1e30, -up * 1e7])
    directions = torch.stack([up, nan, zero, up, up, up])
    assert first_hit(origins, directions, grid, 0.05).shape == (6,)
    assert first_hit(origins[4:5], directions[4:5], grid, 0.05).isinf().all()


@needs_cpp
def test_non_contiguous_inputs():
    _, _, grid = layout()
    origins, directions = rays_around(50)
    apart = [x.t().contiguous().t() for x in (origins, directions)]
    assert torch.equal(first_hit(*apart, grid, 0.1), first_hit(origins, directions, grid, 0.1))


def test_errors_name_the_argument():
    _, _, grid = layout()
    origins, directions = rays_around(3)
    with pytest.raises(ValueError, match=r"`directions` must have shape \(R, 3\) with R = 3"):
        first_hit(origins, directions[:2], grid, 0.1)
    with pytest.raises(ValueError, match="`step` must be positive"):
        first_hit(origins, directions, grid, 0)
