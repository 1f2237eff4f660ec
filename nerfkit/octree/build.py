"""Octrees from a box, a dense grid or points, and the cube they are put in.

A cube is its lowest corner [3] and its edge, world units. Where none is given, one is chosen that
holds everything. Leaves lie at `depth`: 2^depth voxels along an edge of the cube.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.octree.tree import MAX_DEPTH, Octree

MARGIN = 0.01  # of a cube chosen here: free on each side, as a fraction of its edge
SLIVER = 1e-3  # of a voxel: a box that reaches less far into one does not fill it
MOST_LEAVES = 1 << 30


class Cube(NamedTuple):
    """Where an octree lies: lowest corner [3] float32 and edge, world units."""

    box_min: Tensor
    size: float


def cube_around(points: Tensor, margin: float = MARGIN) -> Cube:
    """A cube round points [N, 3] float64, in its middle, `margin` of its edge free on each side.

    Its corner is a float32 number and still no point is outside. One point alone: edge 1.
    NerfkitError beyond the range of float32.
    """
    if (largest := float(points.abs().max())) > torch.finfo(torch.float32).max:
        raise NerfkitError(f"coordinates up to {largest:.3g}: beyond float32; scale them down")
    low, high = points.amin(0), points.amax(0)
    extent = float((high - low).max())
    edge = extent / (1 - 2 * margin) if extent > 0 else 1.0
    box_min = ((low + high - edge) / 2).to(torch.float32)
    below = torch.nextafter(box_min, torch.full_like(box_min, -torch.inf))
    box_min = torch.where(box_min.double() > low, below, box_min)
    size = max(edge, float((high - box_min.double()).max()))
    return Cube(box_min, size)


def from_box(box: Tensor | np.ndarray, depth: int, *, cube: Cube | None = None) -> Octree:
    """Every leaf that the inside of a box reaches.

    Args:
        box: [2, 3] lowest and highest corner, world units.
        depth: of the leaves.
        cube: default: the smallest one round the box, with no margin, so that a cubic box gives a
            full tree.

    Raises:
        NerfkitError: the box has no inside, NaN or infinity, lies outside the cube, or would take
            more than 2^30 leaves.
    """
    corners = finite("box", box, (2, 3))
    if not bool((corners[1] > corners[0]).all()):
        raise NerfkitError(
            f"box: want a lowest and a highest corner with space between, got {corners.tolist()}"
        )
    empty = empty_tree(cube or cube_around(corners, 0), depth)
    first, last = (corners - empty.box_min.double()) / empty.voxel
    # A corner on a face, but for its rounding, does not touch the voxel beyond.
    first = torch.floor(first + SLIVER).clamp_min(0).to(torch.int64)
    last = torch.ceil(last - SLIVER).clamp_max(empty.resolution).to(torch.int64)
    sides = (last - first).clamp_min(0)
    if sides.min() == 0:
        raise NerfkitError("box: lies outside the cube")
    if (count := float(sides.double().prod())) > MOST_LEAVES:
        raise NerfkitError(f"box: {count:.3g} leaves at depth {depth}; choose a smaller depth")
    ranges = [torch.arange(a, b) for a, b in zip(first.tolist(), last.tolist(), strict=True)]
    return _filled(empty, torch.cartesian_prod(*ranges))


def from_occupancy(occupancy: Tensor | np.ndarray, *, cube: Cube | None = None) -> Octree:
    """The voxels that are True in a dense grid.

    Args:
        occupancy: [n, n, n] bool, indexed [x, y, z]. Where n is no power of two, the tree goes on
            beyond the grid, empty, to the next one.
        cube: what the grid covers, so that a voxel has edge size / n. Default: corner 0, edge n.

    Raises:
        NerfkitError: not such a grid, or nothing in it is True.
    """
    grid = torch.as_tensor(occupancy)
    n = grid.shape[0] if grid.dim() else 0
    if tuple(grid.shape) != (n, n, n) or n == 0 or grid.dtype != torch.bool:
        raise NerfkitError(
            f"occupancy: want bool of shape [n, n, n], got {grid.dtype} {list(grid.shape)}"
        )
    cells = grid.cpu().nonzero()
    if len(cells) == 0:
        raise NerfkitError("occupancy: want at least one voxel that is True, got none")
    box_min, size = cube or Cube(torch.zeros(3), float(n))
    depth = (n - 1).bit_length()
    return _filled(empty_tree(Cube(box_min, size / n * 2**depth), depth), cells)


def from_points(
    points: Tensor | np.ndarray, depth: int, *, cube: Cube | None = None, margin: int = 0
) -> Octree:
    """The leaves that hold a point, and those near them.

    Args:
        points: [N, 3], world units. Those outside a given cube are left out.
        depth: of the leaves.
        cube: default: one round all points that leaves room for the margin.
        margin: voxels, also diagonally, to add round each; the cube cuts them off.

    Raises:
        NerfkitError: no points, NaN or infinity, none in the cube, a margin below 0.
    """
    wanted = finite("points", points, (None, 3))
    if margin < 0:
        raise NerfkitError(f"margin: want 0 or more voxels, got {margin}")
    if cube is None:
        # A margin that the tree is too coarse for is left to be cut off.
        room = margin / 2**depth if 0 <= depth <= MAX_DEPTH else 0
        cube = cube_around(wanted, MARGIN + (room if room <= 0.4 else 0))
    empty = empty_tree(cube, depth)
    low = empty.box_min.double()
    inside = ((wanted >= low) & (wanted <= low + empty.size)).all(dim=1)
    if not bool(inside.any()):
        raise NerfkitError(f"points: none of {len(wanted)} lies in the cube")
    cells = empty.cells_at(wanted[inside]).clamp_(0, empty.resolution - 1)
    cells = torch.unique(cells, dim=0)
    for axis in range(3 if margin else 0):
        near = cells.repeat(2 * margin + 1, 1)
        near[:, axis] += torch.arange(-margin, margin + 1).repeat_interleave(len(cells))
        near = near[(near[:, axis] >= 0) & (near[:, axis] < empty.resolution)]
        cells = torch.unique(near, dim=0)
    return _filled(empty, cells)


def finite(name: str, values: Tensor | np.ndarray, shape: tuple[int | None, int]) -> Tensor:
    """`values` as float64; NerfkitError unless of this shape (None: any but 0) and all finite."""
    # Through numpy, because torch makes float32 of a list.
    tensor = values if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
    tensor = tensor.detach().cpu()
    fits = tensor.dim() == 2 and tensor.shape[1] == shape[1]
    if not fits or (tensor.shape[0] != shape[0] if shape[0] else tensor.shape[0] == 0):
        rows = shape[0] or "N > 0"
        raise NerfkitError(f"{name}: want shape [{rows}, {shape[1]}], got {list(tensor.shape)}")
    tensor = tensor.to(torch.float64)
    bad = ~torch.isfinite(tensor).all(dim=1)
    if bool(bad.any()):
        first = int(bad.nonzero()[0, 0])
        raise NerfkitError(
            f"{name}: NaN or infinity in {int(bad.sum())} of {len(tensor)} rows, "
            f"the first is row {first}; leave them out"
        )
    return tensor


def empty_tree(cube: Cube, depth: int) -> Octree:
    """A tree without leaves; NerfkitError if there is no such cube or depth."""
    box_min, size = torch.as_tensor(cube[0], dtype=torch.float32), float(cube[1])
    if box_min.shape != (3,) or not bool(torch.isfinite(box_min).all()):
        raise NerfkitError(f"cube: want a finite corner [3], got {box_min.tolist()}")
    if not 0 < size < float("inf"):
        raise NerfkitError(f"cube: want an edge above 0, got {size:g}")
    if not 0 <= depth <= MAX_DEPTH:
        raise NerfkitError(f"depth: want 0 to {MAX_DEPTH}, got {depth}")
    return Octree(box_min, size, depth, torch.zeros(0, dtype=torch.int64))


def _filled(empty: Octree, cells: Tensor) -> Octree:
    return Octree.from_cells(empty.box_min, empty.size, empty.depth, cells)
