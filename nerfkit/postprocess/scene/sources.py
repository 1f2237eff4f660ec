"""The photographs that a refiner takes detail from, and what a frame gets of them.

Sizes and positions as in `geometry`; "in cells" as in `network`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.postprocess.scene.geometry import (
    HINTS,
    choose,
    correspond,
    grown,
    other_surfaces,
    points_of,
    probes,
)

OTHERS = 2  # of a frame's sources, those that are looked up for other surfaces


@dataclass
class Matches:
    """Which sources a frame uses, and where each of its pixels lies in them."""

    sources: list[int]
    """K indices, the best first."""
    positions: Tensor
    """[K, h, w, 2]: (x, y) in small pixels of the source."""
    hints: Tensor
    """[K, HINTS, h, w]: see `geometry.correspond`."""


@dataclass
class Sources:
    """Photographs of a scene with the small renders' distances at their cameras."""

    photos: list[Tensor]
    """uint8 [H, W, 3] each."""
    cameras: Cameras
    """With pixels `scale` times as large as those of the photographs."""
    distances: Tensor
    """[N, h, w], grown; 0 where there is no surface."""
    scale: int

    def match(
        self,
        camera: Cameras,
        distance: Tensor,
        count: int,
        without: int | None = None,
        skip: int = 0,
    ) -> Matches:
        """Choose the sources of a small frame and find its pixels in them.

        Args:
            camera: of length one, h x w.
            distance: [h, w] along its rays, 0 where nothing was hit.
            count: K, at least 3; the last two are the best again, for the nearest and the
                farthest surface around each pixel.
            without: a source that must not be used: the frame's own photograph.
            skip: leave out so many of the best.
        """
        surface, eye = grown(distance), camera.c2w[0, :, 3].float()
        allowed = [i for i in range(len(self.photos)) if i != without]
        points = points_of(camera, surface)
        chosen = choose(
            probes(points, distance > 0),
            eye,
            self.cameras,
            self.distances,
            max(count - OTHERS, 1) + skip,
            allowed,
        )[skip:]
        slots = [(index, surface) for index in chosen]
        # the best source once more, for what lies in front and behind at edges
        slots += [(chosen[0], other) for other in other_surfaces(surface)]
        positions = torch.zeros(count, *distance.shape, 2)
        hints = torch.zeros(count, HINTS, *distance.shape)
        for slot, (index, shown) in enumerate(slots[:count]):
            flat = points_of(camera, shown).reshape(-1, 3)
            known = (shown > 0).reshape(-1)
            where, hint = correspond(flat, known, eye, self.cameras, index, self.distances)
            positions[slot] = where.reshape(*distance.shape, 2)
            hints[slot] = hint.T.reshape(-1, *distance.shape)
        used = [index for index, _ in slots[:count]]
        return Matches(used + used[-1:] * (count - len(used)), positions, hints)

    def warp(self, sources: Sequence[int], positions: Tensor) -> Tensor:
        """The photographs at `positions` [K, h, w, 2]: [K, 3 scale^2, h, w] in cells, 0..1."""
        return torch.stack(
            [
                warp(self.photos[index], where, self.scale)
                for index, where in zip(sources, positions, strict=True)
            ]
        )


def warp(photo: Tensor, positions: Tensor, scale: int) -> Tensor:
    """A photograph, bilinearly, at `scale`^2 places of each small pixel.

    Within a small pixel the position goes on as among its neighbours, along each axis by the
    smaller of both differences, by none where they disagree (minmod): beside an edge in depth each
    side keeps to its own surface.

    Args:
        photo: uint8 [H, W, 3].
        positions: [h, w, 2] in pixels `scale` times as large as the photograph's.

    Returns:
        [3 scale^2, h, w], channels (colour, row, column) within the cell, 0..1.
    """
    height, width, _ = photo.shape
    steps = (torch.arange(scale) + 0.5) / scale - 0.5
    across, down = _slope(positions, 1), _slope(positions, 0)
    places = (
        positions + steps[:, None, None, None, None] * down + (steps[:, None, None, None] * across)
    )
    places = places.reshape(scale * scale, *positions.shape) * scale
    # only the part of the photograph that is looked at becomes floating point
    reach = 0.5 * (across.abs() + down.abs()).amax((0, 1))
    low = ((positions.amin((0, 1)) - reach) * scale - 2).clamp_min(0).long().tolist()
    high = ((positions.amax((0, 1)) + reach) * scale + 2).clamp_min(4).long().tolist()
    left, top = min(low[0], width - 4), min(low[1], height - 4)
    right, bottom = min(max(high[0], left + 4), width), min(max(high[1], top + 4), height)
    part = photo[top:bottom, left:right].permute(2, 0, 1).contiguous().float() / 255
    size = torch.tensor([right - left, bottom - top])
    grid = (places - torch.tensor([left, top])) * (2 / size) - 1
    out = F.grid_sample(
        part[None],
        grid.reshape(1, -1, positions.shape[1], 2),
        padding_mode="border",
        align_corners=False,
    )
    return out.reshape(3 * scale * scale, *positions.shape[:2])


def _slope(positions: Tensor, dim: int) -> Tensor:
    """Change of position from one pixel to the next along `dim`, limited."""
    steps = positions.diff(dim=dim)
    first, last = steps.narrow(dim, 0, 1), steps.narrow(dim, steps.shape[dim] - 1, 1)
    before, after = torch.cat([first, steps], dim), torch.cat([steps, last], dim)
    smaller = torch.where(before.abs() < after.abs(), before, after)
    return torch.where(before * after > 0, smaller, 0.0)
