"""Corners that leaves share, and that dividing leaves changes no interpolated value."""

import torch

from nerfkit.kernels.nsvf_mlp.reference import interpolate
from nerfkit.octree import Octree
from nerfkit.octree.corners import OFFSETS, Corners


def some_octree(depth: int = 3, kept: float = 0.3) -> Octree:
    generator = torch.Generator().manual_seed(1)
    full = Octree.full(torch.tensor([-1.0, 2.0, 0.5]), 2.5, depth)
    return full.keep(torch.rand(len(full), generator=generator) < kept)


def values_at(octree: Octree, corners: Corners, values: torch.Tensor, points: torch.Tensor):
    voxels = octree.find(octree.cells_at(points))
    assert (voxels >= 0).all()
    places = (points - octree.box_min.double()) / octree.voxel - octree.cells()[voxels]
    return interpolate(values.double(), corners.indices, voxels, places)


def test_leaves_share_their_corners():
    octree = some_octree()
    corners = Corners.of(octree)
    cells = (octree.cells()[:, None] + OFFSETS).view(-1, 3)
    assert len(corners) == len(torch.unique(cells, dim=0)) < 8 * len(octree)
    # one index, one corner
    named = torch.full((len(corners), 3), -1)
    named[corners.indices.view(-1).long()] = cells
    assert torch.equal(named[corners.indices.view(-1).long()], cells)
    assert len(Corners.of(Octree.full(torch.zeros(3), 1.0, 2))) == 5**3


def test_dividing_changes_no_value():
    octree = some_octree()
    corners = Corners.of(octree)
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(len(corners), 32, generator=generator)
    which = torch.randint(len(octree), (2000,), generator=generator)
    inside = torch.rand(2000, 3, generator=generator, dtype=torch.float64)
    points = octree.box_min.double() + (octree.cells()[which] + inside) * octree.voxel
    want = values_at(octree, corners, values, points)
    for _ in range(3):
        octree, corners, values = corners.divide(octree, values)
        error = (values_at(octree, corners, values, points) - want).abs().max()
        assert error < 1e-6  # measured 1.9e-7


def test_keeping_leaves_keeps_their_values():
    octree = some_octree()
    corners = Corners.of(octree)
    values = torch.arange(len(corners), dtype=torch.float32)[:, None]
    mask = torch.rand(len(octree), generator=torch.Generator().manual_seed(3)) < 0.5
    kept, theirs = corners.keep(mask, values)
    again = Corners.of(octree.keep(mask))
    assert torch.equal(kept.codes, again.codes) and torch.equal(kept.indices, again.indices)
    assert torch.equal(theirs[kept.indices.long()], values[corners.indices[mask].long()])
