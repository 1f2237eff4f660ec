"""Camera paths: closed, smooth, looking at the scene; nerfstudio's file read and written."""

import json
import math

import numpy as np
import pytest
import torch
from sphere_run import cameras_around

from nerfkit import trajectories
from nerfkit.errors import NerfkitError
from nerfkit.paths import at_size, make_path, read_camera_path, write_camera_path

BOX = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])


def facing_wall(count: int = 9, depth: float = 5.0) -> np.ndarray:
    """Cameras side by side at z = 1, all looking along +Y at a point `depth` ahead."""
    positions = np.stack([np.linspace(-1, 1, count), np.zeros(count), np.ones(count)], 1)
    return trajectories.look_at(positions, np.array([0.0, depth, 1.0]), np.array([0.0, 0.0, 1.0]))


def steps(c2w: np.ndarray) -> np.ndarray:
    return np.linalg.norm(np.diff(c2w[:, :, 3], axis=0), axis=1)


def assert_rigid(c2w: np.ndarray) -> None:
    rotation = c2w[:, :, :3]
    identity = rotation @ rotation.transpose(0, 2, 1)
    assert np.abs(identity - np.eye(3)).max() < 1e-12  # 9e-16 seen
    assert np.abs(np.linalg.det(rotation) - 1).max() < 1e-12


def test_focus_point_is_where_the_axes_meet():
    target = np.array([0.3, -0.2, 0.5])
    away = np.random.default_rng(0).normal(size=(20, 3)) * 3
    c2w = trajectories.look_at(target + away, target, np.array([0.0, 0.0, 1.0]))
    found = trajectories.focus_point(c2w)
    assert np.abs(found - target).max() < 3e-6  # 8e-7 seen: the pull that settles parallel axes


def test_orbit_is_a_closed_circle_through_a_ring_of_cameras():
    train = cameras_around(12).c2w.numpy()
    c2w = trajectories.orbit(train, 24)
    assert_rigid(c2w)
    assert np.abs(c2w[::2] - train).max() < 2e-6  # 5e-7 seen
    around = np.concatenate([c2w, c2w[:1]])
    assert np.ptp(steps(around)) < 1e-9


def test_orbit_follows_the_cameras_own_up():
    turn = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # +Z onto -Y
    train = cameras_around(12).c2w.numpy()
    c2w = trajectories.orbit(turn @ train, 12)
    assert np.abs(c2w - turn @ trajectories.orbit(train, 12)).max() < 1e-12  # 4e-16 seen


def test_spiral_stays_near_the_cameras_and_looks_ahead():
    train = facing_wall()
    c2w = trajectories.spiral(train, BOX.numpy(), 60)
    assert_rigid(c2w)
    assert np.abs(c2w[:, 0, 3]).max() <= 1.0
    target = np.array([0.0, 5.0, 1.0])
    ahead = (target - c2w[:, :, 3]) / np.linalg.norm(target - c2w[:, :, 3], axis=1)[:, None]
    assert ((ahead * -c2w[:, :, 2]).sum(1) > math.cos(math.radians(0.1))).all()
    around = np.concatenate([c2w, c2w[:1]])
    assert steps(around)[-1] < 1.5 * steps(c2w).max()  # the loop closes


def test_spiral_where_cameras_look_every_way_stays_by_the_first():
    train = cameras_around(12).c2w.numpy()
    c2w = trajectories.spiral(train, BOX.numpy(), 30)
    assert_rigid(c2w)
    assert np.linalg.norm(c2w[:, :, 3] - train[0, :, 3], axis=1).max() < 0.2 * 4
    ahead = -c2w[:, :, 3] / np.linalg.norm(c2w[:, :, 3], axis=1)[:, None]
    assert ((ahead * -c2w[:, :, 2]).sum(1) > math.cos(math.radians(0.1))).all()


def test_interpolate_skips_repeated_cameras():
    train = cameras_around(8).c2w.numpy()[[0, 0, 1, 1, 1, 2]]
    c2w = trajectories.interpolate(train, 60)
    assert_rigid(c2w)
    assert steps(c2w).max() < 1.1 * steps(c2w).min()  # 1.03 seen


def test_spiral_of_parallel_axes_looks_into_the_scene():
    train = facing_wall(depth=1e9)
    box = np.array([[-2.0, 4.0, -1.0], [2.0, 12.0, 3.0]])
    mean = train[len(train) // 2]
    assert 4.0 < trajectories._focus_depth(train, mean, box) < 12.0


def test_interpolate_passes_through_few_cameras_at_even_speed():
    train = cameras_around(8).c2w.numpy()[:5]
    c2w = trajectories.interpolate(train, 81)
    assert_rigid(c2w)
    for key in train:
        assert np.linalg.norm(c2w[:, :, 3] - key[:, 3], axis=1).min() < steps(c2w).max()
    assert steps(c2w).max() < 1.1 * steps(c2w).min()  # 1.06 seen


def test_interpolate_sorts_shuffled_cameras_into_a_walk():
    train = cameras_around(40).c2w.numpy()[:30]
    shuffled = train[np.random.default_rng(3).permutation(30)]
    walk = trajectories.interpolate(shuffled, 300)
    arc = steps(train).sum()
    assert steps(walk).sum() < 1.3 * arc  # 1.11 seen; in file order it is 7.4


def test_interpolate_of_one_camera_stands_still():
    c2w = trajectories.interpolate(cameras_around(1).c2w.numpy(), 5)
    assert c2w.shape == (5, 3, 4) and np.ptp(c2w, axis=0).max() == 0


@pytest.mark.parametrize(
    ("c2w", "kind"),
    [
        (cameras_around(12).c2w.numpy(), "orbit"),
        (facing_wall(), "spiral"),
        (cameras_around(12).c2w.numpy()[:5], "interpolate"),
    ],
    ids=["ring", "wall", "arc"],
)
def test_the_default_suits_the_cameras(c2w, kind):
    assert trajectories.suitable(c2w) == kind


def test_size_and_length():
    train = cameras_around(12, width=32, height=24)
    path = make_path("orbit", train, BOX, seconds=2, fps=7.5, size=(50, 48))
    assert len(path.cameras) == 15 and path.fps == 7.5
    assert path.cameras.width.tolist() == [50] * 15
    # the vertical field of view is kept: twice the rows, twice the focal length
    assert torch.allclose(path.cameras.fy, 2 * train.fy[0])
    assert torch.equal(path.cameras.cx, torch.full((15,), 25.0, dtype=torch.float64))


def test_at_size_keeps_the_view():
    camera = cameras_around(1, width=32, height=24)
    small = at_size(camera, 16, 12)
    corner = torch.tensor([[0.0, 0.0]])
    index = torch.tensor([0])
    assert torch.equal(small.rays(index, corner).directions, camera.rays(index, corner).directions)


def test_camera_path_file_round_trip(tmp_path):
    path = make_path("orbit", cameras_around(12), BOX, seconds=1, fps=12)
    file = tmp_path / "camera_path.json"
    write_camera_path(file, path)
    back = read_camera_path(file)
    assert back.fps == pytest.approx(12)
    assert (back.cameras.c2w - path.cameras.c2w).abs().max() < 1e-12
    assert (back.cameras.fy - path.cameras.fy).abs().max() < 1e-9
    assert back.cameras.width.tolist() == path.cameras.width.tolist()


def nerfstudio_file(**changes) -> dict:
    """As nerfstudio's viewer writes it: camera_to_world row-major, fov vertical."""
    frames = [
        {
            "camera_to_world": [1, 0, 0, x, 0, 1, 0, 2, 0, 0, 1, 3, 0, 0, 0, 1],
            "fov": 90.0,
            "aspect": 2.0,
        }
        for x in range(5)
    ]
    content = {
        "camera_type": "perspective",
        "render_height": 100,
        "render_width": 200,
        "fps": 5,
        "seconds": 1,
        "is_cycle": False,
        "keyframes": [],
        "camera_path": frames,
    }
    return {**content, **changes}


def written(tmp_path, content) -> str:
    file = tmp_path / "path.json"
    file.write_text(json.dumps(content))
    return str(file)


def test_reads_nerfstudio_conventions(tmp_path):
    path = make_path(written(tmp_path, nerfstudio_file()), cameras_around(3), BOX)
    assert path.fps == 5 and len(path.cameras) == 5
    assert path.cameras.c2w[4, :, 3].tolist() == [4, 2, 3]
    assert path.cameras.fy[0].item() == pytest.approx(50)  # 45 degrees up is half the height
    assert path.cameras.fx[0].item() == pytest.approx(50)


def test_resamples_when_asked_for_another_number_of_frames(tmp_path):
    file = written(tmp_path, nerfstudio_file())
    path = make_path(file, cameras_around(3), BOX, seconds=3, fps=3)
    assert len(path.cameras) == 9 and path.fps == 3
    even = torch.linspace(0, 4, 9, dtype=torch.float64)
    assert (path.cameras.c2w[:, 0, 3] - even).abs().max() < 1e-9
    # seconds alone: the same frames, shown slower
    slow = make_path(file, cameras_around(3), BOX, seconds=2)
    assert len(slow.cameras) == 5 and slow.fps == 2.5


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([], "JSON object"),
        (nerfstudio_file(camera_path=[]), "at least one frame"),
        (nerfstudio_file(camera_type="fisheye"), "camera_type"),
        (nerfstudio_file(render_width=None), "render_width"),
        (nerfstudio_file(seconds=0), "seconds"),
        (nerfstudio_file(camera_path=[{"fov": 50}]), r"camera_path\[0\].*16 numbers"),
        (nerfstudio_file(camera_path=[{"camera_to_world": [0] * 16, "fov": 5}]), "rigid"),
        (
            nerfstudio_file(camera_path=[{"camera_to_world": np.eye(4).ravel().tolist()}]),
            r"camera_path\[0\].*fov",
        ),
        (nerfstudio_file(camera_path=[7]), "16 numbers"),
    ],
)
def test_says_what_is_wrong_with_a_file(tmp_path, content, complaint):
    with pytest.raises(NerfkitError, match=complaint):
        read_camera_path(tmp_path / written(tmp_path, content))


@pytest.mark.parametrize(
    "arguments",
    [{"kind": "orbitt"}, {"kind": "gone.json"}, {"seconds": -1.0}, {"fps": 0.0}, {"size": (0, 4)}],
    ids=str,
)
def test_refuses_bad_arguments(arguments):
    with pytest.raises(NerfkitError):
        make_path(arguments.pop("kind", "orbit"), cameras_around(3), BOX, **arguments)
