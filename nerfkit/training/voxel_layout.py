"""Which voxels a fit of the default field begins with, and how far they are divided."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.fields.fast import FieldShape
from nerfkit.fields.ndc import Ndc
from nerfkit.octree import Octree
from nerfkit.training.config import FitConfig
from nerfkit.training.hull import Scene

# sigma of a field is this times softplus(d + bias) over the edge of the scene's cube, or over the
# depth of the part of it that is used.
DENSITY_GAIN = 500.0
# Thin fog at first: opaque after a few voxels where silhouettes bound the object, after the whole
# cube where it is full of fog.
CARVED_BIAS, FULL_BIAS = -3.0, -6.0
START = 6  # depth of the octree at the first step
DEEPEST, DEEPEST_LONG = 8, 9  # as a rule, and of long fits
LEAF_BYTES = 700  # measured 660, at the peak of a fit of 12.8 million leaves


class Room(NamedTuple):
    """How many voxels there may be.

    Attributes:
        leaves: after a division, at most; fewer where memory is short.
        left_out: where it would make more, only the heaviest voxels are kept, if those left out
            weigh less. Fog that hides what lies behind weighs much: what is behind would be left
            out for it.
        deeper: levels below the deepest.
    """

    leaves: int
    left_out: float
    deeper: int = 0

    def within(self, free: int | None) -> Room:
        """That in so many bytes; None where they are not known."""
        if free is None:
            return self
        return self._replace(leaves=max(8, min(self.leaves, free // LEAF_BYTES)))


BOUNDED, UNBOUNDED = Room(3_200_000, 0.3), Room(3_200_000, 0.02)
# Seen from one side, through a window that holds far more than an image: finer voxels are worth it.
FORWARD = Room(12_800_000, 1.0, deeper=1)


def room_of(shape: FieldShape) -> Room:
    """That of a field's kind of scene."""
    if shape.ndc is not None:
        return FORWARD
    return BOUNDED if shape.unbounded is None else UNBOUNDED


def first_layout(
    config: FitConfig, scene: Scene, cameras: Cameras
) -> tuple[Octree, FieldShape, list[int]]:
    """The octree, the rest of the field but its values, and the depths of its levels."""
    octree, ndc, size = scene.octree, None, scene.octree.size
    if config.ndc:
        ndc, octree = Ndc.of(cameras, scene.near).for_voxels(cameras, START)
        size = 2 * ndc.half_depth
    shape = FieldShape(
        hidden=tuple(config.hidden_units),
        bands=config.direction_bands,
        density_scale=DENSITY_GAIN / size,
        density_bias=CARVED_BIAS if scene.carved else FULL_BIAS,
        step_voxels=config.sample_step,
        near=scene.near,
        ndc=ndc,
        unbounded=scene.unbounded,
    )
    finest = finest_depth(config, octree, shape, cameras)
    start = min(finest, START)
    while octree.depth < start and 8 * len(octree) <= room_of(shape).leaves:
        octree = octree.subdivide()
    octree = octree.above(start)
    coarsest = min(config.coarsest.bit_length() - 1, octree.depth)
    return octree, shape, list(range(coarsest, octree.depth + 1))


def room_to_divide(keep: Tensor, weights: Tensor, room: Room) -> tuple[Tensor, bool]:
    """Which leaves [n] to keep so that their children are not too many, and whether that works.

    It does not where one that weighs more than `room.left_out` would have to go.
    """
    most = room.leaves // 8
    if int(keep.sum()) <= most:
        return keep, True
    heaviest = weights.topk(most)
    if float(heaviest.values[-1]) > room.left_out:
        return keep, False
    chosen = torch.zeros_like(keep)
    chosen[heaviest.indices] = True
    return chosen & keep, True


def finest_depth(config: FitConfig, octree: Octree, shape: FieldShape, cameras: Cameras) -> int:
    """Depth at which a voxel is about a pixel wide, unless the configuration says."""
    if config.finest is not None:
        return config.finest.bit_length() - 1
    ndc, unbounded = shape.ndc, shape.unbounded
    if ndc is not None:
        pixel = 1 / (ndc.slope_x * float(cameras.fx.median()))
    elif unbounded is not None:
        centre = torch.tensor(unbounded.center).double()
        distance = (cameras.c2w[:, :, 3] - centre).norm(dim=1).clamp_min(unbounded.half)
        pixel = float((distance / cameras.fx).median()) / unbounded.half
    else:
        centre = (octree.box_min.cpu() + octree.size / 2).double()
        distance = (cameras.c2w[:, :, 3] - centre).norm(dim=1).clamp_min(octree.size / 2)
        pixel = float((distance / cameras.fx).median())
    deepest = DEEPEST_LONG if config.is_long or unbounded is not None else DEEPEST
    return min(deepest + room_of(shape).deeper, max(5, math.floor(math.log2(octree.size / pixel))))
