"""Keyframes: the way through them, and the file that `nerfkit render` reads."""

import json
import math

import numpy as np
import pytest
from sphere_run import cameras_around

from nerfkit.errors import NerfkitError
from nerfkit.paths import read_camera_path
from nerfkit.viewer.keyframes import Keyframe, Keyframes


@pytest.fixture
def keys() -> Keyframes:
    poses = cameras_around(5).c2w.numpy()
    fov = np.radians([40, 50, 60, 50, 45])
    return Keyframes([Keyframe(p, f, 1.5) for p, f in zip(poses, fov, strict=True)])


def test_a_path_passes_through_its_keyframes(keys):
    poses, fov = keys.path(9, loop=False)
    assert np.allclose(poses[::2], [key.c2w for key in keys.keys], atol=1e-9)
    assert np.allclose(fov[::2], [key.fov for key in keys.keys])
    poses, fov = keys.path(10, loop=True)
    assert np.allclose(poses[::2], [key.c2w for key in keys.keys], atol=1e-9)
    steps = np.linalg.norm(np.diff(np.concatenate([poses, poses[:1]])[:, :, 3], axis=0), axis=1)
    assert steps.max() < 1.2 * steps.min()  # no jump where the loop closes


def test_the_file_is_what_render_reads(keys, tmp_path):
    path = tmp_path / "camera_path.json"
    crop = np.array([[-1.0, -1, -1], [1, 1, 2]])
    keys.save(path, seconds=2.0, fps=12, loop=True, size=(64, 48), crop=crop)
    found = read_camera_path(path)
    poses, fov = keys.path(24, loop=True)
    assert len(found.cameras) == 24 and found.fps == 12
    assert np.allclose(found.cameras.c2w.numpy(), poses, atol=1e-9)
    assert np.allclose(found.cameras.fy.numpy(), 24 / np.tan(fov / 2))
    assert found.cameras.width[0] == 64 and found.cameras.height[0] == 48
    content = json.loads(path.read_text())
    assert content["is_cycle"] and content["crop"]["crop_scale"] == [2, 2, 3]
    assert content["keyframes"][2]["fov"] == pytest.approx(60)
    back = Keyframes.load(path)
    for key, same in zip(keys.keys, back.keys, strict=True):
        assert np.array_equal(key.c2w, same.c2w) and same.aspect == 1.5
        assert math.isclose(key.fov, same.fov)


def test_one_keyframe_and_none(keys, tmp_path):
    poses, _ = Keyframes(keys.keys[:1]).path(3, loop=True)
    assert np.allclose(poses, keys.keys[0].c2w)
    with pytest.raises(NerfkitError, match="no keyframes yet"):
        Keyframes().save(tmp_path / "a.json", 1.0, 10, False, (8, 8))
    (tmp_path / "b.json").write_text('{"camera_path": []}')
    with pytest.raises(NerfkitError, match=r"b\.json: its keyframes cannot be read"):
        Keyframes.load(tmp_path / "b.json")
