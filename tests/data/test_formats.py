"""One data set written in every format gives the same rays, images and splits."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from data_writers import number_of, write_colmap, write_llff, write_nerfstudio, write_nsvf
from PIL import Image

from nerfkit.cameras import Cameras
from nerfkit.data import Dataset, load_dataset

WRITERS = {
    "transforms": write_nerfstudio,
    "nsvf": write_nsvf,
    "llff": write_llff,
    "colmap-bin": partial(write_colmap, binary=True),
    "colmap-txt": partial(write_colmap, binary=False),
}
RAY_TOLERANCE = 1e-5  # worst measured: 7.2e-7


def assert_same_rays(loaded: Dataset, original: Dataset) -> None:
    """Rays of `loaded`, turned back to the file's world, are those of `original`."""
    assert sorted(map(number_of, loaded.names)) == list(range(len(original)))
    back = loaded.world_transform[:3, :3].T.float()
    generator = torch.Generator().manual_seed(0)
    for i, name in enumerate(loaded.names):
        pixels = 8 * torch.rand(5, 2, generator=generator)
        rays = loaded.cameras.rays(torch.tensor([i]), pixels)
        wanted = original.cameras.rays(torch.tensor([number_of(name)]), pixels)
        for got, want in (
            (rays.origins, wanted.origins),
            (rays.directions, wanted.directions),
        ):
            torch.testing.assert_close(got @ back.T, want, rtol=0, atol=RAY_TOLERANCE)


@pytest.mark.parametrize("kind", WRITERS)
def test_rewritten_set_is_the_same(kind: str, blender_set: Path, tmp_path: Path) -> None:
    original = load_dataset(blender_set)
    WRITERS[kind](original, tmp_path / kind)
    loaded = load_dataset(tmp_path / kind)
    assert loaded.format == kind.split("-")[0]
    assert_same_rays(loaded, original)
    for i, name in enumerate(loaded.names):
        assert torch.equal(loaded.images[i], original.images[number_of(name)])
    up = loaded.cameras.c2w[:, :, 1].mean(dim=0)
    if kind in ("llff", "colmap-bin", "colmap-txt"):
        assert torch.allclose(up / up.norm(), torch.tensor([0.0, 0, 1], dtype=torch.float64))
        assert [number_of(loaded.names[i]) for i in loaded.splits["test"]] == [0, 8]
    else:  # these carry their splits
        for split, rows in original.splits.items():
            got = {number_of(loaded.names[i]) for i in loaded.splits[split].tolist()}
            assert got == set(rows.tolist())
    if kind.startswith("colmap"):
        turned = torch.tensor([1.0, 0.5, 0.25]) @ loaded.world_transform[:3, :3].T.float()
        torch.testing.assert_close(loaded.points[1], turned)  # default fp32 tolerance
    if kind == "nsvf":
        assert loaded.scene_box.tolist() == [[-1, -1.5, -2], [1, 1.5, 2]]
    if kind == "llff":
        assert loaded.bounds.tolist() == [[1.0, 9.0]] * 10


@pytest.mark.parametrize("kind", ["transforms", "colmap-bin", "colmap-txt"])
@pytest.mark.parametrize("model", ["OPENCV", "OPENCV_FISHEYE"])
def test_distortion_survives(model: str, kind: str, blender_set: Path, tmp_path: Path) -> None:
    original = load_dataset(blender_set)
    k1, k2, k3, k4, p1, p2 = 0.05, -0.02, 0.01, -0.003, 0.001, -0.002
    if model == "OPENCV":
        k3 = k4 = 0.0
    else:
        p1 = p2 = 0.0
    cameras = original.cameras.to_dict()
    cameras |= {"model": [model] * 10, "distortion": [[k1, k2, k3, k4, p1, p2]] * 10}
    original.cameras = Cameras.from_dict(cameras)
    WRITERS[kind](original, tmp_path / kind)
    loaded = load_dataset(tmp_path / kind, load_images=False)
    assert loaded.cameras.model == [model] * 10
    assert torch.equal(loaded.cameras.distortion, original.cameras.distortion)
    assert_same_rays(loaded, original)


@pytest.mark.parametrize("kind", ["transforms", "nsvf", "llff", "colmap-bin"])
def test_lego_in_other_formats(kind: str, real_data: Path, tmp_path: Path) -> None:
    original = load_dataset(real_data / "lego", load_images=False, splits=["test"])
    assert len(original) == 25 and not original.images
    WRITERS[kind](original, tmp_path / kind)
    assert_same_rays(load_dataset(tmp_path / kind, load_images=False), original)


def test_blender_intrinsics_and_order(blender_set: Path) -> None:
    dataset = load_dataset(blender_set)
    assert dataset.names[:2] == ["train/r_0.png", "train/r_1.png"]
    assert dataset.splits["train"].tolist() == list(range(7))
    assert dataset.splits["test"].tolist() == [7, 8, 9]
    assert torch.allclose(dataset.cameras.fx, torch.tensor(6 / np.tan(0.4)))
    assert torch.equal(dataset.cameras.fx, dataset.cameras.fy)
    assert float(dataset.cameras.cx[0]) == 6 and float(dataset.cameras.cy[0]) == 4
    assert dataset.images[0].shape == (8, 12, 4) and dataset.images[0].dtype == torch.uint8
    assert torch.equal(dataset.world_transform, torch.eye(4, dtype=torch.float64))


def test_chosen_split_only(blender_set: Path) -> None:
    dataset = load_dataset(blender_set, splits=["train"])
    assert len(dataset) == len(dataset.images) == 7
    assert dataset.splits["test"].tolist() == []


def test_hold_out_without_splits(blender_set: Path) -> None:
    (blender_set / "transforms_test.json").unlink()
    dataset = load_dataset(blender_set)
    assert dataset.splits["test"].tolist() == [0]
    assert dataset.splits["train"].tolist() == [1, 2, 3, 4, 5, 6]


def test_downscale_scales_the_cameras(blender_set: Path) -> None:
    full, half = load_dataset(blender_set), load_dataset(blender_set, downscale=2)
    assert half.images[0].shape == (4, 6, 4)
    assert half.cameras.width.tolist() == [6] * 10
    wanted = full.cameras.rays(torch.tensor([3]), torch.tensor([[7.0, 3.0]]))
    got = half.cameras.rays(torch.tensor([3]), torch.tensor([[3.5, 1.5]]))
    torch.testing.assert_close(got.directions, wanted.directions)


def test_transforms_extras(blender_set: Path, tmp_path: Path) -> None:
    """Masks, depth, per-frame splits, model inference and instant-ngp's box."""
    root = tmp_path / "set"
    write_nerfstudio(load_dataset(blender_set), root)
    meta = json.loads((root / "transforms.json").read_text())
    meta.pop("train_filenames"), meta.pop("test_filenames")
    for i, frame in enumerate(meta["frames"]):
        frame["split"] = "val" if i == 4 else "train" if i else "test"
        frame.pop("camera_model")
    meta["frames"][1]["k1"] = 0.01
    meta["frames"][1]["mask_path"] = "mask.png"
    meta["frames"][2]["depth_file_path"] = "depth.png"
    depths = 256 * np.arange(96, dtype=np.uint16).reshape(8, 12)
    Image.fromarray(depths).save(root / "depth.png")
    meta |= {"aabb_scale": 2, "scale": 0.5, "offset": [0.5, 0.0, 0.5], "integer_depth_scale": 0.25}
    trimesh.PointCloud([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]).export(root / "points.ply")
    meta["ply_file_path"] = "points.ply"
    (root / "transforms.json").write_text(json.dumps(meta))
    mask = np.full((8, 12), 255, np.uint8)
    mask[0, 0] = 0
    Image.fromarray(mask).save(root / "mask.png")
    dataset = load_dataset(root)
    assert dataset.splits["test"].tolist() == [0] and dataset.splits["val"].tolist() == [4]
    assert dataset.cameras.model[:3] == ["PINHOLE", "OPENCV", "PINHOLE"]
    assert dataset.masks[0] is None and dataset.masks[1].tolist() == mask.tolist()
    assert dataset.depths[0] is None
    assert torch.equal(dataset.depths[2], torch.from_numpy(depths.astype(np.float32) * 0.25))
    assert dataset.points.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert dataset.scene_box.tolist() == [[-2, -1, -2], [2, 3, 2]]
    reduced = load_dataset(root, downscale=2).masks[1]
    assert reduced.shape == (4, 6) and reduced[0, 0] == 0 and (reduced > 0).sum() == 23
    assert load_dataset(root, downscale=2).depths[2][1, 2] == 0.25 * float(depths[3, 5])


def test_llff_folder_choice(blender_set: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_llff(load_dataset(blender_set), root)
    assert load_dataset(root, downscale=4).images[0].shape == (2, 3, 4)
    (root / "images").rename(root / "images_2")  # 12x8 at twice the reduction, by its name
    assert load_dataset(root).images[0].shape == (8, 12, 4)
    assert load_dataset(root, downscale=4).images[0].shape == (4, 6, 4)


def test_fox(real_data: Path) -> None:
    dataset = load_dataset(real_data / "fox", load_images=False)
    assert dataset.cameras.model == ["OPENCV"] * 50
    assert dataset.splits["test"].tolist() == [0, 8, 16, 24, 32, 40, 48]
    assert load_dataset(real_data / "fox", splits=["test"], downscale=8).images[0].shape == (
        240,
        135,
        3,
    )


@pytest.mark.parametrize(
    ("downscale", "shape"), [(1, (756, 1008, 3)), (8, (378, 504, 3)), (16, (189, 252, 3))]
)
def test_fern(downscale: int, shape: tuple[int, ...], real_data: Path) -> None:
    dataset = load_dataset(real_data / "fern", downscale=downscale, splits=["test"])
    assert len(dataset) == 3 and dataset.images[0].shape == shape
    focal = 3260.52633 * shape[1] / 4032
    assert float(dataset.cameras.fx[0]) == pytest.approx(focal, rel=1e-6)
    assert dataset.bounds.shape == (3, 2)
