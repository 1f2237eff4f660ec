"""Which voxels the training cameras see.

A camera sees a voxel if a sample in it weighs something in one of its pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nerfkit.baking.density import quantised_density
from nerfkit.baking.viewpoints import sized
from nerfkit.cameras import Cameras
from nerfkit.fields.bakeable import Source
from nerfkit.fields.baked import BakedColors, BakedField
from nerfkit.fields.frame import render_frame
from nerfkit.kernels.baked_render import Layout, Rendered, render_baked
from nerfkit.kernels.baked_render.grid import DETAIL, RECORD
from nerfkit.octree import Octree

# Weight that a voxel must have in a training view. What is left is half as many samples a ray.
VISIBLE = 0.02
PIXELS = 250_000  # of a training view when it is asked what it sees, however many it has


def visible_voxels(
    source: Source, cameras: Cameras, progress: Callable[[float], None]
) -> tuple[Octree, Tensor]:
    """The voxels that cameras see, and [n, cameras] uint8 how much: the largest weight * 255."""
    octree, watcher = source.octree, _Watcher(source)
    bricks = octree.bricks()
    blocks = 1 + torch.searchsorted(watcher.layout.blocks, bricks.codes)
    number = blocks[bricks.brick] * 64 + bricks.bit
    seen = torch.zeros(len(octree), len(cameras), dtype=torch.uint8)
    for i in range(len(cameras)):
        watcher.max_weights.zero_()
        render_frame(watcher, sized(cameras[i], PIXELS), torch.zeros(3), ["rgb"])
        seen[:, i] = (watcher.max_weights.view(-1)[number] * 255).to(torch.uint8)
        progress((i + 1) / len(cameras))
    keep = seen.amax(1) > VISIBLE * 255
    return octree.keep(keep), seen[keep]


class _Watcher:
    """A scene without colours that notes which voxels rays see."""

    def __init__(self, source: Source) -> None:
        self.layout = Layout.of(source.octree)
        shape, density = quantised_density(source, self.layout)
        blank = BakedColors(
            *(torch.zeros(len(density), RECORD, dtype=torch.uint8), torch.zeros(2, RECORD)),
            *(
                torch.zeros(len(self.layout.details), DETAIL, dtype=torch.uint8),
                torch.zeros(2, DETAIL),
            ),
        )
        self.field = BakedField(shape, source.octree, self.layout, density, blank)
        self.max_weights = torch.zeros(len(self.field.grid.words), 64)

    @property
    def device(self) -> torch.device:
        return self.field.device

    def render(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        return render_baked(
            *(origins, directions, self.field.grid),
            max_weights=self.max_weights,
            **self.field.sampling(),
        )
