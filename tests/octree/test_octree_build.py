"""Builders of octrees: from a box, a dense grid, points; the cube chosen for them; mistakes."""

import itertools
import math

import numpy as np
import pytest
import torch

from nerfkit.errors import NerfkitError
from nerfkit.octree import (
    Cube,
    Octree,
    cube_around,
    from_box,
    from_mesh,
    from_occupancy,
    from_points,
)

CUBE = Cube(torch.tensor([-1.0, 0.0, 2.0]), 4.0)


def cells_of(octree):
    return {tuple(cell) for cell in octree.cells().tolist()}


def test_a_cubic_box_fills_its_own_cube():
    octree = from_box(torch.tensor([[-0.1, 0.3, 1.7], [0.2, 0.6, 2.0]]), 3)
    assert len(octree) == 512
    assert octree.size == pytest.approx(0.3, rel=1e-6)
    torch.testing.assert_close(octree.box_min, torch.tensor([-0.1, 0.3, 1.7]))


def test_a_box_fills_the_leaves_it_reaches_into():
    # Leaves have edge 1/2: x from 0.2 to 0.9 (leaves 2 and 3), y one leaf, z on faces exactly.
    octree = from_box(np.array([[0.2, 0.1, 3.0], [0.9, 0.4, 4.5]]), 3, cube=CUBE)
    assert cells_of(octree) == set(itertools.product([2, 3], [0], [2, 3, 4]))
    # Twice as long as wide: its cube is half full.
    assert len(from_box(np.array([[0, 0, 0], [2, 1, 2]]), 4)) == 16**3 // 2
    # What lies beyond the cube is cut off.
    assert len(from_box(np.array([[-9, -9, -9], [9, 9, 9]]), 2, cube=CUBE)) == 64


def test_occupancy_is_indexed_x_y_z():
    grid = np.zeros((4, 4, 4), dtype=bool)
    grid[1, 2, 3] = grid[0, 3, 0] = True
    octree = from_occupancy(grid, cube=CUBE)
    assert (octree.depth, octree.voxel) == (2, 1.0)
    assert cells_of(octree) == {(1, 2, 3), (0, 3, 0)}
    assert octree.contains(torch.tensor([[0.5, 2.5, 5.5]])).all()


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_occupancy_of_any_resolution_keeps_its_voxels(n):
    grid = torch.rand(n, n, n, generator=torch.Generator().manual_seed(0)) < 0.5
    grid[0, 0, 0] = True
    octree = from_occupancy(grid)
    assert octree.resolution == 2 ** math.ceil(math.log2(n)) and octree.voxel == 1.0
    assert cells_of(octree) == {tuple(cell) for cell in grid.nonzero().tolist()}
    given = from_occupancy(grid, cube=CUBE)
    assert given.voxel == pytest.approx(CUBE.size / n) and torch.equal(given.codes, octree.codes)


@pytest.mark.parametrize("depth", [0, 1, 7, 20])
def test_every_point_is_in_a_leaf(depth):
    points = torch.randn(2000, 3, generator=torch.Generator().manual_seed(1)) * 3 + 100
    octree = from_points(points, depth)
    assert octree.contains(points).all()
    assert len(octree) <= min(8**depth, len(points))
    low, high = octree.box_min, octree.box_min + octree.size
    assert (points > low).all() and (points < high).all()


def test_points_in_a_given_cube():
    points = np.array([[-1.0, 0, 2], [3.0, 4, 6], [3.01, 4, 6], [0.9, 1.1, 3.6]])
    # The highest corner belongs to the last leaf; the third point is outside.
    octree = from_points(points, 2, cube=CUBE)
    assert cells_of(octree) == {(0, 0, 0), (3, 3, 3), (1, 1, 1)}


@pytest.mark.parametrize("margin", [1, 2])
def test_margin_adds_the_voxels_around(margin):
    octree = from_points(
        torch.tensor([[0.6, 0.6, 0.1]]), 4, cube=Cube(torch.zeros(3), 1.0), margin=1
    )
    assert cells_of(octree) == set(itertools.product([8, 9, 10], [8, 9, 10], [0, 1, 2]))
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(2))
    octree = from_points(points, 5, margin=margin)
    plain = from_points(points, 5, cube=Cube(octree.box_min, octree.size))
    reach = (octree.cells()[:, None] - plain.cells()).abs().amax(2).amin(1)
    assert reach.max() == margin
    offsets = torch.cartesian_prod(*[torch.arange(-margin, margin + 1)] * 3)
    around = (plain.cells()[:, None] + offsets).reshape(-1, 3)
    assert (octree.find(around) >= 0).all()  # and the cube chosen leaves room for all of them


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1.0, 1e9, 1e30])
@pytest.mark.parametrize("shift", [0.0, 1.0, 12345.678])
def test_cube_holds_what_it_is_put_around(scale, shift):
    points = torch.randn(100, 3, generator=torch.Generator().manual_seed(3)).double()
    points = (points + shift) * scale
    cube = cube_around(points)
    high = cube.box_min.double() + cube.size
    assert ((points >= cube.box_min.double()) & (points <= high)).all()
    extent = float((points.amax(0) - points.amin(0)).max())
    assert cube.size == pytest.approx(extent / 0.98, rel=1e-3)


@pytest.mark.parametrize("at", [0.0, 1.0, 1e9])
def test_a_single_point_has_a_cube(at):
    points = torch.full((3, 3), at, dtype=torch.float64)
    octree = from_points(points, 4)
    assert len(octree) == 1 and octree.size >= 1 and octree.contains(points).all()


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("build", "complaint"),
    [
        (
            lambda: from_points(torch.zeros(0, 3), 3),
            r"points: want shape \[N > 0, 3\], got \[0, 3\]",
        ),
        (lambda: from_points(torch.zeros(3), 3), r"points: want shape .* got \[3\]"),
        (lambda: from_points([[0.0, NAN, 0]], 3), "points: NaN or infinity in 1 of 1 rows"),
        (lambda: from_points([[0, 0, 0], [0, 0, INF]], 3), "the first is row 1"),
        (lambda: from_points([[1e300, 0, 0]], 3), "beyond float32"),
        (lambda: from_points([[0.0, 0, 0]], 21), "depth: want 0 to 20, got 21"),
        (lambda: from_points([[0.0, 0, 0]], -1), "depth: want 0 to 20, got -1"),
        (lambda: from_points([[0.0, 0, 0]], 3, margin=-1), "margin: want 0 or more"),
        (lambda: from_points([[9.0, 9, 9]], 3, cube=CUBE), "points: none of 1 lies in the cube"),
        (
            lambda: from_points([[0.0, 0, 0]], 3, cube=Cube(torch.zeros(3), 0.0)),
            "cube: want an edge",
        ),
        (
            lambda: from_points([[0.0, 0, 0]], 3, cube=Cube(torch.zeros(2), 1.0)),
            "cube: want a finite",
        ),
        (lambda: from_box([[0.0, 0, 0], [1, 0, 1]], 3), "box: want a lowest and a highest corner"),
        (lambda: from_box([[0.0, 0, 0], [1, NAN, 1]], 3), "box: NaN or infinity"),
        (lambda: from_box([[0.0, 0, 0]], 3), r"box: want shape \[2, 3\]"),
        (lambda: from_box([[7.0, 7, 7], [8, 8, 8]], 3, cube=CUBE), "box: lies outside the cube"),
        (lambda: from_box([[0.0, 0, 0], [1, 1, 1]], 15), "leaves at depth 15; choose a smaller"),
        (lambda: from_occupancy(torch.zeros(4, 4, 4)), "occupancy: want bool"),
        (
            lambda: from_occupancy(torch.ones(4, 4, 5, dtype=torch.bool)),
            r"got torch.bool \[4, 4, 5\]",
        ),
        (lambda: from_occupancy(torch.zeros(4, 4, 4, dtype=torch.bool)), "at least one voxel"),
        (lambda: from_occupancy(torch.zeros(0, 0, 0, dtype=torch.bool)), "occupancy: want bool"),
        (lambda: from_occupancy(np.True_), "occupancy: want bool"),
        (lambda: from_mesh(None, 3), "mesh: want a trimesh.Trimesh"),
    ],
)
def test_mistakes_are_one_line(build, complaint):
    with pytest.raises(NerfkitError, match=complaint) as raised:
        build()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("depth", [0, 2, 4, 6])
def test_at_depth_goes_both_ways(depth):
    points = torch.rand(60, 3, generator=torch.Generator().manual_seed(4))
    octree = from_points(points, 4)
    other = octree.at_depth(depth)
    assert (other.depth, other.size) == (depth, octree.size)
    assert other.codes.diff().min() > 0 if len(other) > 1 else True
    assert other.contains(points).all()
    back = other.at_depth(4)
    if depth >= 4:
        assert len(other) == len(octree) * 8 ** (depth - 4)
        assert torch.equal(back.codes, octree.codes)
    else:
        assert torch.equal(other.codes, octree.above(depth).codes)
        assert (back.find(octree.cells()) >= 0).all()
    assert other.contains(octree.centers()).all()
    finer = octree
    for _ in range(depth - 4):
        finer = finer.subdivide()
    if depth >= 4:
        assert torch.equal(finer.codes, other.codes)


def test_at_depth_refuses_what_there_is_not():
    for depth in (-1, 21):
        with pytest.raises(ValueError, match="`depth` must be in"):
            Octree.full(torch.zeros(3), 1.0, 1).at_depth(depth)
