"""Coloured points where rays of the training cameras end.

Positions are in world units and axes, colours display-encoded 0..1. Needs nothing of a field but
that rays can be sent through it; where it has leaves, points in empty space (a ray's mean depth
between two surfaces) are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from nerfkit.errors import NerfkitError
from nerfkit.export.surface import world_octree

if TYPE_CHECKING:
    from nerfkit.run import Run

OPAQUE = 0.8
RAYS_AT_ONCE = 1 << 16
MOST_ROUNDS = 400


@dataclass(frozen=True)
class Cloud:
    """positions and colours: [N, 3] float32."""

    positions: np.ndarray
    colours: np.ndarray


def point_cloud(run: Run, count: int) -> Cloud:
    """`count` points; fewer where the cameras see little.

    Raises:
        NerfkitError: `count` is below 1, or nothing opaque is seen.
    """
    if count < 1:
        raise NerfkitError(f"--points: want at least 1, got {count}")
    cameras, octree = run.train_cameras, world_octree(run.field)
    sizes = torch.stack([cameras.width, cameras.height], 1)
    generator = torch.Generator().manual_seed(0)
    positions, colours, found = [], [], 0
    for round_number in range(MOST_ROUNDS):
        n = min(RAYS_AT_ONCE, 2 * (count - found) + 64)
        views = torch.randint(len(cameras), (n,), generator=generator)
        pixels = torch.rand(n, 2, generator=generator) * sizes[views]
        rays = cameras.rays(views, pixels)
        seen = run.field.render(rays.origins, rays.directions, torch.zeros(3))
        opacity = seen.opacities[:, None]
        points = rays.origins + rays.directions * (seen.depths[:, None] / opacity.clamp_min(1e-6))
        solid = seen.opacities > OPAQUE
        if octree is not None:
            solid &= octree.contains(points)
        positions.append(points[solid])
        colours.append((seen.colors / opacity.clamp_min(1e-6))[solid].clamp(0, 1))
        found += int(solid.sum())
        if found >= count or (round_number == 19 and found == 0):
            break
    if found == 0:
        raise NerfkitError("no training camera sees anything opaque; fit the scene longer")
    return Cloud(torch.cat(positions)[:count].numpy(), torch.cat(colours)[:count].numpy())
