"""The tensors of a sparse voxel grid that the rendering kernels read.

Vertex (x, y, z) of a level of resolution r, 0 <= x <= r, lies at box_min + (x, y, z) * edge of the
level's voxels. Values at vertices are kept in bricks of 4x4x4; brick 0 holds zeros and stands for
all bricks that are not stored (`nerfkit.fields.vertices`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from nerfkit.kernels.first_hit.occupancy import Occupancy

BRICK = 64  # vertices
MAX_LEVELS = 8


@dataclass(frozen=True)
class RenderGrid(Occupancy):
    """Occupied voxels, and where the values at their corners are stored.

    Attributes:
        resolutions: [n_levels] int64, ascending powers of two; the last is `resolution`.
        tables: flat int32, per level a [n, n, n] (z, y, x) table, n = resolution // 4 + 1, of
            brick places; 0 where nothing is stored.
        n_vertices: V, rows that the values must have.
    """

    resolutions: torch.Tensor
    tables: torch.Tensor
    n_vertices: int

    @staticmethod
    def of(octree: Any, vertices: Any) -> RenderGrid:
        """From a `nerfkit.octree.Octree` and the `nerfkit.fields.vertices.Vertices` of its corners.

        Raises:
            ValueError: the finest level of `vertices` is not the octree's, or too many levels.
        """
        levels = vertices.resolutions.tolist()
        if levels[-1] != octree.resolution or len(levels) > MAX_LEVELS:
            raise ValueError(
                f"`vertices` must have at most {MAX_LEVELS} levels, the last of resolution "
                f"{octree.resolution} like the octree, got {levels}"
            )
        occupancy = Occupancy.of(octree)
        return RenderGrid(
            occupancy.box_min,
            occupancy.voxel,
            occupancy.resolution,
            occupancy.words,
            vertices.resolutions,
            vertices.tables,
            len(vertices),
        )

    def to(self, device: torch.device | str) -> RenderGrid:
        """The same with its tables on `device`; `resolutions` stay where they are."""
        return replace(self, words=self.words.to(device), tables=self.tables.to(device))

    def finest(self) -> RenderGrid:
        """The same voxels with the corners of the finest level alone."""
        n = self.resolution // 4 + 1
        return replace(self, resolutions=self.resolutions[-1:], tables=self.tables[-(n**3) :])

    def vertex_index(self, level: int, vertices: torch.Tensor) -> torch.Tensor:
        """Rows [N] of the vertices at coordinates [N, 3] int64 (x, y, z) of a level."""
        sizes = [r // 4 + 1 for r in self.resolutions.tolist()]
        start, n = sum(s**3 for s in sizes[:level]), sizes[level]
        b, i = vertices >> 2, vertices & 3
        place = self.tables[start + (b[:, 2] * n + b[:, 1]) * n + b[:, 0]].long()
        return place * BRICK + i[:, 0] + 4 * i[:, 1] + 16 * i[:, 2]
