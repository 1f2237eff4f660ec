"""COLMAP reconstructions: images/ and sparse/0/{cameras,images,points3D}.{bin,txt}.

COLMAP's world is arbitrary, so it is rotated until the cameras' mean up axis is +Z. Its poses
(R, t) are world-to-camera in OpenCV axes; ours are c2w = [R^T | -R^T t] diag(1, -1, -1, 1). Pixel
centres lie at +0.5 in both.
"""

from pathlib import Path

import numpy as np

from nerfkit.data.colmap_files import ColmapCamera, ColmapImage, read_model
from nerfkit.data.listing import Listing, View, find_image, turn_up
from nerfkit.errors import NerfkitError

MODEL_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0")
# where each parameter goes: positions 0-3 are fx, fy, cx, cy ("f" fills both), then k1...
_LAYOUTS = {
    "SIMPLE_PINHOLE": ("PINHOLE", ("f", "cx", "cy")),
    "PINHOLE": ("PINHOLE", ("fx", "fy", "cx", "cy")),
    "SIMPLE_RADIAL": ("OPENCV", ("f", "cx", "cy", "k1")),
    "RADIAL": ("OPENCV", ("f", "cx", "cy", "k1", "k2")),
    "OPENCV": ("OPENCV", ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2")),
    "OPENCV_FISHEYE": ("OPENCV_FISHEYE", ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4")),
    "SIMPLE_RADIAL_FISHEYE": ("OPENCV_FISHEYE", ("f", "cx", "cy", "k1")),
    "RADIAL_FISHEYE": ("OPENCV_FISHEYE", ("f", "cx", "cy", "k1", "k2")),
}


def model_folder(root: Path) -> Path | None:
    """The folder below `root` that holds a COLMAP model."""
    for name in MODEL_FOLDERS:
        if any((root / name / f"images.{suffix}").is_file() for suffix in ("bin", "txt")):
            return root / name
    return None


def load_colmap(root: Path) -> Listing:
    """The registered images in file-name order, and the sparse points."""
    folder = model_folder(root)
    if folder is None:
        raise NerfkitError(f"{root}: no COLMAP model in {', '.join(MODEL_FOLDERS)}")
    cameras, images, points, images_path = read_model(folder)
    views = []
    images = sorted(images, key=lambda image: image.name)
    for image in images:
        source = f"{images_path}: {image.name}"
        if image.camera_id not in cameras:
            raise NerfkitError(f"{source}: camera {image.camera_id} is not in the cameras file")
        views.append(_view(root, image, cameras[image.camera_id], source))
    listing = Listing("colmap", views)
    if points is not None:
        listing.points = points.positions
        place = {image.image_id: i for i, image in enumerate(images)}
        known = [[place[i], point] for i, point in points.seen.tolist() if i in place]
        listing.seen = np.array(known, np.int64).reshape(-1, 2)
    if views:
        turn_up(listing)
    return listing


def _view(root: Path, image: ColmapImage, camera: ColmapCamera, source: str) -> View:
    if camera.model not in _LAYOUTS:
        raise NerfkitError(
            f"{source}: unknown camera model {camera.model!r}; known: {', '.join(_LAYOUTS)}; "
            "undistort with `colmap image_undistorter`"
        )
    model, names = _LAYOUTS[camera.model]
    value = dict(zip(names, camera.parameters, strict=True))
    return View(
        source=source,
        image_path=find_image(root, f"images/{image.name}", source),
        c2w=camera_to_world(image, source),
        fx=value.get("fx", value.get("f")),
        fy=value.get("fy", value.get("f")),
        cx=value["cx"],
        cy=value["cy"],
        width=camera.width,
        height=camera.height,
        model=model,
        distortion=tuple(value.get(k, 0.0) for k in ("k1", "k2", "k3", "k4", "p1", "p2")),
    )


def camera_to_world(image: ColmapImage, source: str) -> np.ndarray:
    """OpenGL c2w [3, 4] of a COLMAP pose."""
    quaternion = np.array(image.quaternion)
    length = np.linalg.norm(quaternion)
    if not abs(length - 1) < 1e-3:
        raise NerfkitError(f"{source}: the rotation is not a unit quaternion (length {length:.6g})")
    w, x, y, z = quaternion / length
    world_to_camera = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    rotation = world_to_camera.T
    centre = -rotation @ np.array(image.translation)
    return np.concatenate([rotation * [1.0, -1.0, -1.0], centre[:, None]], axis=1)
