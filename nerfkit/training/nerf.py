"""Fitting NeRF (2003.08934): the sum of both networks' errors, Adam, and the octree they learn.

As the authors: Adam with eps 1e-7, as Keras has it, no noise on sigma. Unlike theirs, images with
alpha are laid on a new colour at each ray; and for a processor, which is as fast with few rays as
with many, a step has 64 rays, not 4096 (section 5.3), and four times the learning rate, 2e-3: after
as many rays that is dB ahead.
FastNeRF (2103.10380) is fitted in the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.fields import networks
from nerfkit.fields.ndc import Ndc
from nerfkit.fields.nerf import NerfField, NerfShape
from nerfkit.kernels.fastnerf_mlp import FastNerfMlpConfig
from nerfkit.kernels.nerf_mlp import NerfMlpConfig
from nerfkit.kernels.sparse_adam import adam_step_
from nerfkit.octree import Octree
from nerfkit.ranks import ALONE, Team
from nerfkit.training.config import FitConfig
from nerfkit.training.hull import Scene
from nerfkit.training.learner import Stepped
from nerfkit.training.pixels import Pixels
from nerfkit.training.schedule import rate_factor
from nerfkit.training.stored import LARGEST, UNREADABLE, Stored, check_sizes, in_range, whole

BETAS, EPS = (0.9, 0.999), 1e-7
NETWORKS = ("coarse", "fine")
GUIDE_DEPTH = 6
# Between coarse samples of a ray with an octree, in edges of the cube; the paper's are 1/48 apart.
SPACING = 1 / 32
# The octree is learned anew after so many steps, and whenever twice as many were taken.
FIRST_GUIDE = 100
GRID, FULL_GRID = 2, 1  # points along an edge of a leaf; of very many leaves
VERY_MANY = 1 << 16
# Points outside the octree that are told to be empty, from where in the fit, how often, how much.
EMPTY_POINTS = 256
EMPTY_FROM = 0.25
EMPTY_EVERY = 4
EMPTY_WEIGHT = 0.01
OCCUPIED_ALPHA = 0.02  # of the way through a leaf
FEWEST_LEAVES = 64
MOST_SAMPLES = 1024  # a ray


class NerfLearner:
    """Both networks, their Adam moments, and what the octree grows from.

    Attributes:
        moments: running means and mean squares of the gradients, by network.
    """

    format = "nerfkit nerf 1"
    rate_options = "--lr-network"
    preview_side = 100
    network: ClassVar[type[networks.Sizes]] = NerfMlpConfig

    def __init__(self, config: FitConfig, field: NerfField, team: Team = ALONE) -> None:
        self.config, self.field, self.team = config, field, team
        self.moments = {
            f"{name}_{moment}": torch.zeros_like(getattr(field, name))
            for name in NETWORKS
            for moment in ("mean", "square")
        }

    @classmethod
    def devices(cls, config: FitConfig) -> tuple[str, ...]:
        fits = networks.fits_gpu(cls._sizes(config))
        return ("cpu", "cuda") if fits else ("cpu",)

    @classmethod
    def _sizes(cls, config: FitConfig) -> networks.Sizes:
        # The layers that see the direction are as much narrower as the paper's.
        width, paper = config.network_width, cls.network()
        view_width = max(1, width * paper.view_width // paper.width)
        return paper._replace(width=width, view_width=view_width)

    @classmethod
    def create(
        cls,
        config: FitConfig,
        scene: Scene,
        cameras: Cameras,
        generator: torch.Generator,
        team: Team = ALONE,
    ) -> NerfLearner:
        shape = NerfShape(
            network=cls._sizes(config),
            near=scene.near,
            most_coarse=config.coarse_samples,
            n_fine=config.n_fine,
            spacing=SPACING if config.octree else 0.0,
            ndc=Ndc.of(cameras, scene.near) if config.ndc else None,
        )
        octree = Octree.full(-torch.ones(3), 2.0, 0) if config.ndc else scene.octree
        limit = octree.above(GUIDE_DEPTH if config.octree else 0).to(generator.device)
        while config.octree and limit.depth < GUIDE_DEPTH:
            limit = limit.subdivide()
        return cls(config, NerfField.create(shape, limit, generator), team)

    @classmethod
    def load_field(cls, stored: Stored) -> NerfField:
        values = stored.json("shape")
        try:
            ndc = Ndc.from_json(values.pop("ndc"))
            network = cls.network(*values.pop("network"))
            check_sizes(network)
            whole(values, 1, MOST_SAMPLES, "most_coarse", "n_fine")
            in_range(values, 0, LARGEST, "near")
            in_range(values, 0, 1, "spacing")
            shape = NerfShape(network=network, ndc=ndc, **values)
            depth = int(stored.metadata["depth"])
        except UNREADABLE as error:
            raise stored.unreadable(error) from error
        box_min = stored.take("octree_box_min", (3,), torch.float32)
        size = float(stored.take("octree_size", (1,), torch.float64))
        limit = stored.take_octree("limit_codes", box_min, size, depth)
        guide = stored.take_octree("octree_codes", box_min, size, depth)
        n = shape.network.n_params
        networks = (stored.take(name, (n,), torch.float32) for name in NETWORKS)
        return NerfField(shape, limit, guide, *networks)

    @classmethod
    def resume(
        cls,
        config: FitConfig,
        cameras: Cameras,
        field: NerfField,
        companion: Stored,
        memory: dict[str, Any],
        team: Team = ALONE,
    ) -> NerfLearner:
        del cameras, memory
        learner = cls(config, field, team)
        for name, moment in learner.moments.items():
            moment.copy_(companion.take(name, tuple(moment.shape), torch.float32))
        return learner

    def step(
        self, progress: float, number: int, pixels: Pixels, generator: torch.Generator
    ) -> Stepped:
        field, config, team = self.field, self.config, self.team
        batch = pixels.draw(config.rays_a_step, generator, team)
        n_rays = batch.n_all
        background = torch.rand(n_rays, 3, generator=generator, device=pixels.device)[batch.share]
        targets = torch.lerp(background, batch.colors, batch.alphas)
        networks = [getattr(field, name).requires_grad_() for name in NETWORKS]
        traced = field.trace(
            batch.origins,
            batch.directions,
            background,
            config.least_light,
            team.own_generator(generator),
        )
        errors = [
            (seen.colors - targets).square().sum() / (3 * n_rays)
            for seen in (traced.coarse, traced.fine)
        ]
        loss = sum(errors)
        if config.octree and progress >= EMPTY_FROM and number % EMPTY_EVERY == 0:
            loss = loss + EMPTY_WEIGHT / team.size * self._left_outside(
                networks, team.own_generator(generator)
            )
        gradients = map(team.sum_, torch.autograd.grad(loss, networks))
        rate = config.network_rate * rate_factor(progress, config.rate_decay)
        for name, network, gradient in zip(NETWORKS, networks, gradients, strict=True):
            adam_step_(
                *(network.requires_grad_(False), gradient),
                *(self.moments[f"{name}_{moment}"] for moment in ("mean", "square")),
                lr=rate,
                betas=BETAS,
                eps=EPS,
                step=number,
            )
        late = torch.stack([traced.n_shaded.double(), errors[1].detach().double()])
        n_samples, n_shaded, error = team.total(traced.n_samples, *late.tolist())
        return Stepped(n_rays, int(n_samples), int(n_shaded), error)

    def _left_outside(self, networks: list[Tensor], generator: torch.Generator) -> Tensor:
        """Mean density, in the scaled cube, at random points of the cube outside the octree.

        Rays guided by the octree never look there, so nothing else says that it is empty; and an
        octree of other leaves, or none, must show the same.
        """
        field = self.field
        points = torch.rand(EMPTY_POINTS, 3, generator=generator, device=field.device)
        points = points * field.limit.size + field.limit.box_min
        points = points[~field.guide.contains(points)]
        sigmas = [field.scaled_densities(each, points) for each in networks]
        return torch.stack(sigmas).sum() / EMPTY_POINTS

    def restructure(self, number: int, say: Callable[[str], None]) -> bool:
        """Learn the octree from the coarse network, where that is due."""
        del say
        times, rest = divmod(number, FIRST_GUIDE)
        if self.config.octree and rest == 0 and times & (times - 1) == 0:
            limit = self.field.limit
            keep = self.team.from_leader(lambda: self._opaque(limit))
            # An octree of nothing would never be looked at again.
            if int(keep.sum()) >= min(FEWEST_LEAVES, len(limit)):
                self.field.follow(limit.keep(limit.dilate(keep)))
        return False

    def _opaque(self, octree: Octree) -> Tensor:
        """Leaves [n_leaves] that the coarse network lets less than all light through."""
        n = GRID if len(octree) < VERY_MANY else FULL_GRID
        places = (torch.arange(n, device=octree.device) + 0.5) / n - 0.5
        grid = torch.cartesian_prod(places, places, places) * octree.voxel
        densest = []
        for centers in octree.centers().split(1 << 14):
            points = (centers[:, None] + grid).view(-1, 3)
            densest.append(self.field.densities(points, "coarse").view(-1, len(grid)).amax(1))
        return 1 - torch.exp(-torch.cat(densest) * octree.voxel) > OCCUPIED_ALPHA

    def tensors(self) -> dict[str, Tensor]:
        field = self.field
        return {
            "octree_codes": field.guide.codes,
            # two names for one tensor are no safetensors file
            "limit_codes": field.limit.codes.clone(),
            "octree_box_min": field.limit.box_min,
            "octree_size": torch.tensor([field.limit.size], dtype=torch.float64),
            **{name: getattr(field, name) for name in NETWORKS},
        }

    def metadata(self) -> dict[str, str]:
        return {
            "shape": json.dumps(asdict(self.field.shape)),
            "depth": str(self.field.limit.depth),
        }

    def companion(self) -> dict[str, Tensor]:
        return dict(self.moments)

    def memory(self) -> dict[str, Any]:
        return {}

    def checkpoint_bytes(self) -> float:
        octrees = len(self.field.limit) + len(self.field.guide)
        return 24.0 * len(self.field.coarse) + 8.0 * octrees

    def voxels(self) -> tuple[int, int]:
        return len(self.field.guide), self.field.guide.resolution


class FastNerfLearner(NerfLearner):
    """The same with FastNeRF's networks."""

    format = "nerfkit fastnerf 1"
    network = FastNerfMlpConfig
