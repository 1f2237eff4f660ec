"""Blender (NeRF synthetic) sets: one transforms_SPLIT.json a split, square pixels, RGBA images.

The world is +Z up and taken as it is; c2w [4, 4] in OpenGL camera axes; paths have no extension.
"""

from pathlib import Path

from nerfkit.data.listing import Listing
from nerfkit.data.transforms import read_frames


def load_blender(root: Path) -> Listing:
    """All splits that have a file, in the order train, val, test; train alone states no split."""
    files = {split: root / f"transforms_{split}.json" for split in ("train", "val", "test")}
    files = {split: path for split, path in files.items() if path.is_file()}
    views = []
    for split, path in files.items():
        views += read_frames(root, path, split if len(files) > 1 else None)[1]
    return Listing("blender", views)
