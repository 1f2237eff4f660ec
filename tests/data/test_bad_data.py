"""Every way a data set can be wrong gives one clear line that names the file."""

import json
import re
import shutil
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_writers import write_colmap, write_llff, write_nerfstudio, write_nsvf
from PIL import Image

from nerfkit.data import load_dataset
from nerfkit.errors import NerfkitError


def refuse(root: Path, message: str, **options: Any) -> None:
    """Loading raises a NerfkitError of one line that matches."""
    with pytest.raises(NerfkitError, match=message) as caught:
        load_dataset(root, **options)
    assert "\n" not in str(caught.value)


def edit(path: Path, change: Callable[[dict], Any]) -> None:
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta))


def set_matrix(row: int, column: int, value: Any) -> Callable[[dict], None]:
    return lambda meta: meta["frames"][2]["transform_matrix"][row].__setitem__(column, value)


def scale_pose(meta: dict) -> None:
    frame = meta["frames"][2]
    frame["transform_matrix"] = (np.array(frame["transform_matrix"]) * [3, 3, 3, 1]).tolist()


FRAME = r"transforms_train\.json: frame 2 \(\./train/r_2\): "


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_matrix(0, 3, float("nan")), FRAME + "the camera pose holds NaN"),
        (set_matrix(0, 0, 7.0), FRAME + "the camera pose is not rigid"),
        (scale_pose, FRAME + "the camera pose is scaled by 3; divide"),
        (set_matrix(3, 3, 2.0), FRAME + "the last row of transform_matrix"),
        (set_matrix(0, 0, "x"), FRAME + "transform_matrix is not a matrix of numbers"),
        (lambda m: m["frames"][2].pop("transform_matrix"), FRAME + '"transform_matrix" is missing'),
        (lambda m: m["frames"][2].update(transform_matrix=[[1, 2], [3, 4]]), "must be 4x4"),
        (lambda m: m["frames"][2].pop("file_path"), "frame 2 .*wanted the path of an image"),
        (lambda m: m["frames"][2].update(file_path="train/gone"), "image 'train/gone' is not"),
        (lambda m: m["frames"][2].update(file_path="../../x"), "points outside the folder"),
        (lambda m: m["frames"][2].update(file_path="/etc/passwd"), "points outside the folder"),
        (lambda m: m["frames"][2].update(file_path="link/x"), "points outside the folder"),
        (lambda m: m["frames"][2].update(mask_path="../m.png"), "points outside the folder"),
        (lambda m: m["frames"][2].update(w=13, h=8), r"r_2\.png: image is 12x8, .* says 13x8"),
        (lambda m: m["frames"][2].update(w=12.5, h=8), "must be whole numbers"),
        (lambda m: m["frames"][2].update(fl_x=0), "focal lengths must be positive"),
        (lambda m: m["frames"][2].update(w=1e308, h=8), "image size must be positive"),
        (lambda m: m["frames"][2].update(fl_x=10**400), '"fl_x" must be a number'),
        (lambda m: m["frames"][2].update(file_path="a" * 5000), "is not there"),
        (lambda m: m["frames"][2].update(fl_x="a"), '"fl_x" must be a number'),
        (lambda m: m["frames"][2].update(camera_angle_x=0), "focal lengths must be positive"),
        (lambda m: m["frames"][2].update(cx=float("inf")), "principal point"),
        (lambda m: m["frames"][2].update(camera_model="ODS"), "unknown camera model 'ODS'"),
        (lambda m: m["frames"][2].update(camera_model=[1]), "unknown camera model"),
        (lambda m: m["frames"][2].update(k1="a"), "distortion .* must be numbers"),
        (lambda m: m.pop("camera_angle_x"), "no focal length"),
        (lambda m: m.pop("frames"), 'wanted an object with a list "frames"'),
        (lambda m: m["frames"].insert(0, 3), "frame 0: wanted an object"),
        (lambda m: m["frames"].clear(), "the train split has no views"),
    ],
)
def test_bad_transforms(change: Callable, message: str, blender_set: Path) -> None:
    (blender_set / "link").symlink_to(blender_set.parent)
    edit(blender_set / "transforms_train.json", change)
    refuse(blender_set, message, splits=["train", "test"])
    refuse(blender_set, message, splits=["train", "test"], load_images=False)


def test_not_json(blender_set: Path) -> None:
    (blender_set / "transforms_train.json").write_text('{"frames": [}')
    refuse(blender_set, r"transforms_train\.json: not JSON: line 1 column 13")


def test_truncated_and_missing_image(blender_set: Path) -> None:
    path = blender_set / "train" / "r_5.png"
    path.write_bytes(path.read_bytes()[:150])
    refuse(blender_set, r"train/r_5\.png: not an image we can read")
    path.unlink()
    refuse(blender_set, r"frame 5 \(\./train/r_5\): image '\./train/r_5' is not there")


def test_symlinked_image_outside(blender_set: Path) -> None:
    path = blender_set / "train" / "r_5.png"
    path.rename(blender_set.parent / "r_5.png")
    path.symlink_to(blender_set.parent / "r_5.png")
    refuse(blender_set, "points outside the folder")


def test_empty_split(blender_set: Path) -> None:
    edit(blender_set / "transforms_test.json", lambda meta: meta["frames"].clear())
    assert load_dataset(blender_set).splits["test"].tolist() == []
    refuse(blender_set, "the test split has no views; present: train", splits=["test"])
    edit(blender_set / "transforms_train.json", lambda meta: meta["frames"].clear())
    refuse(blender_set, "no images are listed")


def test_unknown_format(tmp_path: Path) -> None:
    refuse(tmp_path, r"no data set we know; looked for transforms_train\.json .*poses_bounds\.npy")
    refuse(tmp_path / "gone", "not a folder")
    refuse(tmp_path, "downscale must be", downscale=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["test_filenames"].append("images/extra.png"), "is not among the frames"),
        (lambda m: m["test_filenames"].append("images/gone.png"), "is not there"),
        (lambda m: m.update(test_filenames=3), "test_filenames: wanted a list"),
        (lambda m: m.update(integer_depth_scale=-1), "depth unit must be a positive number"),
        (lambda m: m.update(aabb_scale="x"), "is not a number"),
        (lambda m: m.update(aabb_scale=-1), "must be positive"),
        (lambda m: m.update(ply_file_path="images/extra.png"), "not a PLY point file"),
        (lambda m: m["frames"][0].update(split=3), "split must be a name"),
    ],
)
def test_bad_nerfstudio(change: Callable, message: str, blender_set: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_nerfstudio(load_dataset(blender_set), root)
    shutil.copy(root / "images/0000.png", root / "images/extra.png")
    edit(root / "transforms.json", change)
    refuse(root, message)


@pytest.mark.parametrize("file", ["cameras", "images", "points3D"])
def test_truncated_colmap(file: str, blender_set: Path, tmp_path: Path) -> None:
    """Cut anywhere, a binary file is refused; never a crash or a silent subset."""
    root = tmp_path / "set"
    write_colmap(load_dataset(blender_set), root)
    path = root / "sparse/0" / f"{file}.bin"
    data = path.read_bytes()
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        refuse(root, rf"{file}\.bin: the COLMAP file ends early", load_images=False)


def test_bad_colmap(blender_set: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_colmap(load_dataset(blender_set), root)
    model = root / "sparse/0"
    cameras = (model / "cameras.bin").read_bytes()
    (model / "cameras.bin").write_bytes(cameras[:12] + struct.pack("<i", 10) + cameras[16:])
    refuse(root, "COLMAP file ends early|unknown camera model")
    (model / "cameras.bin").write_bytes(cameras[:12] + struct.pack("<i", 77) + cameras[16:])
    refuse(root, "unknown camera model number 77")
    (model / "cameras.bin").write_bytes(struct.pack("<Q", 0))
    refuse(root, r"0000\.png: camera 1 is not in the cameras file")
    (model / "cameras.bin").unlink()
    refuse(root, r"cameras\.bin: not there")


@pytest.mark.parametrize(
    ("file", "line", "text", "message"),
    [
        ("cameras", 1, "1 PINHOLE 12", r"cameras\.txt: line 2: wanted CAMERA_ID"),
        ("cameras", 1, "1 PINHOLE 12 8 1 2 3", "PINHOLE has 4 parameters, got 3"),
        ("cameras", 1, "1 FOV 12 8 9 9 6 4 1", "unknown camera model 'FOV'"),
        ("cameras", 1, "1 PINHOLE 12 8 0 9 6 4", "focal lengths must be positive"),
        ("images", 1, "1 1 0 0 0 0 0", r"images\.txt: line 2: wanted IMAGE_ID"),
        ("images", 1, "1 2 0 0 0 0 0 0 1 0000.png", "not a unit quaternion"),
        ("images", 1, "1 1 0 0 0 nan 0 0 1 0000.png", "pose holds NaN"),
        ("images", 1, "1 1 0 0 0 0 0 0 1 ../../0000.png", "points outside the folder"),
        ("points3D", 0, "1 0 zero", r"points3D\.txt: line 1: wanted POINT3D_ID"),
    ],
)
def test_bad_colmap_text(
    file: str, line: int, text: str, message: str, blender_set: Path, tmp_path: Path
) -> None:
    root = tmp_path / "set"
    write_colmap(load_dataset(blender_set), root, binary=False)
    path = root / "sparse/0" / f"{file}.txt"
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines))
    refuse(root, message)


class Pickled:
    def __reduce__(self) -> tuple:
        return (print, ("this must never run",))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((10, 15)), r"wanted numbers of shape \(views, 17\), got float64 \(10, 15\)"),
        (np.zeros(17), "wanted numbers of shape"),
        (np.zeros((9, 17)), r"9 poses, but .*images holds 10 images"),
        (np.zeros((10, 17)), r"row 0 \(0000\.png\): image size 0.0 x 0.0 is not positive"),
        (np.array([Pickled()] * 10), "not a numpy array we can read: .*Python objects"),
        (np.full((10, 17), "a"), "wanted numbers"),
    ],
)
def test_bad_llff(rows: np.ndarray, message: str, blender_set: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_llff(load_dataset(blender_set), root)
    np.save(root / "poses_bounds.npy", rows, allow_pickle=True)
    refuse(root, message)


@pytest.mark.parametrize("bounds", [(np.nan, 9), (0, 9), (-1, 9), (9, 9), (1, np.inf)])
def test_bad_llff_bounds(bounds: tuple, blender_set: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_llff(load_dataset(blender_set), root)
    rows = np.load(root / "poses_bounds.npy")
    rows[3, 15:] = bounds
    np.save(root / "poses_bounds.npy", rows)
    refuse(root, r"row 3 \(0003\.png\): wanted bounds 0 < near < far, got")


@pytest.mark.parametrize("huge", [np.nan, np.inf, 1e300])
def test_poses_that_are_no_numbers_are_refused_without_a_warning(
    huge: float, blender_set: Path, tmp_path: Path
) -> None:
    write_llff(load_dataset(blender_set), tmp_path / "llff")
    rows = np.load(tmp_path / "llff/poses_bounds.npy")
    rows[3, 1] = huge
    np.save(tmp_path / "llff/poses_bounds.npy", rows)
    write_nsvf(load_dataset(blender_set), tmp_path / "nsvf")
    pose = next((tmp_path / "nsvf/pose").iterdir())
    pose.write_text(pose.read_text().replace("1", str(huge), 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refuse(tmp_path / "llff", r"row 3 \(0003\.png\): ")
        refuse(tmp_path / "nsvf", f"{pose.name}: ")


def test_bad_llff_folders(blender_set: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_llff(load_dataset(blender_set), root)
    good = np.load(root / "poses_bounds.npy")
    (root / "poses_bounds.npy").write_bytes((root / "poses_bounds.npy").read_bytes()[:300])
    refuse(root, "not a numpy array we can read")
    np.save(root / "poses_bounds.npy", good)
    Image.new("RGB", (12, 12)).save(root / "images/0003.png")
    refuse(root, r"0003\.png: image is 12x12, its pose was made for 12x8")
    (root / "images").rename(root / "images_2")
    refuse(root, "no image folder can be reduced to a downscale of 3", downscale=3)
    shutil.rmtree(root / "images_2")
    refuse(root, "no image folder; looked for images, images_2")
    (root / "images").mkdir()
    refuse(root, "no images")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("bbox.txt", "1 2 3", "wanted six coordinates"),
        ("bbox.txt", "1 1 1 -1 2 2 0.1", "low corner"),
        ("bbox.txt", "a b", "wanted only numbers"),
        ("intrinsics.txt", "1 2\n3 4", "wanted a 4x4 matrix or"),
        ("intrinsics.txt", "", "wanted a 4x4 matrix or"),
        ("intrinsics.txt", "0 6 4 0", "focal lengths must be positive"),
        ("pose/0_0002.txt", "1 0 0 0\n0 1 0 0\n0 0 1 0", "wanted a 4x4 matrix, got shape"),
        ("pose/0_0002.txt", "1 0 0 0\n0 1 0", "rows of different lengths"),
        ("pose/0_0002.txt", "", "wanted a matrix"),
    ],
)
def test_bad_nsvf(file: str, text: str, message: str, blender_set: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_nsvf(load_dataset(blender_set), root)
    (root / file).write_text(text)
    refuse(root, re.escape(file) + ".*" + message if file != "intrinsics.txt" else message)


def test_nsvf_short_intrinsics_and_missing_pose(blender_set: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_nsvf(load_dataset(blender_set), root)
    (root / "intrinsics.txt").write_text("14.5 6 4 0.\n0. 0. 0.\n1.\n8 12\n")
    dataset = load_dataset(root)
    assert dataset.cameras.fy.tolist() == [14.5] * 10 and float(dataset.cameras.cx[0]) == 6
    (root / "pose/0_0002.txt").unlink()
    refuse(root, r"pose/0_0002\.txt: cannot be read: No such file")
