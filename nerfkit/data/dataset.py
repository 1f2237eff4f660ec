"""The in-memory data set and the function that reads one from a folder.

Shapes: N views; images [H, W, 3 or 4] with straight alpha, uint8 or uint16; masks [H, W] uint8, 0 =
ignore; world +Z up, OpenGL camera axes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.data.blender import load_blender
from nerfkit.data.colmap import load_colmap, model_folder
from nerfkit.data.images import check_size, in_threads, read_depth, read_image, read_mask
from nerfkit.data.listing import Listing, View, cameras_of
from nerfkit.data.llff import load_llff
from nerfkit.data.nsvf import is_nsvf, load_nsvf
from nerfkit.data.transforms import load_transforms
from nerfkit.errors import NerfkitError

HOLD_OUT = 8


@dataclass
class Dataset:
    """Views of one scene; without images loaded `images`, `masks` and `depths` are empty lists."""

    root: Path
    format: str  # "blender", "transforms", "colmap", "llff" or "nsvf"
    cameras: Cameras
    names: list[str]  # path of each image below the root
    images: list[Tensor]
    masks: list[Tensor | None]
    depths: list[Tensor | None]  # [H, W] float32, along the optical axis, 0 = unknown
    splits: dict[str, Tensor]  # indices [.] int64; "train" and "test" always there
    points: Tensor | None  # [P, 3] float32, sparse points
    seen: Tensor | None  # [K, 2] int64: a view and a point that it sees, where that is known
    scene_box: Tensor | None  # [2, 3] float32, low and high corner
    bounds: Tensor | None  # [N, 2] float32, near and far
    world_transform: Tensor  # [4, 4] float64, from the file's world to ours (a rotation)

    def __len__(self) -> int:
        return len(self.cameras)


@np.errstate(all="ignore")  # numbers that are none are refused in one line, without a warning
def load_dataset(
    path: str | Path,
    *,
    downscale: int = 1,
    splits: Sequence[str] | None = None,
    load_images: bool = True,
) -> Dataset:
    """Read a data set; its format is told by its files.

    Args:
        path: Folder of a Blender, instant-ngp, nerfstudio, COLMAP, LLFF or NSVF data set.
        downscale: Reduce images this many times, by block means.
        splits: Keep only the views of these splits; each must have at least one. None: all.
        load_images: False leaves `images` and `masks` empty and decodes nothing.

    A format without splits of its own gets the hold-out rule: in file-name order, every eighth
    view starting with the first is "test", the rest "train".

    Raises:
        NerfkitError: One line naming the file and frame that cannot be used.
    """
    root = Path(path)
    if not root.is_dir():
        raise NerfkitError(f"{root}: not a folder; give the folder of a data set")
    if downscale < 1 or downscale != int(downscale):
        raise NerfkitError(f"downscale must be a whole number from 1 up, got {downscale}")
    root = root.resolve()
    listing = _detect(root)(root, downscale)
    if not listing.views:
        raise NerfkitError(f"{root}: no images are listed in it")
    _hold_out(listing.views)
    views = _choose(root, listing.views, splits)
    if not views:
        raise NerfkitError(f"{root}: no view belongs to a split")
    factor = max(1, downscale // listing.reduced)
    cameras = cameras_of(views)
    reduced = cameras.resized(factor) if factor > 1 else cameras
    images: list[Tensor] = []
    masks: list[Tensor | None] = []
    depths: list[Tensor | None] = []
    if load_images:
        images = in_threads(partial(_image, downscale=factor), views)
        masks = in_threads(partial(_mask, downscale=factor), views)
        depths = in_threads(partial(_depth, unit=listing.depth_unit, downscale=factor), views)
    else:
        in_threads(_check_size, views)
    return Dataset(
        root=root,
        format=listing.format,
        cameras=reduced,
        names=[view.image_path.relative_to(root).as_posix() for view in views],
        images=images,
        masks=masks,
        depths=depths,
        splits=_split_indices(views),
        points=_float32(listing.points),
        seen=_seen(listing, views),
        scene_box=_float32(listing.scene_box),
        bounds=_bounds(views),
        world_transform=torch.from_numpy(listing.world_transform),
    )


Loader = Callable[[Path, int], Listing]


def _detect(root: Path) -> Loader:
    """The loader for the files in `root`, the most explicit format first."""
    if (root / "transforms_train.json").is_file():
        return lambda root, downscale: load_blender(root)
    if (root / "transforms.json").is_file():
        return lambda root, downscale: load_transforms(root)
    if is_nsvf(root):
        return lambda root, downscale: load_nsvf(root)
    if model_folder(root) is not None:
        return lambda root, downscale: load_colmap(root)
    if (root / "poses_bounds.npy").is_file():
        return load_llff
    raise NerfkitError(
        f"{root}: no data set we know; looked for transforms_train.json (Blender), "
        "transforms.json (instant-ngp, nerfstudio), intrinsics.txt with rgb/ and pose/ (NSVF), "
        "sparse/0 (COLMAP), poses_bounds.npy (LLFF)"
    )


def _hold_out(views: list[View]) -> None:
    """Every eighth view is the test set, where the format states no split at all."""
    stated = {view.split for view in views}
    if stated != {None}:
        return
    for i, view in enumerate(sorted(views, key=lambda view: view.image_path.as_posix())):
        view.split = "train" if i % HOLD_OUT else "test"


def _choose(root: Path, views: list[View], splits: Sequence[str] | None) -> list[View]:
    present = sorted({view.split for view in views if view.split})
    for split in splits or ():
        if split not in present:
            raise NerfkitError(
                f"{root}: the {split} split has no views; present: {', '.join(present)}"
            )
    wanted = present if splits is None else splits
    return [view for view in views if view.split in wanted]


def _split_indices(views: list[View]) -> dict[str, Tensor]:
    names = sorted({"train", "test"} | {view.split for view in views})
    return {
        name: torch.tensor([i for i, v in enumerate(views) if v.split == name], dtype=torch.int64)
        for name in names
    }


def _image(view: View, downscale: int) -> Tensor:
    return read_image(view.image_path, (view.width, view.height), downscale)


def _mask(view: View, downscale: int) -> Tensor | None:
    if view.mask_path is None:
        return None
    return read_mask(view.mask_path, (view.width, view.height), downscale)


def _depth(view: View, unit: float, downscale: int) -> Tensor | None:
    if view.depth_path is None:
        return None
    return read_depth(view.depth_path, (view.width, view.height), unit, downscale)


def _check_size(view: View) -> None:
    check_size(view.image_path, (view.width, view.height))


def _seen(listing: Listing, views: list[View]) -> Tensor | None:
    """`listing.seen` of the chosen views, by their places among these."""
    if listing.points is None or listing.seen is None:
        return None
    place = {id(view): i for i, view in enumerate(views)}
    places = np.array([place.get(id(view), -1) for view in listing.views], np.int64)
    seen = np.stack([places[listing.seen[:, 0]], listing.seen[:, 1]], 1)
    return torch.from_numpy(seen[seen[:, 0] >= 0])


def _bounds(views: list[View]) -> Tensor | None:
    if any(view.bounds is None for view in views):
        return None
    return _float32(np.array([view.bounds for view in views]))


def _float32(array: np.ndarray | None) -> Tensor | None:
    return None if array is None else torch.from_numpy(array.astype(np.float32))
