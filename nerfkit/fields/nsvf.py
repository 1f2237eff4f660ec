"""NSVF (2007.11571): embeddings at the corners of sparse voxels, and a network that reads them.

Symbols: R rays, N samples of all rays together, V corners of L voxels; s and t as in
nerfkit.fields.spans. A density is `density_scale` relu(sigma_raw) per world unit, a colour
sigmoid(rgb_raw).

A ray's samples stand one in each stretch of length `step` of its part inside voxels; what lies
between voxels counts nothing. First every sample gets its density, a few at a time, until no light
is left on its ray; then those that are not empty get a colour. Empty ones have neither weight nor
gradient, so that nothing is lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nerfkit.fields.bakeable import BAKED_RESOLUTION, BAKED_STEP, Source, finer
from nerfkit.fields.spans import Guide, Spans
from nerfkit.kernels.composite import Composite, composite
from nerfkit.kernels.first_hit import Occupancy, first_hit
from nerfkit.kernels.fused_render import Rendered
from nerfkit.kernels.nsvf_mlp import NsvfMlpConfig, nsvf_mlp, unpack
from nerfkit.octree import Octree
from nerfkit.octree.corners import Corners

RENDER_STOP = 0.01  # of transmittance, as in the paper
RENDER_RAYS = 8192  # at a time: bounds the memory
SHADED = 1e-4  # samples that weigh less get no colour in a picture
FIRST_ROUND = 8  # samples a ray before looking which rays have light left, then twice that
HIT_DEPTH = 6
INWARDS = 1e-4  # of a voxel
START = 0.05  # deviation of the embeddings at first
FOG, EVENNESS = 0.1, 0.1  # about sigma_raw at first, and what last weights are scaled by


@dataclass(frozen=True)
class NsvfShape:
    """What a field is made of, apart from its parameters and octree.

    Attributes:
        network: its sizes.
        near: nothing is seen closer to a camera than this, world units.
        step: between samples, world units.
        density_scale: of relu(sigma_raw), per world unit.
    """

    network: NsvfMlpConfig
    near: float
    step: float
    density_scale: float


class Traced(NamedTuple):
    """What R rays saw, and at how many samples the field was asked."""

    seen: Composite
    n_samples: int
    n_shaded: int  # of these, for a colour


class NsvfField:
    """Embeddings on an octree, and the network.

    Attributes:
        octree: its leaves are the voxels.
        corners: of the voxels.
        table: [V, E] embeddings.
        network: [P], laid out as nerfkit.kernels.nsvf_mlp says.
    """

    def __init__(
        self, shape: NsvfShape, octree: Octree, corners: Corners, table: Tensor, network: Tensor
    ) -> None:
        self.shape, self.octree, self.corners = shape, octree, corners
        self.table, self.network = table, network
        self._guide = Guide(octree)
        self._lows = octree.cells().float()
        self._nodes = Occupancy.of(octree.above(HIT_DEPTH))

    @staticmethod
    def create(shape: NsvfShape, octree: Octree, generator: torch.Generator) -> NsvfField:
        """A field of thin fog.

        The authors' code begins with embeddings 3.5 times larger, and has pi in their encoding:
        noise at first, which learns slowly. It also has a LayerNorm before each ReLU; He's
        initialisation (1502.01852) gives activations their size at the start at least.
        """
        octree = octree.to(generator.device)
        corners, config = Corners.of(octree), shape.network
        on = {"device": generator.device}
        table = torch.randn(len(corners), config.embedding, generator=generator, **on)
        network = torch.zeros(config.n_params, **on)
        for name, values in unpack(network, config).items():
            if name.endswith("weight"):
                bound = math.sqrt(6 / values.shape[1])
                values.uniform_(-bound, bound, generator=generator)
        # Where sigma_raw begins below 0, relu has no gradient to raise it.
        values = unpack(network, config)
        values["sigma.weight"].mul_(EVENNESS)
        values["rgb.weight"].mul_(EVENNESS)
        values["sigma.bias"].fill_(FOG)
        return NsvfField(shape, octree, corners, START * table, network)

    @property
    def device(self) -> torch.device:
        return self.table.device

    def to(self, device: torch.device) -> NsvfField:
        """A copy on another device; the field itself if it is there."""
        if device == self.device:
            return self
        octree = self.octree.to(device)
        values = (x.to(device) for x in (self.table, self.network))
        return NsvfField(self.shape, octree, self.corners.to(device), *values)

    def hits(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Which of the rays [R, 3] come close to a voxel: [R] bool."""
        step = self.octree.size / 2 ** (HIT_DEPTH + 1)
        return first_hit(origins, directions, self._nodes, step) < math.inf

    def collapsed(self) -> NsvfField:
        """The field itself."""
        return self

    def pruned(self, keep: Tensor) -> NsvfField:
        """Only the voxels where `keep` [L] is true."""
        corners, table = self.corners.keep(keep, self.table)
        return NsvfField(self.shape, self.octree.keep(keep), corners, table, self.network)

    def divided(self, step: float) -> NsvfField:
        """The same field on voxels half as large, with another step."""
        octree, corners, table = self.corners.divide(self.octree, self.table)
        shape = NsvfShape(self.shape.network, self.shape.near, step, self.shape.density_scale)
        return NsvfField(shape, octree, corners, table, self.network)

    def render(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        """Colours [R, 3], depths [R] (sum w t) and opacities [R] of rays [R, 3] on `background`."""
        parts = []
        with torch.no_grad():
            for rays in zip(origins.split(RENDER_RAYS), directions.split(RENDER_RAYS), strict=True):
                back = background.expand(len(rays[0]), 3)
                parts.append(self.trace(*rays, back, RENDER_STOP, SHADED).seen[:3])
        return Rendered(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def densities(self, points: Tensor) -> Tensor:
        """Densities [N] per world unit at world points [N, 3]; 0 outside the voxels."""
        out = points.new_zeros(len(points))
        inside, voxels, places = self._locate(points)
        with torch.no_grad():
            out[inside] = self.raw(voxels, places).relu() * self.shape.density_scale
        return out

    def colors(self, points: Tensor, directions: Tensor) -> Tensor:
        """Colours [N, 3] at world points [N, 3], seen along unit directions [N, 3].

        Black outside the voxels.
        """
        out = torch.zeros_like(points)
        inside, voxels, places = self._locate(points)
        with torch.no_grad():
            raw = nsvf_mlp(
                *(self.table, self.corners.indices, voxels, places, directions[inside]),
                self.network,
                config=self.shape.network,
            )
            out[inside] = raw.rgb_raw.sigmoid()
        return out

    def source(self) -> Source:
        """The field on voxels small enough for what it shows, as baking asks it."""
        octree = finer(self.octree, BAKED_RESOLUTION)

        def densities(points: Tensor) -> Tensor:
            return self.densities(self._beside(points))

        def colors(points: Tensor, directions: Tensor) -> Tensor:
            each = self._beside(points).repeat_interleave(directions.shape[1], 0)
            return self.colors(each, directions.reshape(-1, 3)).view(directions.shape)

        return Source.of_points(
            *(self, octree, densities, colors), step_voxels=BAKED_STEP, near=self.shape.near
        )

    def _beside(self, points: Tensor) -> Tensor:
        """Points [N, 3], those on the upper faces of voxels moved just into them."""
        moved = points.clone()
        for c in range(1, 8):
            outside = (self.octree.find(self.octree.cells_at(moved)) < 0).nonzero()[:, 0]
            shift = points.new_tensor([c & 1, c >> 1 & 1, c >> 2]) * (INWARDS * self.octree.voxel)
            moved[outside] = points[outside] - shift
        return moved

    def raw(self, voxels: Tensor, places: Tensor) -> Tensor:
        """sigma_raw [N] at `places` [N, 3] in [0, 1] of voxels [N]."""
        arguments = self.table, self.corners.indices, voxels, places, None, self.network
        return nsvf_mlp(*arguments, config=self.shape.network).sigma_raw

    def _locate(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which of points [N, 3] lie in a voxel, in which one, and where in it."""
        voxels = self.octree.find(self.octree.cells_at(points))
        inside = (voxels >= 0).nonzero()[:, 0]
        voxels = voxels[inside]
        return inside, voxels, self.places(points[inside], voxels)

    def places(self, points: Tensor, voxels: Tensor) -> Tensor:
        """Where world points [N, 3] are in their voxels [N], from 0 to 1."""
        octree = self.octree
        return ((points - octree.box_min) / octree.voxel - self._lows[voxels]).clamp_(0, 1)

    def trace(
        self,
        origins: Tensor,
        directions: Tensor,
        background: Tensor,
        early_stop: float,
        weight_min: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Traced:
        """The field along rays [R, 3] on `background` [R, 3].

        Differentiable with respect to the embeddings and the network.

        Args:
            early_stop: transmittance behind which there are no samples.
            weight_min: samples that weigh less are left out.
            generator: of the samples' places in their stretches; None takes the middle.
        """
        spans = self._guide.spans(origins, directions, self.shape.near)
        rays = _Rays(self, origins, directions, spans)
        samples, n_samples = rays.march(early_stop, weight_min, generator)
        raw = nsvf_mlp(
            *(self.table, self.corners.indices, samples.voxels, samples.places),
            *(directions, self.network),
            ray_indices=samples.rays,
            config=self.shape.network,
        )
        counts = torch.bincount(samples.rays, minlength=len(origins))
        seen = composite(
            raw.sigma_raw.relu() * self.shape.density_scale,
            raw.rgb_raw.sigmoid(),
            torch.zeros_like(samples.steps),
            samples.steps,
            torch.stack([counts.cumsum(0) - counts, counts], 1),
            background=background,
        )
        depths = origins.new_zeros(len(origins))
        depths.index_add_(0, samples.rays, seen.weights.detach() * samples.t)
        return Traced(seen._replace(depths=depths), n_samples, len(samples.t))


class _Samples(NamedTuple):
    """Samples of rays, in the order of these and front to back."""

    rays: Tensor  # [N] int64
    t: Tensor  # [N]
    steps: Tensor  # [N] length that each stands for, world units
    voxels: Tensor  # [N] int64
    places: Tensor  # [N, 3]

    def select(self, which: Tensor) -> _Samples:
        return _Samples(*(values[which] for values in self))


@dataclass(frozen=True)
class _Rays:
    field: NsvfField
    origins: Tensor
    directions: Tensor
    spans: Spans

    def march(
        self, early_stop: float, weight_min: float, generator: torch.Generator | None
    ) -> tuple[_Samples, int]:
        """The samples that are not empty and see light; and how many were asked in all."""
        lengths, step = self.spans.lengths(), self.field.shape.step
        counts = (lengths / step).ceil().long()
        starts = counts.cumsum(0) - counts
        n = int(counts.sum())
        where = lengths.new_full((n,), 0.5)
        if generator is not None:
            where.uniform_(generator=generator)
        depth = torch.zeros_like(lengths, dtype=torch.float64)  # optical, of each ray so far
        dark = math.inf if early_stop == 0 else -math.log(early_stop)
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
            lengths_left = (lengths[rays] - low).clamp_(0, step)
            samples = self._at(rays, low + where[starts[rays] + nth] * lengths_left, lengths_left)
            with torch.no_grad():
                sigmas = self.field.raw(samples.voxels, samples.places).relu()
            thickness = (sigmas * samples.steps * self.field.shape.density_scale).double()
            before = depth[rays] + _sums_before(thickness, number)
            depth.index_add_(0, rays, thickness)
            weights = torch.exp(-before) * -torch.expm1(-thickness)
            parts.append(samples.select((weights > weight_min) & (before < dark)))
            asked += len(rays)
            first, size = first + size, 2 * size
            live = live[(counts[live] > first) & (depth[live] < dark)]
        if not parts:
            none = counts[:0]
            return self._at(none, none.float(), none.float()), 0
        together = _Samples(*(torch.cat(values) for values in zip(*parts, strict=True)))
        return together.select(together.rays.argsort(stable=True)), asked

    def _at(self, rays: Tensor, s: Tensor, steps: Tensor) -> _Samples:
        t, voxels = (values[:, 0] for values in self.spans.select(rays).at(s[:, None]))
        points = self.origins[rays] + t[:, None] * self.directions[rays]
        return _Samples(rays, t, steps, voxels, self.field.places(points, voxels))


def _sums_before(values: Tensor, counts: Tensor) -> Tensor:
    """Of each of `values` [N], the sum of those before it in its group; `counts` [G] sum to N."""
    before = values.cumsum(0) - values
    first = counts.cumsum(0) - counts
    return before - before[first].repeat_interleave(counts)
