"""What the kernels are measured on: a fitted-looking ball, its octree, and rays that look at it.

Surfaces of a fitted scene are thin: of the samples of a ray that meets it, a few have a colour.
World units; the cube is [-1, 1]^3, the ball's radius 0.8, and the cameras are 3 away.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.fields.vertices import Vertices
from nerfkit.kernels.fused_render import FEATURES, RenderGrid
from nerfkit.octree import Octree

RADIUS, DISTANCE = 0.8, 3.0
SHELL = 2.0  # half the thickness of the occupied shell, in voxels
STEEPNESS = 4.0  # of the raw density, a voxel
DENSITY_SCALE, DENSITY_BIAS = 250.0, -3.0
BANDS, HIDDEN = 3, 64


@dataclass(frozen=True)
class Subject:
    """A sparse field. `sampling` holds the settings of the fused renderer."""

    octree: Octree
    vertices: Vertices
    grid: RenderGrid
    density: Tensor
    features: Tensor
    widths: tuple[int, ...]
    network: Tensor
    sampling: dict[str, float]

    def to(self, device: torch.device) -> Subject:
        """The same on another device."""
        octree = self.octree.to(device)
        depths = [int(r).bit_length() - 1 for r in self.vertices.resolutions]
        vertices = Vertices.of(octree, depths)
        values = (x.to(device) for x in (self.density, self.features))
        grid, network = RenderGrid.of(octree, vertices), self.network.to(device)
        return Subject(octree, vertices, grid, *values, self.widths, network, self.sampling)

    @staticmethod
    def ball(depth: int, n_levels: int) -> Subject:
        """The ball on voxels of 2 / 2^depth, with values at the `n_levels` finest levels."""
        generator = torch.Generator().manual_seed(0)
        octree = Octree.full(torch.tensor([-1.0, -1.0, -1.0]), 2.0, min(depth, 5))
        while True:
            off = (octree.centers().norm(dim=1) - RADIUS).abs() / octree.voxel
            octree = octree.keep(off < SHELL)
            if octree.depth == depth:
                break
            octree = octree.subdivide()
        vertices = Vertices.of(octree, list(range(depth - n_levels + 1, depth + 1)))
        places = torch.arange(4)
        local = torch.cartesian_prod(places, places, places).flip(1)  # x fastest
        resolution = octree.resolution
        start = int(vertices.level_start()[-2])
        corner = vertices.coords[start:, None].long() * 4 + local
        points = corner.float() * (2 / resolution) - 1
        density = torch.zeros(vertices.n_bricks, 64)
        density[start:] = (RADIUS - points.norm(dim=2)) / octree.voxel * STEEPNESS
        features = torch.randn(len(vertices), FEATURES, generator=generator) * 0.5
        features[:64] = 0
        widths = (FEATURES + BANDS**2, HIDDEN, 3)
        layers = []
        for n_in, n_out in itertools.pairwise(widths):
            layers.append(torch.randn(n_in * n_out, generator=generator) * math.sqrt(2 / n_in))
            layers.append(torch.zeros(n_out))
        sampling = {
            "step": octree.voxel,
            "density_scale": DENSITY_SCALE,
            "density_bias": DENSITY_BIAS,
            "bands": BANDS,
        }
        grid = RenderGrid.of(octree, vertices)
        return Subject(
            *(octree, vertices, grid, density.view(-1), features, widths),
            *(torch.cat(layers), sampling),
        )

    @property
    def place(self) -> torch.device:
        return self.density.device

    def field(self) -> FastField:
        """The ball as a field to fit or to render whole frames of."""
        shape = FieldShape(self.widths[1:-1], BANDS, DENSITY_SCALE, DENSITY_BIAS, 1.0, 0.0)
        return FastField(
            shape, self.octree, self.vertices, self.density, self.features, self.network
        )


def camera(side: int) -> Cameras:
    """One that sees the ball in the middle of side x side pixels."""
    turned = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, -DISTANCE], [0, 1, 0, 0]])
    focal = torch.tensor([1.2 * side])
    middle, edge = torch.tensor([side / 2]), torch.tensor([side])
    return Cameras(
        *(turned[None], focal, focal, middle, middle, edge, edge),
        model=["PINHOLE"],
        distortion=torch.zeros(1, 6),
    )


def rays(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Origins and unit directions [count, 3] from all sides; most of them meet the ball."""
    generator = torch.Generator().manual_seed(seed)
    origins = torch.randn(count, 3, generator=generator)
    origins = origins / origins.norm(dim=1, keepdim=True) * DISTANCE
    aims = torch.randn(count, 3, generator=generator)
    aims = aims / aims.norm(dim=1, keepdim=True) * RADIUS
    aims = aims * torch.rand(count, 1, generator=generator)
    directions = aims - origins
    return origins, directions / directions.norm(dim=1, keepdim=True)
