"""The renderer in torch around kernels for network and compositing: what the backends share.

Shapes and symbols as in the package docstring.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from nerfkit.kernels.composite.reference import Composite
from nerfkit.kernels.nsvf_mlp.config import NsvfMlpConfig
from nerfkit.kernels.nsvf_mlp.reference import NsvfMlpOutput
from nerfkit.kernels.octree_traverse.spans import Spans

FIRST_ROUND = 8  # samples a ray before looking which rays have light left, then twice that


class Voxels(NamedTuple):
    """The leaves of an octree and their corners."""

    lows: Tensor  # [L, 3] float, integer coordinates of the low corners
    corners: Tensor  # [L, 8] int32, rows of the table
    box_min: Tensor  # [3] of the octree's cube, world units
    edge: float  # of a leaf, world units

    def places(self, points: Tensor, voxels: Tensor) -> Tensor:
        """Where world points [N, 3] are in their voxels [N], from 0 to 1."""
        return ((points - self.box_min) / self.edge - self.lows[voxels]).clamp_(0, 1)


class Samples(NamedTuple):
    """Samples of rays, in the order of these and front to back."""

    rays: Tensor  # [N] int64
    t: Tensor  # [N]
    steps: Tensor  # [N] length that each stands for, world units
    voxels: Tensor  # [N] int64
    places: Tensor  # [N, 3]

    def select(self, which: Tensor) -> Samples:
        return Samples(*(values[which] for values in self))


class Marched(NamedTuple):
    """The samples that are not empty and see light; and how many were asked in all."""

    samples: Samples
    asked: int | Tensor


class Seen(NamedTuple):
    """What R rays saw, and at how many samples the field was asked."""

    colors: Tensor  # [R, 3]
    depths: Tensor  # [R], sum of w t, without gradients
    opacities: Tensor  # [R]
    n_samples: int | Tensor
    n_shaded: int | Tensor  # of these, for a colour


class March(NamedTuple):
    """Arguments of `nerfkit.kernels.nsvf_render.render_rays`."""

    origins: Tensor
    directions: Tensor
    background: Tensor
    spans: Spans
    voxels: Voxels
    table: Tensor
    params: Tensor
    config: NsvfMlpConfig
    step: float
    density_scale: float
    early_stop: float
    weight_min: float
    where: Tensor | None

    def counts(self) -> Tensor:
        """Samples of each ray, [R] int64."""
        return (self.spans.lengths() / self.step).ceil().long()

    @property
    def dark(self) -> float:
        """Optical depth behind which there are no samples."""
        return math.inf if self.early_stop == 0 else -math.log(self.early_stop)


Network = Callable[..., NsvfMlpOutput]


def march(given: March, network: Network) -> Marched:
    """Rays by rounds: a few samples of each, then a look at which have light left."""
    lengths, step = given.spans.lengths(), given.step
    counts = given.counts()
    starts = counts.cumsum(0) - counts
    depth = torch.zeros_like(lengths, dtype=torch.float64)  # optical, of each ray so far
    parts, asked = [], 0
    first, size = 0, FIRST_ROUND
    live = counts.nonzero()[:, 0]
    while len(live):
        number = (counts[live] - first).clamp_max(size)
        rays = live.repeat_interleave(number)
        nth = torch.arange(len(rays), device=rays.device)
        nth -= (number.cumsum(0) - number).repeat_interleave(number)
        nth += first
        low = nth * step
        left = (lengths[rays] - low).clamp_(0, step)
        where = 0.5 if given.where is None else given.where[starts[rays] + nth]
        samples = _at(given, rays, low + where * left, left)
        arguments = given.table, given.voxels.corners, samples.voxels, samples.places
        with torch.no_grad():
            raw = network(*arguments, None, given.params, ray_indices=None, config=given.config)
        thickness = raw.sigma_raw.relu() * samples.steps * given.density_scale
        thickness = thickness.double()
        before = depth[rays] + _sums_before(thickness, number)
        depth.index_add_(0, rays, thickness)
        weights = torch.exp(-before) * -torch.expm1(-thickness)
        parts.append(samples.select((weights > given.weight_min) & (before < given.dark)))
        asked += len(rays)
        first, size = first + size, 2 * size
        live = live[(counts[live] > first) & (depth[live] < given.dark)]
    if not parts:
        none = counts[:0]
        return Marched(_at(given, none, none.float(), none.float()), 0)
    together = Samples(*(torch.cat(values) for values in zip(*parts, strict=True)))
    return Marched(together.select(together.rays.argsort(stable=True)), asked)


def shade(
    given: March, marched: Marched, network: Network, compose: Callable[..., Composite]
) -> Seen:
    """Colours of samples, composited."""
    samples = marched.samples
    raw = network(
        *(given.table, given.voxels.corners, samples.voxels, samples.places),
        *(given.directions, given.params),
        ray_indices=samples.rays,
        config=given.config,
    )
    n_rays = len(given.origins)
    counts = torch.bincount(samples.rays, minlength=n_rays)
    seen = compose(
        raw.sigma_raw.relu() * given.density_scale,
        raw.rgb_raw.sigmoid(),
        torch.zeros_like(samples.steps),
        samples.steps,
        torch.stack([counts.cumsum(0) - counts, counts], 1),
        background=given.background,
        early_stop=0.0,
    )
    depths = given.origins.new_zeros(n_rays)
    depths.index_add_(0, samples.rays, seen.weights.detach() * samples.t)
    return Seen(seen.colors, depths, seen.opacities, marched.asked, len(samples.t))


def _at(given: March, rays: Tensor, s: Tensor, steps: Tensor) -> Samples:
    t, voxels = (values[:, 0] for values in given.spans.select(rays).at(s[:, None]))
    points = given.origins[rays] + t[:, None] * given.directions[rays]
    return Samples(rays, t, steps, voxels, given.voxels.places(points, voxels))


def _sums_before(values: Tensor, counts: Tensor) -> Tensor:
    """Of each of `values` [N], the sum of those before it in its group; `counts` [G] sum to N."""
    before = values.cumsum(0) - values
    first = counts.cumsum(0) - counts
    return before - before[first].repeat_interleave(counts)
