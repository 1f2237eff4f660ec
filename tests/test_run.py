"""A run on disk: what it renders."""

import math

import pytest
import torch
from sphere_run import SphereRun, cameras_around, write_blender

from nerfkit.run import Run
from nerfkit.training import FitConfig, fit


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("scene")
    # Voxels of `finest` are 0.044 wide, pixels 0.06 at the sphere: with larger pixels, or fewer
    # views, colours fit long before the surface is where it should be.
    write_blender(folder, SphereRun(folder, folder), count=20, width=64, height=48)
    config = FitConfig(data=folder, output=folder / "run", steps=200, finest=64, samples=40_000)
    output = fit(config)
    return Run.load(output)


def test_outputs(run):
    camera = cameras_around(5, width=37, height=29)[2]
    found = run.render(camera, ["normal", "rgb", "ray_distance", "opacity"])
    truth = SphereRun(run.folder).render(camera, ["normal", "rgb", "ray_distance", "opacity"])
    assert list(found) == ["normal", "rgb", "ray_distance", "opacity"]
    for name, image in found.items():
        assert image.shape == truth[name].shape and image.dtype == torch.float32, name
        assert image.isfinite().all()
    inside = torch.nn.functional.max_pool2d(1 - truth["opacity"][None, None], 5, 1, 2)[0, 0] == 0
    assert (found["opacity"][inside] > 0.95).all()  # measured 0.99
    distance = (found["ray_distance"] - truth["ray_distance"])[inside].abs()
    assert distance.median() < 0.1  # measured 0.043, the worst of 3 seeds
    cosine = (found["normal"] * truth["normal"]).sum(-1)[inside]
    assert cosine.median() > math.cos(math.radians(25))  # measured 15.5 degrees
    length = found["normal"].norm(dim=-1)
    assert ((length - 1).abs() < 1e-3)[inside].all()
    outside = found["opacity"] < 1e-3
    assert outside.any() and not found["ray_distance"][outside].any()
    assert not found["normal"][outside].any()


def test_rays_that_miss_see_the_background(run):
    away = cameras_around(4)[0]
    away.c2w[:, :, :3] *= torch.tensor([-1.0, 1.0, -1.0])
    found = run.render(away, ["rgb", "opacity"])
    assert (found["rgb"] == 1).all() and not found["opacity"].any()


def test_what_a_run_knows(run):
    assert len(run.train_cameras) == 20 and run.iteration == 200
    assert run.config["background"] == "white" and run.config["downscale"] == 1
    assert run.scene_box.shape == (2, 3) and (run.scene_box[1] > run.scene_box[0]).all()
    assert len(run.field.depths) == 1
