"""Moving cameras: rays and projection against poses by scipy, and what becomes of them as files."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation, Slerp
from test_cameras import LENSES, make_cameras, random_rotations

from nerfkit.cameras import Cameras, check_cameras
from nerfkit.device import CPU
from nerfkit.errors import NerfkitError
from nerfkit.fields.frame import _tiled, frame_rays
from nerfkit.frames import z_depth
from nerfkit.paths import at_size
from nerfkit.shutter import Shutter
from nerfkit.training.poses import Poses

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
    """And points on it are projected back to the pixel, at their depths along the axis."""
    cameras = moving(models, abcd)
    a, b, c, d = abcd
    y, x = np.mgrid[:30, :40].reshape(2, -1) + 0.5
    pixels = torch.from_numpy(np.stack([x, y], 1))
    for i in range(len(cameras)):
        rays, local = cameras.image_rays(i), cameras.local.image_rays(i).directions.double()
        rotation, centre = pose_at(cameras, i, a + b * x / 40 + c * y / 30 + d / 2)
        wanted = (rotation @ local.numpy()[:, :, None])[:, :, 0]
        assert np.abs(rays.directions.numpy() - wanted).max() < 1e-6  # worst measured: 2.1e-7
        assert np.abs(rays.origins.numpy() - centre).max() < 5e-7  # worst measured: 9.8e-8
        assert rays.origins.is_contiguous() and rays.directions.is_contiguous()
        cosines = cameras.cosines(torch.tensor([i]), pixels.float(), rays.directions)
        for distance in (1.5, 2.5, 10.0):
            points = rays.origins.double() + distance * rays.directions.double()
            found, depth = cameras.project(points, i)
            # pixels; worst measured: 1.6e-4 where the image runs against the readout, else 9e-6
            assert (found - pixels).abs().max() < 1e-3
            assert (depth - distance * cosines).abs().max() < 2e-5  # worst measured: 2.7e-6
            assert (cameras.project(points.float(), i)[0] - pixels).abs().max() < 1e-3  # 1.8e-4


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
        assert np.abs(rays.directions.numpy() - wanted).max() < 1e-6  # worst measured: 1.5e-7
        assert np.abs(rays.origins.numpy() - centre).max() < 5e-7  # worst measured: 9.8e-8


@pytest.mark.parametrize("models", [["PINHOLE"] * 2, [*LENSES]], ids=["pinhole", "mixed"])
def test_a_camera_that_stays_is_one_without_a_shutter(models) -> None:
    still = make_cameras(models)
    timing = torch.tensor([0.5, 0.0, 0.8]).expand(len(still), 3)
    same = dataclasses.replace(still, shutter=Shutter(still.c2w, still.c2w, timing))
    assert torch.equal(same.shutter.middle(), still.c2w)
    for i in range(len(still)):
        rays, wanted = same.image_rays(i), still.image_rays(i)
        assert torch.equal(rays.origins, wanted.origins)
        # worst measured: 2.4e-7
        torch.testing.assert_close(rays.directions, wanted.directions, rtol=0, atol=1e-6)
        points = (wanted.origins + 2 * wanted.directions).double()
        for got, want in zip(same.project(points, i), still.project(points, i), strict=True):
            torch.testing.assert_close(got, want, rtol=0, atol=1e-9)  # worst measured: 1.5e-14


def test_points_beside_the_image_stay_beside_it() -> None:
    cameras = moving(["PINHOLE"], (0, 0, 1, 0))
    wide = dataclasses.replace(cameras, width=cameras.width * 3, cx=cameras.cx + 40)
    rays = wide.image_rays(0)
    pixels, _ = cameras.project((rays.origins + 3 * rays.directions).double(), 0)
    inside = ((pixels > 0) & (pixels < torch.tensor([40, 30]))).all(1).view(30, 120)
    assert inside[:, 40:80].all() and int(inside.sum()) == 30 * 40
    behind = cameras.c2w[0, :, 3] + 5 * cameras.c2w[0, :, 2]
    assert float(cameras.project(behind[None], 0)[1]) < 0
    assert cameras.project(torch.zeros(0, 3), 0)[0].shape == (0, 2)


@pytest.mark.parametrize("change", ["resized", "at_size", "indexed", "json"])
def test_what_is_done_to_cameras_keeps_their_times(change) -> None:
    """A pixel's corner has the same ray, whatever the size and the place in a list."""
    cameras = moving(["OPENCV", "PINHOLE"], (0.1, 0.2, 0.7, 0.0), 41, 31)
    other, scale = {
        "resized": lambda: (cameras.resized(2), 0.5),
        "at_size": lambda: (at_size(cameras, 82, 62), 2.0),
        "indexed": lambda: (cameras[torch.tensor([1, 0])][torch.tensor([1, 0])], 1.0),
        "json": lambda: (Cameras.from_dict(json.loads(json.dumps(cameras.to_dict()))), 1.0),
    }[change]()
    pixels, views = torch.tensor([[3.0, 4.0], [38.0, 26.0]]), torch.tensor([0, 1])
    rays, wanted = other.rays(views, pixels * scale), cameras.rays(views, pixels)
    torch.testing.assert_close(rays.origins, wanted.origins, rtol=0, atol=1e-6)
    torch.testing.assert_close(rays.directions, wanted.directions, rtol=0, atol=1e-6)
    if scale == 1.0:
        for name in ("start", "end", "timing"):
            assert torch.equal(getattr(other.shutter, name), getattr(cameras.shutter, name))
    assert "shutter" not in make_cameras(["PINHOLE"]).to_dict()


def test_several_lots_of_cameras() -> None:
    shutter, still = moving(["PINHOLE"] * 2, (0, 0, 1, 0)).shutter, make_cameras(["PINHOLE"])
    both = Shutter.cat([shutter, Shutter.still(still.c2w)])
    assert len(both) == 3 and torch.equal(both.end[2], still.c2w[0])
    assert torch.equal(both[torch.tensor([0, 1])].timing, shutter.timing)
    with pytest.raises(ValueError, match="of 1 cameras, got 3"):
        dataclasses.replace(still, shutter=both)
    with pytest.raises(ValueError, match="`end` must have shape"):
        Shutter(shutter.start, shutter.end[:1], shutter.timing)


def test_corrections_are_those_of_the_rays() -> None:
    given = moving(["PINHOLE", "OPENCV"], (0, 0, 1, 0))
    poses = Poses(2, 1.0)
    poses.turns, poses.shifts = (
        random_rotations(2, 5).float(),
        torch.tensor([[0.3, -0.2, 0.5], [-0.4, 0.1, 0.2]]),
    )
    views, pixels = torch.tensor([0, 1, 1]), torch.tensor([[3.5, 4.5], [20.5, 1.5], [7.5, 22.5]])
    rays, moved = given.rays(views, pixels), poses.cameras(given).rays(views, pixels)
    origins, directions = poses.corrected(views, rays.origins, rays.directions)
    torch.testing.assert_close(moved.origins, origins, rtol=0, atol=1e-6)  # worst measured: 2.4e-7
    torch.testing.assert_close(moved.directions, directions, rtol=0, atol=1e-6)


def test_images_of_fields_have_the_same_rays() -> None:
    """`render_frame` makes its rays tile by tile, and depths along the axis from them."""
    camera = moving(["OPENCV"], (0, 0, 1, 0))
    tiles, rows = frame_rays(camera), camera.image_rays(0)
    order = _tiled(30, 40, CPU)[1]
    torch.testing.assert_close(tiles.origins, rows.origins[order], rtol=0, atol=1e-6)
    torch.testing.assert_close(tiles.directions, rows.directions[order], rtol=0, atol=1e-6)
    points = (rows.origins + 2 * rows.directions).double()
    depth = z_depth(camera, torch.full((30, 40), 2.0)).view(-1)
    # worst measured: 4.7e-7
    torch.testing.assert_close(depth.double(), camera.project(points, 0)[1], rtol=0, atol=1e-5)


def broken(name: str) -> Cameras:
    cameras = moving(["PINHOLE"] * 2, (0, 0, 1, 0))
    if name == "nan":
        cameras.shutter.start[1, 0, 3] = float("nan")
    elif name == "sheared":
        cameras.shutter.end[1, :, 0] += 0.01 * cameras.shutter.end[1, :, 1]
    else:
        cameras.shutter.timing[1, 2] = float("inf")
    return cameras


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nan", "the pose at the start of the exposure holds NaN"),
        ("sheared", "the pose at the end of the exposure is not rigid"),
        ("timing", "the rolling shutter holds NaN or infinity"),
    ],
)
def test_check_names_the_source(name: str, message: str) -> None:
    with pytest.raises(NerfkitError, match=f"^set.json: frame 1: {message}"):
        check_cameras(broken(name), ["set.json: frame 0", "set.json: frame 1"])
