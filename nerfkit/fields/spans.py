"""What rays cross of an octree; symbols as in nerfkit.kernels.octree_traverse.spans."""

from __future__ import annotations

import torch
from torch import Tensor

from nerfkit.kernels.octree_traverse import octree_traverse
from nerfkit.kernels.octree_traverse.spans import Spans
from nerfkit.octree import Octree


class Guide:
    """An octree, ready to be traversed."""

    def __init__(self, octree: Octree) -> None:
        self.octree = octree
        self.children, self.first_leaf = octree.children()

    def spans(self, origins: Tensor, directions: Tensor, near: float) -> Spans:
        """Of rays [R, 3], from the distance `near` on."""
        octree = self.octree
        crossed = octree_traverse(
            *(origins, directions, self.children, octree.box_min, octree.size, octree.depth),
            near=near,
        )
        first, count = crossed.packed_info.unbind(1)
        # Sums over all rays, so that one search serves all: in float32 they would lose the parts.
        ends = torch.cat(
            [first.new_zeros(1, dtype=torch.float64), (crossed.t_ends - crossed.t_starts).double()]
        ).cumsum(0)
        leaves = crossed.node_ids - self.first_leaf
        return Spans(first, count, ends[first], ends[first + count], ends, crossed.t_starts, leaves)
