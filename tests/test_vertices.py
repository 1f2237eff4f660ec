"""Vertices: which corners are stored, where, and what survives a change of the octree."""

import pytest
import torch
from voxel_scene import BOX_MIN, SIZE, shell, vertex_values

from nerfkit.fields.vertices import BRICK, Vertices
from nerfkit.kernels.voxel_features import RenderGrid, voxel_features
from nerfkit.octree import Octree

DEPTHS = [1, 2, 3, 4]


def corners(octree, depth):
    """Distinct corners of the nodes at a depth."""
    offsets = torch.cartesian_prod(*[torch.arange(2)] * 3)
    return torch.unique((octree.nodes_at(depth)[:, None] + offsets).reshape(-1, 3), dim=0)


def test_every_corner_has_its_own_row():
    octree = shell(4)
    vertices = Vertices.of(octree, DEPTHS)
    rows = torch.cat([vertices.index(i, corners(octree, d)) for i, d in enumerate(DEPTHS)])
    assert rows.min() >= BRICK and rows.max() < len(vertices)
    assert len(rows.unique()) == len(rows)
    assert vertices.resolutions.tolist() == [2, 4, 8, 16]


@pytest.mark.parametrize("depth", [0, 1, 2, 4])
def test_rows_of_leaves_are_those_of_their_lowest_corners(depth):
    octree = shell(depth)
    vertices = Vertices.of(octree, [depth])
    assert torch.equal(vertices.of_leaves(octree), vertices.index(0, octree.cells()))


def test_bricks_without_corners_are_not_stored():
    octree = Octree.from_cells(BOX_MIN, SIZE, 5, torch.tensor([[3, 4, 5], [31, 31, 31]]))
    vertices = Vertices.of(octree, [5])
    # Corners 3, 4 along x lie in two bricks, 4, 5 and 5, 6 in one; the last cell's far side in 8.
    assert vertices.n_bricks == 1 + 2 + 8
    assert vertices.index(0, torch.tensor([[20, 20, 20]])).item() < BRICK
    assert (vertices.table(0) > 0).sum() == vertices.n_bricks - 1


def test_levels_bricks_and_tables_agree():
    vertices = Vertices.of(shell(4), DEPTHS)
    starts = vertices.level_start().tolist()
    assert starts[0] == 1 and starts[-1] == vertices.n_bricks
    for level in range(len(DEPTHS)):
        table = vertices.table(level)
        places = torch.arange(starts[level], starts[level + 1])
        x, y, z = vertices.coords[places].long().unbind(1)
        assert torch.equal(table[z, y, x].long(), places)
        assert (table > 0).sum() == len(places)


def test_an_empty_octree_stores_only_the_brick_of_zeros():
    octree = shell(4)
    vertices = Vertices.of(octree.keep(torch.zeros(len(octree), dtype=torch.bool)), DEPTHS)
    assert len(vertices) == BRICK and not vertices.tables.any()


@pytest.mark.parametrize("channels", [1, 16])
def test_transfer_keeps_the_field_where_it_is_kept(channels):
    """Prune, then subdivide and add a level of zeros: the summed field stays the same."""
    octree = shell(4)
    vertices = Vertices.of(octree, DEPTHS)
    values = vertex_values(vertices, channels)
    kept = octree.keep(torch.arange(len(octree)) % 5 > 0)
    finer = kept.subdivide()
    new = Vertices.of(finer, [*DEPTHS, 5])
    moved = new.transfer(vertices, values)
    points = finer.centers() + 0.2 * finer.voxel
    old_field = voxel_features(points, RenderGrid.of(octree, vertices), values)
    new_field = voxel_features(points, RenderGrid.of(finer, new), moved)
    assert old_field.abs().max() > 1
    torch.testing.assert_close(new_field, old_field, rtol=1e-5, atol=1e-5)
    assert not moved[:BRICK].any()


def test_transfer_drops_levels_that_are_gone_and_survives_emptiness():
    octree = shell(4)
    vertices = Vertices.of(octree, DEPTHS)
    values = vertex_values(vertices, 1)
    fewer = Vertices.of(octree, DEPTHS[2:])
    moved = fewer.transfer(vertices, values)
    at = corners(octree, 4)
    assert torch.equal(moved[fewer.index(1, at)], values[vertices.index(3, at)])
    nothing = Vertices.of(octree.keep(torch.zeros(len(octree), dtype=torch.bool)), DEPTHS)
    assert len(nothing.transfer(vertices, values)) == BRICK
    assert not vertices.transfer(nothing, torch.zeros(BRICK)).any()
