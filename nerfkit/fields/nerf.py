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
from nerfkit.fields.spans import Guide
from nerfkit.kernels.composite import Composite, composite
from nerfkit.kernels.first_hit import Occupancy, first_hit
from nerfkit.kernels.fused_render import Rendered
from nerfkit.kernels.importance_sample import importance_sample
from nerfkit.kernels.nerf_samples import (
    Coarse,
    March,
    Rays,
    Samples,
    coarse_samples,
    columns,
    ended,
    next_samples,
    uniform,
    union_samples,
)
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

    coarse: Composite  # weights for placing fine samples; no distortions
    fine: Composite  # no distortions
    n_samples: int
    n_shaded: Tensor  # [] int64, of the fine network's, those that a ray sees


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
        self, params: Tensor, points: Tensor, views: Tensor, rays: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As nerfkit.fields.networks.evaluate, at points [N, 3] in the octree's axes."""
        return networks.evaluate(self.shape.network, params, self.scaled(points), views, rays)

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
        rays = Rays(path.origins, path.directions, spans, self.center, self.scale, path.depth)
        sight = _Sight(self, rays, directions, background)
        shape = self.shape
        n = columns(rays, shape.most_coarse, sight.spacing)
        places = coarse_samples(rays, n, spacing=sight.spacing, where=uniform(rays, n, generator))
        coarse, march, n_coarse = sight.march(self.coarse, places, early_stop)
        u = uniform(rays, shape.n_fine, generator)
        if u is not None:  # one in each of even strata
            u = (torch.arange(shape.n_fine, device=u.device) + u) / shape.n_fine
        drawn = importance_sample(
            *(places.edges, coarse.weights, shape.n_fine), u=u, deterministic=u is None
        )
        samples = union_samples(rays, places, march, drawn)
        fine = sight.see(self.fine, samples)
        return Traced(coarse, fine, n_coarse + len(samples.points), (fine.weights > SHADED).sum())


@dataclass(frozen=True)
class _Sight:
    """What rays see with a network."""

    field: NerfField
    rays: Rays
    views: Tensor  # [R, 3] directions in the world
    background: Tensor

    @property
    def spacing(self) -> float:
        """Of the coarse samples, world units."""
        return self.field.shape.spacing * self.field.limit.size

    def march(
        self, params: Tensor, places: Coarse, early_stop: float
    ) -> tuple[Composite, March, int]:
        """Coarse samples a few at a time, composited; how far; and how many there are.

        Those of rays with no light left are left out. The weights are those for placing fine ones.
        """
        n = places.s.shape[1]
        dark = math.inf if early_stop == 0 else -math.log(early_stop)
        march, sigma_raw, rounds, known = None, None, [], []
        last, size = 0, FIRST_ROUND if self.spacing else n
        while last < n:
            last, size = min(last + size, n), 2 * size
            march = next_samples(self.rays, places, march, sigma_raw, last, dark=dark)
            with torch.no_grad():
                rgb_raw, sigma_raw = self.ask(params, march.points, march.ray_indices)
            rounds.append(march)
            known.append((rgb_raw, sigma_raw))
        at = torch.cat([each.places for each in rounds])
        rgb_raw, sigma_raw = (torch.cat(values) for values in zip(*known, strict=True))
        if params.requires_grad:  # of all samples at once
            points = torch.cat([each.points for each in rounds])
            rays = torch.cat([each.ray_indices for each in rounds])
            rgb_raw, sigma_raw = self.ask(params, points, rays, (rgb_raw, sigma_raw))
        there, steps, packed = ended(self.rays, places, march)
        rgbs = rgb_raw.new_zeros(len(steps), 3).index_copy(0, at, rgb_raw.sigmoid())
        sigmas = sigma_raw.new_zeros(len(steps)).index_copy(0, at, sigma_raw.relu())
        out = composite(
            *(sigmas, rgbs, torch.zeros_like(steps), steps, packed), background=self.background
        )
        weights = out.weights.detach().view_as(there)
        return (
            out._replace(
                depths=(weights * places.distances).sum(1),
                weights=torch.where(there, weights.clamp_min(LEAST_WEIGHT), 0),
            ),
            march,
            len(at),
        )

    def see(self, params: Tensor, samples: Samples) -> Composite:
        """Samples, composited."""
        rgb_raw, sigma_raw = self.ask(params, samples.points, samples.ray_indices)
        steps, packed = samples.steps, samples.packed_info
        out = composite(
            *(sigma_raw.relu(), rgb_raw.sigmoid(), torch.zeros_like(steps), steps, packed),
            background=self.background,
        )
        seen = out.weights.detach() * samples.distances
        depths = torch.segment_reduce(seen, "sum", lengths=packed[:, 1], unsafe=True)
        return out._replace(depths=depths)

    def ask(
        self,
        params: Tensor,
        points: Tensor,
        rays: Tensor,
        known: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """rgb_raw [M, 3] and sigma_raw [M] at scaled points [M, 3] of `rays` [M]."""
        return networks.evaluate(self.field.shape.network, params, points, self.views, rays, known)
