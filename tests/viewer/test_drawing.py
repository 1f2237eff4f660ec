"""Pictures for the screen: in bands as in one piece, viser's cameras, crop, voxels."""

import math

import numpy as np
import pytest
import torch
from sphere_run import cameras_around
from voxel_scene import shell

from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.fields.vertices import Vertices
from nerfkit.octree import Octree
from nerfkit.viewer.drawing import FAR, MODES, Pace, c2w_of, draw, pinhole, wxyz_of
from nerfkit.viewer.overlays import cropped, voxel_edges

WHITE = torch.ones(3)


@pytest.fixture(scope="module")
def field() -> FastField:
    octree = shell(4)
    vertices = Vertices.of(octree, [4])
    shape = FieldShape((16,), 2, 30.0, 0.0, 1.0, 0.0)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(vertices), 16, generator=generator)
    network = 0.3 * torch.randn(shape.n_network, generator=generator)
    return FastField(shape, octree, vertices, torch.zeros(len(vertices)), features, network)


@pytest.fixture
def camera():
    return pinhole(cameras_around(5)[1].c2w[0].numpy(), math.radians(40), 40, 32)


@pytest.mark.parametrize("mode", MODES)
def test_bands_make_the_same_picture_as_one_piece(field, camera, mode):
    slow, quick = Pace(1.0), Pace(1e9)
    slow.learn = lambda *_: None  # eight rows a band to the end
    parts = draw(field, camera, WHITE, mode, slow, with_depth=True)
    whole = draw(field, camera, WHITE, mode, quick, with_depth=True)
    assert parts.pixels.shape == (32, 40, 3) and parts.pixels.dtype == np.uint8
    assert parts.pixels.std() > 5
    assert np.abs(parts.pixels.astype(int) - whole.pixels).max() <= 1
    assert np.allclose(parts.depth, whole.depth, atol=1e-4)
    assert parts.depth.max() == FAR and parts.depth.min() < 5


def test_giving_up_leaves_no_picture(field, camera):
    asked = iter([False, True])
    pace = Pace(1.0)
    assert draw(field, camera, WHITE, "colour", pace, given_up=lambda: next(asked)) is None
    assert pace.pixels > 1.0  # learned from the band that was drawn


def test_cameras_of_viser_and_ours():
    for pose in cameras_around(5).c2w.numpy():
        assert np.allclose(c2w_of(wxyz_of(pose), pose[:, 3]), pose)
    ahead = c2w_of(np.array([1.0, 0, 0, 0]), np.zeros(3))
    assert np.allclose(-ahead[:, 2], [0, 0, 1])  # OpenCV's camera looks along +Z
    assert np.allclose(ahead[:, 1], [0, -1, 0])


def test_a_crop_hides_the_rest_and_leaves_the_field(field, camera):
    n = len(field.octree)
    centre = field.octree.box_min.numpy() + field.octree.size / 2
    half = cropped(field, np.array([centre - 9, centre + [0, 9, 9]]))
    assert 0.4 * n < len(half.octree) < 0.6 * n == 0.6 * len(field.octree)
    pace = Pace(1e9)
    all_of_it = draw(field, camera, WHITE, "opacity", pace).pixels.mean()
    assert 0 < draw(half, camera, WHITE, "opacity", pace).pixels.mean() < 0.9 * all_of_it
    nothing = cropped(field, np.array([centre + 9, centre + 10]))
    assert draw(nothing, camera, WHITE, "opacity", pace).pixels.max() == 0


def test_edges_of_voxels_are_listed_once():
    full = Octree.full(torch.zeros(3), 2.0, 3)
    assert len(voxel_edges(full, 0)) == 12
    edges = voxel_edges(full, 1)
    assert len(edges) == 54  # 3 axes, 9 lines of 2
    assert np.allclose(np.linalg.norm(edges[:, 1] - edges[:, 0], axis=1), 1.0)
    assert edges.min() == 0 and edges.max() == 2
    assert len(np.unique(edges.reshape(-1, 6), axis=0)) == 54
