"""The surface of a field: marching cubes over the leaves of its octree.

A corner's opacity is what a leaf of the density there would have, 1 - exp(-sigma voxel), and the
surface is where it is one half. What the surface shuts off from the outside is solid: no camera
looked in there, and whatever the fit left inside is nobody's to see. Coordinates of corners are
whole numbers 0 to R = 2^depth along each axis; blocks of cells are marched one at a time, so that
memory and time follow the surface and not R^3.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.fields.bakeable import Source
from nerfkit.fields.baked import BakedField, BakedShape
from nerfkit.fields.fast import FastField, source_of
from nerfkit.fields.field import Field
from nerfkit.octree import Octree, morton_decode, morton_encode
from nerfkit.octree.enclosed import enclosed_cells

LEVEL = 0.5  # opacity at the surface
CLEAR = 0.01  # opacities this near to it are moved away: no vertex falls on a corner
BLOCK = 64  # cells
SPECK = 0.02  # of the mesh's diagonal: pieces smaller than this are left out
ASKED_AT_ONCE = 1 << 16  # corners
OCTANTS = torch.cartesian_prod(*[torch.arange(2)] * 3)


@dataclass(frozen=True)
class Corners:
    """Densities at the corners of an octree's leaves.

    Attributes:
        octree: world units.
        coords: [V, 3] int64, in Morton order.
        densities: [V], 1 / world unit.
    """

    octree: Octree
    coords: Tensor
    densities: Tensor

    def opacities(self) -> Tensor:
        """[V], of a leaf's edge through each density."""
        return -torch.expm1(-self.densities * self.octree.voxel)

    def of_leaves(self) -> Tensor:
        """[n_leaves] mean density of the eight corners of each leaf."""
        codes = morton_encode(self.coords)
        cells, total = self.octree.cells(), torch.zeros(len(self.octree))
        for octant in OCTANTS:
            total += self.densities[torch.searchsorted(codes, morton_encode(cells + octant))]
        return total / len(OCTANTS)


@dataclass(frozen=True)
class Mesh:
    """Triangles, counter-clockwise from outside.

    Attributes:
        vertices, normals: [V, 3] float32, world units and axes; normals of unit length.
        faces: [F, 3] int32.
    """

    vertices: np.ndarray
    normals: np.ndarray
    faces: np.ndarray


def world_octree(field: Field) -> Octree | None:
    """Leaves outside which a field holds nothing, world units; None if it has no such leaves."""
    if getattr(field.shape, "ndc", None) is not None:
        return None
    unbounded = getattr(field.shape, "unbounded", None)
    return field.octree if unbounded is None else unbounded.inner(field.octree)


def corners_of(field: Field) -> Corners:
    """Densities at the corners of a field's leaves; NerfkitError if it has no leaves in space."""
    if world_octree(field) is None:
        raise NerfkitError(
            f"the field ({type(field).__name__}) has no voxels in world space; "
            "export it with --kind points"
        )
    if isinstance(field, BakedField):
        low, scale = field.shape.density_range
        raw, coords = low + scale * field.density.float(), morton_decode(field.layout.codes)
        return _corners(field.octree, coords, raw, field.shape)
    # of an unbounded scene the part round its middle
    source = source_of(field.collapsed()) if isinstance(field, FastField) else field.source()
    codes = [torch.unique(morton_encode(source.octree.cells() + octant)) for octant in OCTANTS]
    coords = morton_decode(torch.unique(torch.cat(codes)))
    raw = torch.cat([source.density(part) for part in coords.split(ASKED_AT_ONCE)])
    return _corners(source.octree, coords, raw, source)


def _corners(octree: Octree, coords: Tensor, raw: Tensor, scaled: BakedShape | Source) -> Corners:
    softened = torch.nn.functional.softplus(raw + scaled.density_bias)
    return Corners(octree, coords, scaled.density_scale * softened)


def extract(corners: Corners) -> Mesh:
    """The surface; NerfkitError if there is none."""
    octree = corners.octree
    points, opacities = _solid(corners)
    vertices, faces = _march(points.numpy(), opacities.numpy(), octree.resolution + 2)
    if len(faces) == 0:
        raise NerfkitError("the scene holds no surface: nothing in it is opaque; fit it longer")
    vertices, faces = _without_specks(vertices, faces)
    vertices = octree.box_min.double().numpy() + (vertices - 1) * octree.voxel
    return Mesh(
        vertices.astype(np.float32),
        _normals(vertices, faces).astype(np.float32),
        faces.astype(np.int32),
    )


def _solid(corners: Corners) -> tuple[Tensor, Tensor]:
    """Corners that are not empty, [N, 3] from 1 up, and their opacities, 1 where shut off."""
    opacities = corners.opacities()
    near = (opacities - LEVEL).abs() < CLEAR
    opacities[near] = torch.where(opacities[near] > LEVEL, LEVEL + CLEAR, LEVEL - CLEAR)
    points = corners.coords + 1
    inside = enclosed_cells(points[opacities > LEVEL], corners.octree.resolution + 3)
    # the last of equal codes wins: what is shut off goes first in a sort that is stable
    codes = torch.cat([morton_encode(inside), morton_encode(points)])
    values = torch.cat([torch.ones(len(inside)), opacities])
    codes, order = codes.sort(stable=True)
    first = torch.ones(len(codes), dtype=torch.bool)
    first[1:] = codes[1:] != codes[:-1]
    return morton_decode(codes[first]), values[order][first]


def _march(points: np.ndarray, values: np.ndarray, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Marching cubes of sparse `values` [N] at `points` [N, 3] in [0, n_cells]; 0 elsewhere.

    Returns vertices [V, 3] float64 in the same coordinates, shared between blocks, and faces.
    """
    n = n_cells // BLOCK + 1
    members, blocks = [], []
    for octant in itertools.product((0, 1), repeat=3):
        # a point in the lower face of a block is in the upper face of the one before
        block = points // BLOCK - octant
        within = ((points % BLOCK == 0) | (np.array(octant) == 0)).all(1) & (block >= 0).all(1)
        members.append(np.flatnonzero(within))
        blocks.append(block[within] @ [n * n, n, 1])
    members, blocks = np.concatenate(members), np.concatenate(blocks)
    order = np.argsort(blocks, kind="stable")
    names, starts = np.unique(blocks[order], return_index=True)
    keys, places, faces, count = [], [], [], 0
    for name, chosen in zip(names, np.split(members[order], starts[1:]), strict=True):
        origin = np.array([name // n // n, name // n % n, name % n]) * BLOCK
        volume = np.zeros((BLOCK + 1,) * 3, np.float32)
        volume[tuple((points[chosen] - origin).T)] = values[chosen]
        if not volume.min() < LEVEL < volume.max():
            continue
        # counter-clockwise seen from where values are low
        place, face, *_ = marching_cubes(volume, LEVEL, gradient_direction="ascent")
        keys.append(_vertex_keys(place, origin))
        places.append(place.astype(np.float64) + origin)
        faces.append(face.astype(np.int64) + count)
        count += len(place)
    if not faces:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    _, first, inverse = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    return np.concatenate(places)[first], inverse.reshape(-1)[np.concatenate(faces)]


def _vertex_keys(place: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """A number [V] for the edge of the grid each vertex lies on, or the cell it lies inside."""
    nearest = np.rint(place)
    between = np.abs(place - nearest) > 1e-4
    base = np.where(between, np.floor(place), nearest).astype(np.int64) + origin
    axis = np.where(between.sum(1) == 1, between.argmax(1), 3)
    return ((base[:, 0] << 21 | base[:, 1]) << 21 | base[:, 2]) << 2 | axis


def _without_specks(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without connected pieces that are small beside the whole."""
    links = np.concatenate([faces[:, :2], faces[:, 1:]])
    shape = (len(vertices), len(vertices))
    graph = coo_array((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=shape)
    n_pieces, piece = connected_components(graph, directed=False)
    low, high = np.full((n_pieces, 3), np.inf), np.full((n_pieces, 3), -np.inf)
    np.minimum.at(low, piece, vertices)
    np.maximum.at(high, piece, vertices)
    extent = np.linalg.norm(high - low, axis=1)
    kept = extent >= SPECK * np.linalg.norm(high.max(0) - low.min(0))
    kept[extent.argmax()] = True
    keep = kept[piece]
    place = np.cumsum(keep) - 1
    return vertices[keep], place[faces[keep[faces[:, 0]]]]


def _normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3]: of the faces around each vertex, by area."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    total = np.zeros_like(vertices)
    for i, axis in itertools.product(range(3), range(3)):
        total[:, axis] += np.bincount(faces[:, i], across[:, axis], len(vertices))
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-30)
