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

from nerfkit.baking.viewpoints import between, shrunk
from nerfkit.cameras import Cameras
from nerfkit.fields.field import Field
from nerfkit.fields.frame import frame_rays

TILE = 64  # neighbouring rays
BETWEEN = 400  # cameras
PIXELS = 40_000  # of a view, at most: many views with few pixels show more sides of every corner
SECONDS = 120.0  # that the field may take to show all views
TRIAL = 4096  # pixels that it is timed with


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
        pixels, parts = _affordable(field, cameras, background, total), []
        for i in range(total):
            camera = cameras[i] if i < len(cameras) else others[i - len(cameras)]
            rays = frame_rays(shrunk(camera, pixels))
            whole = len(rays.origins) // TILE * TILE
            origins, directions = rays.origins[:whole], rays.directions[:whole]
            hit = field.hits(origins, directions).view(-1, TILE).any(1)
            origins, directions = (x.view(-1, TILE, 3)[hit] for x in (origins, directions))
            shown = field.render(origins.view(-1, 3), directions.view(-1, 3), background)
            colors = shown.colors.clamp(0, 1).view(-1, TILE, 3)
            parts.append((origins[:, :1], directions, colors.half()))
            progress((i + 1) / total)
        return Views(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _affordable(field: Field, cameras: Cameras, background: Tensor, total: int) -> int:
    """Pixels a view, so that the field shows all of them in the time it has."""
    trial = frame_rays(shrunk(cameras[0], TRIAL))
    start = time.perf_counter()
    field.render(trial.origins, trial.directions, background)
    seconds = (time.perf_counter() - start) / len(trial.origins)
    return max(TRIAL, min(PIXELS, int(SECONDS / (seconds * total))))
