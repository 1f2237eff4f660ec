"""Where the scene may be: nothing of the object is ever ruled out."""

import pytest
import torch

from nerfkit.data import load_dataset
from nerfkit.errors import NerfkitError
from nerfkit.octree import Octree
from nerfkit.training.hull import Silhouettes, find_scene
from nerfkit.training.pixels import BLOCK, Pixels


@pytest.fixture
def dataset(sphere_data):
    return load_dataset(sphere_data, splits=("train",))


def sphere_points(radius: float, count: int = 20_000) -> torch.Tensor:
    points = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return points / points.norm(dim=1, keepdim=True) * radius


def test_hull_never_cuts_the_object(dataset):
    scene = find_scene(dataset, torch.arange(len(dataset)))
    # Of radius 1, less a thousandth for pixels whose alpha rounds to nothing at the rim.
    for radius in (0.999, 0.7, 0.1):
        assert scene.octree.contains(sphere_points(radius)).all()
    assert scene.carved
    assert (scene.box[0] <= -0.99).all() and (scene.box[1] >= 0.99).all()
    assert (scene.box[0] > -1.6).all() and (scene.box[1] < 1.6).all()


def test_hull_is_tight(dataset):
    scene = find_scene(dataset, torch.arange(len(dataset)))
    filled = len(scene.octree) * scene.octree.voxel**3
    # The sphere has 4.19; one ring of cameras leaves caps above and below it. Measured 6.5.
    assert 4.1 < filled < 8


def test_images_without_alpha_carve_nothing_that_is_seen(dataset):
    for i, image in enumerate(dataset.images):
        dataset.images[i] = image[..., :3].contiguous()
    scene = find_scene(dataset, torch.arange(len(dataset)))
    assert not scene.carved
    assert scene.octree.contains(sphere_points(0.999)).all()


def test_empty_images_are_one_line(dataset):
    for image in dataset.images:
        image[..., 3] = 0
    with pytest.raises(NerfkitError, match="no room for a scene"):
        find_scene(dataset, torch.arange(len(dataset)))


def test_ignored_pixels_carve_nothing(dataset):
    octree = Octree.full(torch.tensor([-1.5] * 3), 3.0, 4)
    masks = [torch.zeros(image.shape[:2], dtype=torch.uint8) for image in dataset.images]
    free = Silhouettes(dataset.cameras, dataset.images, masks).possible(octree)
    carved = Silhouettes(dataset.cameras, dataset.images, [None] * len(masks)).possible(octree)
    assert int(free.sum()) > int(carved.sum())
    assert (free | ~carved).all()


def test_pixels_drawn_are_those_of_the_images(dataset):
    images = [image.clone() for image in dataset.images]
    dataset.masks = [torch.zeros(24, 32, dtype=torch.uint8) for _ in images]
    for mask in dataset.masks:
        mask[5:, 3:] = 255
    pixels = Pixels(dataset, torch.arange(len(images)))
    batch = pixels.draw(3000, torch.Generator().manual_seed(0))
    assert 0 < len(batch.origins) < 3000
    place = batch.origins + batch.directions
    for view in range(len(images)):
        mine = (batch.origins - pixels.cameras.c2w[view, :, 3].float()).norm(dim=1) < 1e-5
        xy, _ = pixels.cameras.project(place[mine], view)
        x, y = (xy - 0.5).round().long().unbind(1)
        assert (xy - 0.5 - torch.stack([x, y], 1)).abs().max() < 1e-3  # measured 1e-5
        assert (x >= 3).all() and (y >= 5).all()
        wanted = images[view][y, x].float() / 255
        torch.testing.assert_close(torch.cat([batch.colors, batch.alphas], 1)[mine], wanted)


def test_blocks_that_miss_are_not_drawn(dataset):
    pixels = Pixels(dataset, torch.arange(len(dataset)))
    before = len(pixels.blocks)

    def through_the_middle(origins, directions):
        along = (origins * directions).sum(1)
        return (origins.square().sum(1) - along**2) < 0.4**2

    pixels.keep_hit(through_the_middle)
    assert 0 < len(pixels.blocks) < before / 2
    batch = pixels.draw(500, torch.Generator().manual_seed(0))
    along = (batch.origins * batch.directions).sum(1)
    distance = (batch.origins.square().sum(1) - along**2).sqrt()
    pixel = 4 / float(pixels.cameras.fx[0])
    assert float(distance.max()) < 0.4 + 3 * BLOCK * pixel  # one block beside a hit
    pixels.keep_hit(lambda origins, directions: torch.zeros(len(origins), dtype=torch.bool))
    assert len(pixels.blocks) > 0
