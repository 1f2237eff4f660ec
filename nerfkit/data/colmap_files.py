"""COLMAP's cameras, images and points3D files, binary and text, as numbers in COLMAP's own terms.

Poses are world-to-camera: unit quaternion (w, x, y, z) and translation, OpenCV camera axes.
Layout: https://colmap.github.io/format.html (all little-endian).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nerfkit.errors import NerfkitError

# name -> number of parameters, in the order of COLMAP's model ids
MODEL_PARAMETERS = {
    "SIMPLE_PINHOLE": 3,
    "PINHOLE": 4,
    "SIMPLE_RADIAL": 4,
    "RADIAL": 5,
    "OPENCV": 8,
    "OPENCV_FISHEYE": 8,
    "FULL_OPENCV": 12,
    "FOV": 5,
    "SIMPLE_RADIAL_FISHEYE": 4,
    "RADIAL_FISHEYE": 5,
    "THIN_PRISM_FISHEYE": 12,
}


@dataclass(frozen=True)
class ColmapPoints:
    """Positions [P, 3], and which images see them: [K, 2] of an image's id and a point's place."""

    positions: np.ndarray
    seen: np.ndarray


@dataclass(frozen=True)
class ColmapCamera:
    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    image_id: int
    name: str
    camera_id: int
    quaternion: tuple[float, ...]  # w, x, y, z
    translation: tuple[float, ...]


def read_model(
    folder: Path,
) -> tuple[dict[int, ColmapCamera], list[ColmapImage], ColmapPoints | None, Path]:
    """Cameras by id, images, points (None without a file) and the images file's path."""
    suffix = ".bin" if (folder / "images.bin").is_file() else ".txt"
    cameras_path, images_path = folder / f"cameras{suffix}", folder / f"images{suffix}"
    points_path = folder / f"points3D{suffix}"
    for path in (cameras_path, images_path):
        if not path.is_file():
            raise NerfkitError(f"{path}: not there; a COLMAP model needs cameras and images")
    if suffix == ".bin":
        cameras, images = _binary_cameras(cameras_path), _binary_images(images_path)
        points = _binary_points(points_path) if points_path.is_file() else None
    else:
        cameras, images = _text_cameras(cameras_path), _text_images(images_path)
        points = _text_points(points_path) if points_path.is_file() else None
    return cameras, images, points, images_path


class _Reader:
    """Sequential little-endian reads that know where the file ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise NerfkitError(f"{path}: cannot be read: {error.strerror}") from error
        self.position = 0

    def take(self, layout: str) -> tuple:
        start = self.position
        self.skip(struct.calcsize("<" + layout))
        return struct.unpack_from("<" + layout, self.data, start)

    def skip(self, size: int) -> None:
        self.position += size
        if self.position > len(self.data):
            self.fail(f"ends early, after {len(self.data)} bytes")

    def name(self) -> str:
        end = self.data.find(b"\0", self.position)
        if end < 0:
            self.fail(f"ends early, after {len(self.data)} bytes, inside a name")
        raw, self.position = self.data[self.position : end], end + 1
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.fail("holds an image name that is not UTF-8")

    def fail(self, what: str) -> None:
        raise NerfkitError(f"{self.path}: the COLMAP file {what}; copy or export it again")


def _binary_cameras(path: Path) -> dict[int, ColmapCamera]:
    reader = _Reader(path)
    names = list(MODEL_PARAMETERS)
    cameras = {}
    for _ in range(reader.take("Q")[0]):
        camera_id, model_id, width, height = reader.take("iiQQ")
        if not 0 <= model_id < len(names):
            raise NerfkitError(
                f"{path}: camera {camera_id}: unknown camera model number {model_id}"
            )
        name = names[model_id]
        parameters = reader.take(f"{MODEL_PARAMETERS[name]}d")
        cameras[camera_id] = ColmapCamera(name, width, height, parameters)
    return cameras


def _binary_images(path: Path) -> list[ColmapImage]:
    reader = _Reader(path)
    images = []
    for _ in range(reader.take("Q")[0]):
        image_id, *pose, camera_id = reader.take("i7di")
        name = reader.name()
        reader.skip(24 * reader.take("Q")[0])  # 2-D points: x, y, point id
        images.append(ColmapImage(image_id, name, camera_id, tuple(pose[:4]), tuple(pose[4:])))
    return images


def _binary_points(path: Path) -> ColmapPoints:
    reader = _Reader(path)
    points, tracks = [], []
    for _ in range(reader.take("Q")[0]):
        points.append(reader.take("Q3d3Bd")[1:4])
        # of each view: image id, index of the 2-D point
        length = reader.take("Q")[0]
        reader.skip(8 * length)
        tracks.append(np.frombuffer(reader.data, "<i4", 2 * length, reader.position - 8 * length))
    return _points(points, [track[::2] for track in tracks])


def _points(points: list, tracks: list) -> ColmapPoints:
    owners = np.repeat(np.arange(len(points)), [len(track) for track in tracks])
    images = np.concatenate([np.zeros(0, np.int64), *tracks]).astype(np.int64)
    positions = np.array(points, dtype=np.float64).reshape(-1, 3)
    return ColmapPoints(positions, np.stack([images, owners], 1))


def _text_rows(path: Path, keep_empty: bool = False) -> Iterator[tuple[int, list[str]]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise NerfkitError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if not line.startswith("#") and (line.strip() or keep_empty):
            yield number, line.split()


def _text_cameras(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for number, row in _text_rows(path):
        try:
            name, parameters = row[1], tuple(map(float, row[4:]))
            camera = ColmapCamera(name, int(row[2]), int(row[3]), parameters)
            camera_id = int(row[0])
        except (IndexError, ValueError) as error:
            raise NerfkitError(
                f"{path}: line {number}: wanted CAMERA_ID MODEL WIDTH HEIGHT PARAMS: {error}"
            ) from error
        count = MODEL_PARAMETERS.get(name)
        if count is not None and len(parameters) != count:
            raise NerfkitError(
                f"{path}: line {number}: {name} has {count} parameters, got {len(parameters)}"
            )
        cameras[camera_id] = camera
    return cameras


def _text_images(path: Path) -> list[ColmapImage]:
    images = []
    # every second line holds 2-D points and may be empty
    for number, row in list(_text_rows(path, keep_empty=True))[::2]:
        if not row:
            continue
        try:
            pose = tuple(map(float, row[1:8]))
            name = " ".join(row[9:])
            images.append(ColmapImage(int(row[0]), name, int(row[8]), pose[:4], pose[4:]))
        except (IndexError, ValueError) as error:
            raise NerfkitError(
                f"{path}: line {number}: wanted IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME: "
                f"{error}"
            ) from error
    return images


def _text_points(path: Path) -> ColmapPoints:
    points, tracks = [], []
    for number, row in _text_rows(path):
        try:
            points.append([float(row[1]), float(row[2]), float(row[3])])
            tracks.append(np.array([int(image) for image in row[8::2]], dtype=np.int64))
        except (IndexError, ValueError, OverflowError) as error:
            raise NerfkitError(f"{path}: line {number}: wanted POINT3D_ID X Y Z ...") from error
    return _points(points, tracks)
