"""Frames with two poses, as instant-ngp writes them."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from test_bad_data import edit, refuse

from nerfkit.data import load_dataset
from nerfkit.training.pixels import Pixels

WIDTH, HEIGHT = 12, 8  # of blender_set
START, END = "transform_matrix_start", "transform_matrix_end"
FRAME = r"transforms_train\.json: frame 2 \(\./train/r_2\): "


def set_off(root: Path, **changes) -> tuple[np.ndarray, np.ndarray]:
    """Frame 2 gets two poses in place of its one; what they are."""
    meta = json.loads((root / "transforms_train.json").read_text())
    start = np.array(meta["frames"][2]["transform_matrix"])
    end = start.copy()
    end[:3, :3] = Rotation.from_rotvec([0.0, 0.1, 0.2]).as_matrix() @ start[:3, :3]
    end[:3, 3] += [0.3, -0.1, 0.2]

    def change(meta: dict) -> None:
        frame = meta["frames"][2]
        frame.pop("transform_matrix")
        frame.update({START: start.tolist(), END: end.tolist()})
        meta.update(changes)

    edit(root / "transforms_train.json", change)
    return start, end


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([0, 0, 1, 0], lambda u, v: v),
        ([0.1, 0.2, 0.6, 0.5], lambda u, v: 0.1 + 0.2 * u + 0.6 * v + 0.25),
        ([0, 1, 0], lambda u, v: u),
        (None, lambda u, v: 0.0),
    ],
)
def test_pixels_are_seen_at_their_times(given, wanted: Callable, blender_set: Path) -> None:
    start, end = set_off(blender_set, **({} if given is None else {"rolling_shutter": given}))
    cameras = load_dataset(blender_set, splits=("train",)).cameras
    for i in (0, 2):
        pixels = torch.tensor([[0.5, 0.5], [WIDTH - 0.5, 2.5], [3.5, HEIGHT - 0.5]])
        rays = cameras.rays(torch.tensor([i]), pixels)
        for origin, (x, y) in zip(rays.origins, pixels.tolist(), strict=True):
            time = wanted(x / WIDTH, y / HEIGHT)
            centre = start[:3, 3] + time * (end[:3, 3] - start[:3, 3])
            expected = centre if i == 2 else cameras.c2w[0, :, 3].numpy()
            assert np.abs(origin.numpy() - expected).max() < 1e-6  # worst measured: 2.4e-7
    middle = start[:3, 3] + wanted(0.5, 0.5) * (end[:3, 3] - start[:3, 3])
    np.testing.assert_allclose(cameras.c2w[2, :, 3], middle, atol=1e-12)
    half = load_dataset(blender_set, downscale=2, splits=("train",)).cameras
    rays, small = (c.rays(torch.tensor([2]), pixels / k) for c, k in ((cameras, 1), (half, 2)))
    torch.testing.assert_close(small.origins, rays.origins)


def test_a_frame_has_its_own_shutter_and_place(blender_set: Path) -> None:
    _, end = set_off(blender_set, rolling_shutter=[0, 0, 1, 0])

    def change(meta: dict) -> None:
        stated = meta["frames"][3]["transform_matrix"]
        meta["frames"][2].update(rolling_shutter=[1, 0, 0, 0], transform_matrix=stated)

    edit(blender_set / "transforms_train.json", change)
    cameras = load_dataset(blender_set, splits=("train",)).cameras
    assert torch.equal(cameras.c2w[2], cameras.c2w[3])
    origins = cameras.image_rays(2).origins.numpy()
    assert np.abs(origins - end[:3, 3]).max() < 1e-6  # worst measured: 2.3e-7


def test_a_set_without_second_poses_has_no_shutter(blender_set: Path) -> None:
    plain = load_dataset(blender_set).cameras
    assert plain.shutter is None
    edit(blender_set / "transforms_train.json", lambda m: m.update(rolling_shutter=[0, 0, 1, 0]))
    assert load_dataset(blender_set).cameras.to_dict() == plain.to_dict()


def test_drawn_rays_and_depths_are_those_of_their_rows(blender_set: Path) -> None:
    """Depths lie along the optical axis that a row's camera had."""
    set_off(blender_set, rolling_shutter=[0, 0, 1, 0])
    dataset = load_dataset(blender_set, splits=("train",))
    dataset.depths[2] = torch.full((HEIGHT, WIDTH), 2.0)
    pixels = Pixels(dataset, torch.tensor([2]))
    batch = pixels.draw(500, torch.Generator().manual_seed(0))
    points = (batch.origins + batch.depths[:, None] * batch.directions).double()
    found, depth = dataset.cameras.project(points, 2)
    assert float((depth - 2).abs().max()) < 1e-5  # worst measured: 4.9e-7
    assert float(((found - 0.5) - (found - 0.5).round()).abs().max()) < 1e-3  # 2.9e-6


def without(key: str) -> Callable[[dict], None]:
    return lambda meta: meta["frames"][2].pop(key)


def put(key: str, row: int, column: int, value: float) -> Callable[[dict], None]:
    return lambda meta: meta["frames"][2][key][row].__setitem__(column, value)


SHUTTER = "rolling_shutter must be 4 finite numbers"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(START), FRAME + f'"{START}" is missing beside the other'),
        (without(END), FRAME + f'"{END}" is missing beside the other'),
        (put(START, 0, 3, math.nan), FRAME + f"{START} holds NaN"),
        (put(END, 1, 1, math.inf), FRAME + f"{END} holds NaN or infinity"),
        (put(END, 0, 0, 7.0), FRAME + f"{END} is not rigid"),
        (put(START, 3, 3, 2.0), FRAME + f"the last row of {START}"),
        (lambda m: m["frames"][2].update({END: [[1, 2], [3, 4]]}), f"{END} must be 4x4"),
        (lambda m: m["frames"][2].update({END: "x"}), f"{END} is not a matrix of numbers"),
        (lambda m: m["frames"][2].update(rolling_shutter=[0, 1]), FRAME + SHUTTER),
        (lambda m: m["frames"][2].update(rolling_shutter=[0, 0, math.nan, 0]), SHUTTER),
        (lambda m: m["frames"][2].update(rolling_shutter=[0, 0, "1", 0]), SHUTTER),
        (lambda m: m.update(rolling_shutter=1), "frame 0 .*" + SHUTTER),
        (lambda m: m.update(rolling_shutter=[0] * 5), SHUTTER),
    ],
)
def test_bad_ones_are_refused(change: Callable, message: str, blender_set: Path) -> None:
    set_off(blender_set)
    edit(blender_set / "transforms_train.json", change)
    refuse(blender_set, message)
