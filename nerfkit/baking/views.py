"""What a baked scene should look like: rays in tiles, with the colours that its field shows.

Rays of the training cameras, and of places between them: colours that fit few sides alone go astray
between these.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.baking.viewpoints import between
from nerfkit.cameras import Cameras
from nerfkit.fields.field import Field
from nerfkit.fields.frame import frame_rays

TILE = 64  # neighbouring rays
BETWEEN = 200  # cameras
TILES = 180_000  # in all
SECONDS = 120.0  # that the field may take to show them
TRIAL = 64  # tiles that it is timed with


@dataclass(frozen=True)
class Views:
    """N tiles of rays that may meet something: origins [N, 1, 3], directions, colors [N, 64, 3]."""

    origins: Tensor
    directions: Tensor
    colors: Tensor

    @staticmethod
    def of(
        field: Field, cameras: Cameras, background: Tensor, progress: Callable[[float], None]
    ) -> Views:
        """Of training cameras and some between them."""
        generator = torch.Generator().manual_seed(0)
        total = len(cameras) + BETWEEN
        others = between(cameras, BETWEEN, generator)
        budget, timed, parts = max(1, TILES // total), False, []
        for i in range(total):
            rays = frame_rays(cameras[i] if i < len(cameras) else others[i - len(cameras)])
            whole = len(rays.origins) // TILE * TILE
            origins, directions = rays.origins[:whole], rays.directions[:whole]
            tiles = field.hits(origins, directions).view(-1, TILE).any(1).nonzero()[:, 0]
            tiles = tiles[torch.randperm(len(tiles), generator=generator)]
            origins, directions = (x.view(-1, TILE, 3)[tiles] for x in (origins, directions))
            if not timed and len(tiles):
                seconds = _seconds(field, origins[:TRIAL], directions[:TRIAL], background)
                budget, timed = max(1, min(budget, int(SECONDS / seconds / total))), True
            origins, directions = origins[:budget], directions[:budget]
            shown = field.render(origins.reshape(-1, 3), directions.reshape(-1, 3), background)
            colors = shown.colors.clamp(0, 1).view(-1, TILE, 3)
            parts.append((origins[:, :1], directions, colors.half()))
            progress((i + 1) / total)
        return Views(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _seconds(field: Field, origins: Tensor, directions: Tensor, background: Tensor) -> float:
    """What the field takes for a tile."""
    start = time.perf_counter()
    field.render(origins.reshape(-1, 3), directions.reshape(-1, 3), background)
    return (time.perf_counter() - start) / len(origins)
