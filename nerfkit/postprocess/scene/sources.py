"""The photographs that a refiner takes detail from, and what a frame gets of them.

Sizes and positions as in `geometry`; "in cells" as in `network`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.kernels.photo_details import photo_details
from nerfkit.postprocess.scene.geometry import (
    HINTS,
    choose,
    correspond,
    grown,
    other_surfaces,
    points_of,
    probes,
)

FARTHEST = 1e6  # small pixels
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

    def part(self, inside: tuple[slice, slice]) -> "Matches":
        """Those of some rows and columns."""
        rows, columns = inside
        return Matches(
            self.sources, self.positions[:, rows, columns], self.hints[..., rows, columns]
        )


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
            # points beside a camera project to infinity
            finite = where.nan_to_num(0.0, FARTHEST, -FARTHEST).clamp(-FARTHEST, FARTHEST)
            positions[slot] = finite.reshape(*distance.shape, 2)
            hints[slot] = hint.T.reshape(-1, *distance.shape)
        used = [index for index, _ in slots[:count]]
        return Matches(used + used[-1:] * (count - len(used)), positions, hints)

    def details(self, matches: Matches, enlarged: Tensor) -> Tensor:
        """What the network sees of the photographs, [K, 3 scale^2 + HINTS, h, w] in cells.

        Args:
            matches: of the frame, or of a part of it.
            enlarged: [3 scale^2, h, w], the enlarged render, in cells.
        """
        seen = photo_details(
            [self.photos[index] for index in matches.sources],
            matches.positions,
            matches.hints.permute(0, 2, 3, 1),
            enlarged.permute(1, 2, 0),
        )
        return seen.permute(0, 3, 1, 2)
