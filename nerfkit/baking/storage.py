"""A baked scene in one safetensors file.

V corners of voxels, in the order of their Morton codes (those of the octree's leaves and their
neighbours at the upper faces); F of half voxels likewise. Tensors:

    child_masks [n_inner] uint8   the octree of visible voxels, as nerfkit.octree.storage has it
    density     [V] int16         raw density = density_range[0] + density_range[1] * value
    records     [V, 24] uint8     harmonics of colour, four of RGB, then 12 of grey, interleaved:
                                  levels[0] + levels[1] * value
    levels      [2, 24] float32
    details     [F, 6] uint8      what is added: RGB, and grey of three harmonics:
                                  detail_levels[0] + detail_levels[1] * value
    detail_levels [2, 6] float32

Metadata: format; json with depth, leaves, size, box_min and the numbers of
`nerfkit.fields.baked.BakedShape`; run with the settings of the run it came from (config.json), its
training cameras and the steps of its fit. A CRC-32 covers tensors and metadata.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from nerfkit.fields.baked import BakedColors, BakedField, BakedShape
from nerfkit.files import atomic_write
from nerfkit.kernels.baked_render import Layout
from nerfkit.kernels.baked_render.grid import DETAIL, GREYS, RECORD
from nerfkit.octree import Octree
from nerfkit.octree.storage import child_masks, codes_of
from nerfkit.training.stored import DEEPEST, LARGEST, UNREADABLE, Stored, in_range, whole

FORMAT = "nerfkit baked 2"
DETAILED = 3 + GREYS
CHECKSUM = "checksum"


def save_baked(field: BakedField, run: dict[str, Any], path: str | Path) -> int:
    """Write a baked scene; NerfkitError if that is not possible.

    Args:
        run: JSON-ready "config", "cameras" and "iteration" of the run it came from.

    Returns:
        Bytes written.
    """
    octree, colors = field.octree, field.colors
    tensors = {
        "child_masks": child_masks(octree),
        "density": field.density,
        "records": colors.records,
        "levels": colors.levels,
        "details": colors.details[:, :DETAILED].contiguous(),
        "detail_levels": colors.detail_levels[:, :DETAILED].contiguous(),
    }
    scene = {
        "depth": octree.depth,
        "leaves": len(octree),
        "size": octree.size,
        "box_min": octree.box_min.tolist(),
        "shape": asdict(field.shape),
    }
    metadata = {"format": FORMAT, "scene": json.dumps(scene), "run": json.dumps(run)}
    metadata[CHECKSUM] = _checksum(metadata, tensors)
    content = save(tensors, metadata)
    with atomic_write(path) as file:
        file.write(content)
    return len(content)


def load_baked(path: str | Path) -> tuple[BakedField, dict[str, Any]]:
    """What `save_baked` wrote: the scene, and what it was told about the run.

    Raises:
        NerfkitError: the file is damaged or not one of ours.
    """
    stored = Stored.read(Path(path), [FORMAT])
    if stored.metadata.pop(CHECKSUM, None) != _checksum(stored.metadata, stored.tensors):
        raise stored.foreign("its checksum is wrong")
    scene, run = stored.json("scene"), stored.json("run")
    try:
        shape = scene["shape"]
        first, step = shape["density_range"]
        in_range({"first": first, "step": step}, -LARGEST, LARGEST, "first", "step")
        in_range(shape, 1e-3, 1e3, "step_voxels")
        in_range(shape, 0, LARGEST, "density_scale", "near")
        in_range(shape, -LARGEST, LARGEST, "density_bias")
        shape = BakedShape(**{**shape, "density_range": (first, step)})
        whole(scene, 0, DEEPEST, "depth")
        in_range(scene, 1 / LARGEST, LARGEST, "size")
        corner = scene["box_min"]
        in_range(dict(enumerate(corner)), -LARGEST, LARGEST, 0, 1, 2)
        masks = stored.take("child_masks", (None,), torch.uint8)
        codes = codes_of(masks, scene["depth"], scene["leaves"])
        box_min = torch.tensor(corner[:3], dtype=torch.float32)
        octree = Octree(box_min, float(scene["size"]), scene["depth"], codes)
    except UNREADABLE as error:
        raise stored.unreadable(error) from error
    layout = Layout.of(octree)
    n, n_details = len(layout.codes), len(layout.details)
    density = stored.take("density", (n,), torch.int16)
    colors = BakedColors(
        stored.take("records", (n, RECORD), torch.uint8),
        stored.take("levels", (2, RECORD), torch.float32),
        _padded(stored.take("details", (n_details, DETAILED), torch.uint8)),
        _padded(stored.take("detail_levels", (2, DETAILED), torch.float32)),
    )
    return BakedField(shape, octree, layout, density, colors), run


def _padded(values: Tensor) -> Tensor:
    return torch.nn.functional.pad(values, (0, DETAIL - DETAILED))


def _checksum(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    total = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        total = zlib.crc32(tensors[name].contiguous().numpy(), total)
    return f"{total:08x}"
