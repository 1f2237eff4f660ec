"""`nerfkit prepare`: the world it makes, what it writes, and a whole reconstruction."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation
from sphere_run import cameras_around

from nerfkit import cli
from nerfkit.data import load_dataset
from nerfkit.prepare.write import upright


def test_the_world_stands_upright_round_what_is_looked_at():
    c2w = cameras_around(9).c2w.numpy()
    points = np.random.default_rng(0).normal(0, 0.3, (500, 3))
    turn = Rotation.random(random_state=1).as_matrix()
    other = np.concatenate(
        [turn @ c2w[:, :, :3], (3 * turn @ c2w[:, :, 3:] + [[5.0], [1.0], [2.0]])], 2
    )
    found, moved = upright(other, 3 * points @ turn.T + [5, 1, 2])
    up = found[:, :, 1].mean(0)
    assert up[2] / np.linalg.norm(up) > 1 - 1e-9
    positions = found[:, :, 3]
    assert np.linalg.norm(positions - positions.mean(0), axis=1).max() == pytest.approx(1)
    assert np.abs(positions[:, 2] - positions[0, 2]).max() < 1e-9 and positions[0, 2] > 0
    # cameras 4 away at 30 degrees: 2 sqrt(3) from their axis becomes 1
    # `focus_point` leans a little towards the cameras: measured 4e-5
    assert np.linalg.norm(moved, axis=1) == pytest.approx(
        np.linalg.norm(points, axis=1) / (2 * 3**0.5), rel=1e-3
    )
    rotations = found[:, :, :3]
    assert np.abs(rotations @ rotations.transpose(0, 2, 1) - np.eye(3)).max() < 1e-9
    assert (np.linalg.det(rotations) > 0).all()


def test_forward_facing_cameras_keep_their_own_up():
    c2w = np.tile(np.eye(4)[:3], (6, 1, 1))
    c2w[:, :, 3] = np.random.default_rng(0).normal(0, 1, (6, 3)) * [1, 1, 0.1]
    points = np.random.default_rng(1).normal(0, 1, (300, 3)) - [0, 0, 10]
    found, moved = upright(c2w, points)
    assert np.allclose(found[:, :, 1], [0, 0, 1], atol=1e-9)
    assert np.abs(np.median(moved, axis=0)).max() < 0.5


class Room:
    """The corner of a room, three walls of noise, seen from inside; poses exact."""

    size, focal = (400, 300), 380.0

    def __init__(self) -> None:
        rng = np.random.default_rng(3)
        noise = rng.random((3, 700, 700, 3))
        fine = gaussian_filter(noise, (0, 1.5, 1.5, 0))
        coarse = gaussian_filter(noise, (0, 6, 6, 0))
        walls = fine / fine.std() + coarse / coarse.std()
        self.walls = np.clip(128 + 40 * (walls - walls.mean()), 0, 255)

    def pose(self, azimuth: float, height: float) -> np.ndarray:
        at = np.array([3.4 * np.cos(azimuth), 3.4 * np.sin(azimuth), height])
        back = at - [0.7, 0.7, 0.6]
        back /= np.linalg.norm(back)
        right = np.cross([0, 0, 1], back)
        right /= np.linalg.norm(right)
        return np.stack([right, np.cross(back, right), back, at], 1)

    def picture(self, pose: np.ndarray) -> Image.Image:
        width, height = self.size
        y, x = np.mgrid[:height, :width] + 0.5
        local = np.stack([x - width / 2, height / 2 - y, np.full_like(x, -self.focal)], -1)
        directions = local @ pose[:, :3].T
        t = np.where(directions < 0, -pose[:, 3] / directions, np.inf)
        wall = t.argmin(-1)
        points = pose[:, 3] + directions * t.min(-1)[..., None]
        picture = np.zeros((height, width, 3))
        for axis in range(3):
            seen = wall == axis
            u = np.delete(points[seen], axis, 1).T * 180
            for channel in range(3):
                picture[seen, channel] = map_coordinates(
                    self.walls[axis, :, :, channel], u, order=1, mode="mirror"
                )
        return Image.fromarray(picture.astype(np.uint8))


@pytest.mark.slow
def test_poses_of_a_room(tmp_path, capsys):
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    room, photos = Room(), tmp_path / "photos"
    photos.mkdir()
    poses = [room.pose(0.3 + 0.12 * i, 1.2 + 0.25 * (i % 3)) for i in range(9)]
    for i, pose in enumerate(poses):
        room.picture(pose).save(photos / f"p{i}.png")
    noise = np.random.default_rng(9).integers(0, 255, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(photos / "stray.png")
    assert cli.main(["prepare", str(photos), "-o", str(tmp_path / "data")]) == 0
    said = capsys.readouterr().err
    assert "9 of 10 pictures" in said and "not placed: stray.png" in said
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == [
        "images",
        "points.ply",
        "points_seen.npy",
        "transforms.json",
    ]
    data = load_dataset(tmp_path / "data")
    assert [Path(name).name for name in data.names] == [f"p{i}.png" for i in range(9)]
    assert float(data.cameras.fx.median()) == pytest.approx(room.focal, rel=0.03)
    assert len(data.points) > 100
    rotation, positions = aligned(data.cameras.c2w.numpy(), np.stack(poses))
    assert np.median(rotation) < 0.5 and positions.max() < 0.02  # degrees; parts of their extent
    # the walls stand on the floor: up is up (the room's own up is +Z)
    up = data.cameras.c2w[:, :, 1].mean(0)
    assert up[2] / up.norm() > 0.9


def aligned(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors [N] of poses after the best similarity: degrees, and parts of the true extent."""
    a, b = found[:, :, 3], truth[:, :, 3]
    a0, b0 = a - a.mean(0), b - b.mean(0)
    u, s, vt = np.linalg.svd(b0.T @ a0)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn = u @ sign @ vt
    scale = (s * sign.diagonal()).sum() / (a0**2).sum()
    offsets = np.linalg.norm(scale * a0 @ turn.T - b0, axis=1)
    angles = Rotation.from_matrix(
        (turn @ found[:, :, :3]) @ truth[:, :, :3].transpose(0, 2, 1)
    ).magnitude()
    return np.degrees(angles), offsets / np.ptp(b, axis=0).max()


def test_pictures_of_one_camera_share_it_and_others_keep_their_own(tmp_path):
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    from nerfkit.prepare.reconstruct import Lens, Model
    from nerfkit.prepare.write import write_dataset

    cameras = cameras_around(4, 8, 6)
    (tmp_path / "images").mkdir()
    for i in range(4):
        Image.new("RGB", (8, 6)).save(tmp_path / "images" / f"{i}.png")
    values = {"fl_x": 9.0, "fl_y": 9.5, "cx": 4.0, "cy": 3.0, "k1": 0.1}
    lenses = [Lens("OPENCV", 8, 6, values)] * 4
    points = np.zeros((3, 3))
    model = Model(
        [f"{i}.png" for i in range(4)],
        cameras.c2w.numpy(),
        lenses,
        points,
        np.full((3, 3), 7, np.uint8),
        np.array([[0, 2], [3, 1]], np.int32),
        0.5,
        0,
    )
    write_dataset(tmp_path, "images", model)
    content = json.loads((tmp_path / "transforms.json").read_text())
    assert content["fl_x"] == 9 and "fl_x" not in content["frames"][0]
    data = load_dataset(tmp_path)
    assert (data.cameras.fy == 9.5).all() and (data.cameras.distortion[:, 0] == 0.1).all()
    assert data.seen.tolist() == [[0, 2], [3, 1]]
    assert load_dataset(tmp_path, splits=("train",)).seen.tolist() == [[2, 1]]  # 0 is held out
    assert data.points.shape == (3, 3) and data.cameras.model == ["OPENCV"] * 4
    lenses[2] = Lens("OPENCV_FISHEYE", 8, 6, {**values, "fl_x": 7.0})
    write_dataset(tmp_path, "images", model)
    data = load_dataset(tmp_path)
    assert data.cameras.fx.tolist() == [9, 9, 7, 9]
    assert data.cameras.model[2] == "OPENCV_FISHEYE"


def test_pairs():
    pytest.importorskip("pycolmap", reason="pycolmap is not installed")
    from nerfkit.prepare.reconstruct import pairs

    assert len(pairs(50, False)) == 50 * 49 // 2
    walk = pairs(100, True)
    assert len(set(walk)) == len(walk) < 1300 and all(i < j for i, j in walk)
    assert (40, 50) in walk and (40, 51) not in walk and (0, 95) in walk  # the loop closes
    assert len(pairs(3000, False)) < 40_000


def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys):
    def fails(*arguments):
        assert cli.main(["prepare", *map(str, arguments)]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    monkeypatch.setitem(sys.modules, "pycolmap", None)
    assert "pip install 'nerfkit[prepare]'" in fails(tmp_path, "-o", tmp_path / "new")
    monkeypatch.setitem(sys.modules, "pycolmap", sys)  # any module: nothing here comes to use it
    (tmp_path / "in").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "no such folder of photos" in fails(tmp_path / "no", "-o", tmp_path / "new")
    assert "not empty" in fails(tmp_path / "in", "-o", tmp_path / "full")
    assert "lies among the photos" in fails(tmp_path / "in", "-o", tmp_path / "in" / "data")
