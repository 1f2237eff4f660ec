"""The voxels a fit of NSVF begins with: of a given size, or about a thousand of them.

They cover the leaves that the photographs leave of a scene, in a grid from the low corner of the
box round these on.
"""

import math

import torch
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.octree import Octree
from nerfkit.octree.build import SLIVER
from nerfkit.octree.corners import OFFSETS
from nerfkit.training.hull import Scene

VOXELS = 1000
ROUNDS = 6  # of the search for a size
DEEPEST = 8
MOST_VOXELS = 200_000


def voxels_of(scene: Scene, voxel_size: float | None) -> Octree:
    """Voxels of this edge, world units, by default of one that gives about 1000.

    Raises:
        NerfkitError: voxels of this size are too many.
    """
    if voxel_size is not None:
        extent = float((scene.box[1] - scene.box[0]).max())
        if extent / voxel_size > 2**DEEPEST:
            raise _too_small(voxel_size, f"more than {2**DEEPEST} along an edge of the scene")
        octree = _cover(scene, voxel_size)
        if len(octree) > MOST_VOXELS:
            raise _too_small(voxel_size, f"{len(octree)} voxels")
        return octree
    octree = scene.octree
    size = octree.voxel * (len(octree) / VOXELS) ** (1 / 3)
    found = []
    for _ in range(ROUNDS):
        found.append(_cover(scene, size))
        size *= (len(found[-1]) / VOXELS) ** (1 / 3)
    return min(found, key=lambda each: abs(math.log(len(each) / VOXELS)))


def _cover(scene: Scene, size: float) -> Octree:
    """Voxels of this edge that the scene's leaves reach into."""
    leaves = scene.octree
    while leaves.voxel > size:
        leaves = leaves.subdivide()
    origin = scene.box[0].double()
    low = (leaves.box_min.double() + leaves.cells() * leaves.voxel - origin) / size
    high = torch.ceil(low + leaves.voxel / size - SLIVER).long() - 1
    ends = torch.stack([torch.floor(low + SLIVER).long(), high], 1).clamp_min_(0)
    cells = torch.cat([_picked(ends, offset) for offset in OFFSETS])
    # as one number each: rows are sorted far more slowly
    n = int(cells.max()) + 1
    names = torch.unique((cells[:, 0] * n + cells[:, 1]) * n + cells[:, 2])
    cells = torch.stack([names // (n * n), names // n % n, names % n], 1)
    depth = int(cells.max()).bit_length()
    return Octree.from_cells(scene.box[0], size * 2**depth, depth, cells)


def _picked(ends: Tensor, offset: Tensor) -> Tensor:
    """From low and high cells [N, 2, 3], the corner [N, 3] that `offset` [3] in {0, 1} names."""
    return torch.where(offset == 1, ends[:, 1], ends[:, 0])


def _too_small(size: float, what: str) -> NerfkitError:
    return NerfkitError(f"--voxel-size: {size:g} makes {what}; give a larger one")
