"""Sparse points: wrong ones do no harm, and their depths reach the fit."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from sphere_run import cameras_around
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.data import load_dataset
from nerfkit.errors import NerfkitError
from nerfkit.training.pixels import ANCHORED, Pixels
from nerfkit.training.sparse import anchors_of, box_of, reliable
from nerfkit.training.surroundings import _middle, find_surroundings

RADIUS = 0.7


def on_sphere(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(n, 3, generator=generator)
    return RADIUS * points / points.norm(dim=1, keepdim=True)


def with_outliers(points: Tensor) -> Tensor:
    """A tenth more, all about and far away."""
    generator = torch.Generator().manual_seed(1)
    wrong = torch.randn(len(points) // 10, 3, generator=generator)
    return torch.cat([points, 60 * wrong])


def in_a_row(n: int) -> Cameras:
    """All look along -Y."""
    c2w = torch.zeros(n, 3, 4, dtype=torch.float64)
    c2w[:, 0, 0], c2w[:, 2, 1], c2w[:, 1, 2] = -1, 1, 1
    c2w[:, 0, 3] = torch.linspace(-1, 1, n).double()
    return dataclasses.replace(cameras_around(n, 32, 24), c2w=c2w)


def test_the_box_holds_the_points_and_not_the_wrong_ones() -> None:
    cameras = cameras_around(8, 32, 24)
    low, high = box_of(reliable(with_outliers(on_sphere(2000)), cameras))
    assert (low < -0.9 * RADIUS).all() and (low > -1.6 * RADIUS).all()
    assert (high > 0.9 * RADIUS).all() and (high < 1.6 * RADIUS).all()
    assert reliable(on_sphere(50), cameras) is None
    assert reliable(None, cameras) is None


@pytest.mark.parametrize("beside", [0.0, 0.3])
def test_the_middle_is_where_the_points_are(beside: float) -> None:
    cameras = cameras_around(8, 32, 24)
    shift = torch.tensor([beside, 0.0, 0.0])
    points = reliable(with_outliers(on_sphere(2000) / 2 + shift), cameras)
    middle, reach, inwards = _middle(cameras, points)
    assert inwards
    assert (middle - shift).norm() < 0.05  # worst measured: 0.02
    assert reach == pytest.approx(float(cameras.c2w[:, :, 3].norm(dim=1).median()), rel=0.1)


def test_parallel_cameras_have_their_middle_among_the_points() -> None:
    cameras = in_a_row(6)
    shift = torch.tensor([0.0, -9.0, 0.0])
    middle, reach, _ = _middle(cameras, reliable(on_sphere(500) + shift, cameras))
    assert (middle - shift).norm() < 0.15 and reach == pytest.approx(9, rel=0.05)


@pytest.fixture
def posed(sphere_data: Path, tmp_path: Path):
    """The sphere's photographs as transforms.json, with points on its surface."""
    from data_writers import write_nerfstudio

    write_nerfstudio(load_dataset(sphere_data), tmp_path)
    trimesh.PointCloud(on_sphere(2000).numpy()).export(tmp_path / "points.ply")
    meta = json.loads((tmp_path / "transforms.json").read_text()) | {"ply_file_path": "points.ply"}
    (tmp_path / "transforms.json").write_text(json.dumps(meta))
    return tmp_path


def true_depth(pixels: Pixels, batch, k: int) -> Tensor:
    """Distance [k] along the first rays to the sphere."""
    o, d = batch.origins[:k], batch.directions[:k]
    along = (o * d).sum(1)
    return -along - (along**2 - (o * o).sum(1) + RADIUS**2).clamp_min(0).sqrt()


def test_rays_to_points_know_how_far_these_are(posed: Path) -> None:
    dataset = load_dataset(posed, splits=("train",))
    train = dataset.splits["train"]
    anchors = anchors_of(dataset, train)
    pixels = Pixels(dataset, train)
    pixels.anchors = anchors
    batch = pixels.draw(4096, torch.Generator().manual_seed(0))
    k = 4096 // ANCHORED
    assert (batch.depths[:k] > 0).all() and (batch.depths[k:] == 0).all()
    wrong = (batch.depths[:k] / true_depth(pixels, batch, k) - 1).abs()
    # within a pixel the surface leans; points behind it are hidden by those on it
    assert float(wrong.median()) < 0.02 and float(wrong.quantile(0.95)) < 0.1


def test_views_see_what_the_reconstruction_says(posed: Path) -> None:
    meta = json.loads((posed / "transforms.json").read_text())
    pairs = [[frame, point] for frame in (0, 1, 2) for point in range(100)]
    np.save(posed / "seen.npy", np.array(pairs, np.int32))
    (posed / "transforms.json").write_text(json.dumps(meta | {"points_seen_path": "seen.npy"}))
    dataset = load_dataset(posed)
    anchors = anchors_of(dataset, torch.tensor([2, 3]))
    assert anchors.views.tolist() == [0] * 100
    np.save(posed / "seen.npy", np.array([[0, 5000]]))
    with pytest.raises(NerfkitError, match=r"seen\.npy: wanted pairs of a frame \(of \d+\) and"):
        load_dataset(posed)


def test_nothing_is_seen_nearer_than_points_allow(posed: Path) -> None:
    dataset = load_dataset(posed)
    views = torch.arange(len(dataset))
    known = find_surroundings(dataset, views)
    guessed = find_surroundings(dataclasses.replace(dataset, points=None), views)
    # cameras are 4 from the middle, the nearest points 3.3
    assert guessed.near == pytest.approx(1, rel=0.05)
    assert known.near == pytest.approx(0.6 * 3.3, rel=0.05)
    to_cameras = torch.cdist(
        known.unbounded.world(known.octree.centers()), dataset.cameras.c2w[:, :, 3].float()
    )
    before = guessed.unbounded.world(guessed.octree.centers())
    assert len(known.octree) < len(guessed.octree) and len(before)
    assert float(to_cameras.amin(1).median()) > 2
