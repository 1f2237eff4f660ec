"""Camera paths: made about the training cameras, or read from a nerfstudio camera_path.json.

Conventions: c2w [N, 3, 4] float64, OpenGL axes (+X right, +Y up, looks along -Z), in the world of
the data set. A path is sampled at `fps` frames a second; closed paths do not repeat their first
frame, so they loop without a stutter.
"""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from nerfkit import files, trajectories
from nerfkit.cameras import Cameras
from nerfkit.errors import NerfkitError

KINDS = ("orbit", "spiral", "interpolate")
DEFAULT_SECONDS = 5.0
DEFAULT_FPS = 24.0
LARGEST = 1e12  # of numbers in a file


@dataclasses.dataclass(frozen=True)
class CameraPath:
    """Cameras to render one after the other, all of one size, and how fast to show them."""

    cameras: Cameras
    fps: float
    kind: str  # orbit, spiral, interpolate or the file it was read from


def make_path(
    kind: str | None,
    train_cameras: Cameras,
    scene_box: torch.Tensor,
    seconds: float | None = None,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
) -> CameraPath:
    """The camera path that `--path kind` asks for.

    Args:
        kind: orbit, spiral, interpolate, a camera_path.json, or None for what suits the cameras.
        train_cameras: the cameras the scene was fitted on.
        scene_box: [2, 3] lower and upper corner.
        seconds: length (default 5, or the file's).
        fps: frames a second (default 24, or the file's).
        size: (width, height); the vertical field of view is kept. Default: the training views',
            or the file's.

    Raises:
        NerfkitError: unknown kind, unreadable file, or fewer than one frame.
    """
    for name, value in (("--seconds", seconds), ("--fps", fps)):
        if value is not None and not 0 < value < 1e6:
            raise NerfkitError(f"{name}: want a number above 0, got {value:g}")
    c2w = train_cameras.c2w.double().cpu().numpy()
    if kind is None:
        kind = trajectories.suitable(c2w)
    if kind not in KINDS:
        return read_camera_path(Path(kind), seconds, fps, size)
    rate = fps or DEFAULT_FPS
    count = max(1, round((seconds or DEFAULT_SECONDS) * rate))
    if kind == "orbit":
        poses = trajectories.orbit(c2w, count)
    elif kind == "spiral":
        poses = trajectories.spiral(c2w, scene_box.double().cpu().numpy(), count)
    else:
        poses = trajectories.interpolate(c2w, count)
    width, height = size or _usual_size(train_cameras)
    focal = (train_cameras.fy / train_cameras.height).median().item() * height
    pixel_aspect = (train_cameras.fx / train_cameras.fy).median().item()
    return CameraPath(_pinhole(poses, focal * pixel_aspect, focal, width, height), rate, kind)


def read_camera_path(
    path: Path,
    seconds: float | None = None,
    fps: float | None = None,
    size: tuple[int, int] | None = None,
) -> CameraPath:
    """Read nerfstudio's camera_path.json (`camera_to_world` row-major, `fov` vertical, degrees).

    Pixels are square and the size is `render_width` x `render_height`, as nerfstudio renders them;
    `aspect` is not needed. Frames are used as they are unless `seconds` or `fps` ask for another
    number, in which case the path is resampled smoothly.

    Raises:
        NerfkitError: naming the file and the field that is missing or wrong.
    """
    if path.suffix != ".json" and not path.exists():
        raise NerfkitError(f"--path: want {', '.join(KINDS)} or a FILE.json, got {str(path)!r}")
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise NerfkitError(f"{path}: want a nerfstudio camera path (a JSON object), got a list")
    if content.get("camera_type", "perspective") != "perspective":
        raise NerfkitError(
            f"{path}: camera_type must be 'perspective', got {content['camera_type']!r}"
        )
    frames = content.get("camera_path")
    if not isinstance(frames, list) or not frames:
        raise NerfkitError(f"{path}: want a list 'camera_path' with at least one frame")
    poses = np.stack([_matrix(path, i, frame) for i, frame in enumerate(frames)])
    fov = np.array([_field_of_view(path, i, frame) for i, frame in enumerate(frames)])
    width, height = size or (
        int(_number(path, content, "render_width")),
        int(_number(path, content, "render_height")),
    )
    own_seconds = _number(path, content, "seconds", default=len(frames) / DEFAULT_FPS)
    if not 1e-3 < own_seconds < 1e6:
        raise NerfkitError(f"{path}: 'seconds' must lie between 0.001 and 1e6, got {own_seconds}")
    own_fps = len(frames) / own_seconds
    rate = fps or (len(frames) / seconds if seconds else own_fps)
    if seconds or fps:
        count = max(1, round((seconds or own_seconds) * rate))
        if count != len(frames):
            positions = np.linspace(0, len(frames) - 1, count)
            poses = trajectories.resample(poses, positions)
            fov = np.interp(positions, np.arange(len(fov)), fov)
    focal = 0.5 * height / np.tan(np.radians(fov) / 2)
    return CameraPath(_pinhole(poses, focal, focal, width, height), rate, str(path))


def write_camera_path(path: Path, camera_path: CameraPath) -> None:
    """Write nerfstudio's camera_path.json, without keyframes."""
    cameras = camera_path.cameras
    fov = torch.rad2deg(2 * torch.atan(0.5 * cameras.height / cameras.fy)).tolist()
    width, height = int(cameras.width[0]), int(cameras.height[0])
    frames = [
        {
            "camera_to_world": [*pose.flatten().tolist(), 0.0, 0.0, 0.0, 1.0],
            "fov": angle,
            "aspect": width / height,
        }
        for pose, angle in zip(cameras.c2w.double().cpu(), fov, strict=True)
    ]
    content = {
        "camera_type": "perspective",
        "render_width": width,
        "render_height": height,
        "fps": camera_path.fps,
        "seconds": len(frames) / camera_path.fps,
        "is_cycle": camera_path.kind in ("orbit", "spiral"),
        "keyframes": [],
        "camera_path": frames,
    }
    files.write_json(path, content)


def at_size(cameras: Cameras, width: int, height: int) -> Cameras:
    """The same views with another number of pixels."""
    x, y = width / cameras.width, height / cameras.height
    return dataclasses.replace(
        cameras,
        fx=cameras.fx * x,
        fy=cameras.fy * y,
        cx=cameras.cx * x,
        cy=cameras.cy * y,
        width=torch.full_like(cameras.width, width),
        height=torch.full_like(cameras.height, height),
    )


def _usual_size(cameras: Cameras) -> tuple[int, int]:
    sizes = torch.stack([cameras.width, cameras.height], 1).cpu()
    values, counts = sizes.unique(dim=0, return_counts=True)
    width, height = values[counts.argmax()].tolist()
    return width, height


def _pinhole(
    poses: np.ndarray, fx: float | np.ndarray, fy: float | np.ndarray, width: int, height: int
) -> Cameras:
    """Undistorted cameras with a centred principal point; fx, fy scalar or [N], pixels."""
    if not (0 < width <= 16384 and 0 < height <= 16384):
        raise NerfkitError(f"the size must be 1 to 16384 pixels a side, got {width}x{height}")
    count = len(poses)

    def per_camera(value: float | np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.broadcast_to(np.float64(value), (count,)).copy())

    return Cameras(
        c2w=torch.from_numpy(np.ascontiguousarray(poses)),
        fx=per_camera(fx),
        fy=per_camera(fy),
        cx=per_camera(width / 2),
        cy=per_camera(height / 2),
        width=torch.full((count,), width, dtype=torch.int64),
        height=torch.full((count,), height, dtype=torch.int64),
        model=["PINHOLE"] * count,
        distortion=torch.zeros(count, 6, dtype=torch.float64),
    )


def _number(path: Path, content: dict, field: str, default: float | None = None) -> float:
    value = content.get(field, default)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < LARGEST:
        raise NerfkitError(f"{path}: {field!r} must be a number above 0, got {value!r}")
    return value


def _field_of_view(path: Path, index: int, frame: dict) -> float:
    fov = frame.get("fov")
    if isinstance(fov, bool) or not isinstance(fov, int | float) or not 0 < fov < 180:
        raise NerfkitError(
            f"{path}: camera_path[{index}]: 'fov' must lie between 0 and 180 degrees, got {fov!r}"
        )
    return fov


def _matrix(path: Path, index: int, frame: object) -> np.ndarray:
    """The frame's camera_to_world as [3, 4], its axes made orthonormal again."""
    where = f"{path}: camera_path[{index}]"
    numbers = frame.get("camera_to_world") if isinstance(frame, dict) else None
    try:
        matrix = np.array(numbers, dtype=np.float64).reshape(4, 4)
    except (TypeError, ValueError, OverflowError):
        raise NerfkitError(f"{where}: 'camera_to_world' must be 16 numbers, row by row") from None
    if not (np.abs(matrix) < LARGEST).all() or np.linalg.det(matrix[:3, :3]) <= 1e-9:
        raise NerfkitError(f"{where}: 'camera_to_world' is not a rigid transform")
    left, _, right = np.linalg.svd(matrix[:3, :3])  # the nearest rotation; drops a uniform scale
    return np.concatenate([left @ right, matrix[:3, 3:]], axis=1)
