"""Colours of points on a surface, as the training cameras see them through the field.

Each point asks the cameras that look at it most squarely for the ray they see it along; a ray that
ends elsewhere met something in front of it and does not count. Colours are display-encoded, 0..1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from nerfkit.cameras import Cameras

if TYPE_CHECKING:
    from nerfkit.run import Run

MOST_CAMERAS = 48
ASKED = 3  # cameras a point
LEAST_COSINE = 0.1
OPAQUE = 0.5
RAYS_AT_ONCE = 1 << 17


def seen_colours(
    run: Run, vertices: np.ndarray, normals: np.ndarray, tolerance: float
) -> np.ndarray:
    """Colours [V, 3] of surface points [V, 3]; those no camera sees take their neighbour's.

    Args:
        normals: [V, 3], outwards.
        tolerance: how far from a point the ray towards it may end, world units.
    """
    points, facing = torch.from_numpy(vertices), torch.from_numpy(normals)
    cameras = run.train_cameras
    chosen = torch.linspace(0, len(cameras) - 1, min(MOST_CAMERAS, len(cameras))).round().long()
    cameras = cameras[chosen]
    cosines, squarest = _squarest(cameras, points, facing)
    total, weight = torch.zeros(len(points), 3), torch.zeros(len(points), 1)
    for rank in range(cosines.shape[0]):
        asked = (cosines[rank] > LEAST_COSINE).nonzero()[:, 0]
        for part in asked.split(RAYS_AT_ONCE):
            origins = cameras.c2w[squarest[rank, part], :, 3].float()
            colours, there = _along(run, origins, points[part], tolerance)
            share = (cosines[rank, part] ** 2 * there)[:, None]
            total[part] += share * colours
            weight[part] += share
    seen = weight[:, 0] > 0
    colours = (total / weight.clamp_min(1e-12)).numpy()
    hidden = (~seen).numpy()
    if hidden.any() and not hidden.all():
        nearest = cKDTree(vertices[~hidden]).query(vertices[hidden])[1]
        colours[hidden] = colours[~hidden][nearest]
    return colours


def _squarest(cameras: Cameras, points: Tensor, normals: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and numbers [K, V] of the cameras that look at each point most squarely."""
    n = min(ASKED, len(cameras))
    cosines = torch.zeros(n, len(points))
    numbers = torch.zeros(n, len(points), dtype=torch.int64)
    for index in range(len(cameras)):
        towards = torch.nn.functional.normalize(cameras.c2w[index, :, 3].float() - points, dim=1)
        pixels, depth = cameras.project(points, index)
        size = torch.stack([cameras.width[index], cameras.height[index]])
        inside = ((pixels > 0) & (pixels < size)).all(dim=1) & (depth > 0)
        fresh = (towards * normals).sum(1) * inside
        number = torch.full_like(numbers[0], index)
        for rank in range(n):  # insertion into a short sorted list
            better = fresh > cosines[rank]
            fresh, cosines[rank] = (
                torch.where(better, cosines[rank], fresh),
                torch.where(better, fresh, cosines[rank]),
            )
            number, numbers[rank] = (
                torch.where(better, numbers[rank], number),
                torch.where(better, number, numbers[rank]),
            )
    return cosines, numbers


def _along(run: Run, origins: Tensor, points: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
    """Colours [N, 3] of rays towards points, and whether they end there [N]."""
    away = points - origins
    distance = away.norm(dim=1)
    seen = run.field.render(
        origins.contiguous(), away / distance.clamp_min(1e-12)[:, None], torch.zeros(3)
    )
    opacity = seen.opacities.clamp_min(1e-6)
    there = (seen.opacities > OPAQUE) & ((seen.depths / opacity - distance).abs() < tolerance)
    return (seen.colors / opacity[:, None]).clamp(0, 1), there
