"""The parts of rays that lie in occupied leaves of an octree, laid end to end.

Symbols: R rays, M crossings of rays and leaves, t the distance along the unit ray, world units, and
s in [0, length] the distance along a ray's occupied part alone: what lies between leaves counts
nothing. A full octree makes s = t - t of the ray's entry into the cube.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.kernels.octree_traverse import octree_traverse
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


@dataclass(frozen=True)
class Spans:
    """Occupied parts of R rays.

    Attributes:
        first, count: [R] int64, each ray's crossings.
        low, high: [R] float64, where each ray's part begins and ends in the sum over all rays.
        ends: [M + 1] float64, those of the crossings, the first being 0.
        t_starts: [M].
        leaves: [M] int64, of the octree.
    """

    first: Tensor
    count: Tensor
    low: Tensor
    high: Tensor
    ends: Tensor
    t_starts: Tensor
    leaves: Tensor

    def lengths(self) -> Tensor:
        """Length of each ray's occupied part, [R]."""
        return (self.high - self.low).float()

    def select(self, rays: Tensor) -> Spans:
        """Those of some rays, int64."""
        chosen = (x[rays] for x in (self.first, self.count, self.low, self.high))
        return Spans(*chosen, self.ends, self.t_starts, self.leaves)

    def t(self, s: Tensor) -> Tensor:
        """Distances t [R, N] at s [R, N]; every ray must have a crossing."""
        return self.at(s)[0]

    def at(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Distances t [R, N] at s [R, N], and the leaves there; every ray must have a crossing."""
        place = self.low[:, None] + s
        index = torch.searchsorted(self.ends, place, right=True) - 1
        last = self.first + self.count - 1
        index = torch.minimum(torch.maximum(index, self.first[:, None]), last[:, None])
        return self.t_starts[index] + (place - self.ends[index]).float(), self.leaves[index]
