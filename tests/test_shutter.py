"""Moving cameras: rays and projection against poses by scipy, and what becomes of them as files."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp
from test_cameras import LENSES, make_cameras, random_rotations

from nerfkit.cameras import Cameras, check_cameras
from nerfkit.errors import NerfkitError
from nerfkit.fields.frame import frame_rays
from nerfkit.frames import z_depth
from nerfkit.paths import at_size
from nerfkit.shutter import Shutter

TURN = 0.25  # radians during an exposure


def moving(models: list[str], rolling_shutter, width: int = 40, height: int = 30) -> Cameras:
    """Cameras that turn about some axis and move by half a unit."""
    given = make_cameras(models, width, height)
    n = len(given)
    generator = torch.Generator().manual_seed(3)
    axes = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    turns = torch.from_numpy(Rotation.from_rotvec(TURN * axes.numpy()).as_matrix())
    way = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    end = torch.cat(
        [turns @ given.c2w[:, :, :3], given.c2w[:, :, 3:] + 0.5 * way[:, :, None].double()], 2
    )
    lens = {name: getattr(given, name) for name in ("fx", "fy", "cx", "cy", "width", "height")}
    shutter = Shutter.of(given.c2w, end, [rolling_shutter] * n, **lens)
    return dataclasses.replace(given, c2w=shutter.middle(), shutter=shutter)


def pose_at(cameras: Cameras, index: int, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotations [M, 3, 3] and centres [M, 3] by scipy, times in [0, 1]."""
    start, end = (p[index].numpy() for p in (cameras.shutter.start, cameras.shutter.end))
    slerp = Slerp([0, 1], Rotation.from_matrix(np.stack([start[:, :3], end[:, :3]])))
    centre = start[:, 3] + times[:, None] * (end[:, 3] - start[:, 3])
    return slerp(times).as_matrix(), centre


@pytest.mark.parametrize(
    "models",
    [["PINHOLE"] * 2, ["OPENCV"] * 2, [*LENSES]],
    ids=["pinhole", "opencv", "mixed"],
)
@pytest.mark.parametrize("abcd", [(0, 0, 1, 0), (0.1, 0.3, 0.4, 0.2), (1, 0, -1, 0)])
def test_every_pixel_has_the_ray_of_its_time(models, abcd) -> None:
    cameras = moving(models, abcd)
    a, b, c, d = abcd
    for i in range(len(cameras)):
        rays = cameras.image_rays(i)
        y, x = np.mgrid[:30, :40].reshape(2, -1) + 0.5
        rotation, centre = pose_at(cameras, i, a + b * x / 40 + c * y / 30 + d / 2)
        local = cameras.local.image_rays(i).directions.double().numpy()
        assert cameras.local.shutter is None
        wanted = (rotation @ local[:, :, None])[:, :, 0]
        assert np.abs(rays.directions.numpy() - wanted).max() < 1e-6  # worst measured: 0
        assert np.abs(rays.origins.numpy() - centre).max() < 1e-6  # worst measured: 0
        tiles = frame_rays(cameras[i])
        assert tiles.origins.is_contiguous() and rays.origins.is_contiguous()
        mine = torch.cat([rays.origins, rays.directions], 1)
        order, other = (np.lexsort(r.numpy().round(4).T) for r in (mine, mine))
        assert np.array_equal(order, other)


def test_pinhole_rays_in_double() -> None:
    """All of it in float64, from the pixel on."""
    cameras = moving(["PINHOLE"] * 3, (0, 0, 1, 0))
    y, x = np.mgrid[:30, :40].reshape(2, -1) + 0.5
    for i in range(3):
        fx, fy, cx, cy = (float(v[i]) for v in (cameras.fx, cameras.fy, cameras.cx, cameras.cy))
        local = np.stack([(x - cx) / fx, -(y - cy) / fy, -np.ones_like(x)], 1)
        rotation, centre = pose_at(cameras, i, y / 30)
        wanted = (rotation @ local[:, :, None])[:, :, 0]
        wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
        rays = cameras.image_rays(i)
        assert np.abs(rays.directions.numpy() - wanted).max() < 1e-6  # worst measured: 0
        assert np.abs(rays.origins.numpy() - centre).max() < 1e-6  # worst measured: 0
