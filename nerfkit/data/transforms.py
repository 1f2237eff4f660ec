"""transforms.json of instant-ngp and nerfstudio, and the frame parser Blender sets share.

transform_matrix is c2w [4, 4] in OpenGL camera axes, world +Z up, taken as it is (nerfstudio's
applied_transform is already part of it, and its point file is in the same world; which frame sees
which point stands in points_seen_path, `nerfkit prepare`'s own). Intrinsics
(fl_x, fl_y, cx, cy, w, h in pixels; camera_angle_x in radians) and distortion may stand at the top
or in a frame, the frame winning.

Of a camera that moved during its exposure a frame has transform_matrix_start and
transform_matrix_end, and rolling_shutter [a, b, c, d], there or at the top, says when each pixel
was seen (nerfkit.shutter): [0, 0, 1, 0] from the top row to the bottom one; without it, all at the
start. A transform_matrix beside these two only says where the camera was on the whole.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nerfkit.cameras import check_pose
from nerfkit.data.images import image_size
from nerfkit.data.listing import Listing, View, find_image
from nerfkit.errors import NerfkitError
from nerfkit.files import read_json, resolve_inside
from nerfkit.shutter import Shutter

DISTORTION_KEYS = ("k1", "k2", "k3", "k4", "p1", "p2")
# COLMAP's smaller models use the same keys with the rest zero
MODEL_NAMES = {
    "PINHOLE": "PINHOLE",
    "SIMPLE_PINHOLE": "PINHOLE",
    "OPENCV": "OPENCV",
    "SIMPLE_RADIAL": "OPENCV",
    "RADIAL": "OPENCV",
    "OPENCV_FISHEYE": "OPENCV_FISHEYE",
}
SPLIT_KEYS = {"train": "train_filenames", "val": "val_filenames", "test": "test_filenames"}
EXPOSURE_KEYS = ("transform_matrix_start", "transform_matrix_end")
MILLIMETRE = 1e-3
INSTANT_NGP_SCALE, INSTANT_NGP_OFFSET = 0.33, 0.5


def read_frames(root: Path, path: Path, split: str | None = None) -> tuple[dict, list[View]]:
    """The JSON object of a transforms file and its views (their split, unless each states one)."""
    meta = read_json(path)
    if not isinstance(meta, dict) or not isinstance(meta.get("frames"), list):
        raise NerfkitError(f'{path}: wanted an object with a list "frames"')
    views = []
    for i, frame in enumerate(meta["frames"]):
        if not isinstance(frame, dict):
            raise NerfkitError(f"{path}: frame {i}: wanted an object, got {frame!r:.60}")
        source = f"{path}: frame {i} ({frame.get('file_path')})"
        views.append(_view(root, frame, meta, source, split))
    return meta, views


def load_transforms(root: Path) -> Listing:
    """transforms.json with images, masks, depth, splits and (nerfstudio) sparse points."""
    path = root / "transforms.json"
    meta, views = read_frames(root, path)
    _assign_splits(root, path, meta, views)
    unit = meta.get("integer_depth_scale", meta.get("depth_unit_scale_factor", MILLIMETRE))
    if not _is_number(unit) or not 0 < unit < math.inf:
        raise NerfkitError(f"{path}: the depth unit must be a positive number, got {unit!r}")
    listing = Listing("transforms", views, depth_unit=float(unit))
    listing.scene_box = _ngp_box(path, meta)
    if meta.get("ply_file_path"):
        listing.points = _read_points(resolve_inside(root, str(meta["ply_file_path"])))
        if meta.get("points_seen_path"):
            file = resolve_inside(root, str(meta["points_seen_path"]))
            listing.seen = _read_seen(file, len(views), len(listing.points))
    return listing


def _view(root: Path, frame: dict, meta: dict, source: str, split: str | None) -> View:
    image_path = find_image(root, frame.get("file_path"), source)
    intrinsics = _intrinsics(frame, meta, image_path, source)
    model, distortion = _lens(frame, meta, source)
    shutter = _shutter(frame, meta, intrinsics, source)
    if shutter is not None and frame.get("transform_matrix") is None:
        c2w = shutter.middle()[0].numpy()
    else:
        c2w = _matrix(frame, "transform_matrix", source)
    split = frame.get("split", split)
    if split is not None and not isinstance(split, str):
        raise NerfkitError(f"{source}: split must be a name, got {split!r}")
    return View(
        source=source,
        image_path=image_path,
        c2w=c2w,
        **intrinsics,
        model=model,
        distortion=distortion,
        mask_path=_optional_file(root, frame.get("mask_path"), source),
        depth_path=_optional_file(
            root, frame.get("depth_file_path", frame.get("depth_path")), source
        ),
        split=split,
        shutter=shutter,
    )


def _shutter(frame: dict, meta: dict, intrinsics: dict, source: str) -> Shutter | None:
    given = frame.get("rolling_shutter", meta.get("rolling_shutter", [0.0] * 4))
    good = isinstance(given, list) and len(given) in (3, 4) and all(map(_is_number, given))
    if not good or not all(map(math.isfinite, given)):
        raise NerfkitError(f"{source}: rolling_shutter must be 4 finite numbers, got {given!r:.60}")
    if all(frame.get(key) is None for key in EXPOSURE_KEYS):
        return None
    poses = []
    for key in EXPOSURE_KEYS:
        pose = torch.from_numpy(_matrix(frame, key, source))
        check_pose(pose, source, key)
        poses.append(pose[None])
    given = [float(value) for value in given] + [0.0] * (4 - len(given))
    return Shutter.of(*poses, [given], **intrinsics)


def _matrix(frame: dict, key: str, source: str) -> np.ndarray:
    value = frame.get(key)
    if value is None:
        beside = " beside the other" if key in EXPOSURE_KEYS else ""
        raise NerfkitError(f'{source}: "{key}" is missing{beside}')
    try:
        matrix = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise NerfkitError(f"{source}: {key} is not a matrix of numbers") from error
    if matrix.shape not in ((4, 4), (3, 4)):
        raise NerfkitError(f"{source}: {key} must be 4x4, got shape {matrix.shape}")
    if matrix.shape == (4, 4) and np.abs(matrix[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise NerfkitError(
            f"{source}: the last row of {key} must be 0 0 0 1, got {matrix[3].tolist()}"
        )
    return matrix[:3]


def _intrinsics(frame: dict, meta: dict, image_path: Path, source: str) -> dict[str, float]:
    def number(key: str) -> float | None:
        value = frame.get(key, meta.get(key))
        if value is not None and not _is_number(value):
            raise NerfkitError(f'{source}: "{key}" must be a number, got {value!r:.60}')
        return value

    width, height = number("w"), number("h")
    if width is None or height is None:
        width, height = image_size(image_path)
    if width % 1 or height % 1:  # NaN and infinity too
        raise NerfkitError(f"{source}: image size must be whole numbers, got {width} x {height}")
    fx, fy = number("fl_x"), number("fl_y")
    if fx is None:
        fx = _focal(width, number("camera_angle_x"))
        # square pixels where only a horizontal angle is given; an angle pair states both
        fy = fy if fy is not None else _focal(height, number("camera_angle_y"))
    fx, fy = fx if fx is not None else fy, fy if fy is not None else fx
    if fx is None:
        raise NerfkitError(
            f'{source}: no focal length: wanted "fl_x" (pixels) or "camera_angle_x" (radians)'
        )
    cx, cy = number("cx"), number("cy")
    return {
        "fx": fx,
        "fy": fy,
        "cx": width / 2 if cx is None else cx,
        "cy": height / 2 if cy is None else cy,
        "width": int(width),
        "height": int(height),
    }


def _focal(size: float, angle: float | None) -> float | None:
    if angle is None:
        return None
    # an angle of 180 degrees or more gives a focal length <= 0, which check_cameras refuses
    tangent = math.tan(0.5 * angle) if math.isfinite(angle) else 0.0
    return 0.5 * size / tangent if tangent else math.inf


def _lens(frame: dict, meta: dict, source: str) -> tuple[str, tuple[float, ...]]:
    values = [frame.get(key, meta.get(key, 0.0)) for key in DISTORTION_KEYS]
    if not all(_is_number(v) for v in values):
        raise NerfkitError(f"{source}: distortion {DISTORTION_KEYS} must be numbers, got {values}")
    distortion = tuple(float(v) for v in values)
    name = frame.get("camera_model", meta.get("camera_model"))
    if name is None:
        if frame.get("is_fisheye", meta.get("is_fisheye")):
            return "OPENCV_FISHEYE", distortion
        return ("OPENCV" if any(distortion) else "PINHOLE"), distortion
    if not isinstance(name, str) or name not in MODEL_NAMES:
        raise NerfkitError(
            f"{source}: unknown camera model {name!r}; known: {', '.join(MODEL_NAMES)}"
        )
    model = MODEL_NAMES[name]
    return model, (0.0,) * 6 if model == "PINHOLE" else distortion


def _optional_file(root: Path, relative: Any, source: str) -> Path | None:
    return None if relative is None else find_image(root, relative, source)


def _is_number(value: Any) -> bool:
    if isinstance(value, int):  # JSON allows whole numbers that fit no float
        return not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, float)


def _assign_splits(root: Path, path: Path, meta: dict, views: list[View]) -> None:
    """train_filenames and its fellows, where present, override splits stated by frame."""
    if not any(key in meta for key in SPLIT_KEYS.values()):
        return
    by_path = {view.image_path: view for view in views}
    for view in views:
        view.split = None
    for split, key in SPLIT_KEYS.items():
        source = f"{path}: {key}"
        names = meta.get(key, [])
        if not isinstance(names, list):
            raise NerfkitError(f"{source}: wanted a list of paths, got {names!r:.60}")
        for name in names:
            view = by_path.get(find_image(root, name, source))
            if view is None:
                raise NerfkitError(f"{source}: {name!r} is not among the frames")
            view.split = split
    if not meta.get(SPLIT_KEYS["train"]):
        for view in views:
            view.split = view.split or "train"


def _ngp_box(path: Path, meta: dict) -> np.ndarray | None:
    """instant-ngp keeps a cube of side aabb_scale around 0.5, after x -> x * scale + offset."""
    if "aabb_scale" not in meta:
        return None
    try:
        side = float(meta["aabb_scale"])
        scale = float(meta.get("scale", INSTANT_NGP_SCALE))
        offset = np.full(3, meta.get("offset", INSTANT_NGP_OFFSET), dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise NerfkitError(f"{path}: aabb_scale, scale or offset is not a number") from error
    if not (0 < side < math.inf and 0 < scale < math.inf and np.isfinite(offset).all()):
        raise NerfkitError(f"{path}: aabb_scale and scale must be positive, offset finite")
    return (np.array([[-0.5], [0.5]]) * side + 0.5 - offset) / scale


def _read_seen(path: Path, n_views: int, n_points: int) -> np.ndarray:
    """Pairs [K, 2] of a frame and a point it sees, from an array of these (.npy)."""
    try:
        seen = np.load(path).astype(np.int64)
    except (OSError, ValueError, EOFError) as error:
        raise NerfkitError(f"{path}: not an array we can read: {error}") from error
    fits = seen.ndim == 2 and seen.shape[1] == 2 and (seen >= 0).all()
    if not fits or (len(seen) and not (seen.max(0) < (n_views, n_points)).all()):
        raise NerfkitError(
            f"{path}: wanted pairs of a frame (of {n_views}) and a point (of {n_points})"
        )
    return seen


def _read_points(path: Path) -> np.ndarray:
    import trimesh  # takes half a second to import

    try:
        return np.asarray(trimesh.load(path, file_type="ply").vertices, dtype=np.float64)
    except Exception as error:  # its readers raise whatever they meet
        raise NerfkitError(f"{path}: not a PLY point file we can read: {error}") from error
