"""Octree: codes, neighbours, the occupancy pyramid and the node table."""

import math

import pytest
import torch
from voxel_scene import BOX_MIN, SIZE, rays_around, shell

from nerfkit.kernels.octree_traverse import octree_traverse
from nerfkit.octree import Octree, morton_decode, morton_encode


def nothing(depth):
    return Octree.from_cells(BOX_MIN, SIZE, depth, torch.zeros(0, 3, dtype=torch.int64))


def test_morton_codes_interleave_x_then_y_then_z():
    assert morton_encode(torch.eye(3, dtype=torch.int64)).tolist() == [1, 2, 4]
    assert morton_encode(torch.tensor([[2, 1, 0], [0, 0, 2]])).tolist() == [8 + 2, 32]
    generator = torch.Generator().manual_seed(0)
    cells = torch.randint(0, 1 << 20, (1000, 3), generator=generator)
    assert torch.equal(morton_decode(morton_encode(cells)), cells)


def test_leaves_from_cells_in_any_order_with_repeats():
    cells = torch.tensor([[3, 0, 1], [0, 0, 0], [3, 0, 1], [1, 2, 3]])
    octree = Octree.from_cells(BOX_MIN, SIZE, 2, cells)
    assert len(octree) == 3 and octree.codes.diff().min() > 0
    assert {tuple(c) for c in octree.cells().tolist()} == {(3, 0, 1), (0, 0, 0), (1, 2, 3)}
    wanted = torch.tensor([[1, 2, 3], [2, 2, 2], [-1, 0, 0], [4, 0, 0], [0, 0, 0]])
    places = octree.find(wanted)
    assert places[[1, 2, 3]].tolist() == [-1, -1, -1]
    assert torch.equal(octree.cells()[places[[0, 4]]], wanted[[0, 4]])


def test_geometry():
    octree = Octree.full(BOX_MIN, SIZE, 3)
    assert (octree.resolution, len(octree)) == (8, 512)
    assert octree.voxel == pytest.approx(SIZE / 8)
    torch.testing.assert_close(octree.centers().amin(0), BOX_MIN + SIZE / 16)
    torch.testing.assert_close(octree.centers().amax(0), BOX_MIN + SIZE - SIZE / 16)
    octree = shell(3)
    assert octree.contains(octree.centers()).all()
    assert not octree.contains(octree.centers() + SIZE).any()


def test_subdivide_and_keep():
    octree = shell(3)
    finer = octree.subdivide()
    assert (finer.depth, len(finer)) == (4, 8 * len(octree))
    assert finer.codes.diff().min() > 0
    assert torch.equal(finer.contains(finer.centers()), torch.ones(len(finer), dtype=torch.bool))
    assert octree.contains(finer.centers()).all()
    mask = torch.arange(len(octree)) % 3 == 0
    assert torch.equal(octree.keep(mask).codes, octree.codes[mask])


@pytest.mark.parametrize("part", [0.0, 0.02, 0.6, 1.0])
@pytest.mark.parametrize("occupied", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
def test_dilate_is_the_occupied_part_of_a_box_neighbourhood(depth, occupied, part):
    torch.manual_seed(depth)
    octree = Octree.full(torch.zeros(3), 1.0, depth)
    octree = octree.keep(torch.rand(len(octree)) < occupied)
    mask = torch.rand(len(octree)) < part
    far = torch.cdist(octree.cells().float(), octree.cells()[mask].float(), p=math.inf)
    assert torch.equal(octree.dilate(mask), (far < 1.5).any(1))


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("make", [shell, nothing], ids=["shell", "nothing"])
def test_occupancy_words_hold_every_leaf_and_every_block(depth, make):
    octree = make(depth)
    words, n = octree.occupancy_words(), octree.resolution
    cells = {tuple(c) for c in octree.cells().tolist()}
    start = 0
    while True:
        blocks = -(-n // 4)
        level = words[start : start + blocks**3].view(blocks, blocks, blocks)
        found = set()
        for z, y, x in (level != 0).nonzero().tolist():
            word = int(level[z, y, x])
            found |= {
                (4 * x + (b & 3), 4 * y + (b >> 2 & 3), 4 * z + (b >> 4))
                for b in range(64)
                if word >> b & 1
            }
        assert found == cells
        start += blocks**3
        if blocks == 1:
            break
        cells, n = {(x // 4, y // 4, z // 4) for x, y, z in cells}, blocks
    assert start == len(words)


def test_nodes_at_are_the_ancestors():
    octree = shell(4)
    assert torch.equal(octree.nodes_at(4), octree.cells())
    assert octree.nodes_at(0).tolist() == [[0, 0, 0]]
    parents = {tuple(c) for c in (octree.cells() // 4).tolist()}
    assert {tuple(c) for c in octree.nodes_at(2).tolist()} == parents


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_children_lead_to_every_leaf(depth):
    octree = shell(depth, *((-1, 9) if depth < 2 else ()))
    children, first_leaf = octree.children()
    assert children.dtype == torch.int32 and len(children) == first_leaf + len(octree)
    for leaf, cell in enumerate(octree.cells().tolist()):
        node = 0
        for level in reversed(range(depth)):
            x, y, z = (c >> level & 1 for c in cell)
            node = int(children[node, x + 2 * y + 4 * z])
        assert node == first_leaf + leaf
    assert (children[first_leaf:] == -1).all()
    assert (children >= 0).sum() == max(0, len(children) - 1)


def test_children_of_nothing_are_crossed_by_nothing():
    for depth in (0, 3):
        children, _ = nothing(depth).children()
        assert children.shape == (0, 8)
        found = octree_traverse(*rays_around(4), children, BOX_MIN, SIZE, depth)
        assert len(found.node_ids) == 0


def test_traversal_finds_the_leaves_that_contain_its_middles():
    octree = shell(4)
    children, first_leaf = octree.children()
    origins, directions = rays_around(50)
    found = octree_traverse(origins, directions, children, octree.box_min, octree.size, 4)
    rays = torch.arange(50).repeat_interleave(found.packed_info[:, 1])
    middle = (found.t_starts + found.t_ends) / 2
    points = origins[rays] + middle[:, None] * directions[rays]
    cells = torch.floor((points - octree.box_min) / octree.voxel).long()
    long = found.t_ends - found.t_starts > 1e-4
    assert long.sum() > 100
    assert torch.equal(octree.find(cells)[long], found.node_ids[long] - first_leaf)
