"""Voxels of meshes: every one the surface touches and no other, and what a mesh encloses."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy import ndimage

from nerfkit.errors import NerfkitError
from nerfkit.octree import Cube, from_mesh
from nerfkit.octree.enclosed import enclosed_cells
from nerfkit.octree.mesh import touched_cells

MESHES = Path(os.environ.get("NERFKIT_DATA", Path(__file__).parents[3] / "shared/data")) / "meshes"
UNIT = Cube(torch.zeros(3), 1.0)


def clipped(triangle, low, high):
    """The part of a triangle [3, 3] inside a box, as a polygon; empty if they are apart."""
    polygon = list(triangle)
    for axis in range(3):
        for sign, bound in ((1, low[axis]), (-1, -high[axis])):
            kept = []
            for a, b in zip(polygon, polygon[1:] + polygon[:1], strict=True):
                depth_a, depth_b = sign * a[axis] - bound, sign * b[axis] - bound
                if depth_a >= 0:
                    kept.append(a)
                if (depth_a >= 0) != (depth_b >= 0):
                    kept.append(a + (b - a) * (depth_a / (depth_a - depth_b)))
            polygon = kept
    return polygon


@pytest.mark.parametrize("scale", [0.02, 0.3, 1.5])
def test_a_triangle_touches_exactly_the_boxes_it_can_be_clipped_to(scale):
    generator = np.random.default_rng(0)
    depth, n = 3, 8
    for _ in range(12):
        triangle = generator.random(3) + scale * (generator.random((3, 3)) - 0.5)
        got = {tuple(c) for c in touched_cells(torch.tensor(triangle)[None], depth).tolist()}
        want = {
            cell
            for cell in np.ndindex(n, n, n)
            if clipped(triangle, np.array(cell) / n, (np.array(cell) + 1) / n)
        }
        assert got == want


def test_triangles_without_area_and_on_faces():
    point = torch.full((1, 3, 3), 0.3, dtype=torch.float64)
    assert touched_cells(point, 2).tolist() == [[1, 1, 1]]
    line = torch.tensor([[[0.1, 0.1, 0.1], [0.9, 0.1, 0.1], [0.5, 0.1, 0.1]]]).double()
    assert sorted(touched_cells(line, 2).tolist()) == [[x, 0, 0] for x in range(4)]
    # In the plane between two layers of leaves: both are touched.
    flat = torch.tensor([[[0.1, 0.1, 0.5], [0.2, 0.1, 0.5], [0.1, 0.2, 0.5]]]).double()
    assert sorted(touched_cells(flat, 2).tolist()) == [[0, 0, 1], [0, 0, 2]]


def shapes():
    yield "ball", trimesh.creation.icosphere(3)
    yield "box", trimesh.creation.box((1, 2, 3))
    yield "ring", trimesh.creation.torus(1.0, 0.3)
    turned = trimesh.transformations.rotation_matrix(0.7, [1, 2, 3])
    needle = trimesh.creation.cone(0.01, 2.0, sections=8)
    yield "needle", needle.apply_transform(turned)
    for name in ("Avocado", "Suzanne"):
        yield name, MESHES / name / "glTF" / f"{name}.gltf"


@pytest.mark.parametrize(
    ("name", "mesh"), list(shapes()), ids=lambda v: v if isinstance(v, str) else ""
)
@pytest.mark.parametrize("depth", [4, 7])
def test_no_voxel_of_a_surface_is_missed(name, mesh, depth):
    if isinstance(mesh, Path):
        if not mesh.is_file():
            pytest.skip(f"no {mesh}; set NERFKIT_DATA")
        mesh = trimesh.load(mesh, force="mesh")
    octree = from_mesh(mesh, depth)
    points = torch.from_numpy(trimesh.sample.sample_surface(mesh, 100_000, seed=0)[0])
    assert octree.contains(points).all()
    assert octree.contains(torch.tensor(mesh.vertices)).all()
    # Nor is one there that is off the surface: the nearest sample is within half a diagonal, but
    # for how thinly they lie.
    if depth == 4:
        from scipy.spatial import cKDTree

        distance = cKDTree(points.numpy()).query(octree.centers().numpy())[0].max()
        assert distance <= (3**0.5 / 2 + 0.15) * octree.voxel


def test_a_filled_ball():
    ball = trimesh.creation.icosphere(4)
    surface, solid = from_mesh(ball, 6), from_mesh(ball, 6, filled=True)
    assert solid.codes.diff().min() > 0
    assert torch.isin(surface.codes, solid.codes).all()
    n = solid.resolution
    x, y, z = torch.meshgrid(*[torch.arange(n) + 0.5] * 3, indexing="ij")
    centers = solid.box_min + torch.stack([x, y, z], dim=-1).view(-1, 3) * solid.voxel
    inside = torch.from_numpy(ball.contains(centers.numpy()))
    assert solid.contains(centers[inside]).all()
    # Nothing but voxels whose centre is inside, and the surface's.
    assert int(inside.sum()) <= len(solid) <= int(inside.sum()) + len(surface)
    assert not solid.contains(torch.tensor([[0.99, 0.99, 0.99]])).any()


def test_a_hollow_stays_hollow_only_if_it_is_open():
    outer, inner = trimesh.creation.box((2, 2, 2)), trimesh.creation.box((1, 1, 1))
    shell = from_mesh(trimesh.util.concatenate([outer, inner]), 5, filled=True)
    assert shell.contains(torch.zeros(1, 3)).all()  # shut off, so filled too
    ring = from_mesh(trimesh.creation.torus(1.0, 0.3), 5, filled=True)
    assert not ring.contains(torch.zeros(1, 3)).any()
    assert ring.contains(torch.tensor([[1.0, 0, 0], [0, -1.0, 0]])).all()


@pytest.mark.parametrize("occupancy", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_enclosed_cells_are_the_holes(occupancy):
    generator = np.random.default_rng(1)
    for n in (1, 2, 3, 8, 17):
        grid = generator.random((n, n, n)) < occupancy
        holes = ndimage.binary_fill_holes(grid) & ~grid
        got = enclosed_cells(torch.from_numpy(grid).nonzero(), n)
        assert torch.equal(got, torch.from_numpy(holes).nonzero())
    assert occupancy not in (0.6, 0.9) or len(got) > 100


def test_a_given_cube_cuts():
    ball = trimesh.creation.icosphere(3)
    octree = from_mesh(ball, 4, cube=UNIT)
    assert 0 < len(octree) < len(from_mesh(ball, 4))
    points = torch.from_numpy(trimesh.sample.sample_surface(ball, 50_000, seed=0)[0])
    within = ((points >= 0) & (points < 1)).all(dim=1)
    assert octree.contains(points[within]).all() and not octree.contains(points[~within]).any()


def test_mistakes_are_one_line():
    ball = trimesh.creation.icosphere(2)
    with pytest.raises(NerfkitError, match="mesh: nothing of it lies in the cube"):
        from_mesh(ball, 4, cube=Cube(torch.full((3,), 5.0), 1.0))
    with pytest.raises(NerfkitError, match=r"mesh: want a trimesh.Trimesh with triangles"):
        from_mesh(trimesh.Trimesh(), 4)
    with pytest.raises(NerfkitError, match="depth: want 0 to 20"):
        from_mesh(ball, 21)
    with pytest.raises(NerfkitError, match="cube: want an edge above 0"):
        from_mesh(ball, 4, cube=Cube(torch.zeros(3), 0.0))
    square = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]])
    with pytest.raises(NerfkitError, match="holes wider than a voxel"):
        from_mesh(square, 4, filled=True)
    ball.vertices[5] = np.nan
    with pytest.raises(NerfkitError, match="mesh vertices: NaN or infinity"):
        from_mesh(ball, 4)
