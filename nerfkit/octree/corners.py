"""The corners that an octree's leaves share, and values at them (2007.11571, section 3.1).

A corner is named by its integer coordinates [x, y, z], each 0 to 2^depth; leaf (x, y, z) has corner
(x, y, z) + (c & 1, c >> 1 & 1, c >> 2 & 1) in column c. L leaves, V distinct corners.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.octree.morton import morton_decode, morton_encode
from nerfkit.octree.tree import Octree

OFFSETS = torch.tensor([[c & 1, c >> 1 & 1, c >> 2 & 1] for c in range(8)])


@dataclass(frozen=True)
class Corners:
    """Corners of leaves, each once.

    Attributes:
        codes: [V] int64, Morton codes of their coordinates, ascending.
        indices: [L, 8] int32, those of each leaf.
    """

    codes: Tensor
    indices: Tensor

    @staticmethod
    def of(octree: Octree) -> Corners:
        cells = (octree.cells()[:, None] + OFFSETS.to(octree.device)).view(-1, 3)
        codes, indices = torch.unique(morton_encode(cells), return_inverse=True)
        return Corners(codes, indices.view(-1, 8).to(torch.int32))

    def to(self, device: torch.device) -> Corners:
        """The same on another device."""
        return Corners(self.codes.to(device), self.indices.to(device))

    def __len__(self) -> int:
        return len(self.codes)

    def keep(self, mask: Tensor, values: Tensor) -> tuple[Corners, Tensor]:
        """Those of the leaves where `mask` [L] is true, and of `values` [V, ...] theirs."""
        used, indices = torch.unique(self.indices[mask], return_inverse=True)
        return Corners(self.codes[used.long()], indices.to(torch.int32)), values[used.long()]

    def divide(self, octree: Octree, values: Tensor) -> tuple[Octree, Corners, Tensor]:
        """The leaves' children, their corners, and `values` [V, C] interpolated at these.

        Trilinear interpolation in a child of the new values is that in its parent of the old.

        Args:
            octree: whose corners these are.
        """
        children = octree.subdivide()
        corners = Corners.of(children)
        # Any child that has a corner will do: where parents share a face, they agree on it.
        on = {"device": octree.device}
        child = torch.empty(len(corners), dtype=torch.int64, **on)
        child[corners.indices.long().view(-1)] = torch.arange(8 * len(children), **on) // 8
        parent = child // 8
        halves = morton_decode(corners.codes) - 2 * octree.cells()[parent]  # 0, 1 or 2
        out = values.new_zeros(len(corners), values.shape[1])
        for c, offset in enumerate(OFFSETS.to(octree.device)):
            weights = torch.where(offset == 1, halves, 2 - halves).prod(1, keepdim=True) / 8
            out += weights.to(values.dtype) * values[self.indices[parent, c].long()]
        return children, corners, out
