"""What a baked scene should look like: rays in tiles, with colours.

Training cameras should see their photographs; where these cannot be read, and from places between
the cameras, rays should see what the field shows. Photographs alone would leave colours free to go
astray between few cameras; the field alone would pass on its own mistakes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nerfkit.baking.viewpoints import between
from nerfkit.cameras import Cameras
from nerfkit.data import load_dataset
from nerfkit.errors import NerfkitError
from nerfkit.evaluate import composite
from nerfkit.fields.field import Field
from nerfkit.fields.frame import frame_rays, in_tiles

TILE = 64  # neighbouring rays
BETWEEN = 200  # cameras
TILES = 90_000  # in all, of photographs; and as many of the field
SECONDS = 60.0  # that the field may take to show its part
TRIAL = 64  # tiles that it is timed with
SAME = 1e-6  # difference of poses


@dataclass(frozen=True)
class Views:
    """N tiles of rays that may meet something: origins [N, 1, 3], directions, colors [N, 64, 3]."""

    origins: Tensor
    directions: Tensor
    colors: Tensor

    @staticmethod
    def of(
        field: Field,
        cameras: Cameras,
        photographs: list[Tensor | None],
        background: Tensor,
        progress: Callable[[float], None],
    ) -> Views:
        """Of the training cameras and some between them.

        Args:
            photographs: [H, W, 3] float on the background, or None, of every camera.
        """
        generator = torch.Generator().manual_seed(0)
        others = between(cameras, BETWEEN, generator)
        seen = [p is not None for p in photographs]
        by_field = BETWEEN + seen.count(False)
        budget = {True: TILES // max(1, sum(seen)), False: TILES // by_field}
        parts, timed = [], False
        total = len(cameras) + BETWEEN
        for i in range(total):
            old = i < len(cameras)
            camera = cameras[i] if old else others[i - len(cameras)]
            photograph = photographs[i] if old else None
            rays = frame_rays(camera)
            whole = len(rays.origins) // TILE * TILE
            origins, directions = rays.origins[:whole], rays.directions[:whole]
            tiles = field.hits(origins, directions).view(-1, TILE).any(1).nonzero()[:, 0]
            order = torch.randperm(len(tiles), generator=generator)
            tiles = tiles[order[: budget[photograph is not None]]]
            origins, directions = (x.view(-1, TILE, 3)[tiles] for x in (origins, directions))
            if photograph is not None:
                colors = in_tiles(photograph)[:whole].view(-1, TILE, 3)[tiles]
            else:
                if not timed and len(tiles):
                    seconds = _seconds(field, origins[:TRIAL], directions[:TRIAL], background)
                    affordable = max(1, int(SECONDS / seconds / by_field))
                    budget[False], timed = min(budget[False], affordable), True
                    origins, directions = (x[: budget[False]] for x in (origins, directions))
                shown = field.render(origins.view(-1, 3), directions.view(-1, 3), background)
                colors = shown.colors.clamp(0, 1).view(-1, TILE, 3)
            parts.append((origins[:, :1], directions, colors.half()))
            progress((i + 1) / total)
        return Views(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _seconds(field: Field, origins: Tensor, directions: Tensor, background: Tensor) -> float:
    """What the field takes for a tile."""
    start = time.perf_counter()
    field.render(origins.view(-1, 3), directions.view(-1, 3), background)
    return (time.perf_counter() - start) / len(origins)


def photographs_of(
    config: dict[str, Any], cameras: Cameras, background: Tensor
) -> list[Tensor | None]:
    """What training cameras saw, on `background`; None of those whose photograph is not found.

    Args:
        config: of the run, with "data" and "downscale".
    """
    missing: list[Tensor | None] = [None] * len(cameras)
    try:
        dataset = load_dataset(Path(config["data"]), downscale=config.get("downscale", 1))
    except (NerfkitError, KeyError, OSError):
        return missing
    apart = torch.cdist(cameras.c2w.flatten(1), dataset.cameras.c2w.flatten(1))
    for i, (distance, j) in enumerate(zip(*(x.tolist() for x in apart.min(1)), strict=True)):
        size = (int(cameras.height[i]), int(cameras.width[i]))
        image, masked = dataset.images[j], dataset.masks[j] is not None
        if distance < SAME and not masked and tuple(image.shape[:2]) == size:
            missing[i] = composite(image, background)
    return missing
