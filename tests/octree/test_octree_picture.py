"""Pictures of octrees: what is where, and which parts are darker."""

import imageio.v3 as imageio
import pytest
import torch

from nerfkit import octree_picture
from nerfkit.errors import NerfkitError
from nerfkit.octree import Octree
from nerfkit.octree_picture import picture, write_picture

SIZE = (160, 120)


def cells(*xyz, depth=2):
    return Octree.from_cells(torch.tensor([5.0, -3.0, 1.0]), 0.7, depth, torch.tensor(xyz))


def brightness(image):
    return image.float().sum(dim=2)


def solid(image, octree_image_background):
    return (image != octree_image_background).any(dim=2)


def background(size=SIZE):
    """The picture of a leaf that takes too few pixels to matter, but for its middle."""
    width, height = size
    image = picture(cells((0, 0, 0)), (width, height))
    return image[:, :1].expand(height, width, 3)


def test_front_view_shows_leaves_where_they_are():
    """Seen along -x: y goes to the right, z up; a pattern of 4 x 4 leaves."""
    pattern = torch.rand(4, 4, generator=torch.Generator().manual_seed(0)) < 0.6
    pattern[0, 0] = pattern[3, 3] = pattern[0, 3] = pattern[3, 0] = True
    yz = pattern.nonzero()
    octree = cells(*[(1, y, z) for y, z in yz.tolist()])
    image = picture(octree, (400, 400), azimuth=0, elevation=0)
    shown = solid(image, background((400, 400)))
    rows, columns = shown.any(1).nonzero(), shown.any(0).nonzero()
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert abs((top + bottom) / 2 - 200) <= 1 and abs((left + right) / 2 - 200) <= 1
    assert 300 < right - left < 400
    for y in range(4):
        for z in range(4):
            column = int(left + (right - left) * (y + 0.5) / 4)
            row = int(bottom - (bottom - top) * (z + 0.5) / 4)
            assert shown[row, column] == pattern[y, z]


def test_top_is_brighter_than_the_sides_and_lines_are_darker_than_faces():
    octree = Octree.full(torch.zeros(3), 1.0, 2)
    image = brightness(picture(octree, (400, 400)))
    shown = solid(picture(octree, (400, 400)), background((400, 400)))
    rows = shown[:, 200].nonzero()[:, 0]
    top, bottom = int(rows[0]), int(rows[-1])
    # The nearest edge of the cube runs down the middle; its upper end divides top and sides.
    upper = image[top : top + 60, 150:250]
    left, right = (
        image[bottom - 130 : bottom - 60, 130:180],
        image[bottom - 130 : bottom - 60, 220:270],
    )
    assert upper.median() > right.median() > left.median()
    # Lines are narrow, so they are the dark tail.
    assert upper.quantile(0.03) < 0.85 * upper.median()
    assert (upper < 0.9 * upper.median()).float().mean() < 0.35


def test_a_block_above_throws_a_shadow_and_darkens_corners():
    floor = [(x, y, 0) for x in range(8) for y in range(8)]
    plain = brightness(picture(cells(*floor, depth=3), (200, 200), elevation=89))
    pillar = [(3, 3, z) for z in (1, 2, 3)]
    raised = picture(cells(*floor, *pillar, (0, 0, 0), depth=3), (200, 200), elevation=89)
    assert (brightness(raised) < 0.9 * plain).float().mean() > 0.05


def test_a_camera_fits_any_shape():
    for shape in ([(x, 0, 0) for x in range(4)], [(0, 0, z) for z in range(4)], [(1, 2, 3)]):
        for azimuth, elevation in ((0, 0), (45, 30), (200, -20), (90, 90)):
            image = picture(cells(*shape), SIZE, azimuth=azimuth, elevation=elevation)
            border = torch.cat([image[:, 0], image[:, -1]]), torch.cat([image[0], image[-1]])
            assert solid(image, background()).any()
            assert torch.equal(border[0][:120], border[0][120:])
            assert torch.equal(
                border[1], torch.cat([image[0, :1], image[-1, :1]]).repeat_interleave(160, 0)
            )


def test_strips_of_rows_join(monkeypatch):
    octree = Octree.full(torch.zeros(3), 1.0, 3)
    whole = picture(octree, SIZE)
    monkeypatch.setattr(octree_picture, "RAYS_AT_ONCE", 7 * SIZE[0] * 4)
    assert torch.equal(picture(octree, SIZE), whole)
    assert picture(octree, (1, 1)).shape == (1, 1, 3)


def test_png(tmp_path):
    octree = cells((0, 0, 0), (1, 2, 3))
    write_picture(tmp_path / "out.png", octree, SIZE)
    assert torch.equal(
        torch.from_numpy(imageio.imread(tmp_path / "out.png")), picture(octree, SIZE)
    )


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(NerfkitError, match="has no leaves"):
        picture(cells((0, 0, 0)).keep(torch.tensor([False])))
    with pytest.raises(NerfkitError, match="want a size of at least 1x1, got 0x10"):
        picture(cells((0, 0, 0)), (0, 10))
    with pytest.raises(NerfkitError, match="cannot be written"):
        write_picture(tmp_path / "no" / "out.png", cells((0, 0, 0)), SIZE)
