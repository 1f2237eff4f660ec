"""Which finest voxels of a cube are occupied, as the marching kernels read it.

Voxel (x, y, z) covers box_min + [x, x + 1) * voxel and so on, world units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch


@dataclass(frozen=True)
class Occupancy:
    """Occupied voxels of a cube.

    Attributes:
        box_min: lowest corner of the cube, world units.
        voxel: edge of a voxel, world units.
        resolution: voxels along an axis, a power of two, at most 1024.
        words: flat int64 bit pyramid, [n, n, n] (z, y, x) words a level, finest level first. A
            word is a block of 4x4x4, bit x + 4 y + 16 z; a coarser level's bit says whether the
            word below it is non-zero (`Octree.occupancy_words`).
    """

    box_min: tuple[float, float, float]
    voxel: float
    resolution: int
    words: torch.Tensor

    @staticmethod
    def of(octree: Any) -> Occupancy:
        """The leaves of a `nerfkit.octree.Octree`."""
        x, y, z = octree.box_min.tolist()
        return Occupancy((x, y, z), octree.voxel, octree.resolution, octree.occupancy_words())

    def to(self, device: torch.device | str) -> Occupancy:
        """The same with its tables on `device`."""
        return replace(self, words=self.words.to(device))

    def to_grid(self, points: torch.Tensor) -> torch.Tensor:
        """World points [N, 3] in voxels from the lowest corner."""
        return (points - points.new_tensor(self.box_min)) / self.voxel

    def occupied(self, cells: torch.Tensor) -> torch.Tensor:
        """Whether the voxels at `cells` [N, 3] int64 (x, y, z), all inside, are occupied: [N]."""
        n = -(-self.resolution // 4)
        block, inner = cells >> 2, cells & 3
        word = self.words[(block[:, 2] * n + block[:, 1]) * n + block[:, 0]]
        return (word >> (inner[:, 0] + 4 * inner[:, 1] + 16 * inner[:, 2]) & 1).bool()
