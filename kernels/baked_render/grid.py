"""A baked scene as the kernel reads it: blocks of 4x4x4 voxels, each with all of its corners.

Voxel (x, y, z) covers box_min + [x, x + 1) * voxel; block (x >> 2, y >> 2, z >> 2) holds it, and
the 5x5x5 corners of its voxels, so that a look-up needs one block: corner (i, j, k) of a block is
number i + 5 j + 25 k. B stored blocks; block 0 is empty and stands for all that are not stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from scipy.ndimage import distance_transform_cdt
from torch import Tensor

from nerfkit.octree import Octree, morton_encode

CORNERS = 125
ROW = 128  # corners a block takes in memory
RECORD = 16  # bytes a corner: 5 components of RGB, and a zero
COMPONENTS = 5
BANDS = 4  # of the spherical harmonics that the components' view functions are made of
FARTHEST = 255


@dataclass(frozen=True)
class Layout:
    """Where the corners of an octree's leaves are stored.

    Attributes:
        codes: [V] int64, Morton codes of the corners, ascending and distinct.
        blocks: [B] int64, Morton codes of the blocks, ascending; without block 0.
        words: [B] int64, bit x + 4 y + 16 z of a block says whether that voxel is occupied.
        used: [B, 125] bool, whether a corner of a block belongs to an occupied voxel.
        rows: [used.sum()] int64, their places in `codes`.
    """

    codes: Tensor
    blocks: Tensor
    words: Tensor
    used: Tensor
    rows: Tensor

    @staticmethod
    def of(octree: Octree) -> Layout:
        blocks, which = torch.unique_consecutive(octree.codes >> 6, return_inverse=True)
        x, y, z = (octree.cells() & 3).unbind(1)
        words = torch.zeros(len(blocks), dtype=torch.int64)
        words.index_add_(0, which, torch.ones_like(which) << (x + 4 * y + 16 * z))
        voxels = torch.zeros(len(blocks), 4, 4, 4, dtype=torch.bool)
        voxels[which, z, y, x] = True
        used = torch.zeros(len(blocks), 5, 5, 5, dtype=torch.bool)
        for c in range(8):
            i, j, k = c & 1, c >> 1 & 1, c >> 2
            used[:, k : k + 4, j : j + 4, i : i + 4] |= voxels
        block, k, j, i = used.nonzero().unbind(1)
        low = Octree(octree.box_min, octree.size, octree.depth, blocks).cells() * 4
        corners = low[block] + torch.stack([i, j, k], 1)
        codes, rows = torch.unique(morton_encode(corners), return_inverse=True)
        return Layout(codes, blocks, words, used.view(-1, CORNERS), rows)


@dataclass(frozen=True)
class BakedGrid:
    """A baked scene.

    Attributes:
        box_min, voxel: lowest corner of the cube, edge of a voxel, world units.
        resolution: voxels along an axis, a power of two.
        places: [n, n, n] (z, y, x) int32, n = ceil(resolution / 4): a block's place, or 0.
        distances: [n, n, n] uint8, blocks (as the king moves) to the nearest stored block.
        words: [B] int64, see `Layout`.
        density: [B, 128] int16 q; raw density = density_range[0] + density_range[1] q.
        ranks: [B, 128] uint8, the corner's record is number first[b] + ranks[b, corner].
        first: [B] int32.
        records: [M, 16] uint8, component by component, each R, G, B.
        levels: [2, 16] float32: record bytes q mean levels[0] + levels[1] q.
        views: [5, 16] float32, the components' weights are views @ harmonics of the direction.
    """

    box_min: tuple[float, float, float]
    voxel: float
    resolution: int
    places: Tensor
    distances: Tensor
    words: Tensor
    density: Tensor
    density_range: tuple[float, float]
    ranks: Tensor
    first: Tensor
    records: Tensor
    levels: Tensor
    views: Tensor

    def to(self, device: torch.device) -> BakedGrid:
        """The same on another device."""
        values = vars(self).items()
        moved = {k: v.to(device) for k, v in values if isinstance(v, Tensor)}
        return replace(self, **moved)

    @staticmethod
    def of(
        octree: Octree,
        layout: Layout,
        density: Tensor,
        density_range: tuple[float, float],
        colors: Tensor,
        levels: Tensor,
        views: Tensor,
    ) -> BakedGrid:
        """From density [V] int16 and colors [V, 16] uint8 in the order of `layout.codes`."""
        n, n_blocks = -(-octree.resolution // 4), len(layout.blocks) + 1
        low = Octree(octree.box_min, octree.size, octree.depth, layout.blocks).cells()
        places = torch.zeros(n, n, n, dtype=torch.int32)
        places[low[:, 2], low[:, 1], low[:, 0]] = torch.arange(1, n_blocks, dtype=torch.int32)
        counts = layout.used.sum(1)
        ranks = torch.zeros(n_blocks, ROW, dtype=torch.uint8)
        ranks[1:, :CORNERS] = (layout.used.cumsum(1) - 1).clamp_min(0).to(torch.uint8)
        first = torch.zeros(n_blocks, dtype=torch.int32)
        first[1:] = counts.cumsum(0) - counts
        packed = torch.zeros(n_blocks, ROW, dtype=torch.int16)
        packed[1:, :CORNERS][layout.used] = density[layout.rows]
        return BakedGrid(
            tuple(octree.box_min.tolist()),
            octree.voxel,
            octree.resolution,
            places,
            _distances(places == 0),
            torch.cat([torch.zeros(1, dtype=torch.int64), layout.words]),
            packed,
            density_range,
            ranks,
            first,
            colors[layout.rows],
            levels,
            views,
        )


def _distances(empty: Tensor) -> Tensor:
    if bool(empty.all()):  # no distance is defined
        return torch.full_like(empty, FARTHEST, dtype=torch.uint8)
    found = torch.from_numpy(distance_transform_cdt(empty.numpy(), metric="chessboard"))
    return found.clamp_max(FARTHEST).to(torch.uint8)
