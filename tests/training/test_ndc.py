"""Normalised device coordinates: where points and distances go, and what is refused."""

import pytest
import torch
from sphere_run import cameras_around, cameras_side_by_side

from nerfkit.cameras import Cameras
from nerfkit.errors import NerfkitError
from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.fields.ndc import Ndc
from nerfkit.fields.nerf import NerfField, NerfShape
from nerfkit.kernels.nerf_mlp import NerfMlpConfig, unpack
from nerfkit.octree import Octree

NEAR = 0.7


def facing_forward() -> Cameras:
    return cameras_side_by_side(4, apart=0.2)


@pytest.fixture(params=["paper", "voxels"])
def ndc(request) -> Ndc:
    ndc = Ndc.of(facing_forward(), NEAR)
    return ndc if request.param == "paper" else ndc.for_voxels(facing_forward(), 5)[0]


@pytest.fixture
def rays():
    return facing_forward().image_rays(1)


def in_camera(ndc: Ndc, points: torch.Tensor) -> torch.Tensor:
    pose = torch.tensor(ndc.pose).view(3, 4)
    return points @ pose[:, :3].T + pose[:, 3]


def test_points_of_a_ray_go_where_the_formula_says(ndc, rays):
    path = ndc.path(rays.origins, rays.directions)
    torch.testing.assert_close(path.directions.norm(dim=1), torch.ones(len(rays.origins)))
    u = torch.tensor([0.0, 0.15, 0.45]) * path.depth[:, 3:]
    for at, t in zip(u.unbind(1), path.world(u).unbind(1), strict=True):
        x, y, z = in_camera(ndc, rays.origins + t[:, None] * rays.directions).unbind(1)
        depth = ndc.half_depth * (1 + 2 * NEAR / z)
        wanted = torch.stack([-x / z / ndc.slope_x, -y / z / ndc.slope_y, depth], 1)
        # worst measured 2e-6
        torch.testing.assert_close(
            path.origins + at[:, None] * path.directions, wanted, atol=2e-5, rtol=0
        )
    torch.testing.assert_close(path.origins[:, 2], -torch.full((len(u),), ndc.half_depth))


def test_places_along_a_ray_go_to_the_world_and_back(ndc, rays):
    path = ndc.path(rays.origins, rays.directions)
    for part in (0.1, 0.5, 0.9):
        u = part * path.depth[:, 3]
        # worst measured 5e-7
        torch.testing.assert_close(path.cube(path.world(u[:, None])[:, 0]), u, atol=5e-6, rtol=0)
    assert (path.cube(torch.zeros(len(u))) == 0).all()  # before the near plane


def test_all_that_cameras_see_lies_in_the_cube(ndc, rays):
    path = ndc.path(rays.origins, rays.directions)
    end = path.origins + path.directions * path.depth[:, 3:]
    torch.testing.assert_close(end[:, 2], torch.full((len(end),), ndc.half_depth))
    assert path.origins.abs().max() <= 1 and end.abs().max() <= 1 + 1e-6


def test_voxels_are_where_cameras_see_and_hardly_elsewhere(rays):
    ndc, octree = Ndc.of(facing_forward(), NEAR).for_voxels(facing_forward(), 5)
    path = ndc.path(rays.origins, rays.directions)
    part = torch.linspace(1e-4, 1 - 1e-4, 50)[:, None, None]
    points = path.origins + part * path.depth[:, 3:] * path.directions
    assert octree.contains(points.reshape(-1, 3)).all()
    # 32x24 pixels, and a quarter in depth
    assert len(octree) < 1.2 * 24 / 32 * ndc.half_depth * 32**3


def test_depths_are_those_of_the_world(ndc, rays):
    network = NerfMlpConfig(depth=2, width=8, view_width=8, skip=1, position_frequencies=2)
    shape = NerfShape(network, NEAR, most_coarse=32, n_fine=32, spacing=0.0, ndc=ndc)
    cube = Octree.full(-torch.ones(3), 2.0, 0)
    field = NerfField.create(shape, cube, torch.Generator().manual_seed(0))
    for params in (field.coarse, field.fine):
        params.zero_()
        unpack(params, network)["sigma.bias"].fill_(500.0)  # opaque at the near plane
    seen = field.render(rays.origins, rays.directions, torch.zeros(3))
    assert (seen.opacities > 0.999).all()
    z = in_camera(ndc, rays.origins + seen.depths[:, None] * rays.directions)[:, 2]
    assert (z < 0).all() and (z + NEAR).abs().max() < 0.1 * NEAR


def fast_field(ndc: Ndc, bias: float) -> FastField:
    shape = FieldShape((4,), 2, 1e3, bias, step_voxels=1.0, near=NEAR, ndc=ndc)
    cube = Octree.full(-torch.ones(3), 2.0, 5)
    return FastField.create(shape, cube, [4, 5], torch.Generator().manual_seed(0))


def test_the_default_field_lies_in_the_cube_too(ndc, rays):
    opaque = fast_field(ndc, bias=5.0)
    assert not opaque.hits(rays.origins, -rays.directions).any()
    assert opaque.hits(rays.origins, rays.directions).all()
    seen = opaque.render(rays.origins, rays.directions, torch.zeros(3))
    z = in_camera(ndc, rays.origins + seen.depths[:, None] * rays.directions)[:, 2]
    # worst measured 0.0094 NEAR / half_depth: part of a step behind the near plane
    assert (z < 0).all() and (z + NEAR).abs().max() < 0.03 * NEAR / ndc.half_depth


def test_rays_the_other_way_miss(ndc, rays):
    network = NerfMlpConfig(depth=2, width=8, view_width=8, skip=1)
    shape = NerfShape(network, NEAR, most_coarse=4, n_fine=4, spacing=0.0, ndc=ndc)
    cube = Octree.full(-torch.ones(3), 2.0, 3)
    field = NerfField.create(shape, cube, torch.Generator().manual_seed(0))
    assert not field.hits(rays.origins, -rays.directions).any()
    assert field.hits(rays.origins, rays.directions).all()
    background = torch.ones(len(rays.origins), 3)
    assert field.trace(rays.origins, -rays.directions, background, 0.0).n_samples == 0


def test_cameras_all_around_are_refused():
    with pytest.raises(NerfkitError, match="--ndc"):
        Ndc.of(cameras_around(8), NEAR)
