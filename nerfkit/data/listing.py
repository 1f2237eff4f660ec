"""What a format loader returns: the views of a data set before any pixel is decoded.

Symbols: c2w [3, 4] in OpenGL camera axes and our world (+Z up); world_transform [4, 4] maps the
file's world to ours; fx, fy, cx, cy in pixels of the stored image.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nerfkit.cameras import Cameras, check_cameras
from nerfkit.errors import NerfkitError
from nerfkit.files import resolve_inside
from nerfkit.shutter import Shutter

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


@dataclass
class View:
    """One posed image. `source` says where it was listed (file and frame), for error messages."""

    source: str
    image_path: Path
    c2w: np.ndarray  # [3, 4] or [4, 4]
    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    model: str = "PINHOLE"
    distortion: tuple[float, ...] = (0.0,) * 6  # k1, k2, k3, k4, p1, p2
    mask_path: Path | None = None
    depth_path: Path | None = None
    split: str | None = None
    bounds: tuple[float, float] | None = None
    shutter: Shutter | None = None  # of one camera, which moves during the exposure


@dataclass
class Listing:
    """All views of a data set and what its format says of the scene."""

    format: str
    views: list[View]
    depth_unit: float = 1e-3
    points: np.ndarray | None = None  # [P, 3]
    seen: np.ndarray | None = None  # [K, 2] int64: a view, by its place here, and a point it sees
    scene_box: np.ndarray | None = None  # [2, 3]
    world_transform: np.ndarray = field(default_factory=lambda: np.eye(4))
    reduced: int = 1  # how many times smaller the listed images already are (LLFF images_4)


def cameras_of(views: Sequence[View]) -> Cameras:
    """The views' cameras, checked."""
    for view in views:
        if not (1 <= view.width < 2**31 and 1 <= view.height < 2**31):
            raise NerfkitError(
                f"{view.source}: image size must be positive, got {view.width}x{view.height}"
            )
    stacked = {
        name: np.array([getattr(view, name) for view in views])
        for name in ("fx", "fy", "cx", "cy", "width", "height")
    }
    cameras = Cameras(
        c2w=np.stack([view.c2w[:3] for view in views]),
        **stacked,
        model=[view.model for view in views],
        distortion=np.array([view.distortion for view in views]),
        shutter=_shutter_of(views),
    )
    check_cameras(cameras, [view.source for view in views])
    return cameras


def _shutter_of(views: Sequence[View]) -> Shutter | None:
    if all(view.shutter is None for view in views):
        return None
    return Shutter.cat([view.shutter or Shutter.still(view.c2w[None, :3]) for view in views])


def find_image(root: Path, relative: Any, source: str) -> Path:
    """The image file a listing names, with or without its extension; inside `root`."""
    if not isinstance(relative, str) or not relative:
        raise NerfkitError(f"{source}: wanted the path of an image, got {relative!r}")
    relative = relative.replace("\\", "/")  # some tools on Windows write backslashes
    path = resolve_inside(root, relative)
    if os.path.isfile(path):  # unlike Path.is_file, False for a name too long to exist
        return path
    for suffix in IMAGE_SUFFIXES:
        candidate = resolve_inside(root, relative + suffix)
        if os.path.isfile(candidate):
            return candidate
    raise NerfkitError(f"{source}: image {relative!r} is not there (looked for {path})")


def image_files(folder: Path, root: Path) -> list[Path]:
    """The image files of a folder in file-name order, each checked to lie inside `root`."""
    names = sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
    if not names:
        raise NerfkitError(f"{folder}: no images ({', '.join(IMAGE_SUFFIXES)}) in it")
    for name in names:
        resolve_inside(root, folder / name)
    return [folder / name for name in names]


def turn_up(listing: Listing) -> None:
    """Rotate an arbitrary world so that the cameras' mean up axis is +Z, in place."""
    up = np.mean([view.c2w[:3, 1] for view in listing.views], axis=0)
    length = np.linalg.norm(up)
    if not 1e-3 < length < np.inf:  # cameras all around the clock (or NaN, refused later)
        return
    up = up / length
    axis = np.cross(up, [0.0, 0.0, 1.0])
    if up[2] < -1 + 1e-9:  # upside down: any horizontal axis does
        rotation = np.diag([1.0, -1.0, -1.0])
    else:  # Rodrigues' formula for the shortest turn from up to +Z
        cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
        rotation = np.eye(3) + cross + cross @ cross / (1 + up[2])
    listing.world_transform = np.eye(4)
    listing.world_transform[:3, :3] = rotation
    for view in listing.views:
        view.c2w = rotation @ view.c2w[:3]
    if listing.points is not None:
        listing.points = listing.points @ rotation.T
