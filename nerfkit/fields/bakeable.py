"""What a field says about itself to be baked (nerfkit.baking)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from nerfkit.fields.field import Field
from nerfkit.octree import Octree

LEAST, MOST = 1e-5, 30.0  # optical thickness of a voxel; as raw densities
# Of fields that are no voxels themselves: voxels along an edge, and between samples.
BAKED_RESOLUTION, BAKED_STEP = 256, 0.6


@dataclass(frozen=True)
class Source:
    """A field on an octree.

    Attributes:
        field: what rays see; baking makes the baked scene look like it.
        octree: the voxels, outside of which it is empty; as fine as it is to be baked.
        density: corners [N, 3] int64 (x, y, z) of voxels -> raw density [N];
            sigma = density_scale softplus(raw + density_bias), 1 / world unit.
        colors: places [N, 3] in voxels, whole or half ones, and unit directions [N, K, 3] -> RGB
            [N, K, 3].
        density_scale, density_bias: of `density`.
        step_voxels: distance between samples along a ray, in voxels.
        near: nothing is seen closer to a camera than this, world units.
    """

    field: Field
    octree: Octree
    density: Callable[[Tensor], Tensor]
    colors: Callable[[Tensor, Tensor], Tensor]
    density_scale: float
    density_bias: float
    step_voxels: float
    near: float

    @staticmethod
    def of_points(
        field: Field,
        octree: Octree,
        densities: Callable[[Tensor], Tensor],
        colors: Callable[[Tensor, Tensor], Tensor],
        *,
        step_voxels: float,
        near: float,
    ) -> Source:
        """A field that says what is at any world point.

        Args:
            densities: points [N, 3] -> sigma [N], 1 / world unit.
            colors: points [N, 3] and unit directions [N, K, 3] -> RGB [N, K, 3].
        """
        voxel, box_min = octree.voxel, octree.box_min

        def density(corners: Tensor) -> Tensor:
            thickness = (densities(box_min + corners * voxel) * voxel).clamp(LEAST, MOST)
            return torch.log(torch.expm1(thickness))

        def rgb(places: Tensor, directions: Tensor) -> Tensor:
            return colors(box_min + places * voxel, directions)

        return Source(field, octree, density, rgb, 1 / voxel, 0.0, step_voxels, near)


@runtime_checkable
class Bakeable(Protocol):
    """A field that can be baked."""

    def source(self) -> Source:
        """The field as baking asks it; NerfkitError if it is of a kind that cannot be baked."""
        ...


def corners_around(places: Tensor) -> Iterator[Tensor]:
    """Eight times corners [N, 3] int64, some alike, whose mean is `places` [N, 3].

    Args:
        places: in voxels, whole or half ones.
    """
    ends = places.floor().long(), places.ceil().long()
    for which in itertools.product(range(2), repeat=3):
        yield torch.stack([ends[end][:, axis] for axis, end in enumerate(which)], 1)


def finer(octree: Octree, resolution: int) -> Octree:
    """The octree with at least so many voxels along an edge."""
    return octree.at_depth(max(octree.depth, math.ceil(math.log2(resolution))))
