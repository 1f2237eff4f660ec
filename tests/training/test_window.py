"""Forward-facing scenes: how they are recognised, where they begin, and depths in their cube."""

import dataclasses
import json

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from sphere_run import cameras_side_by_side, to_sphere

from nerfkit.data import Dataset, load_dataset
from nerfkit.run import Run
from nerfkit.training import FitConfig, fit
from nerfkit.training.surroundings import find_window, nearest_seen, resolve

WALL = 5.0  # what is behind the ball, along the optical axes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Grey photographs of a unit ball before a wall, by cameras side by side, with depths."""
    root = tmp_path_factory.mktemp("window")
    cameras = cameras_side_by_side(9, apart=0.1)
    frames = []
    for i in range(len(cameras)):
        rays = cameras.image_rays(i)
        t, hit = to_sphere(rays.origins, rays.directions)
        depth = torch.where(hit, -t * (rays.directions @ cameras.c2w[i, :, 2].float()), WALL)
        np.save(root / f"{i}.npy", depth.view(24, 32).numpy())
        imageio.imwrite(root / f"{i}.png", np.full((24, 32, 3), 128, np.uint8))
        c2w = np.vstack([cameras.c2w[i].numpy(), [0, 0, 0, 1]]).tolist()
        names = {"file_path": f"{i}.png", "depth_file_path": f"{i}.npy"}
        frames.append(names | {"transform_matrix": c2w})
    meta = {"fl_x": float(cameras.fx[0]), "w": 32, "h": 24, "frames": frames}
    (root / "transforms.json").write_text(json.dumps(meta))
    return root


@pytest.fixture
def dataset(folder) -> Dataset:
    return load_dataset(folder, splits=("train",))


def ball() -> torch.Tensor:
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(points, dim=1)


@pytest.mark.parametrize("known", ["depths", "points", "bounds", "nothing"])
def test_a_window_is_recognised_where_the_nearest_thing_is_known(folder, dataset, known):
    without = dataclasses.replace(dataset, depths=[None] * len(dataset))
    dataset = {
        "depths": dataset,
        "points": dataclasses.replace(without, points=ball()),
        "bounds": dataclasses.replace(without, bounds=torch.tensor([[3.0, 9.0]] * len(dataset))),
        "nothing": without,
    }[known]
    views = torch.arange(len(dataset))
    config = resolve(FitConfig(data=folder, output=folder / "no"), dataset, views)
    assert config.ndc == (known != "nothing")
    assert (config.depth_weight > 0) == (known in ("depths", "points"))
    nearest = nearest_seen(dataset, views)
    if known == "nothing":
        assert nearest is None
    else:  # of cameras 4 from the ball's middle, some beside it
        assert nearest == pytest.approx(3, abs=0.1)
        assert find_window(dataset, views).near == pytest.approx(0.8 * nearest)


@pytest.mark.parametrize(("axis", "by"), [(2, 2.0), (0, -12.0)])
def test_cameras_far_from_each_other_look_through_no_window(folder, dataset, axis, by):
    """Where one is before the other, or too far beside it."""
    views = torch.arange(len(dataset))
    dataset.cameras.c2w[0, :, 3] += by * dataset.cameras.c2w[0, :, axis]
    config = FitConfig(data=folder, output=folder / "no")
    assert resolve(config, dataset, views).scene == "unbounded"


def wrong_depths(folder, output, weight: float) -> float:
    """Mean relative error of the depths of a view that a short fit has not seen."""
    options = {"steps": 80, "finest": 64, "samples": 20_000, "depth_weight": weight}
    run = Run.load(fit(FitConfig(data=folder, output=output, scene="forward", **options)))
    dataset = load_dataset(folder, splits=("test",))
    seen = run.render(dataset.cameras[0], ["ray_distance"])["ray_distance"].view(-1)
    rays = dataset.cameras.image_rays(0)
    axial = -(rays.directions @ dataset.cameras.c2w[0, :, 2].float())
    return float((seen * axial / dataset.depths[0].view(-1) - 1).abs().mean())


def test_depths_alone_make_a_shape(folder, tmp_path):
    assert wrong_depths(folder, tmp_path / "run", 1.0) < 0.05  # measured 0.028
    assert wrong_depths(folder, tmp_path / "grey", 0.0) > 0.2  # measured 0.43
