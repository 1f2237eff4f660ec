"""Pairs of low- and high-resolution images to train super-resolution on, and random patches.

Images are uint8 [H, W, 3]; the low-resolution one is made of the other by `degrade`: MATLAB's
bicubic reduction, and what else is asked for. Patches are float tensors [N, C, H, W] in 0..1 with
C = 1 (luma) or 3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nerfkit.data.images import in_threads
from nerfkit.errors import NerfkitError
from nerfkit.postprocess.colour import luma
from nerfkit.postprocess.degrade import Degradation, degrade
from nerfkit.postprocess.pictures import read_rgb
from nerfkit.postprocess.resize import imresize


@dataclass
class Pair:
    """`high` is `scale` times as large as `low`, both uint8 [H, W, 3]."""

    low: np.ndarray
    high: np.ndarray


def make_pair(high: np.ndarray, degradation: Degradation, seed: list[int]) -> Pair:
    """Crop `high` to a multiple of the scale and degrade it."""
    scale = degradation.scale
    high = high[: high.shape[0] // scale * scale, : high.shape[1] // scale * scale]
    return Pair(degrade(high, degradation, seed)[0], high)


def load_pairs(
    files: Sequence[Path],
    degradation: Degradation,
    reductions: Sequence[float],
    smallest: int,
    seed: int = 0,
) -> list[Pair]:
    """Pairs of every image at every reduction of its size.

    Args:
        files: images.
        degradation: makes the low-resolution images; each draws its own.
        reductions: factors of the image size; below 1 they make finer detail and hide the
            artefacts of JPEG files.
        smallest: high-resolution images with a side below this are left out.
        seed: of the degradations.

    Raises:
        NerfkitError: an image cannot be read, or none is large enough.
    """

    def make(index: int) -> list[Pair]:
        image = read_rgb(files[index])
        sizes = [image if r == 1 else imresize(image, r) for r in reductions]
        return [
            make_pair(size, degradation, [seed, index, i])
            for i, size in enumerate(sizes)
            if min(size.shape[:2]) >= smallest
        ]

    pairs = [pair for made in in_threads(make, range(len(files))) for pair in made]
    if not pairs:
        raise NerfkitError(
            f"{files[0].parent}: no image has sides of {smallest} pixels; want larger ones"
        )
    return pairs


class Patches:
    """Random aligned patches, turned and mirrored; the batch of a step depends on nothing else.

    Args:
        pairs: where to take them from, in proportion to their area.
        size: side of the low-resolution patch.
        batch: patches a step.
        channels: 1 or 3.
        seed: of the choice.
    """

    def __init__(
        self, pairs: Sequence[Pair], size: int, batch: int, channels: int, seed: int
    ) -> None:
        self.pairs, self.size, self.batch, self.channels = pairs, size, batch, channels
        self.seed = seed
        self.scale = pairs[0].high.shape[0] // pairs[0].low.shape[0]
        areas = np.array([p.low.shape[0] * p.low.shape[1] for p in pairs], float)
        self.chances = areas / areas.sum()

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        """(low [N, C, size, size], high [N, C, scale size, scale size]) of one step."""
        random = np.random.default_rng([self.seed, step])
        size, scale = self.size, self.scale
        lows, highs = [], []
        for index in random.choice(len(self.pairs), self.batch, p=self.chances):
            pair = self.pairs[index]
            i = random.integers(pair.low.shape[0] - size + 1)
            j = random.integers(pair.low.shape[1] - size + 1)
            turns, flip = random.integers(4), random.integers(2)
            low = pair.low[i : i + size, j : j + size]
            high = pair.high[i * scale : (i + size) * scale, j * scale : (j + size) * scale]
            for patch, patches in ((low, lows), (high, highs)):
                patch = np.rot90(patch, turns)
                patches.append(patch[:, ::-1] if flip else patch)
        return to_tensor(np.stack(lows), self.channels), to_tensor(np.stack(highs), self.channels)


def to_tensor(images: np.ndarray, channels: int) -> Tensor:
    """uint8 [N, H, W, 3] -> float [N, channels, H, W] in 0..1; one channel is luma."""
    values = torch.from_numpy(images.astype(np.float32) / 255)
    return luma(values)[:, None] if channels == 1 else values.permute(0, 3, 1, 2)
