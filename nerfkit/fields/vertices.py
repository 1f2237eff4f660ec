"""Vertices of a multi-level sparse voxel grid: where the corners of an octree's nodes are stored.

A level of resolution r has vertices (x, y, z) with 0 <= x <= r. They are kept in bricks of 4x4x4,
vertex (x & 3) + 4 (y & 3) + 16 (z & 3) of a brick; a dense table a level gives each brick's place.
Bricks that no occupied node touches are not stored: the tables point to brick 0, which belongs to
no level and holds zeros.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nerfkit.octree import Octree, morton_decode, morton_encode
from nerfkit.octree.bricks import HIGHEST

BRICK = 64  # vertices
TRANSFER_BRICKS = 4096


@dataclass(frozen=True)
class Vertices:
    """Storage layout of the corners of an octree's nodes at several resolutions.

    Attributes:
        resolutions: [n_levels] int64, ascending powers of two; the last is the octree's.
        codes: per level, Morton codes of the stored bricks, ascending; place = offset + index.
        tables: flat int32, per level a [n, n, n] (z, y, x) table, n = resolution / 4 + 1, of brick
            places; 0, the brick of zeros, where nothing is stored.
        coords: [n_bricks, 3] int32 (x, y, z) of every brick on its level's table; brick 0 first.
    """

    resolutions: Tensor
    codes: list[Tensor]
    tables: Tensor
    coords: Tensor

    @staticmethod
    def of(octree: Octree, depths: list[int]) -> Vertices:
        """Corners of the nodes at `depths` (ascending; the last is the octree's depth).

        On the device of `octree`, but for `resolutions`, which the host reads.
        """
        device = octree.device
        coords = [torch.zeros(1, 3, dtype=torch.int64, device=device)]
        codes, tables, offset = [], [], 1
        for depth in depths:
            own = octree.above(depth).bricks()
            places, nodes = morton_decode(own.codes), own.words()
            # A node's corners lie in its own brick; at the brick's upper faces in the next as well.
            found = []
            for c in range(8):
                axes = [a for a in range(3) if c >> a & 1]
                at_faces = nodes
                for axis in axes:
                    at_faces = at_faces & HIGHEST[axis]
                bricks = places[at_faces != 0]
                bricks[:, axes] += 1
                found.append(morton_encode(bricks))
            level = torch.unique(torch.cat(found))
            n = (1 << depth) // 4 + 1
            bricks = morton_decode(level)
            table = torch.zeros(n**3, dtype=torch.int32, device=device)
            flat = (bricks[:, 2] * n + bricks[:, 1]) * n + bricks[:, 0]
            table[flat] = torch.arange(
                offset, offset + len(level), dtype=torch.int32, device=device
            )
            codes.append(level)
            tables.append(table)
            coords.append(bricks)
            offset += len(level)
        resolutions = torch.tensor([1 << d for d in depths])
        return Vertices(resolutions, codes, torch.cat(tables), torch.cat(coords).to(torch.int32))

    def to(self, device: torch.device | str) -> Vertices:
        """The same with `tables` and `coords`, which the kernels read, on `device`."""
        return replace(self, tables=self.tables.to(device), coords=self.coords.to(device))

    @property
    def n_bricks(self) -> int:
        return len(self.coords)

    def __len__(self) -> int:
        return self.n_bricks * BRICK

    def level_start(self) -> Tensor:
        """First brick of every level, and the end: [n_levels + 1] int64."""
        return torch.tensor([1, *(len(c) for c in self.codes)], device="cpu").cumsum(0)

    def table_sizes(self) -> list[int]:
        """Entries of each level's table."""
        return [(int(r) // 4 + 1) ** 3 for r in self.resolutions]

    def table(self, level: int) -> Tensor:
        """Brick table of one level, [n, n, n] (z, y, x) int32."""
        sizes = self.table_sizes()
        start = sum(sizes[:level])
        n = int(self.resolutions[level]) // 4 + 1
        return self.tables[start : start + sizes[level]].view(n, n, n)

    def index(self, level: int, cells: Tensor) -> Tensor:
        """Storage index [N] of the vertices at integer coordinates [N, 3] (x, y, z) of a level."""
        b, i = cells >> 2, cells & 3
        place = self.table(level)[b[:, 2], b[:, 1], b[:, 0]].to(torch.int64)
        return place * BRICK + i[:, 0] + 4 * i[:, 1] + 16 * i[:, 2]

    def of_leaves(self, octree: Octree) -> Tensor:
        """Storage index [n_leaves] of each leaf's lowest corner; `octree` is the one laid out."""
        bricks = octree.bricks()
        x, y, z = morton_decode(bricks.codes).unbind(1)
        return self.table(-1)[z, y, x].to(torch.int64)[bricks.brick] * BRICK + bricks.bit

    def transfer(self, old: Vertices, values: Tensor) -> Tensor:
        """Per-vertex `values` [len(old), ...] moved to this layout; new bricks get zeros.

        A new level that is summed with the others therefore leaves the field as it was.
        """
        out = values.new_zeros(len(self), *values.shape[1:])
        self.transfer_into(old, values, out)
        return out

    def transfer_into(self, old: Vertices, values: Tensor, out: Tensor) -> None:
        """`transfer` to `out` [len(self), ...], which holds zeros."""
        blocks = values.view(old.n_bricks, BRICK, *values.shape[1:])
        target = out.view(self.n_bricks, BRICK, *values.shape[1:])
        olds = {int(r): i for i, r in enumerate(old.resolutions)}
        start = 1
        for level, resolution in enumerate(self.resolutions.tolist()):
            codes = self.codes[level]
            source = old.codes[olds[resolution]] if resolution in olds else codes[:0]
            if len(source):
                before = 1 + sum(len(c) for c in old.codes[: olds[resolution]])
                place = torch.searchsorted(source, codes).clamp_max(len(source) - 1)
                found = (source[place] == codes).nonzero().squeeze(1)
                # in pieces, so that the gathered copy never doubles the memory
                for piece in found.split(TRANSFER_BRICKS):
                    target[start + piece] = blocks[before + place[piece]]
            start += len(codes)
