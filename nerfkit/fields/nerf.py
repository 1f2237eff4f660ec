"""NeRF (2003.08934): a coarse and a fine network, sampled along rays inside an octree's leaves.

FastNeRF (2103.10380) is the same with other networks: see nerfkit.fields.networks.

Symbols: R rays, N samples a ray, P parameters of a network; s and t as in nerfkit.fields.spans.
The octree's cube is scaled to [-1.5, 1.5]^3, about what the paper's Blender scenes fill; a density
is relu(sigma_raw) per unit of that cube, a colour sigmoid(rgb_raw).

A sample stands for the stretch up to the next one (eq. 3), in s, so that empty space between leaves
counts nothing. With an octree of one leaf, the cube, this is the paper's sampling: `most_coarse`
stratified samples between near and far, then `n_fine` in proportion to their weights, and the fine
network sees both. With more leaves, coarse samples are a fixed distance apart, and a ray's samples
end where the coarse network lets no light through.

With `ndc` the cube is that of nerfkit.fields.ndc, and s and t are distances in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from nerfkit.errors import NerfkitError
from nerfkit.fields import networks
from nerfkit.fields.bakeable import BAKED_RESOLUTION, BAKED_STEP, Source, finer
from nerfkit.fields.ndc import NDC_UNBAKED, Ndc, Path
from nerfkit.fields.spans import Guide, Spans
from nerfkit.kernels.composite import Composite, composite
from nerfkit.kernels.first_hit import Occupancy, first_hit
from nerfkit.kernels.fused_render import Rendered
from nerfkit.kernels.importance_sample import importance_sample
from nerfkit.octree import Octree

EXTENT = 3.0  # edge of the scene's cube, for the networks
HIT_DEPTH = 6
RENDER_STOP = 1e-3  # of transmittance
RENDER_RAYS = 4096  # at a time: bounds the memory
FIRST_ROUND = 8  # coarse samples a ray before looking which rays have light left, then twice that
SHADED = 1e-4  # weight of samples that count as such
LEAST_WEIGHT = 1e-3  # of a coarse sample, for placing fine ones: a ray of empty space gets them too
BAKED_THICKNESS = 1e-3  # of a voxel that is baked, or of one of its neighbours
BAKED_PIECE = 1 << 15


@dataclass(frozen=True)
class NerfShape:
    """What a field is made of, apart from its parameters and octrees.

    Attributes:
        network: sizes of both networks.
        near: nothing is seen closer to a camera than this, world units.
        most_coarse, n_fine: samples a ray.
        spacing: of the coarse samples, in edges of the cube; 0 for `most_coarse` on every ray.
        ndc: of a forward-facing scene.
    """

    network: networks.Sizes
    near: float
    most_coarse: int
    n_fine: int
    spacing: float
    ndc: Ndc | None = None


class Traced(NamedTuple):
    """What R rays saw, by each network, and at how many samples they were asked."""

    coarse: Composite  # without weights and distortions
    fine: Composite
    n_samples: int
    n_shaded: int  # of the fine network's, those that a ray sees


class NerfField:
    """Two networks and two octrees.

    Attributes:
        coarse, fine: parameters [P] of the networks.
        limit: leaves outside which there is nothing.
        guide: leaves of it in which rays are sampled.
    """

    def __init__(
        self, shape: NerfShape, limit: Octree, guide: Octree, coarse: Tensor, fine: Tensor
    ) -> None:
        self.shape, self.limit = shape, limit
        self.coarse, self.fine = coarse, fine
        self._nodes = Occupancy.of(limit.above(HIT_DEPTH))
        self.scale = EXTENT / limit.size
        self.center = limit.box_min + limit.size / 2
        self.follow(guide)

    @staticmethod
    def create(shape: NerfShape, limit: Octree, generator: torch.Generator) -> NerfField:
        """With new networks, that know nothing."""
        coarse, fine = (networks.create(shape.network, generator) for _ in range(2))
        return NerfField(shape, limit, limit, coarse, fine)

    def follow(self, guide: Octree) -> None:
        """Sample rays in these leaves from now on."""
        self.guide, self._guide = guide, Guide(guide)

    def hits(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Which of the rays [R, 3] come close to a leaf of `limit`: [R] bool."""
        path = self.path(origins, directions)
        step = self.limit.size / 2 ** (HIT_DEPTH + 1)
        return first_hit(path.origins, path.directions, self._nodes, step) < math.inf

    def path(self, origins: Tensor, directions: Tensor) -> Path:
        """World rays [R, 3] in the octree's cube."""
        return Path.of(self.shape.ndc, origins, directions)

    @property
    def device(self) -> torch.device:
        return self.coarse.device

    def to(self, device: torch.device) -> NerfField:
        """A copy on another device; the field itself if it is there, or is none for a GPU."""
        fits = device.type == "cpu" or networks.fits_gpu(self.shape.network)
        if device == self.device or not fits:
            return self
        octrees, values = (self.limit, self.guide), (self.coarse, self.fine)
        return NerfField(self.shape, *(x.to(device) for x in (*octrees, *values)))

    def collapsed(self) -> NerfField:
        """The field itself."""
        return self

    def unguided(self) -> NerfField:
        """The same networks with the paper's sampling: of the whole cube, by every ray."""
        paper = replace(self.shape, most_coarse=64, n_fine=128, spacing=0.0)
        cube = Octree.full(self.limit.box_min, self.limit.size, 0)
        return NerfField(paper, cube, cube, self.coarse, self.fine)

    def render(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        """Colours [R, 3], depths [R] (sum w t) and opacities [R] of rays [R, 3] on `background`."""
        parts = []
        with torch.no_grad():
            for rays in zip(origins.split(RENDER_RAYS), directions.split(RENDER_RAYS), strict=True):
                traced = self.trace(*rays, background.expand(len(rays[0]), 3), RENDER_STOP)
                parts.append(traced.fine[:3])
        return Rendered(*(torch.cat(values) for values in zip(*parts, strict=True)))

    @property
    def octree(self) -> Octree:
        """Leaves outside which rays meet nothing."""
        return self.guide

    def densities(self, points: Tensor, network: Literal["coarse", "fine"] = "fine") -> Tensor:
        """Densities [N], per unit of the octree's lengths, at points [N, 3] in the octree's axes.

        They do not look at the octree. With `ndc` both are in its cube.
        """
        with torch.no_grad():
            return self.scaled_densities(getattr(self, network), points) * self.scale

    def scaled_densities(self, params: Tensor, points: Tensor) -> Tensor:
        """Densities [N] as for `densities`, but per unit of the scaled cube, by parameters [P].

        Differentiable with respect to those.
        """
        view = points.new_zeros(1, 3)
        rays = points.new_zeros(len(points), dtype=torch.int64)
        return self.evaluate(params, points, view, rays)[1].relu()

    def colors(self, points: Tensor, directions: Tensor) -> Tensor:
        """Colours of points [N, 3], as for `densities`, along unit directions of the world.

        Args:
            directions: from the eye to the points, [N, 3], or K of each point, [N, K, 3].

        Returns:
            [N, 3] or [N, K, 3].
        """
        each = directions if directions.ndim == 3 else directions[:, None]
        raw = networks.colors_from(self.shape.network, self.fine, self.scaled(points), each)
        return raw.sigmoid().reshape(directions.shape)

    def scaled(self, points: Tensor) -> Tensor:
        """Points [N, 3] in the octree's axes, as the networks get them."""
        return (points - self.center) * self.scale

    def evaluate(
        self,
        params: Tensor,
        points: Tensor,
        views: Tensor,
        rays: Tensor,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """As nerfkit.fields.networks.evaluate, at points [N, 3] in the octree's axes."""
        scaled = self.scaled(points)
        return networks.evaluate(self.shape.network, params, scaled, views, rays, known)

    def source(self) -> Source:
        """The fine network on voxels small enough for what it shows, as baking asks it."""
        if self.shape.ndc is not None:
            raise NerfkitError(NDC_UNBAKED)

        octree = finer(self.guide, BAKED_RESOLUTION)
        centers = torch.cat([self.densities(p) for p in octree.centers().split(BAKED_PIECE)])
        octree = octree.keep(octree.dilate(centers * octree.voxel > BAKED_THICKNESS))
        return Source.of_points(
            *(self, octree, self.densities, self.colors),
            step_voxels=BAKED_STEP,
            near=self.shape.near,
        )

    def trace(
        self,
        origins: Tensor,
        directions: Tensor,
        background: Tensor,
        early_stop: float,
        generator: torch.Generator | None = None,
    ) -> Traced:
        """Both networks along rays [R, 3] on `background` [R, 3].

        Differentiable with respect to the networks. Rays that cross no leaf cost nothing.

        Args:
            early_stop: transmittance of the coarse network behind which there are no samples.
            generator: of the random places of samples; None takes the middle of each stratum.
        """
        path = self.path(origins, directions)
        near = self.shape.near if self.shape.ndc is None else 0.0  # it begins there
        spans = self._guide.spans(path.origins, path.directions, near)
        live = spans.lengths().nonzero()[:, 0]
        rays = _Rays(
            self, path.select(live), directions[live], background[live], spans.select(live)
        )
        s, edges = rays.strata(generator)
        coarse, seen = rays.march(self.coarse, s, edges, early_stop)
        placed = torch.where(seen, coarse.weights.detach().view_as(s).clamp_min(LEAST_WEIGHT), 0)
        drawn = importance_sample(
            edges,
            placed,
            self.shape.n_fine,
            generator=generator,
            deterministic=generator is None,
        )
        end = torch.where(seen, edges[:, 1:], 0).amax(1, keepdim=True)
        kept = torch.where(seen, s, end)
        both = torch.minimum(torch.cat([kept, drawn], 1), end).sort(dim=1).values
        fine, asked = rays.see(self.fine, both, end)
        n_shaded = int((fine.weights > SHADED).sum())
        n_rays = len(origins)
        return Traced(
            _spread(coarse, live, background, n_rays),
            _spread(fine, live, background, n_rays),
            int(seen.sum()) + asked,
            n_shaded,
        )


@dataclass(frozen=True)
class _Rays:
    """Rays that cross leaves, and how to see along them."""

    field: NerfField
    path: Path
    views: Tensor  # [R, 3] directions in the world
    background: Tensor
    spans: Spans

    def strata(self, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Coarse samples s [R, N], one in each of N strata, and the strata's edges [R, N + 1].

        Of a ray with fewer than N the last strata are empty and their samples at its end.
        """
        shape, lengths = self.field.shape, self.spans.lengths()[:, None]
        counts = torch.full_like(lengths, shape.most_coarse)
        if shape.spacing:
            spacing = shape.spacing * self.field.limit.size
            counts = (lengths / spacing).ceil().clamp(1, shape.most_coarse)
        n = int(counts.max()) if len(counts) else 1
        device = lengths.device
        edges = (torch.arange(n + 1, device=device) / counts).clamp_max(1.0) * lengths
        where = torch.full((len(edges), n), 0.5, device=device)
        if generator is not None:
            where.uniform_(generator=generator)
        return torch.lerp(edges[:, :-1], edges[:, 1:], where), edges

    def march(
        self, params: Tensor, s: Tensor, edges: Tensor, early_stop: float
    ) -> tuple[Composite, Tensor]:
        """Composite coarse samples a few at a time; and which there are [R, N].

        Those of rays with no light left and of empty strata are left out.
        """
        n_rays, n = s.shape
        wanted = edges[:, 1:] > edges[:, :-1]
        seen = torch.zeros_like(wanted)
        steps = self.steps(s, edges[:, -1:])
        depth = s.new_zeros(n_rays)
        asked, points, raw = [], [], []
        dark = math.inf if early_stop == 0 else -math.log(early_stop)
        first, size = 0, FIRST_ROUND if self.field.shape.spacing else n
        every = torch.arange(n_rays * n, device=s.device).view(n_rays, n)
        while first < n:
            part = slice(first, min(first + size, n))
            seen[:, part] = wanted[:, part] & (depth < dark)[:, None]
            flat = every[:, part][seen[:, part]]
            asked.append(flat)
            points.append(self.points(s.reshape(-1)[flat], flat // n))
            with torch.no_grad():
                raw.append(self.ask(params, points[-1], flat // n))
            thickness = raw[-1][:, 3].relu() * steps.view(-1)[flat]
            depth.index_add_(0, flat // n, thickness)
            first, size = part.stop, 2 * size
        end = torch.where(seen, edges[:, 1:], 0).amax(1, keepdim=True)
        s = torch.where(seen, s, end)
        asked, raw = torch.cat(asked), torch.cat(raw)
        if params.requires_grad:  # of all samples at once
            raw = self.ask(params, torch.cat(points), asked // n, raw)
        return self.composite(s, end, asked, raw), seen

    def see(self, params: Tensor, s: Tensor, end: Tensor) -> tuple[Composite, int]:
        """Composite samples s [R, N], ascending, up to `end` [R, 1]; and how many there are."""
        flat = (s < end).view(-1).nonzero()[:, 0]
        rays = flat // max(s.shape[1], 1)
        raw = self.ask(params, self.points(s.reshape(-1)[flat], rays), rays)
        return self.composite(s, end, flat, raw), len(flat)

    def points(self, s: Tensor, rays: Tensor) -> Tensor:
        """[N, 3] at distances s [N] along `rays` [N]."""
        t = self.spans.select(rays).t(s[:, None])
        return self.path.origins[rays] + t * self.path.directions[rays]

    def ask(
        self, params: Tensor, points: Tensor, rays: Tensor, known: Tensor | None = None
    ) -> Tensor:
        """rgb_raw and sigma_raw [N, 4] at points [N, 3] of `rays` [N]; `known`: the same."""
        parts = None if known is None else (known[:, :3], known[:, 3])
        rgb_raw, sigma_raw = self.field.evaluate(params, points, self.views, rays, parts)
        return torch.cat([rgb_raw, sigma_raw[:, None]], 1)

    def steps(self, s: Tensor, end: Tensor) -> Tensor:
        """What each of s [R, N] stands for, in units of the scaled cube."""
        return torch.cat([s, end], 1).diff(dim=1) * self.field.scale

    def composite(self, s: Tensor, end: Tensor, asked: Tensor, raw: Tensor) -> Composite:
        """Of all s [R, N], with what the network said at those in `asked` (flat indices)."""
        n_rays, n = s.shape
        full = raw.new_full((n_rays * n, 4), -1.0).index_copy(0, asked, raw)
        steps = self.steps(s, end).view(-1)
        starts = torch.arange(n_rays, device=s.device) * n
        packed = torch.stack([starts, torch.full_like(starts, n)], 1)
        out = composite(
            *(full[:, 3].relu(), full[:, :3].sigmoid(), torch.zeros_like(steps), steps, packed),
            background=self.background,
        )
        t = self.path.world(self.spans.t(s))
        return out._replace(depths=(out.weights.detach().view_as(t) * t).sum(1))


def _spread(out: Composite, live: Tensor, background: Tensor, n_rays: int) -> Composite:
    """Colours, depths and opacities of the `live` rays among all; the others see the background."""
    zeros = background.new_zeros(n_rays)
    return Composite(
        background.index_copy(0, live, out.colors),
        zeros.index_copy(0, live, out.depths),
        zeros.index_copy(0, live, out.opacities),
        out.weights,
        out.distortions,
    )
