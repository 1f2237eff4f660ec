"""Rendering a path: what is written, resuming, frame ranges, metric depth."""

import json
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from sphere_run import SphereRun, cameras_around

from nerfkit import colormap, render
from nerfkit.errors import NerfkitError
from nerfkit.frames import OUTPUTS, z_depth
from nerfkit.paths import CameraPath

N = 6


@pytest.fixture
def run(tmp_path) -> SphereRun:
    (tmp_path / "run").mkdir()
    return SphereRun(tmp_path / "run")


@pytest.fixture
def path() -> CameraPath:
    return CameraPath(cameras_around(N), fps=6.0, kind="orbit")


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_folder_of_frames(run, path, tmp_path):
    out = tmp_path / "out"
    assert render.render_path(run, path, out) == [out]
    assert names(out) == [f"{i:05d}.png" for i in range(N)] + ["recipe.json"]
    picture = imageio.imread(out / "00002.png")
    wanted = run.render(path.cameras[2], ["rgb"])["rgb"]
    assert picture.dtype == np.uint8 and picture.shape == (24, 32, 3)
    assert np.abs(picture / 255 - wanted.numpy()).max() <= 0.5 / 255 + 1e-6


def test_metric_depth_of_a_sphere(run, path, tmp_path):
    out = tmp_path / "out"
    render.render_path(run, path, out, ["depth"], frames="3:4")
    assert names(out) == ["00003.png", "ray_distance_00003.npy", "recipe.json", "z_depth_00003.npy"]
    distance = np.load(out / "ray_distance_00003.npy")
    z = np.load(out / "z_depth_00003.npy")
    assert z.dtype == distance.dtype == np.float32
    hit = distance > 0
    assert (z[~hit] == 0).all() and hit.any() and not hit.all()
    # a point at depth z under pixel (x, y) lies on the sphere, found without any rays
    camera = path.cameras[3]
    y, x = np.nonzero(hit)
    local = np.stack(
        [
            (x + 0.5 - camera.cx.item()) / camera.fx.item() * z[hit],
            -(y + 0.5 - camera.cy.item()) / camera.fy.item() * z[hit],
            -z[hit],
        ],
        1,
    )
    world = local @ camera.c2w[0, :, :3].numpy().T + camera.c2w[0, :, 3].numpy()
    assert np.abs(np.linalg.norm(world, axis=1) - 1).max() < 1e-5  # 2e-6 seen
    along = np.linalg.norm(local, axis=1)
    assert np.abs(along - distance[hit]).max() < 1e-5  # 5e-7 seen


def test_several_outputs_get_a_folder_each(run, path, tmp_path):
    out = tmp_path / "out"
    written = render.render_path(run, path, out, OUTPUTS, frames="0:1")
    assert written == [out / name for name in OUTPUTS]
    assert names(out / "normal") == ["00000.png"]
    opacity = imageio.imread(out / "opacity" / "00000.png")
    assert set(np.unique(opacity)) == {0, 255}
    normal = imageio.imread(out / "normal" / "00000.png")
    assert (normal[opacity[..., 0] == 0] == 0).all()


def test_several_outputs_get_a_video_each(run, path, tmp_path):
    out = tmp_path / "new" / "out.mp4"
    written = render.render_path(run, path, out, ["rgb", "depth"], frames="2:5")
    assert written == [out, out.with_name("out_depth.mp4")]
    assert names(tmp_path / "new") == ["out.mp4", "out_depth.mp4"]  # the hidden frames are gone
    assert sum(1 for _ in imageio.imiter(out, plugin="FFMPEG")) == 3


@pytest.mark.parametrize("name", ["out", "out.mp4"])
def test_an_interrupted_render_goes_on(run, path, tmp_path, name):
    run.stop_at = 4
    with pytest.raises(KeyboardInterrupt, match=f"3 of {N} frames are kept"):
        render.render_path(run, path, tmp_path / name)
    assert not (tmp_path / "out.mp4").exists()
    run.stop_at = None
    run.frames = 0
    render.render_path(run, path, tmp_path / name)
    assert run.frames == N - 3


def test_a_whole_folder_is_not_rendered_again_but_a_broken_frame_is(run, path, tmp_path):
    out = tmp_path / "out"
    render.render_path(run, path, out, ["depth"])
    whole = (out / "00001.png").read_bytes()
    (out / "00001.png").write_bytes(whole[: len(whole) // 2])
    (out / "z_depth_00004.npy").unlink()
    run.frames = 0
    render.render_path(run, path, out, ["depth"])
    assert run.frames == 2  # the depth range is remembered too
    assert (out / "00001.png").read_bytes() == whole


def test_frames_of_another_recipe_are_replaced(run, path, tmp_path):
    out = tmp_path / "out"
    render.render_path(run, path, out)
    run.iteration += 1
    run.frames = 0
    render.render_path(run, path, out, frames="0:2")
    assert run.frames == 2
    assert names(out) == ["00000.png", "00001.png", "recipe.json"]
    assert json.loads((out / "recipe.json").read_text())["iteration"] == run.iteration


def test_a_folder_of_somebody_else_is_left_alone(run, path, tmp_path):
    (tmp_path / "00000.png").write_bytes(b"holiday")
    with pytest.raises(NerfkitError, match="not written by nerfkit render"):
        render.render_path(run, path, tmp_path)
    assert (tmp_path / "00000.png").read_bytes() == b"holiday"


@pytest.mark.parametrize("name", ["out.mov", "out.png", "out.gif"])
def test_other_kinds_of_file_are_refused(run, path, tmp_path, name):
    with pytest.raises(NerfkitError, match=r"OUT\.mp4 or a folder"):
        render.render_path(run, path, tmp_path / name)
    assert run.frames == 0


def test_an_empty_scene_has_a_depth_picture(run, path, tmp_path):
    far = cameras_around(2, distance=4.0)
    far.c2w[:, :, 2] *= -1  # looking away from the sphere
    far.c2w[:, :, 0] *= -1
    render.render_path(run, CameraPath(far, 6.0, "away"), tmp_path / "out", ["depth"])
    assert (imageio.imread(tmp_path / "out" / "00000.png") == 0).all()


def test_parse_frames():
    assert render.parse_frames("2:4", 10) == range(2, 4)
    assert render.parse_frames(":", 10) == range(10)
    assert render.parse_frames("-3:", 10) == range(7, 10)
    assert render.parse_frames("8:99", 10) == range(8, 10)
    for wrong in ("5", "a:b", "1:2:3", "", "4:4", "20:30"):
        with pytest.raises(NerfkitError, match="--frames"):
            render.parse_frames(wrong, 10)


def test_parse_outputs():
    assert render.parse_outputs("rgb, depth,rgb") == ["rgb", "depth"]
    for wrong in ("rgb,disparity", "", ","):
        with pytest.raises(NerfkitError, match="--outputs"):
            render.parse_outputs(wrong)


def test_z_depth_equals_ray_distance_on_the_axis_only():
    camera = cameras_around(1, width=33, height=25)
    z = z_depth(camera, torch.ones(25, 33))
    assert z[12, 16].item() == pytest.approx(1, abs=1e-6)
    assert (z < 1 + 1e-6).all() and z[0, 0] < 0.95


def test_depth_colours_run_from_bright_near_to_dark_far():
    depth = torch.tensor([[2.0, 3.0, 4.0, 9.0]])
    picture = colormap.depth_picture(depth, torch.tensor([[1.0, 1.0, 1.0, 0.0]]), (2.0, 4.0))
    assert picture[0].tolist() == [[0xFD, 0xE7, 0x25], [0x21, 0x91, 0x8C], [0x44, 1, 0x54], [0] * 3]
