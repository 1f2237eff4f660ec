"""Poses: what rays say of them, and that wrong ones are put right."""

import math
from pathlib import Path

import pytest
import torch
from sphere_run import cameras_around, cameras_side_by_side
from voxel_scene import BOX_MIN, SIZE, network

from nerfkit.device import CPU
from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.fields.ndc import Ndc
from nerfkit.fields.unbounded import Unbounded
from nerfkit.fields.vertices import Vertices
from nerfkit.octree import Octree, morton_decode
from nerfkit.training import FitConfig
from nerfkit.training.fast import FastLearner
from nerfkit.training.optimiser import Optimiser
from nerfkit.training.pixels import Batch
from nerfkit.training.poses import Aligner, Poses

RIGHT = torch.tensor([0.02, -0.01, 0.015])


def turned(cameras, angle: float, shift: float):
    """Each camera turned by `angle` about some axis and moved by `shift`."""
    generator = torch.Generator().manual_seed(0)
    n = len(cameras)
    axes = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    poses = Poses(n, 1.0)
    w = (angle * axes).double()
    cross = torch.zeros(n, 3, 3, dtype=torch.float64)
    for a in range(3):
        cross[:, (a + 2) % 3, (a + 1) % 3] = w[:, a]
        cross[:, (a + 1) % 3, (a + 2) % 3] = -w[:, a]
    poses.turns = torch.linalg.matrix_exp(cross).float()
    poses.shifts = shift * torch.nn.functional.normalize(
        torch.randn(n, 3, generator=generator), dim=1
    )
    return poses.cameras(cameras)


def coloured_shell(unbounded: Unbounded | None = None) -> FastField:
    """A ball of many colours that has no edges: densities fall off evenly round it."""
    low, size = (BOX_MIN, SIZE) if unbounded is None else (torch.full((3,), -2.0), 4.0)
    octree = Octree.full(low, size, 4)
    shape = FieldShape((16,), 1, 10.0, 0.0, 0.5, 0.0, unbounded=unbounded)
    vertices = Vertices.of(octree, [3, 4])
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(len(vertices), 16, generator=generator)
    features[vertices.index(1, morton_decode(torch.arange(16**3)))] = 0  # of the fine level
    density = torch.zeros(len(vertices))
    corners = torch.cartesian_prod(*[torch.arange(17)] * 3)
    radius = (corners / 8 - 1).norm(dim=1)
    density[vertices.index(1, corners)] = 12 * (0.6 - radius)
    return FastField(shape, octree, vertices, density, features, network(shape.widths))


@pytest.mark.parametrize("kind", ["bounded", "unbounded"])
def test_a_camera_finds_its_place(kind):
    unbounded = Unbounded((-0.15, 0.15, -0.05), 0.5) if kind == "unbounded" else None
    field = coloured_shell(unbounded)
    truth = cameras_around(3, 60, 45)[1]
    white = torch.ones(3)
    rays = truth.image_rays(0)
    image = field.render(rays.origins, rays.directions, white).colors.view(45, 60, 3)
    wrong = turned(truth, math.radians(1), 0.04)
    found = Aligner(field).align(wrong, image, white)

    def error(camera):
        rays = camera.image_rays(0)
        seen = field.render(rays.origins, rays.directions, white).colors
        return float((seen.view(45, 60, 3) - image).square().mean())

    # a smooth ball looks alike from beside it: its picture tells, its pose does not
    assert error(found) < 0.05 * error(wrong)  # measured 0.004 and 0.011


def test_what_all_cameras_share_is_taken_out():
    poses = Poses(4, 2.0)
    turn = torch.linalg.matrix_exp(torch.tensor([[0.0, -0.1, 0], [0.1, 0, 0], [0, 0, 0]]))
    poses.turns, poses.shifts = turn.repeat(4, 1, 1), RIGHT.repeat(4, 1)
    poses.hold_mean()
    assert torch.allclose(poses.turns, torch.eye(3).expand(4, 3, 3), atol=1e-6)
    assert poses.shifts.abs().max() < 1e-7


def test_corrected_rays_are_those_of_corrected_cameras():
    given = cameras_around(4)
    moved = turned(given, 0.05, 0.2)
    poses = Poses(4, 1.0)
    poses.turns = (moved.c2w[:, :, :3] @ given.c2w[:, :, :3].transpose(1, 2)).float()
    poses.shifts = (moved.c2w[:, :, 3] - given.c2w[:, :, 3]).float()
    views = torch.tensor([0, 3, 2])
    pixels = torch.tensor([[3.5, 4.5], [20.5, 1.5], [7.5, 22.5]])
    rays, wanted = given.rays(views, pixels), moved.rays(views, pixels)
    origins, directions = poses.corrected(views, rays.origins, rays.directions)
    assert torch.allclose(origins, wanted.origins, atol=1e-6)
    assert torch.allclose(directions, wanted.directions, atol=1e-6)
    again = Poses.of_memory(poses.memory(), 4)
    assert torch.equal(again.turns, poses.turns) and torch.equal(again.shifts, poses.shifts)


class TwoViews:
    """What `Pixels` offers a step: all rays of two cameras side by side, of random colours."""

    device, has_alpha = CPU, True

    def __init__(self) -> None:
        self.cameras = cameras_side_by_side(2, apart=0.3)

    def draw(self, n_rays, generator, team):
        rays = [self.cameras.image_rays(k) for k in range(2)]
        origins = torch.cat([view.origins for view in rays])
        directions = torch.cat([view.directions for view in rays])
        n = len(origins)
        colors = torch.rand(n, 3, generator=generator)
        views = torch.arange(2).repeat_interleave(n // 2)
        return Batch(origins, directions, colors, torch.ones(n, 1), views, n_all=n)


@pytest.mark.parametrize("progress, largest", [(0.0, 0.0), (0.29, 0.0), (0.31, 2e-4)])
def test_cameras_that_face_one_way_wait_for_a_scene(progress, largest):
    generator = torch.Generator().manual_seed(0)
    pixels = TwoViews()
    ndc, octree = Ndc.of(pixels.cameras, 1.0).for_voxels(pixels.cameras, 3)
    shape = FieldShape((8,), 2, 4.0, -1.0, 1.0, 1.0, ndc=ndc)
    field = FastField.create(shape, octree, [2, 3], generator)
    field.density.normal_(generator=generator)
    field.sum_levels()
    config = FitConfig(Path("."), Path("."), steps=9, finest=32, ndc=True, refine_poses=True)
    learner = FastLearner(config, pixels.cameras, Optimiser(field), 3, 8.0)
    given = learner.poses.turns.clone()
    learner.step(progress, 1, pixels, generator)
    moved = float((learner.poses.turns - given).abs().max())
    assert moved <= largest and (moved > 0) == (largest > 0)
