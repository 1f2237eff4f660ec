"""A baked scene as the kernel reads it: blocks of 4x4x4 voxels, each with all of its corners.

Voxel (x, y, z) covers box_min + [x, x + 1) * voxel; block (x >> 2, y >> 2, z >> 2) holds it, and
the 5x5x5 corners of its voxels, so that a look-up needs one block: corner (i, j, k) of a block is
number i + 5 j + 25 k. B stored blocks; block 0 is empty and stands for all that are not stored.

Colours are finer than densities: to what is interpolated between a voxel's corners comes a detail,
interpolated between corners of half voxels. A voxel has a brick of its own with all 3x3x3 of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from scipy.ndimage import distance_transform_cdt
from torch import Tensor

from nerfkit.kernels import _native
from nerfkit.octree import Octree, morton_encode

CORNERS = 125
ROW = 128  # corners a block takes in memory
BANDS, HARMONICS = 4, 16  # of the direction, that colours are made of
COLOURED = 4  # harmonics with a coefficient for each of RGB; the others have one for all
GREYS = 3  # harmonics, from the second on, that details have a coefficient of
DETAIL = 8  # values of one: R, G, B, the grey ones, two zeros
RECORD = 3 * COLOURED + HARMONICS - COLOURED  # bytes a corner
BRICK = 27  # corners of half voxels in a voxel
FARTHEST = 255


def channels(records: Tensor) -> Tensor:
    """Coefficients of the harmonics by channel, [N, 16, 3], of records [N, 24]."""
    coloured = records[:, : 3 * COLOURED].reshape(-1, COLOURED, 3)
    grey = records[:, 3 * COLOURED :, None].expand(-1, -1, 3)
    return torch.cat([coloured, grey], 1)


@dataclass(frozen=True)
class Layout:
    """Where the corners of an octree's leaves are stored.

    Attributes:
        codes: [V] int64, Morton codes of the corners, ascending and distinct.
        blocks: [B] int64, Morton codes of the blocks, ascending; without block 0.
        words: [B] int64, bit x + 4 y + 16 z of a block says whether that voxel is occupied.
        used: [B, 125] bool, whether a corner of a block belongs to an occupied voxel.
        rows: [used.sum()] int64, their places in `codes`.
        details: [F] int64, Morton codes of the corners of half voxels, ascending and distinct.
        detail_rows: [n_leaves, 27] int32, where in `details` a voxel's are, (i, j, k) being number
            i + 3 j + 9 k; the voxels block by block, in the order of the bits in `words`.
    """

    codes: Tensor
    blocks: Tensor
    words: Tensor
    used: Tensor
    rows: Tensor
    details: Tensor
    detail_rows: Tensor

    @staticmethod
    def of(octree: Octree) -> Layout:
        bricks = octree.bricks()
        blocks, which, bits = bricks
        words = bricks.words()
        voxels = torch.zeros(len(blocks), 4 * 4 * 4, dtype=torch.bool)
        voxels[which, bits] = True
        voxels = voxels.view(-1, 4, 4, 4)
        used = torch.zeros(len(blocks), 5, 5, 5, dtype=torch.bool)
        for c in range(8):
            i, j, k = c & 1, c >> 1 & 1, c >> 2
            used[:, k : k + 4, j : j + 4, i : i + 4] |= voxels
        block, k, j, i = used.nonzero().unbind(1)
        low = Octree(octree.box_min, octree.size, octree.depth, blocks).cells() * 4
        corners = low[block] + torch.stack([i, j, k], 1)
        codes, rows = torch.unique(morton_encode(corners), return_inverse=True)
        k, j, i = torch.cartesian_prod(*(torch.arange(3),) * 3).unbind(1)
        fine = octree.cells()[(which * 64 + bits).argsort()] * 2
        halves = fine[:, None] + torch.stack([i, j, k], 1)
        details, detail_rows = torch.unique(morton_encode(halves.view(-1, 3)), return_inverse=True)
        return Layout(
            *(codes, blocks, words, used.view(-1, CORNERS), rows, details),
            detail_rows.view(-1, BRICK).to(torch.int32),
        )


def detail_channels(details: Tensor, harmonics: Tensor) -> Tensor:
    """RGB [N, 3] of details [N, 8], seen along directions with these harmonics [N, 16]."""
    grey = (details[:, 3 : 3 + GREYS] * harmonics[:, 1 : 1 + GREYS]).sum(1, keepdim=True)
    return details[:, :3] + grey


class Fitted(NamedTuple):
    """A table of colours that is fitted, in place of the grid's bytes.

    Attributes:
        values: [V, C] float32.
        rows: int32, what row of `values` a record [M] or a brick's corner [n_leaves, 27] shows.
        grads: [V, C] float32, where its gradient is added.
        touched: [V] uint8, set to 1 where something was added.
    """

    values: Tensor
    rows: Tensor
    grads: Tensor
    touched: Tensor

    @staticmethod
    def of(values: Tensor, rows: Tensor) -> Fitted:
        """With no gradient yet."""
        touched = torch.zeros(len(values), dtype=torch.uint8, device=values.device)
        return Fitted(values, rows.to(torch.int32), torch.zeros_like(values), touched)


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
        records: [M, 24] uint8: R, G, B of each coloured harmonic, then the grey ones.
        levels: [2, 24] float32: record bytes q mean levels[0] + levels[1] q.
        first_brick: [B] int32, the number of a block's first brick; they follow each other in the
            order of the bits in its word.
        bricks: [n_leaves, 27, 8] uint8, details: R, G, B, three grey harmonics and two zeros.
        detail_levels: [2, 8] float32, as `levels`.
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
    first_brick: Tensor
    bricks: Tensor
    detail_levels: Tensor

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
        details: Tensor,
        detail_levels: Tensor,
    ) -> BakedGrid:
        """From density [V] int16, colors [V, 24] uint8 and details [F, 8] uint8 of a layout."""
        n, n_blocks = -(-octree.resolution // 4), len(layout.blocks) + 1
        low = Octree(octree.box_min, octree.size, octree.depth, layout.blocks).cells()
        places = torch.zeros(n, n, n, dtype=torch.int32)
        places[low[:, 2], low[:, 1], low[:, 0]] = torch.arange(1, n_blocks, dtype=torch.int32)
        counts = layout.used.sum(1)
        ranks = torch.zeros(n_blocks, ROW, dtype=torch.uint8)
        ranks[1:, :CORNERS] = (layout.used.cumsum(1) - 1).clamp_min(0).to(torch.uint8)
        first = torch.zeros(n_blocks, dtype=torch.int32)
        first[1:] = counts.cumsum(0) - counts
        voxels = sum((layout.words >> bit & 1 for bit in range(64)), torch.zeros(()).long())
        first_brick = torch.zeros(n_blocks, dtype=torch.int32)
        first_brick[1:] = voxels.cumsum(0) - voxels
        packed = torch.zeros(n_blocks, ROW, dtype=torch.int16)
        packed[1:, :CORNERS][layout.used] = density[layout.rows]
        return BakedGrid(
            tuple(octree.box_min.tolist()),
            octree.voxel,
            octree.resolution,
            places,
            _distances(places == 0),
            torch.cat([torch.zeros(1, dtype=torch.int64), layout.words]),
            _in_huge_pages(packed),
            density_range,
            _in_huge_pages(ranks),
            first,
            _in_huge_pages(colors[layout.rows]),
            levels,
            first_brick,
            _in_huge_pages(details[layout.detail_rows.long()]),
            detail_levels,
        )


def _in_huge_pages(values: Tensor) -> Tensor:
    """A copy that rays, which look it up anywhere, miss the TLB less in."""
    out = torch.empty_like(values)
    _native.advise_huge(out)
    return out.copy_(values)


def _distances(empty: Tensor) -> Tensor:
    if bool(empty.all()):  # no distance is defined
        return torch.full_like(empty, FARTHEST, dtype=torch.uint8)
    found = torch.from_numpy(distance_transform_cdt(empty.numpy(), metric="chessboard"))
    return found.clamp_max(FARTHEST).to(torch.uint8)
