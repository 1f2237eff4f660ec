"""Where the points that a small render shows lie in photographs, by the render's depth.

h, w are the sides of the small render, H = scale h and W = scale w those of the frame. Distances
are along unit rays, world units, 0 where nothing was hit. Pixel positions (x, y) have their origin
at the upper left corner, centres at +0.5.
"""

import dataclasses
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from nerfkit.cameras import Cameras

GROWTH = 2  # pixels by which surfaces reach beyond their outline, for what lies between pixels
TOLERANCE = 0.02  # relative difference of distances that counts as another surface
SHARPNESS = 0.25  # radians between two views at which one says little of the other
CANDIDATES = 12  # sources looked at closely
PROBES = 256  # points that decide which sources are best
HINTS = 3  # numbers for each pixel and source, see `correspond`


def small_camera(camera: Cameras, scale: int) -> Cameras:
    """The same view with pixels `scale` times as large; ceil(H / scale) x ceil(W / scale)."""
    sizes = {name: -(-getattr(camera, name) // scale) for name in ("width", "height")}
    intrinsics = {name: getattr(camera, name) / scale for name in ("fx", "fy", "cx", "cy")}
    return dataclasses.replace(camera, **intrinsics, **sizes)


def window(camera: Cameras, rows: slice, columns: slice) -> Cameras:
    """The part of a view that those rows and columns show."""
    return dataclasses.replace(
        camera,
        cx=camera.cx - columns.start,
        cy=camera.cy - rows.start,
        width=torch.full_like(camera.width, columns.stop - columns.start),
        height=torch.full_like(camera.height, rows.stop - rows.start),
    )


def grown(distance: Tensor) -> Tensor:
    """Fill empty pixels next to surfaces with the nearest distance around: [h, w]."""
    for _ in range(GROWTH):
        empty = distance == 0
        inverse = torch.where(empty, 0.0, 1 / distance.clamp_min(1e-12))
        nearest = F.max_pool2d(inverse[None], 3, stride=1, padding=1)[0]
        around = torch.where(nearest > 0, 1 / nearest.clamp_min(1e-12), 0.0)
        distance = torch.where(empty, around, distance)
    return distance


def other_surfaces(distance: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest and the farthest surface within a pixel of each: [h, w] both.

    Where a small pixel straddles an edge in depth, the frame's pixels within it show either.
    """
    inverse = torch.where(distance > 0, 1 / distance.clamp_min(1e-12), 0.0)
    near = F.max_pool2d(inverse[None], 3, stride=1, padding=1)[0]
    far = F.max_pool2d(distance[None], 3, stride=1, padding=1)[0]
    return torch.where(near > 0, 1 / near.clamp_min(1e-12), 0.0), far


def points_of(camera: Cameras, distance: Tensor) -> Tensor:
    """World points [h, w, 3] that `camera` (of length one, h x w) sees at `distance` [h, w]."""
    rays = camera.image_rays(0)
    return (rays.origins + rays.directions * distance.reshape(-1, 1)).reshape(*distance.shape, 3)


def correspond(
    points: Tensor, known: Tensor, eye: Tensor, cameras: Cameras, index: int, distances: Tensor
) -> tuple[Tensor, Tensor]:
    """Where source `index` shows `points`, and how far to trust it.

    Args:
        points: [P, 3].
        known: bool [P], false for points at no surface.
        eye: [3], where the points are seen from.
        cameras: of the sources, with pixels as large as those of `distances`.
        distances: [N, h, w] of the sources, grown; smaller sources lie in the upper left corner.

    Returns:
        positions [P, 2] in pixels of `distances`, and hints [P, 3]: usable (0 or 1); how far the
        point lies behind the source's surface, -1..1 for -TOLERANCE..TOLERANCE of its distance;
        the cosine of the angle between both rays, spread over 0..1 for 60..0 degrees.
    """
    positions, z = cameras.project(points, index)
    height, width = int(cameras.height[index]), int(cameras.width[index])
    centre = cameras.c2w[index, :, 3].to(points)
    away = points - centre
    distance = away.norm(dim=1)
    x, y = positions.unbind(1)
    inside = (z > 0) & (x > 0) & (x < width) & (y > 0) & (y < height) & known
    column, row = (v.nan_to_num(0.0, 0.0, 0.0) for v in (x, y))
    seen = distances[index][
        row.long().clamp(0, height - 1), column.long().clamp(0, width - 1)
    ].float()
    behind = torch.where(seen > 0, (distance / seen.clamp_min(1e-12) - 1) / TOLERANCE, -1.0)
    towards = points - eye
    cosine = (away * towards).sum(1) / (distance * towards.norm(dim=1)).clamp_min(1e-12)
    usable = inside & (behind < 1)
    hints = torch.stack([usable.float(), behind.clamp(-1, 1), (2 * cosine - 1).clamp(0, 1)], dim=1)
    return positions, hints * inside[:, None]


def choose(
    points: Tensor,
    eye: Tensor,
    cameras: Cameras,
    distances: Tensor,
    count: int,
    allowed: Sequence[int],
) -> list[int]:
    """The sources that together show `points` [P, 3] best from near `eye` [3], the best first.

    Greedily: each next source adds most to the sum over points of the best of
    exp(-angle^2 / 2 SHARPNESS^2) among sources that see the point.
    """
    candidates = torch.as_tensor(list(allowed))
    middle = points.mean(0)
    directions = F.normalize(middle - cameras.c2w[candidates, :, 3].to(points), dim=1)
    nearness = directions @ F.normalize(middle - eye, dim=0)
    order = nearness.argsort(descending=True, stable=True)
    candidates = candidates[order[:CANDIDATES]].tolist()
    known = torch.ones(len(points), dtype=torch.bool)
    towards = F.normalize(points - eye, dim=1)
    worth = []
    for index in candidates:
        _, hints = correspond(points, known, eye, cameras, index, distances)
        rays = F.normalize(points - cameras.c2w[index, :, 3].to(points), dim=1)
        angle = torch.linalg.cross(rays, towards).norm(dim=1).clamp(max=1).asin()
        trust = hints[:, 0] * (1 - hints[:, 1].abs()) + 1e-3
        worth.append(trust * torch.exp(-0.5 * (angle / SHARPNESS).square()))
    table = torch.stack(worth)
    best, chosen = torch.zeros(len(points)), []
    for _ in range(min(count, len(candidates))):
        # the small second term breaks ties once every point is well seen
        gain = (table - best).clamp_min(0).sum(1) + 1e-2 * table.sum(1)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        best = torch.maximum(best, table[chosen[-1]])
    return [candidates[i] for i in chosen]


def probes(points: Tensor, known: Tensor) -> Tensor:
    """At most PROBES of the known points [h, w, 3], evenly spread; all points if none is known."""
    flat = points.reshape(-1, 3)
    chosen = flat[known.reshape(-1)] if known.any() else flat
    return chosen[torch.linspace(0, len(chosen) - 1, PROBES).round().long()]
