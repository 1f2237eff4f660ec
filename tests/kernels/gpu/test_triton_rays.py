"""ray_box, first_hit, octree_traverse and place_samples: Triton against the reference."""

import pytest
import torch
from closeness import assert_close
from on_device import DEVICE
from test_first_hit import on_a_face, parallel_rays
from test_octree_traverse import ROUNDING, assert_same, random_rays, random_tree
from test_ray_box import BOX
from test_ray_box import random_rays as rays_at_a_box
from test_sample_placement import random_intervals
from voxel_scene import rays_around, shell

from nerfkit.kernels.first_hit import Occupancy, first_hit
from nerfkit.kernels.octree_traverse import Traversal, octree_traverse
from nerfkit.kernels.ray_box import ray_box
from nerfkit.kernels.sample_placement import place_samples

pytest.importorskip("triton")


@pytest.mark.parametrize("near", [0.0, 0.7])
@pytest.mark.parametrize("n", [0, 1, 300])
def test_ray_box(n, near):
    rays = rays_at_a_box(n)
    got = ray_box(*(x.to(DEVICE) for x in (*rays, *BOX)), near=near, backend="gpu")
    want = ray_box(*(x.double() for x in (*rays, *BOX)), near=near, backend="reference")
    assert torch.equal((got[0] < got[1]).cpu(), want[0] < want[1])
    for name, g, w in zip(("t_near", "t_far"), got, want, strict=True):
        assert_close(name, g, w, rel=6e-8, abs=1e-6)


def test_ray_box_owns_its_low_faces():
    o = torch.tensor([[-1.0, 0, 1], [1.0, 0, 1], [0.0, -0.5, 1]], device=DEVICE)
    d = torch.tensor([[0.0, -0.0, 1], [0.0, 0, 1], [1.0, 0, 0]], device=DEVICE)
    t_near, t_far = ray_box(o, d, *(b.to(DEVICE) for b in BOX), backend="gpu")
    assert (t_near < t_far).tolist() == [True, False, True]


@pytest.mark.parametrize("depth", [0, 2, 5])
@pytest.mark.parametrize("steps_a_voxel", [0.4, 2])
def test_first_hit(depth, steps_a_voxel):
    octree = shell(depth, *((-1, 9) if depth < 3 else (0.5, 0.7)))
    occupancy = Occupancy.of(octree)
    step = octree.voxel / steps_a_voxel
    for rays in (rays_around(100), parallel_rays(), rays_around(0)):
        tied = on_a_face(*rays, occupancy, step)
        given = [x.to(DEVICE) for x in rays]
        got = first_hit(*given, occupancy.to(DEVICE), step, backend="gpu").cpu()[~tied]
        exact = (x.double() for x in rays)
        want = first_hit(*exact, occupancy, step, backend="reference")[~tied]
        assert torch.equal(got.isinf(), want.isinf())
        hit = want.isfinite()
        assert_close("t", got[hit], want[hit], rel=1e-6, abs=1e-5)


def test_first_hit_of_rays_that_are_none():
    occupancy = Occupancy.of(shell(3)).to(DEVICE)
    bad = float("nan"), float("inf"), 0.0
    origins = torch.tensor([[b, 0.0, 0.0] for b in bad], device=DEVICE)
    directions = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0, 0], [0.0, 0, 0]], device=DEVICE)
    assert len(first_hit(origins, directions, occupancy, 0.1, backend="gpu")) == 3


def traverse(origins, directions, children, box_min, size, depth, **options):
    given = (x.to(DEVICE) for x in (origins, directions, children, box_min))
    got = octree_traverse(*given, size, depth, **options, backend="gpu")
    exact = origins.double(), directions.double(), children, box_min.double()
    want = octree_traverse(*exact, size, depth, **options, backend="reference")
    return Traversal(*(x.cpu() for x in got)), want


@pytest.mark.parametrize(("depth", "occupancy"), [(0, 1.0), (1, 0.7), (3, 0.4), (4, 0.1)])
def test_octree_traverse(depth, occupancy):
    children = random_tree(depth, occupancy)
    origins, directions = random_rays(150)
    box_min = torch.tensor([-2.0, -2.0, -2.0])
    assert_same(*traverse(origins, directions, children, box_min, 4.0, depth), len(children))
    options = {"near": 0.5, "far": 3.0, "max_leaves_per_ray": 2}
    got, want = traverse(origins, directions, children, box_min, 4.0, depth, **options)
    # What is left out for its length may differ, so the counts may.
    assert (got.packed_info[:, 1] != want.packed_info[:, 1]).sum() <= 1
    assert got.packed_info[:, 1].max() <= 2


def test_octree_traverse_shares_faces_bit_for_bit_and_has_owners_of_faces():
    children = random_tree(2, 1.0)
    box_min = torch.zeros(3)
    origins = torch.tensor([[-1.0, 1.0, 2.0], [-1.0, 0.3, 0.2], [5.0, 4.0, 4.0], [2.0, 2.0, 2.0]])
    directions = torch.tensor([[1.0, 0.0, -0.0], [1.0, 0.11, 0.13], [-1.0, -1, -1], [0.0, -1, 0]])
    got, want = traverse(origins, directions, children, box_min, 4.0, 2)
    assert torch.equal(got.packed_info, want.packed_info)
    assert torch.equal(got.node_ids, want.node_ids)
    assert torch.allclose(got.t_starts.double(), want.t_starts, rtol=ROUNDING, atol=0)
    for start, count in got.packed_info.tolist():
        ends = got.t_ends[start : start + count - 1]
        assert torch.equal(ends, got.t_starts[start + 1 : start + count])


def test_octree_traverse_of_nothing():
    for n, children in ((0, random_tree(2, 0.5)), (3, torch.full((1, 8), -1, dtype=torch.int32))):
        rays = torch.ones(n, 3), torch.ones(n, 3)
        got, _ = traverse(*rays, children, torch.zeros(3), 1.0, 2)
        assert not got.packed_info.any() and len(got.node_ids) == 0


@pytest.mark.parametrize("step", [0.0371, 0.5])
@pytest.mark.parametrize("with_jitter", [False, True])
@pytest.mark.parametrize("n_rays", [0, 1, 40])
def test_place_samples(n_rays, with_jitter, step):
    packed, t_starts, t_ends, jitter = random_intervals(n_rays, most=20)
    given = [x.to(DEVICE) for x in (packed, t_starts, t_ends)]
    noise = jitter if with_jitter else None
    moved = noise if noise is None else noise.to(DEVICE)
    got = place_samples(*given, step, jitter=moved, backend="gpu")
    want = place_samples(packed, t_starts, t_ends, step, jitter=noise, backend="reference")
    for name, g, w in zip(got._fields, got, want, strict=True):
        if name in ("t_starts", "t_ends"):
            assert torch.allclose(g.cpu(), w, rtol=1e-7, atol=0), name
        else:
            assert torch.equal(g.cpu(), w), name
    assert n_rays < 40 or len(got.t_starts) > 20
