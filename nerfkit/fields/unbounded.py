"""The whole of space in a cube: what lies far away gets voxels that are large in proportion.

The world's cube of edge 2 `half` round `center` keeps its shape, as [-1, 1]^3; all that is outside
goes into the six slabs between it and the faces of [-2, 2]^3 (nerfkit.kernels.ray_pieces). The
corners between the slabs stay empty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nerfkit.kernels.ray_pieces import Pieces, ray_pieces
from nerfkit.octree import Octree

SIZE = 4.0  # edge of the cube
FARTHEST = 1e-3  # of 1 / |x|: what `world` calls infinite is this far


@dataclass(frozen=True)
class Unbounded:
    """center: 3 numbers; half: half an edge of the cube that keeps its shape; world units."""

    center: tuple[float, float, float]
    half: float

    @staticmethod
    def from_json(values: dict[str, Any] | None) -> Unbounded | None:
        """What `dataclasses.asdict` made of one; TypeError or ValueError where it is none."""
        if values is None:
            return None
        x, y, z = map(float, values["center"])
        half = float(values["half"])
        if not all(map(math.isfinite, (x, y, z, half))) or not half > 0:
            raise ValueError("unbounded is no cube")
        return Unbounded((x, y, z), half)

    def pieces(
        self, origins: Tensor, directions: Tensor, near: float, backend: str | None = None
    ) -> Pieces:
        """World rays [R, 3] from t = `near` on, in the cube."""
        return ray_pieces(origins, directions, self.center, self.half, near, backend=backend)

    def octree(self, depth: int) -> Octree:
        """Every leaf of the cube that stands for a part of the world."""
        whole = Octree.full(torch.full((3,), -SIZE / 2), SIZE, depth)
        beyond = (whole.centers().abs() > 1).sum(1)
        return whole.keep(beyond <= 1)

    def world(self, places: Tensor) -> Tensor:
        """World points of places [N, 3] in the cube."""
        most, axis = places.abs().max(dim=1, keepdim=True)
        distance = 1 / (2 - most).clamp_min(FARTHEST)
        here = torch.arange(3, device=places.device) == axis
        outer = torch.where(here, places.sign() * distance, places * distance)
        x = torch.where(most <= 1, places, outer)
        return x * self.half + places.new_tensor(self.center)

    def inner(self, octree: Octree) -> Octree:
        """The leaves of the part that keeps its shape, in the world."""
        kept = octree.keep((octree.centers().abs() < 1).all(1))
        low = octree.box_min.new_tensor(self.center) - SIZE / 2 * self.half
        return Octree(low, SIZE * self.half, kept.depth, kept.codes)
