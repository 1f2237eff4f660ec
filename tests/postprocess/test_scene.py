"""Refining a scene's renders: geometry on a sphere, warping, training end to end."""

import pytest
import torch
from sphere_run import SphereRun, cameras_around, write_blender

from nerfkit.errors import NerfkitError
from nerfkit.postprocess.scene import refined as refined_module
from nerfkit.postprocess.scene import train as train_module
from nerfkit.postprocess.scene.flicker import Flicker
from nerfkit.postprocess.scene.geometry import (
    choose,
    correspond,
    grown,
    points_of,
    probes,
    small_camera,
)
from nerfkit.postprocess.scene.network import SceneRefiner
from nerfkit.postprocess.scene.refined import load_refiner, refiner_path
from nerfkit.postprocess.scene.train import RefinerConfig, Trainer, train_refiner

SCALE, SIDE = 4, 32


def cameras(count=12):
    return cameras_around(count, width=SIDE * SCALE, height=SIDE * SCALE)


def distances(run, small):
    return torch.stack([run.render(small[i], ["ray_distance"])["ray_distance"] for i in range(12)])


def test_small_camera_keeps_the_view():
    camera = cameras_around(1, width=30, height=21)
    small = small_camera(camera, 4)
    assert (int(small.width), int(small.height)) == (8, 6)
    point = torch.tensor([[0.3, -0.2, 0.4]], dtype=torch.float64)
    torch.testing.assert_close(4 * small.project(point, 0)[0], camera.project(point, 0)[0])


def test_grown_reaches_two_pixels_and_no_further():
    distance = torch.zeros(9, 9)
    distance[4, 4] = 3.0
    out = grown(distance)
    assert (out[2:7, 2:7] == 3).all() and (out != 0).sum() == 25


def test_points_correspond_to_themselves_and_not_through_the_sphere(tmp_path):
    run, small = SphereRun(tmp_path), small_camera(cameras(), SCALE)
    maps = distances(run, small)
    points = points_of(small[0], maps[0]).reshape(-1, 3)
    known, eye = maps[0].reshape(-1) > 0, small.c2w[0, :, 3].float()
    where, hints = correspond(points, known, eye, small, 0, maps)
    pixel = torch.stack(torch.meshgrid(*[torch.arange(SIDE) + 0.5] * 2, indexing="xy"), -1)
    torch.testing.assert_close(where[known], pixel.reshape(-1, 2)[known], rtol=0, atol=1e-4)
    assert (hints[known][:, 0] == 1).all() and not hints[~known].any()
    torch.testing.assert_close(hints[known][:, 2], torch.ones(int(known.sum())))
    # the camera opposite sees the other half
    _, across = correspond(points, known, eye, small, 6, maps)
    assert across[known][:, 0].mean() < 0.2  # 0.11: the rim, and what both see from above


def test_nearest_sources_are_chosen_first(tmp_path):
    run, small = SphereRun(tmp_path), small_camera(cameras(), SCALE)
    maps = distances(run, small)
    points = points_of(small[3], maps[3])
    eye = small.c2w[3, :, 3].float()
    chosen = choose(
        probes(points, maps[3] > 0), eye, small, maps, 2, [i for i in range(12) if i != 3]
    )
    assert sorted(chosen) == [2, 4]


def test_network_starts_as_bicubic_enlargement():
    network = SceneRefiner(4, sources=2)
    render, opacity = torch.rand(1, 3, 12, 10), torch.rand(1, 1, 12, 10)
    seen, enlarged = torch.rand(1, 2, 51, 12, 10), network.enlarged(render)
    torch.testing.assert_close(network(render, opacity, seen, enlarged), network.skip(render))


def test_flicker_of_a_rigid_scene_is_small_and_noise_is_seen(tmp_path):
    run, path = SphereRun(tmp_path), small_camera(cameras_around(90, SIDE * 4, SIDE * 4), SCALE)
    still, noisy = Flicker(), Flicker()
    for i in range(4):
        rendered = run.render(path[i], ["rgb", "ray_distance"])
        fine = run.render(cameras_around(90, SIDE * 4, SIDE * 4)[i], ["rgb"])["rgb"]
        still.observe(path[i], rendered["ray_distance"], rendered["rgb"], fine)
        rough = fine + 0.2 * torch.randn(fine.shape, generator=torch.Generator().manual_seed(i))
        noisy.observe(path[i], rendered["ray_distance"], rendered["rgb"], rough)
    assert still.pairs == noisy.pairs == 3
    assert still.refined < 0.01 and noisy.refined > 5 * still.refined
    assert noisy.raw == still.raw < 0.02


@pytest.fixture
def textured(tmp_path, monkeypatch):
    """A run of a sphere with stripes finer than its small renders' pixels, and its photographs."""

    class Striped(SphereRun):
        def render(self, camera, outputs):
            out = super().render(camera, ["rgb", "opacity", "ray_distance"])
            points = points_of(camera, out["ray_distance"])
            stripes = 0.5 + 0.5 * torch.sin(40 * points[..., 2:])
            hit = out["opacity"][..., None] > 0
            out["rgb"] = torch.where(hit, 0.5 * out["rgb"] + 0.5 * stripes, 1.0)
            return {name: out[name] for name in outputs}

    folder = tmp_path / "run"
    folder.mkdir()
    run = Striped(folder, tmp_path / "data", cameras(24))
    run.background, run.field = torch.ones(3), None
    write_blender(tmp_path / "data", run, 24, SIDE * SCALE, SIDE * SCALE)
    monkeypatch.setattr(train_module.Run, "load", lambda path: run)
    return run


def test_refiner_restores_detail_and_is_found_again(textured):
    config = RefinerConfig(SCALE, minutes=1e-3, sources=4, width=16, batch=2, patch=16, rate=5e-3)
    trainer = Trainer(textured, config)
    plain, _ = trainer.validate()
    for step in range(60):
        trainer.step(step / 60)
    trainer.average.network.load_state_dict(trainer.network.state_dict())
    again, refined = trainer.validate()
    assert again == plain and refined > plain + 3


def test_files_and_what_is_kept(textured, monkeypatch):
    config = RefinerConfig(SCALE, minutes=1e-3, sources=4, width=16, batch=2, patch=16)
    monkeypatch.setattr(Trainer, "validate", lambda self: (30.0, 30.0))
    assert train_refiner(textured.folder, config) is None
    assert not refiner_path(textured.folder, SCALE).exists()
    monkeypatch.setattr(Trainer, "validate", lambda self: (30.0, 30.1))
    path = train_refiner(textured.folder, config)
    assert path == textured.folder / "refiner-x4.safetensors"
    network, distances = load_refiner(path)
    assert network.sources == 4 and distances.shape == (24, SIDE, SIDE)
    monkeypatch.setattr(refined_module.Run, "render", lambda self, *a: textured.render(*a))
    textured.config["background"], textured.scene_box = "white", torch.zeros(2, 3)
    textured.config["scene_box"] = [[-1, -1, -1], [1, 1, 1]]
    refined = refined_module.RefinedRun(textured, SCALE, watch_flicker=True)
    camera = cameras_around(7, width=126, height=90)[2]
    images = refined.render(camera, ["rgb", "opacity", "ray_distance"])
    assert images["rgb"].shape == (90, 126, 3) and images["opacity"].shape == (90, 126)
    refined.render(camera, ["rgb"])
    assert refined.flicker.pairs == 1 and refined.flicker.refined < 1e-5


def test_no_refiner_is_one_clear_line(tmp_path):
    with pytest.raises(NerfkitError, match="sr train RUN"):
        load_refiner(tmp_path / "refiner-x2.safetensors")
    (tmp_path / "refiner-x2.safetensors").write_bytes(b"no")
    with pytest.raises(NerfkitError, match="not a refiner"):
        load_refiner(tmp_path / "refiner-x2.safetensors")
