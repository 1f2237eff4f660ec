"""Sparse voxel octree: which leaf voxels of a cube are occupied.

A tree of depth D divides a cube into R = 2^D leaf voxels along each axis. Occupied leaves are held
as sorted Morton codes (bit 0 of each triple is x, then y, then z); everything else is derived.
Leaf (x, y, z) covers box_min + [x, x + 1) * voxel and so on. After NSVF (2007.11571), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

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
        cells, out = self.cells(), mask.clone()
        few = 2 * int(mask.sum()) < len(self)  # go round the chosen leaves, or round the others
        asked = (mask if few else ~mask).nonzero().squeeze(1)
        for offset in torch.cartesian_prod(*[torch.arange(-1, 2, device=self.device)] * 3):
            near = self.find(cells[asked] + offset)
            if few:
                out[near[near >= 0]] = True
            else:
                met = (near >= 0) & mask[near]
                out[asked[met]] = True
                asked = asked[~met]
        return out

    def occupancy_words(self) -> Tensor:
        """Bit pyramid for marching: 4x4x4 leaves a 64-bit word, [n, n, n] (z, y, x) words a level.

        The levels follow each other in one flat int64 tensor, finest first, down to a single word;
        a bit of a coarser level says whether the word below it is non-zero. Bit x + 4 y + 16 z.
        """
        levels = []
        cells, n = self.cells(), self.resolution
        while True:
            n = -(-n // 4)
            block, inner = cells >> 2, cells & 3
            flat = (block[:, 2] * n + block[:, 1]) * n + block[:, 0]
            bit = inner[:, 0] + 4 * inner[:, 1] + 16 * inner[:, 2]
            words = torch.zeros(n**3, dtype=torch.int64, device=self.device)
            words.index_add_(0, flat, torch.ones_like(bit) << bit)
            levels.append(words)
            if n == 1:
                return torch.cat(levels)
            # Leaves come in Morton order, so those of one block are neighbours in the list.
            first = torch.ones_like(flat, dtype=torch.bool)
            first[1:] = flat[1:] != flat[:-1]
            cells = block[first]

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
