"""A baked scene: densities and harmonics of colour on the corners of visible voxels, no network.

rgb(x, v) = sum_h Y_h(v) u_h(x) + e(x, v), u_h and e interpolated trilinearly, Y_h spherical
harmonics of the direction alone: FastNeRF's factorisation (2103.10380, eq. 2). Of the first four
u_h is RGB, of the others grey: what glitters is white, or nearly. e, with fewer harmonics, has
corners twice as close as u: a network's colours have edges within a voxel.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nerfkit.kernels.baked_render import BakedGrid, Layout, Rendered, render_baked
from nerfkit.kernels.first_hit import Occupancy, first_hit
from nerfkit.octree import Octree

STOP = 1e-2  # of transmittance
WEIGHT = 1e-2  # a sample that weighs less has no colour of its own
HIT_DEPTH = 6


@dataclass(frozen=True)
class BakedShape:
    """Numbers that belong to a baked scene.

    Attributes:
        density_scale, density_bias: sigma = density_scale softplus(raw + density_bias), 1 / world
            unit.
        density_range: raw = density_range[0] + density_range[1] * stored value.
        step_voxels: distance between samples, in voxels.
        near: nothing is seen closer to a camera than this, world units.
    """

    density_scale: float
    density_bias: float
    density_range: tuple[float, float]
    step_voxels: float
    near: float


class BakedColors(NamedTuple):
    """Bytes q of colours, which mean levels[0] + levels[1] q.

    Attributes:
        records: [V, 24] uint8, as in `nerfkit.kernels.baked_render.BakedGrid`; levels: [2, 24].
        details: [F, 8] uint8, likewise; detail_levels: [2, 8].
    """

    records: Tensor
    levels: Tensor
    details: Tensor
    detail_levels: Tensor


class BakedField:
    """Voxels, what is stored at their corners, and how it is seen.

    Attributes:
        shape, octree, layout: numbers; the visible voxels; their corners, V in all, and F of half
            voxels.
        density: [V] int16.
        colors: what is seen there.
    """

    def __init__(
        self,
        shape: BakedShape,
        octree: Octree,
        layout: Layout,
        density: Tensor,
        colors: BakedColors,
    ) -> None:
        self.shape, self.octree, self.layout = shape, octree, layout
        self.density, self.colors = density, colors
        self.grid = BakedGrid.of(octree, layout, density, shape.density_range, *colors)
        self._nodes = Occupancy.of(octree.above(HIT_DEPTH))

    @property
    def device(self) -> torch.device:
        return self.grid.words.device

    def to(self, device: torch.device) -> BakedField:
        """A copy that renders on another device; the field itself if it is there.

        What is stored stays where it was: only `grid` is read by kernels.
        """
        if device == self.device:
            return self
        moved = copy.copy(self)
        moved.grid = self.grid.to(device)
        moved._nodes = Occupancy.of(self.octree.above(HIT_DEPTH).to(device))
        return moved

    def hits(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Which of the rays [R, 3] come close to an occupied leaf: [R] bool."""
        return first_hit(origins, directions, self._nodes, self._nodes.voxel / 2) < math.inf

    def collapsed(self) -> BakedField:
        """The field itself."""
        return self

    def sampling(self) -> dict[str, float]:
        """Settings of the kernel that belong to the scene."""
        return {
            "step": self.shape.step_voxels * self.octree.voxel,
            "density_scale": self.shape.density_scale,
            "density_bias": self.shape.density_bias,
            "near": self.shape.near,
        }

    def render(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        """Colours [R, 3], depths [R] (sum w t) and opacities [R] of rays [R, 3] on `background`."""
        return render_baked(
            *(origins, directions, self.grid),
            background=background,
            early_stop=STOP,
            weight_min=WEIGHT,
            **self.sampling(),
        )
