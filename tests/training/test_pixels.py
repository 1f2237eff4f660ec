"""Pixels of photographs reach the fit with all their bits."""

import dataclasses
from pathlib import Path

import torch

from nerfkit.data import Dataset, load_dataset
from nerfkit.training.pixels import Pixels


def with_16_bits(dataset: Dataset, views: list[int]) -> Dataset:
    """The set with the low byte of these views filled in."""
    images = list(dataset.images)
    for i in views:
        low = torch.arange(images[i].numel()).view(images[i].shape) % 200
        images[i] = (images[i].int() * 256 + low).to(torch.uint16)
    return dataclasses.replace(dataset, images=images)


def test_values_of_16_bits_are_drawn_as_they_are(sphere_data: Path) -> None:
    dataset = load_dataset(sphere_data, splits=("train",))
    bytes_, deep = dataset.images[0].clone(), with_16_bits(dataset, [1])
    stored = deep.images[1].clone()
    pixels = Pixels(deep, torch.tensor([0, 1]))
    assert torch.equal(pixels.image(0).float() / 65535, bytes_.float() / 255)
    assert torch.equal(pixels.image(1), stored)
    batch = pixels.draw(4000, torch.Generator().manual_seed(0))
    drawn = torch.cat([batch.colors, batch.alphas], 1)
    for view, image in ((0, bytes_.float() / 255), (1, stored.float() / 65535)):
        known = {tuple(row) for row in image.view(-1, 4).tolist()}
        got = {tuple(row) for row in drawn[batch.views == view].tolist()}
        near = torch.tensor(sorted(got))[:, None] - torch.tensor(sorted(known))
        assert len(got) > 10
        assert float(near.abs().amax(2).amin(1).max()) < 1e-6  # worst measured: 6e-8
