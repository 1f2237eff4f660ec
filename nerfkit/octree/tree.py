"""Sparse voxel octree: which leaf voxels of a cube are occupied.

A tree of depth D divides a cube into R = 2^D leaf voxels along each axis. Occupied leaves are held
as sorted Morton codes (bit 0 of each triple is x, then y, then z); everything else is derived.
Leaf (x, y, z) covers box_min + [x, x + 1) * voxel and so on. After NSVF (2007.11571), section 3.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.octree.bricks import Bricks, reached
from nerfkit.octree.morton import morton_decode, morton_encode

MAX_DEPTH = 20  # a code has 60 bits


@dataclass(frozen=True)
class Octree:
    """Occupied leaves of a cube.

    Attributes:
        box_min: [3] float32, lowest corner of the cube, world units.
        size: edge of the cube, world units.
        depth: levels below the root; 2^depth leaf voxels along an axis.
        codes: [n_leaves] int64, Morton codes of the occupied leaves, ascending and distinct.
    """

    box_min: Tensor
    size: float
    depth: int
    codes: Tensor

    @staticmethod
    def from_cells(box_min: Tensor, size: float, depth: int, cells: Tensor) -> Octree:
        """From leaf coordinates [N, 3] (x, y, z) in any order, repeats allowed."""
        codes = torch.unique(morton_encode(cells))
        return Octree(box_min.to(torch.float32), float(size), depth, codes)

    @staticmethod
    def full(box_min: Tensor, size: float, depth: int) -> Octree:
        """Every leaf occupied."""
        codes = torch.arange(8**depth, device=box_min.device)
        return Octree(box_min.to(torch.float32), float(size), depth, codes)

    def to(self, device: torch.device) -> Octree:
        """The same on another device; what is derived from an octree lies where it does."""
        return Octree(self.box_min.to(device), self.size, self.depth, self.codes.to(device))

    @property
    def device(self) -> torch.device:
        return self.codes.device

    @property
    def resolution(self) -> int:
        return 1 << self.depth

    @property
    def voxel(self) -> float:
        """Edge of a leaf voxel, world units."""
        return self.size / self.resolution

    def __len__(self) -> int:
        return self.codes.shape[0]

    def bricks(self) -> Bricks:
        """The bricks of 4x4x4 that the leaves lie in."""
        return Bricks.of(self.codes)

    def cells(self) -> Tensor:
        """Coordinates of the leaves, [n_leaves, 3] int64 (x, y, z), in Morton order."""
        return morton_decode(self.codes)

    def centers(self) -> Tensor:
        """Centres of the leaves, [n_leaves, 3] float32, world units."""
        return self.box_min + (self.cells().to(torch.float32) + 0.5) * self.voxel

    def subdivide(self) -> Octree:
        """Every leaf into its eight children."""
        return self.at_depth(self.depth + 1)

    def above(self, depth: int) -> Octree:
        """The tree cut off at `depth`, if it is deeper: a node is a leaf if it holds one."""
        if self.depth <= depth:
            return self
        codes = torch.unique_consecutive(self.codes >> 3 * (self.depth - depth))
        return Octree(self.box_min, self.size, depth, codes)

    def at_depth(self, depth: int) -> Octree:
        """The same space with leaves at another depth.

        Coarser: a node is a leaf if it holds one (as `above`); finer: each leaf becomes all the
        nodes in it, so going down and back up changes nothing.

        Raises:
            ValueError: no such depth.
        """
        if not 0 <= depth <= MAX_DEPTH:
            raise ValueError(f"`depth` must be in [0, {MAX_DEPTH}], got {depth}")
        if depth <= self.depth:
            return self.above(depth)
        inside = 8 ** (depth - self.depth)
        children = torch.arange(inside, device=self.device)
        codes = (self.codes[:, None] * inside + children).reshape(-1)
        return Octree(self.box_min, self.size, depth, codes)

    def keep(self, mask: Tensor) -> Octree:
        """Only the leaves where `mask` [n_leaves] bool is true."""
        return Octree(self.box_min, self.size, self.depth, self.codes[mask])

    def find(self, cells: Tensor) -> Tensor:
        """Index of the leaf at each of `cells` [N, 3], or -1 where it is not occupied -> [N]."""
        if len(self) == 0:
            return torch.full((cells.shape[0],), -1, device=self.device)
        inside = ((cells >= 0) & (cells < self.resolution)).all(dim=1)
        wanted = morton_encode(cells.clamp(0, self.resolution - 1))
        place = torch.searchsorted(self.codes, wanted).clamp_max(len(self) - 1)
        return torch.where(inside & (self.codes[place] == wanted), place, -1)

    def cells_at(self, points: Tensor) -> Tensor:
        """Leaf coordinates of world points [N, 3], in the cube or not -> [N, 3] int64.

        In double, so that a point belongs to the cell that holds it however deep the tree.
        """
        return torch.floor((points.double() - self.box_min.double()) / self.voxel).to(torch.int64)

    def contains(self, points: Tensor) -> Tensor:
        """Whether world points [N, 3] lie in an occupied leaf -> [N] bool."""
        return self.find(self.cells_at(points)) >= 0

    def dilate(self, mask: Tensor) -> Tensor:
        """`mask` [n_leaves] spread to the occupied leaves among the 26 neighbours of its leaves."""
        bricks = self.bricks()
        blocks = Octree(self.box_min, self.size, max(self.depth - 2, 0), bricks.codes)
        words, cells = bricks.words(mask), blocks.cells()
        out = torch.zeros_like(words)
        for offset in itertools.product((-1, 0, 1), repeat=3):
            place = blocks.find(cells + torch.tensor(offset, device=self.device))
            met = (place >= 0).nonzero().squeeze(1)
            out[met] |= reached(words[place[met]], offset)
        return bricks.at(out)

    def occupancy_words(self) -> Tensor:
        """Bit pyramid for marching: 4x4x4 leaves a 64-bit word, [n, n, n] (z, y, x) words a level.

        The levels follow each other in one flat int64 tensor, finest first, down to a single word;
        a bit of a coarser level says whether the word below it is non-zero. Bit x + 4 y + 16 z.
        """
        levels, codes, n = [], self.codes, self.resolution
        while True:
            n = -(-n // 4)
            bricks = Bricks.of(codes)
            x, y, z = morton_decode(bricks.codes).unbind(1)
            words = torch.zeros(n**3, dtype=torch.int64, device=self.device)
            words[(z * n + y) * n + x] = bricks.words()
            levels.append(words)
            if n == 1:
                return torch.cat(levels)
            codes = bricks.codes

    def children(self) -> tuple[Tensor, int]:
        """The tree as `nerfkit.kernels.octree_traverse` reads it.

        Returns:
            [n_nodes, 8] int32: a child's node, or -1; node 0 is the root, and a tree without
            leaves has no nodes. Bit 0 of the column is the high half in x, bit 1 in y, bit 2 in z.
            And the node of leaf 0: leaf i is node `first_leaf + i`.
        """
        levels = [self.codes]
        for _ in range(self.depth):
            levels.append(torch.unique_consecutive(levels[-1] >> 3))
        levels.reverse()
        first = torch.tensor([0, *(len(level) for level in levels)]).cumsum(0).tolist()
        children = torch.full((first[-1], 8), -1, dtype=torch.int32, device=self.device)
        for depth in range(1, self.depth + 1):
            codes = levels[depth]
            parent = first[depth - 1] + torch.searchsorted(levels[depth - 1], codes >> 3)
            nodes = torch.arange(
                first[depth], first[depth + 1], dtype=torch.int32, device=self.device
            )
            children[parent, codes & 7] = nodes
        return children, first[self.depth]

    def nodes_at(self, depth: int) -> Tensor:
        """Coordinates [N, 3] of the occupied nodes at a depth no deeper than the leaves."""
        return morton_decode(torch.unique_consecutive(self.codes >> 3 * (self.depth - depth)))
