"""What the sampling of a ray passes on; symbols as in the package docstring."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from nerfkit.kernels.octree_traverse.spans import Spans


class Rays(NamedTuple):
    """R rays, and how the networks have their space.

    Attributes:
        origins, directions: [R, 3], directions of unit length.
        spans: what they cross of an octree; a ray that crosses nothing has no samples.
        center: [3] of the octree's cube.
        scale: what a network gets is (point - center) scale.
        depth: [R, 4] of rays in normalised device coordinates, the t, z and dz / dt at the near
            plane and the u at infinity of nerfkit.fields.ndc; None where t is the world's distance.
    """

    origins: Tensor
    directions: Tensor
    spans: Spans
    center: Tensor
    scale: float
    depth: Tensor | None = None


class Coarse(NamedTuple):
    """One sample in each of N strata of R rays.

    Those behind a ray's `counts` are empty; they and their samples lie at its end.
    """

    s: Tensor  # [R, N]
    edges: Tensor  # [R, N + 1]
    t: Tensor  # [R, N]
    distances: Tensor  # [R, N], t in the world
    counts: Tensor  # [R] int32


class March(NamedTuple):
    """How far each ray has come, and its M coarse samples of this round, ray by ray."""

    seen: Tensor  # [R] int32, samples up to the end of this round
    number: Tensor  # [R] int32, of this round
    sums: Tensor  # [R] int64, of `number` up to and with each ray's own
    thickness: Tensor  # [R] optical, of the rounds before
    points: Tensor  # [M, 3] as a network gets them
    ray_indices: Tensor  # [M] int64
    places: Tensor  # [M] int64, in [R, N] row by row


class Ended(NamedTuple):
    """The coarse samples that were seen, for `composite`; each stands for the way to the next."""

    there: Tensor  # [R, N] bool
    steps: Tensor  # [R N], scaled; zero where nothing was seen
    packed_info: Tensor  # [R, 2] int64


class Samples(NamedTuple):
    """M samples in order, ray by ray."""

    points: Tensor  # [M, 3] as a network gets them
    ray_indices: Tensor  # [M] int64
    distances: Tensor  # [M] in the world
    steps: Tensor  # [M] to the next one, scaled
    packed_info: Tensor  # [R, 2] int64
