"""Octrees from triangle meshes: every voxel that the surface touches, and what it encloses.

A triangle and a box are apart exactly if one of 17 half-spaces says so: the six sides of the
triangle's own box, the two of its plane, and the outward sides of its three edges seen along each
of the three axes (Schwarz & Seidel, "Fast parallel surface and solid voxelization on GPUs", 2010).
Each half-space is kept as normal [3] and offset: p is inside if normal . p + offset >= 0.
"""

import torch
import trimesh
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.octree.build import Cube, cube_around, empty_tree, finite
from nerfkit.octree.enclosed import enclosed_cells
from nerfkit.octree.morton import morton_encode
from nerfkit.octree.tree import Octree

TOUCH = 1e-9  # of the cube: a surface this near to a voxel touches it, whatever the rounding
TRIANGLES_AT_ONCE = 1 << 14
TESTS_AT_ONCE = 1 << 16


def from_mesh(
    mesh: trimesh.Trimesh, depth: int, *, cube: Cube | None = None, filled: bool = False
) -> Octree:
    """The leaves that a mesh touches; a surface in a face between two leaves touches both.

    Args:
        mesh: triangles, world units.
        depth: of the leaves.
        cube: default: one round the mesh with a margin of a hundredth. What lies outside a given
            one is left out.
        filled: also the leaves that the touched ones shut off from the border of the cube.

    Raises:
        NerfkitError: no triangles, NaN or infinity, nothing in the cube, or `filled` where the
            mesh has holes wide enough that it encloses nothing.
    """
    if not isinstance(mesh, trimesh.Trimesh) or len(mesh.faces) == 0:
        raise NerfkitError(
            f"mesh: want a trimesh.Trimesh with triangles, got {type(mesh).__name__}"
            f"{' without' if isinstance(mesh, trimesh.Trimesh) else ''}; "
            'trimesh.load(..., force="mesh") makes one'
        )
    corners = torch.tensor(mesh.triangles.reshape(-1, 3), dtype=torch.float64)
    corners = finite("mesh vertices", corners, (None, 3))
    empty = empty_tree(cube or cube_around(corners), depth)
    # From here on the cube is [0, 1]^3.
    triangles = ((corners - empty.box_min.double()) / empty.size).view(-1, 3, 3)
    parts = [touched_cells(part, depth) for part in triangles.split(TRIANGLES_AT_ONCE)]
    octree = Octree.from_cells(empty.box_min, empty.size, depth, torch.cat(parts))
    if len(octree) == 0:
        raise NerfkitError("mesh: nothing of it lies in the cube")
    if filled:
        inside = enclosed_cells(octree.cells(), octree.resolution)
        if len(inside) == 0 and not mesh.is_watertight:
            raise NerfkitError(
                f"mesh: has holes wider than a voxel of {octree.voxel:.3g} and so encloses "
                "nothing; close them, or leave it unfilled"
            )
        codes = torch.cat([octree.codes, morton_encode(inside)]).sort().values
        octree = Octree(octree.box_min, octree.size, depth, codes)
    return octree


def touched_cells(triangles: Tensor, depth: int) -> Tensor:
    """Cells of 2^depth along each edge of [0, 1]^3 that triangles [T, 3, 3] touch -> [N, 3].

    Each triangle starts in the (up to eight) cells of about its own size, and goes down from
    parents to children; a cell that several triangles touch is listed once for each.
    """
    normals, offsets = _half_spaces(triangles)
    reach = normals.abs().sum(dim=2)
    low, high = triangles.amin(1), triangles.amax(1)
    extent = (high - low).amax(1) + 4 * TOUCH
    start = torch.floor(-torch.log2(extent)).clamp(0, depth).to(torch.int64)
    octants = torch.cartesian_prod(*[torch.arange(2)] * 3)
    cells = torch.zeros(0, 3, dtype=torch.int64)
    owners = torch.zeros(0, dtype=torch.int64)
    for level in range(int(start.min()), depth + 1):
        starting = (start == level).nonzero()[:, 0]
        corner = torch.floor((low[starting] - TOUCH) * 2**level).to(torch.int64)
        fresh = (corner[:, None] + octants).reshape(-1, 3)
        below = (2 * cells[:, None] + octants).reshape(-1, 3)
        cells = torch.cat([below, fresh])
        owners = torch.cat([owners, starting]).repeat_interleave(8)
        within = ((cells >= 0) & (cells < 2**level)).all(dim=1)
        cells, owners = cells[within], owners[within]
        half = 0.5 / 2**level
        keep = []
        for cell, owner in zip(
            cells.split(TESTS_AT_ONCE), owners.split(TESTS_AT_ONCE), strict=True
        ):
            centre = (cell.double() + 0.5) * (2 * half)
            beyond = torch.einsum("nsk,nk->ns", normals[owner], centre) + offsets[owner]
            keep.append((beyond + half * reach[owner] >= -TOUCH).all(dim=1))
        touched = torch.cat(keep)
        cells, owners = cells[touched], owners[touched]
    return cells


def _half_spaces(triangles: Tensor) -> tuple[Tensor, Tensor]:
    """Those round triangles [T, 3, 3]: unit normals [T, 17, 3] and offsets [T, 17], float64.

    Where a triangle or an edge has no extent in some view its normal is 0 and excludes nothing.
    """
    edges = triangles.roll(-1, dims=1) - triangles
    plane = torch.linalg.cross(edges[:, 0], edges[:, 1])
    normals, points = [], []
    for axis in range(3):
        unit = torch.eye(3, dtype=torch.float64)[axis].expand(len(triangles), 3)
        for sign, point in ((1, triangles.amin(1)), (-1, triangles.amax(1))):
            normals.append(sign * unit)
            points.append(point)
        # Turned a quarter about the axis an edge gives its inner side, if the triangle is seen
        # from the front.
        front = torch.where(plane[:, axis, None] >= 0, 1.0, -1.0)
        for k in range(3):
            normals.append(front * torch.linalg.cross(unit, edges[:, k]))
            points.append(triangles[:, k])
    for sign in (1, -1):
        normals.append(sign * plane)
        points.append(triangles[:, 0])
    normal, point = torch.stack(normals, dim=1), torch.stack(points, dim=1)
    normal = torch.nn.functional.normalize(normal, dim=2, eps=1e-300)
    return normal, -(normal * point).sum(dim=2)
