"""NSVF directories: bbox.txt, intrinsics.txt, rgb/NAME.png and pose/NAME.txt.

Poses are c2w [4, 4] in OpenCV camera axes; the world is +Z up and taken as it is. bbox.txt: low
corner, high corner, initial voxel size. A name starts with 0_ (train), 1_ (val) or 2_ (test).
"""

from pathlib import Path

import numpy as np

from nerfkit.data.images import image_size
from nerfkit.data.listing import Listing, View, image_files
from nerfkit.errors import NerfkitError
from nerfkit.files import resolve_inside

SPLIT_PREFIXES = {"0_": "train", "1_": "val", "2_": "test"}


def is_nsvf(root: Path) -> bool:
    """Whether the files that make an NSVF directory are there."""
    return (root / "intrinsics.txt").is_file() and all((root / d).is_dir() for d in ("rgb", "pose"))


def load_nsvf(root: Path) -> Listing:
    """The views in file-name order; without 2_ views the 1_ views are the test set."""
    fx, fy, cx, cy = _intrinsics(root / "intrinsics.txt")
    views = []
    for file in image_files(root / "rgb", root):
        pose_path = resolve_inside(root, Path("pose") / f"{file.stem}.txt")
        pose = _matrix(pose_path)
        if pose.shape != (4, 4):
            raise NerfkitError(f"{pose_path}: wanted a 4x4 matrix, got shape {pose.shape}")
        width, height = image_size(file)
        views.append(
            View(
                source=str(pose_path),
                image_path=file,
                c2w=pose[:3] * [1.0, -1.0, -1.0, 1.0],
                fx=fx,
                fy=fy,
                cx=cx,
                cy=cy,
                width=width,
                height=height,
                split=SPLIT_PREFIXES.get(file.name[:2]),
            )
        )
    if not any(view.split == "test" for view in views):
        for view in views:
            view.split = "test" if view.split == "val" else view.split
    return Listing("nsvf", views, scene_box=_scene_box(root / "bbox.txt"))


def _matrix(path: Path) -> np.ndarray:
    """Rows of numbers; NerfkitError where the file is absent, not numbers, or ragged."""
    rows = _rows(path)
    if len({len(row) for row in rows}) != 1:
        raise NerfkitError(f"{path}: wanted a matrix, got rows of different lengths")
    return np.array(rows)


def _rows(path: Path) -> list[list[float]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [list(map(float, line.split())) for line in lines if line.strip()]
    except OSError as error:
        raise NerfkitError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NerfkitError(f"{path}: wanted only numbers: {error}") from error


def _intrinsics(path: Path) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy from a 3x3 or 4x4 matrix (also on one line), or a first line `f cx cy`."""
    rows = _rows(path)
    lengths = [len(row) for row in rows]
    if lengths == [16]:
        rows, lengths = np.reshape(rows, (4, 4)).tolist(), [4] * 4
    if lengths in ([4] * 4, [3] * 3):
        return rows[0][0], rows[1][1], rows[0][2], rows[1][2]
    if lengths and lengths[0] in (3, 4):
        focal, cx, cy = rows[0][:3]
        return focal, focal, cx, cy
    raise NerfkitError(f"{path}: wanted a 4x4 matrix or a first line `f cx cy`")


def _scene_box(path: Path) -> np.ndarray | None:
    if not path.is_file():
        return None
    values = np.concatenate([np.array(row) for row in _rows(path)] or [np.zeros(0)])
    if len(values) not in (6, 7) or not np.isfinite(values).all():
        raise NerfkitError(
            f"{path}: wanted six coordinates and a voxel size, got {values.tolist()}"
        )
    box = values[:6].reshape(2, 3)
    if not (box[0] < box[1]).all():
        raise NerfkitError(
            f"{path}: the low corner must lie below the high corner, got {values.tolist()}"
        )
    return box
