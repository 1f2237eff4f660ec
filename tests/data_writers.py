"""Writers that put a loaded data set into other formats, so that loaders can be compared.

Image i keeps its number in its new name, whatever order a format lists it in (`number_of`). Where
the data set was loaded without images, blank ones of the right size are written.
"""

import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from nerfkit.data import Dataset

FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL camera axes <-> OpenCV camera axes
COLMAP_MODELS = {"PINHOLE": 1, "OPENCV": 4, "OPENCV_FISHEYE": 5}
PREFIXES = {"train": "0_", "val": "1_", "test": "2_"}


def number_of(name: str) -> int:
    """The index in the original data set of an image written here."""
    return int(Path(name).stem.split("_")[-1])


def write_nerfstudio(dataset: Dataset, folder: Path) -> None:
    """transforms.json with intrinsics by frame and split file lists."""
    names = _write_images(dataset, folder, "images/{i:04d}.png")
    cameras = dataset.cameras
    frames = []
    for i, name in enumerate(names):
        distortion = zip(
            ("k1", "k2", "k3", "k4", "p1", "p2"), cameras.distortion[i].tolist(), strict=True
        )
        frames.append(
            {
                "file_path": name,
                "transform_matrix": _c2w(dataset, i).tolist(),
                "fl_x": float(cameras.fx[i]),
                "fl_y": float(cameras.fy[i]),
                "cx": float(cameras.cx[i]),
                "cy": float(cameras.cy[i]),
                "w": int(cameras.width[i]),
                "h": int(cameras.height[i]),
                "camera_model": cameras.model[i],
                **dict(distortion),
            }
        )
    lists = {f"{k}_filenames": [names[i] for i in v.tolist()] for k, v in dataset.splits.items()}
    (folder / "transforms.json").write_text(json.dumps({**lists, "frames": frames}))


def write_nsvf(dataset: Dataset, folder: Path) -> None:
    """NSVF directory; pinhole, one camera for all views."""
    split_of = {i: split for split, rows in dataset.splits.items() for i in rows.tolist()}
    names = _write_images(dataset, folder, "rgb/{prefix}{i:04d}.png", split_of)
    (folder / "pose").mkdir()
    for i, name in enumerate(names):
        path = folder / "pose" / (Path(name).stem + ".txt")
        np.savetxt(path, _c2w(dataset, i) @ FLIP, fmt="%.17g")
    cameras = dataset.cameras
    fx, fy, cx, cy = (float(v[0]) for v in (cameras.fx, cameras.fy, cameras.cx, cameras.cy))
    matrix = [[fx, 0, cx, 0], [0, fy, cy, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.savetxt(folder / "intrinsics.txt", matrix, fmt="%.17g")
    (folder / "bbox.txt").write_text("-1 -1.5 -2 1 1.5 2 0.4\n")


def write_llff(dataset: Dataset, folder: Path) -> None:
    """poses_bounds.npy; pinhole with square pixels and a central principal point."""
    _write_images(dataset, folder, "images/{i:04d}.png")
    rows = []
    for i in range(len(dataset)):
        right, up, back, centre = _c2w(dataset, i)[:3].T
        camera = dataset.cameras
        size = [float(camera.height[i]), float(camera.width[i]), float(camera.fx[i])]
        rows.append([*np.stack([-up, right, back, centre, size], axis=1).ravel(), 1.0, 9.0])
    np.save(folder / "poses_bounds.npy", np.array(rows))


def write_colmap(dataset: Dataset, folder: Path, binary: bool = True) -> None:
    """sparse/0 with one camera a view and three points."""
    names = _write_images(dataset, folder, "images/{i:04d}.png")
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    cameras, poses = [], []
    for i in range(len(dataset)):
        camera = dataset.cameras
        values = [float(v[i]) for v in (camera.fx, camera.fy, camera.cx, camera.cy)]
        k1, k2, k3, k4, p1, p2 = camera.distortion[i].tolist()
        if camera.model[i] != "PINHOLE":
            values += [k1, k2, p1, p2] if camera.model[i] == "OPENCV" else [k1, k2, k3, k4]
        cameras.append((camera.model[i], int(camera.width[i]), int(camera.height[i]), values))
        world_to_camera = np.linalg.inv(_c2w(dataset, i) @ FLIP)
        x, y, z, w = Rotation.from_matrix(world_to_camera[:3, :3]).as_quat()
        poses.append([w, x, y, z, *world_to_camera[:3, 3]])
    points = np.array([[0.0, 0.0, 0.0], [1.0, 0.5, 0.25], [-0.5, 0.0, 1.0]])
    write = _write_binary if binary else _write_text
    write(model, cameras, poses, [Path(name).name for name in names], points)


def _write_binary(model: Path, cameras: list, poses: list, names: list, points: np.ndarray) -> None:
    data = struct.pack("<Q", len(cameras))
    for i, (name, width, height, values) in enumerate(cameras):
        data += struct.pack("<iiQQ", i + 1, COLMAP_MODELS[name], width, height)
        data += struct.pack(f"<{len(values)}d", *values)
    (model / "cameras.bin").write_bytes(data)
    data = struct.pack("<Q", len(names))
    for i, (pose, name) in enumerate(zip(poses, names, strict=True)):
        data += struct.pack("<i7di", i + 1, *pose, i + 1) + name.encode() + b"\0"
        data += struct.pack("<QddQ", 1, 3.5, 4.5, 0)  # one 2-D point to step over
    (model / "images.bin").write_bytes(data)
    data = struct.pack("<Q", len(points))
    for i, point in enumerate(points):
        data += struct.pack("<Q3d3Bd", i, *point, 10, 20, 30, 0.5) + struct.pack("<Qii", 1, 1, 0)
    (model / "points3D.bin").write_bytes(data)


def _write_text(model: Path, cameras: list, poses: list, names: list, points: np.ndarray) -> None:
    lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
    for i, (name, width, height, values) in enumerate(cameras):
        lines.append(f"{i + 1} {name} {width} {height} {_numbers(values)}")
    (model / "cameras.txt").write_text("\n".join(lines) + "\n")
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"]
    for i, (pose, name) in enumerate(zip(poses, names, strict=True)):
        lines += [f"{i + 1} {_numbers(pose)} {i + 1} {name}", "" if i % 2 else "3.5 4.5 0"]
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    lines = [f"{i} {_numbers(point)} 10 20 30 0.5 1 0" for i, point in enumerate(points)]
    (model / "points3D.txt").write_text("\n".join(lines) + "\n")


def _numbers(values: list | np.ndarray) -> str:
    return " ".join(f"{value:.17g}" for value in values)


def _c2w(dataset: Dataset, i: int) -> np.ndarray:
    return np.concatenate([dataset.cameras.c2w[i].numpy(), [[0.0, 0.0, 0.0, 1.0]]])


def _write_images(
    dataset: Dataset, folder: Path, pattern: str, split_of: dict[int, str] | None = None
) -> list[str]:
    names = []
    for i in range(len(dataset)):
        prefix = PREFIXES[split_of[i]] if split_of else ""
        name = pattern.format(i=i, prefix=prefix)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if dataset.images:
            Image.fromarray(dataset.images[i].numpy()).save(path)
        else:
            size = int(dataset.cameras.width[i]), int(dataset.cameras.height[i])
            Image.new("L", size).save(path)
        names.append(name)
    return names
