"""What every peer is given: the training rays of one image set, drawn alike, and its test views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nerfkit.cameras import Cameras, Rays
from nerfkit.data import load_dataset
from nerfkit.evaluate import composite
from nerfkit.training.hull import find_scene
from nerfkit.training.pixels import Pixels


@dataclass
class Task:
    """An image set, on white.

    Attributes:
        data, downscale: the folder, and how much its images are reduced.
        place: device of all tensors that peers see.
        seed: of the rays: peers that draw as many see the same.
        pixels: all training pixels.
        box: [2, 3] lowest and highest corner of the scene, world units.
        near, far: range of the distance along rays.
        test_cameras, test_images: the views to judge by, [H, W, 3] in 0..1 each.
    """

    data: Path
    downscale: int
    place: torch.device
    seed: int
    pixels: Pixels
    box: Tensor
    near: float
    far: float
    test_cameras: Cameras
    test_images: list[Tensor]

    @staticmethod
    def load(data: Path, downscale: int, n_views: int, place: torch.device, seed: int = 0) -> Task:
        """Read the images, judge by the first `n_views` test views; NerfkitError if they are not
        readable."""
        dataset = load_dataset(data, downscale=downscale, splits=("train", "test"))
        test = dataset.splits["test"][:n_views]
        white = torch.ones(3)
        images = [composite(dataset.images[i], white) for i in test.tolist()]
        train = dataset.splits["train"]
        scene = find_scene(dataset, train)
        box = scene.box.float()
        centres = dataset.cameras.c2w[:, :, 3].float()
        corners = torch.cartesian_prod(*box.T.unbind(0))
        far = float(torch.cdist(centres, corners).max())
        cameras = dataset.cameras[test]
        pixels = Pixels(dataset, train, place)
        return Task(data, downscale, place, seed, pixels, box, scene.near, far, cameras, images)

    def start(self) -> torch.Generator:
        """Random numbers, the same for every peer."""
        torch.manual_seed(self.seed)
        return torch.Generator(self.place).manual_seed(self.seed)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Origins, directions and colours of random training pixels."""
        batch = self.pixels.draw(count, generator)
        colours = torch.lerp(torch.ones_like(batch.colors), batch.colors, batch.alphas)
        return batch.origins, batch.directions, colours

    def test_rays(self, view: int) -> tuple[Rays, Tensor]:
        """Rays of a test view in blocks of 8x8 pixels, and the pixels' places in reading order."""
        height, width = self.test_images[view].shape[:2]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        places = ((y // 8 * width + x // 8) * 64 + y % 8 * 8 + x % 8).view(-1).argsort()
        pixels = torch.stack([x.reshape(-1)[places], y.reshape(-1)[places]], 1) + 0.5
        rays = self.test_cameras.rays(torch.tensor([view]), pixels)
        return Rays(rays.origins.to(self.place), rays.directions.to(self.place)), places
