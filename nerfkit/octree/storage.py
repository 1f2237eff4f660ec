"""An octree in one safetensors file.

The tree is stored as one byte for each node above the leaves, breadth first from the root and in
Morton order within a level: bit c says whether child c (x + 2 y + 4 z) exists. That takes a third
to a half of a byte a leaf for a surface. A checksum covers it and the metadata.
"""

import json
import math
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.files import atomic_write
from nerfkit.octree.tree import MAX_DEPTH, Octree

FORMAT = "nerfkit octree 1"
BITS = 1 << torch.arange(8)


def save_octree(octree: Octree, path: str | Path) -> None:
    """Write an octree; NerfkitError if that is not possible, what was there before then stays."""
    metadata = {
        "format": FORMAT,
        "depth": str(octree.depth),
        "leaves": str(len(octree)),
        "size": octree.size.hex(),
        "box_min": json.dumps(octree.box_min.tolist()),
    }
    masks = child_masks(octree)
    metadata["checksum"] = _checksum(metadata, masks)
    content = save({"child_masks": masks}, metadata)
    with atomic_write(path) as file:
        file.write(content)


def load_octree(path: str | Path) -> Octree:
    """Read an octree that `save_octree` wrote.

    Raises:
        NerfkitError: no such file, or it is damaged or not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise NerfkitError(f"{path}: no such file; want an octree, as nerfkit octree --save writes")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                found = f"format {metadata.get('format')!r} where {FORMAT!r} was wanted"
                raise NerfkitError(f"{path}: holds no octree this version can read: {found}")
            masks = file.get_tensor("child_masks")
    except (SafetensorError, OSError) as error:
        raise NerfkitError(f"{path}: damaged or no safetensors file ({error})") from error
    try:
        if metadata.pop("checksum") != _checksum(metadata, masks):
            raise ValueError("its checksum is wrong")
        depth, leaves = int(metadata["depth"]), int(metadata["leaves"])
        size, corner = float.fromhex(metadata["size"]), json.loads(metadata["box_min"])
        box_min = torch.tensor(corner, dtype=torch.float32)
        if box_min.shape != (3,) or not bool(torch.isfinite(box_min).all()):
            raise ValueError(f"corner {corner}")
        if not 0 <= depth <= MAX_DEPTH or not 0 < size < math.inf:
            raise ValueError(f"depth {depth} and edge {size:g}")
        codes = codes_of(masks, depth, leaves)
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise NerfkitError(f"{path}: damaged: what it holds is no octree: {error}") from error
    return Octree(box_min, size, depth, codes)


def child_masks(octree: Octree) -> Tensor:
    """The nodes above the leaves of an octree, breadth first -> [n_inner] uint8."""
    masks = [torch.zeros(0, dtype=torch.uint8)]
    codes = octree.codes
    for _ in range(octree.depth):
        parents, place = torch.unique_consecutive(codes >> 3, return_inverse=True)
        mask = torch.zeros(len(parents), dtype=torch.uint8)
        masks.append(mask.index_add_(0, place, BITS.to(torch.uint8)[codes & 7]))
        codes = parents
    return torch.cat(masks[::-1])


def codes_of(masks: Tensor, depth: int, leaves: int) -> Tensor:
    """Inverse of `child_masks`: Morton codes [leaves] int64; ValueError if that is no tree."""
    if masks.dim() != 1 or masks.dtype != torch.uint8:
        raise ValueError(f"child_masks is {masks.dtype} of shape {list(masks.shape)}")
    if bool((masks == 0).any()):
        raise ValueError("a node without children")
    codes, used = torch.zeros(1 if leaves > 0 else 0, dtype=torch.int64), 0
    for _ in range(depth):
        level = masks[used : used + len(codes)]
        if len(level) < len(codes):
            raise ValueError(f"{len(masks)} nodes, too few")
        used += len(level)
        exists = (level[:, None] & BITS) != 0
        codes = (codes[:, None] * 8 + torch.arange(8))[exists]
    if used != len(masks) or len(codes) != leaves:
        raise ValueError(f"{len(codes)} leaves and {used} nodes, not {leaves} and {len(masks)}")
    return codes


def _checksum(metadata: dict[str, str], masks: Tensor) -> str:
    text = json.dumps(metadata, sort_keys=True).encode()
    return f"{zlib.crc32(masks.contiguous().numpy(), zlib.crc32(text)):08x}"
