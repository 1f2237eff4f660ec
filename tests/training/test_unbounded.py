"""Scenes without bounds: places in the cube and in the world, what is chosen, and a fit of one."""

import dataclasses
import json

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from sphere_run import cameras_around, cameras_side_by_side, to_sphere

from nerfkit.data import load_dataset
from nerfkit.errors import NerfkitError
from nerfkit.evaluate import evaluate
from nerfkit.export.surface import world_octree
from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.fields.unbounded import Unbounded
from nerfkit.kernels.fused_render import Rendered
from nerfkit.run import Run
from nerfkit.training import FitConfig, fit
from nerfkit.training.surroundings import find_surroundings, resolve
from nerfkit.viewer.overlays import cropped

CENTER, HALF = (0.2, -0.1, 0.3), 1.2
FAR = 30.0  # radius of the sphere of pictures round the scene


def sky(directions: torch.Tensor) -> torch.Tensor:
    """Colours [R, 3] of what is far away."""
    x, y, z = directions.unbind(1)
    return torch.stack([0.5 + 0.4 * x, 0.5 + 0.4 * (3 * y).sin(), 0.5 + 0.4 * z], 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs without alpha of a unit ball before a far background, every other one darker."""
    root = tmp_path_factory.mktemp("open")
    cameras = cameras_around(48, 48, 36)
    frames = []
    for i in range(len(cameras)):
        rays = cameras.image_rays(i)
        o, d = rays.origins, rays.directions
        t, hit = to_sphere(o, d)
        colour = torch.where(hit[:, None], (o + t[:, None] * d) * 0.45 + 0.5, sky(d))
        if i % 2:
            colour = 0.85 * colour
        pixels = (colour * 255).round().byte().view(36, 48, 3).numpy()
        imageio.imwrite(root / f"{i:02d}.png", pixels)
        c2w = np.vstack([cameras.c2w[i].numpy(), [0, 0, 0, 1]]).tolist()
        depth = torch.where(hit, -t * (d * cameras.c2w[i, :, 2].float()).sum(1), 0)
        np.save(root / f"{i:02d}.npy", depth.view(36, 48).numpy())
        frames.append({"file_path": f"{i:02d}.png", "transform_matrix": c2w})
    meta = {"fl_x": float(cameras.fx[0]), "w": 48, "h": 36, "frames": frames}
    (root / "transforms.json").write_text(json.dumps(meta))
    return root


def test_places_go_to_the_world_and_back():
    unbounded = Unbounded(CENTER, HALF)
    octree = unbounded.octree(4)
    assert len(octree) == 8**3 + 6 * 8 * 8 * 4
    places = octree.centers()
    world = unbounded.world(places)
    x = (world - torch.tensor(CENTER)) / HALF
    most = x.abs().amax(1)
    outside = places.abs().amax(1) > 1
    assert torch.equal(most > 1, outside)
    assert torch.allclose(places.abs().amax(1)[outside], 2 - 1 / most[outside], atol=1e-5)
    inner = unbounded.inner(octree)
    assert len(inner) == 8**3
    assert torch.allclose(inner.centers(), world[~outside], atol=1e-5)


def opaque() -> FastField:
    unbounded = Unbounded(CENTER, HALF)
    shape = FieldShape((4,), 2, 1e3, 5.0, 1.0, near=0.4, unbounded=unbounded)
    octree = unbounded.octree(5)
    return FastField.create(shape, octree, [4, 5], torch.Generator().manual_seed(0))


def test_depths_are_those_of_the_world():
    field = opaque()
    rays = cameras_around(3).image_rays(1)
    seen: Rendered = field.render(rays.origins, rays.directions, torch.zeros(3))
    assert (seen.opacities > 0.999).all()
    assert seen.depths.min() >= 0.4 and seen.depths.max() < 0.9  # a step beyond the near plane
    assert field.hits(rays.origins, rays.directions).all()


def test_cropping_and_export_look_at_the_world():
    field = opaque()
    box = torch.tensor([[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5]]).numpy()
    part = cropped(field, box)
    places = field.shape.unbounded.world(part.octree.centers())
    assert 0 < len(part.octree) and float(places.abs().max()) <= 0.5
    octree = world_octree(field)
    assert octree.contains(torch.tensor([CENTER]))
    assert (octree.centers() - torch.tensor(CENTER)).abs().max() < HALF


def test_what_is_chosen(folder, sphere_data):
    config = FitConfig(data=folder, output=folder / "no")
    dataset = load_dataset(folder, splits=("train",))
    views = torch.arange(len(dataset))
    assert resolve(config, dataset, views).scene == "unbounded"
    assert resolve(dataclasses.replace(config, preset="nsvf"), dataset, views).scene == "bounded"
    assert resolve(dataclasses.replace(config, scene="bounded"), dataset, views).scene == "bounded"
    assert resolve(dataclasses.replace(config, scene="forward"), dataset, views).ndc
    with pytest.raises(NerfkitError, match="--scene unbounded"):
        resolve(dataclasses.replace(config, preset="nerf", scene="unbounded"), dataset, views)
    with_alpha = load_dataset(sphere_data, splits=("train",))
    assert resolve(config, with_alpha, torch.arange(len(with_alpha))).scene == "bounded"
    forward = dataclasses.replace(
        dataset,
        cameras=cameras_side_by_side(4, apart=0.2),
        bounds=torch.tensor([[1.0, 9.0]] * 4),
    )
    assert resolve(config, forward, torch.arange(4)).scene == "forward"


def test_the_middle_is_what_cameras_look_at(folder):
    dataset = load_dataset(folder, splits=("train",))
    scene = find_surroundings(dataset, torch.arange(len(dataset)))
    assert torch.tensor(scene.unbounded.center).norm() < 0.01
    assert 1 < scene.unbounded.half < 4 and 0 < scene.near < 1.5
    assert not scene.carved and (scene.octree.centers().abs() > 1).sum(1).max() <= 1


@pytest.mark.parametrize(("scene", "exposure"), [("bounded", True), ("unbounded", False)])
def test_exposures_are_kept_where_they_are_found(folder, tmp_path, scene, exposure):
    options = {"steps": 1, "samples": 1000, "finest": 32, "scene": scene, "exposure": exposure}
    run = fit(FitConfig(data=folder, output=tmp_path / "run", **options))
    assert (run / "exposures.json").is_file() == exposure


def test_a_fit_shows_what_is_near_and_far(folder, tmp_path):
    config = FitConfig(
        data=folder, output=tmp_path / "run", steps=250, finest=64, samples=30_000, holdout=0
    )
    run = Run.load(fit(config))
    assert run.config["scene"] == "unbounded"
    # measured 21.1: every other view is darker, and is compared as the mean view shows it
    mean = evaluate(run)["psnr"]
    assert mean > 18.5
    near = evaluate(run, exposed=True)
    assert near["exposed"] and near["psnr"] > 18 and near["psnr"] != mean
    camera = load_dataset(folder, splits=("test",)).cameras[0]
    seen = run.render(camera, ["ray_distance", "opacity"])
    assert seen["opacity"].mean() > 0.95
    assert abs(float(seen["ray_distance"][18, 24]) - 3) < 0.4  # the ball; measured 0.07
    assert float(seen["ray_distance"][12, 2]) > 3.8  # what is behind it


def test_depths_alone_make_a_shape(folder, tmp_path):
    meta = json.loads((folder / "transforms.json").read_text())
    grey = np.full((36, 48, 3), 128, np.uint8)
    for i, frame in enumerate(meta["frames"]):
        imageio.imwrite(tmp_path / f"{i:02d}.png", grey)
        (tmp_path / f"{i:02d}.npy").write_bytes((folder / f"{i:02d}.npy").read_bytes())
        frame["depth_file_path"] = f"{i:02d}.npy"
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    config = FitConfig(
        data=tmp_path,
        output=tmp_path / "run",
        steps=80,
        finest=32,
        samples=20_000,
        depth_weight=1.0,
    )
    run = Run.load(fit(config))
    camera = load_dataset(tmp_path, splits=("test",)).cameras[0]
    seen = run.render(camera, ["ray_distance"])["ray_distance"]
    assert (seen[12:24, 18:30] - 3.05).abs().mean() < 0.3  # measured 0.07
