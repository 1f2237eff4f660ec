"""LLFF sets: poses_bounds.npy [N, 17] and images/, images_2/, images_4/ or images_8/.

A row is a 3x5 matrix and (near, far). The matrix holds the camera axes (down, right, backwards),
the centre, and (height, width, focal length) of the full-size image. The world is arbitrary, so it
is rotated until the cameras' mean up axis is +Z.
"""

from pathlib import Path

import numpy as np

from nerfkit.data.images import image_size
from nerfkit.data.listing import Listing, View, image_files, turn_up
from nerfkit.errors import NerfkitError

FOLDERS = {1: "images", 2: "images_2", 4: "images_4", 8: "images_8"}


def load_llff(root: Path, downscale: int) -> Listing:
    """The views in file-name order, from the image folder that suits `downscale` best."""
    path = root / "poses_bounds.npy"
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)  # no larger than the file
        if not isinstance(rows, np.ndarray):
            raise ValueError("several arrays")
    except Exception as error:  # its header parser raises whatever it meets
        raise NerfkitError(f"{path}: not a numpy array we can read: {error}") from error
    if rows.ndim != 2 or rows.shape[1] != 17 or rows.dtype.kind not in "fiu":
        raise NerfkitError(
            f"{path}: wanted numbers of shape (views, 17), got {rows.dtype} {rows.shape}"
        )
    rows = rows.astype(np.float64)
    reduced, folder = _choose_folder(root, downscale)
    files = image_files(folder, root)
    if len(files) != len(rows):
        raise NerfkitError(
            f"{path}: {len(rows)} poses, but {folder} holds {len(files)} images; "
            "there must be one pose an image"
        )
    views = [_view(path, i, rows[i], file) for i, file in enumerate(files)]
    listing = Listing("llff", views, reduced=reduced)
    turn_up(listing)
    return listing


def _choose_folder(root: Path, downscale: int) -> tuple[int, Path]:
    """The folder reduced exactly so; else the largest images that can be reduced to it.

    Where every folder is smaller than asked for, the largest is taken as it is.
    """
    present = {k: root / name for k, name in FOLDERS.items() if (root / name).is_dir()}
    if not present:
        raise NerfkitError(f"{root}: no image folder; looked for {', '.join(FOLDERS.values())}")
    if downscale in present:
        return downscale, present[downscale]
    if min(present) > downscale:
        return min(present), present[min(present)]
    for reduced, folder in present.items():
        if downscale % reduced == 0:
            return reduced, folder
    raise NerfkitError(
        f"{root}: no image folder can be reduced to a downscale of {downscale}; "
        f"choose a multiple of {' or '.join(map(str, present))}"
    )


def _view(path: Path, index: int, row: np.ndarray, file: Path) -> View:
    source = f"{path}: row {index} ({file.name})"
    pose = row[:15].reshape(3, 5)
    down, right, back, centre, (full_height, full_width, focal) = pose.T
    width, height = image_size(file)
    if not (full_height >= 1 and full_width >= 1):  # also NaN
        raise NerfkitError(f"{source}: image size {full_width} x {full_height} is not positive")
    # folders were reduced by whole factors with rounding, so up to a pixel of play
    if abs(width * full_height / full_width - height) > 1:
        raise NerfkitError(
            f"{file}: image is {width}x{height}, its pose was made for "
            f"{full_width:g}x{full_height:g}, another aspect ratio"
        )
    near, far = map(float, row[15:])
    if not 0 < near < far < np.inf:  # also NaN
        raise NerfkitError(f"{source}: wanted bounds 0 < near < far, got {near:g} and {far:g}")
    return View(
        source=source,
        image_path=file,
        c2w=np.stack([right, -down, back, centre], axis=1),
        fx=focal * width / full_width,
        fy=focal * height / full_height,
        cx=width / 2,
        cy=height / 2,
        width=width,
        height=height,
        bounds=(near, far),
    )
