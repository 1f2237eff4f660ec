"""Fitting NSVF (2007.11571): its losses, Adam, and when voxels are emptied and divided.

The loss of a ray is |colour - target|^2 + 0.001 log(1 + A (1 - A) / 0.11), A its opacity: the
regulariser of 1906.07751, which wants rays to meet something or nothing. Targets with alpha are
laid on a new colour at each ray.

With a number of steps, voxels are emptied every 2500 and divided after 5000, 25,000 and 75,000, as
in the authors' code. A fit of so many minutes does so at parts of its time, though not before the
field has had some steps, and divides no voxel into such as are narrower than a pixel; its step is
halved only as far as the images can tell. Where the authors begin Adam anew after a division, it
keeps the moments.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.errors import NerfkitError
from nerfkit.fields.nsvf import NsvfField, NsvfShape
from nerfkit.kernels.nsvf_mlp import NsvfMlpConfig
from nerfkit.kernels.sparse_adam import adam_step_
from nerfkit.octree.corners import Corners
from nerfkit.ranks import ALONE, Team
from nerfkit.training.config import FitConfig
from nerfkit.training.hull import Scene
from nerfkit.training.learner import Stepped
from nerfkit.training.pixels import Pixels
from nerfkit.training.schedule import rate_factor
from nerfkit.training.stored import LARGEST, UNREADABLE, Stored, check_sizes, in_range, whole
from nerfkit.training.voxel_contents import densest_raw, pixel_width
from nerfkit.training.voxel_grid import voxels_of

BETAS, EPS = (0.9, 0.999), 1e-8
# In a fit of so many minutes the embeddings learn so many times faster than the network.
TABLE_RATE = 10.0
PARAMETERS = ("table", "network")
MOMENTS = ("mean", "square")
# Density per relu(sigma_raw) and unit, as in the authors' code, of a scene about 3 units large.
DENSITY_SCALE, EXTENT = 7.0, 3.0
OPACITY_WEIGHT, OPACITY_SOFTNESS = 1e-3, 0.11
STEPS_A_VOXEL, FINEST_STEP = 8, 1000  # at the start; of a voxel at any time
PRUNE_STEPS, DIVIDE_STEPS = 2500, (5000, 25_000, 75_000)
PRUNE_PART, FIRST_PRUNE, DIVIDE_PARTS = 0.05, 0.1, (0.15, 0.35, 0.6)
LEAST_STEPS = 400  # before these, densities are still those of fog
# Samples with a colour a step, from which the number of rays follows: fog has many a ray.
SHADED_A_STEP, FEWEST_RAYS, MOST_RAYS = 4096, 128, 4096
FIRST_SHADED_A_RAY = 16.0
SMALLEST_STEP = 0.67  # of a pixel
EMPTY_RAW = math.log(2)  # voxels where exp(-relu(sigma_raw)) exceeds 1/2 everywhere are empty
# Points along an edge of a voxel where that is looked for; in a fit of so many minutes at most as
# many as there are steps.
PRUNE_POINTS = 16
# Kept at a time at least, and this part: a field that is still fog has no dense voxels at all.
FEWEST_VOXELS, FEWEST_PART = 64, 1 / 8


class NsvfLearner:
    """The field, its Adam moments, and what has been done to its voxels.

    Attributes:
        moments: running means and mean squares of the gradients, by parameter.
        pixel: width of one of the images at the scene, world units.
        divisions: how often the voxels have been divided.
        prunings: how many have been due.
        fresh: the step after which the moments began anew.
        shaded_a_ray: lately.
    """

    format = "nerfkit nsvf 1"
    rate_options = "--lr-network"
    preview_side = 100

    def __init__(
        self, config: FitConfig, field: NsvfField, pixel: float, team: Team = ALONE
    ) -> None:
        self.config, self.field, self.pixel, self.team = config, field, pixel, team
        self.divisions = self.prunings = self.fresh = 0
        self.progress, self.shaded_a_ray = 0.0, FIRST_SHADED_A_RAY
        self.warned_empty = False
        self._forget()

    @staticmethod
    def devices(config: FitConfig) -> tuple[str, ...]:
        del config
        return ("cpu", "cuda")

    @classmethod
    def create(
        cls,
        config: FitConfig,
        scene: Scene,
        cameras: Cameras,
        generator: torch.Generator,
        team: Team = ALONE,
    ) -> NsvfLearner:
        if config.ndc:
            raise NerfkitError("--ndc: --preset nsvf has none; take fast, nerf or fastnerf")
        octree = voxels_of(scene, config.voxel_size)
        width = config.network_width
        shape = NsvfShape(
            network=NsvfMlpConfig(width=width, density_width=max(1, width // 2)),
            near=scene.near,
            step=octree.voxel / STEPS_A_VOXEL,
            density_scale=DENSITY_SCALE * EXTENT / scene.octree.size,
        )
        field = NsvfField.create(shape, octree, generator)
        return cls(config, field, pixel_width(scene.octree, cameras), team)

    @classmethod
    def load_field(cls, stored: Stored) -> NsvfField:
        values = stored.json("shape")
        try:
            network = NsvfMlpConfig(*values.pop("network"))
            check_sizes(network)
            in_range(values, 0, LARGEST, "near", "density_scale")
            in_range(values, 1 / LARGEST, LARGEST, "step")
            shape = NsvfShape(network=network, **values)
            depth = int(stored.metadata["depth"])
        except UNREADABLE as error:
            raise stored.unreadable(error) from error
        box_min = stored.take("octree_box_min", (3,), torch.float32)
        size = float(stored.take("octree_size", (1,), torch.float64))
        octree = stored.take_octree("octree_codes", box_min, size, depth)
        if shape.step * FINEST_STEP < octree.voxel:
            raise stored.foreign(f"a step of {shape.step} in voxels of {octree.voxel}")
        corners = Corners.of(octree)
        table = stored.take("table", (len(corners), shape.network.embedding), torch.float32)
        network = stored.take("network", (shape.network.n_params,), torch.float32)
        return NsvfField(shape, octree, corners, table, network)

    @classmethod
    def resume(
        cls,
        config: FitConfig,
        cameras: Cameras,
        field: NsvfField,
        companion: Stored,
        memory: dict[str, Any],
        team: Team = ALONE,
    ) -> NsvfLearner:
        del cameras
        whole(memory, 0, LARGEST, "divisions", "prunings", "fresh")
        in_range(memory, 1 / LARGEST, LARGEST, "pixel")
        in_range(memory, 0, LARGEST, "shaded_a_ray")
        learner = cls(config, field, float(memory["pixel"]), team)
        learner.divisions, learner.prunings = int(memory["divisions"]), int(memory["prunings"])
        learner.fresh = int(memory["fresh"])
        learner.shaded_a_ray = float(memory["shaded_a_ray"])
        for name, moment in learner.moments.items():
            moment.copy_(companion.take(name, tuple(moment.shape), torch.float32))
        return learner

    def step(
        self, progress: float, number: int, pixels: Pixels, generator: torch.Generator
    ) -> Stepped:
        field, config, team = self.field, self.config, self.team
        self.progress = progress
        wanted = int(SHADED_A_STEP / max(self.shaded_a_ray, 1e-3))
        wanted = min(MOST_RAYS, max(FEWEST_RAYS, wanted)) // 64 * 64
        batch = pixels.draw(config.rays or wanted, generator, team)
        n_rays = batch.n_all
        background = torch.rand(n_rays, 3, generator=generator, device=pixels.device)[batch.share]
        targets = torch.lerp(background, batch.colors, batch.alphas)
        parameters = [getattr(field, name).requires_grad_() for name in PARAMETERS]
        traced = field.trace(
            *(batch.origins, batch.directions, background, config.least_light),
            generator=team.own_generator(generator),
        )
        error = (traced.colors - targets).square().sum() / n_rays
        opacities = traced.opacities
        unsure = torch.log1p(opacities * (1 - opacities) / OPACITY_SOFTNESS).sum() / n_rays
        loss = error + OPACITY_WEIGHT * unsure
        gradients = map(team.sum_, torch.autograd.grad(loss, parameters))
        rate = config.network_rate * rate_factor(progress, config.rate_decay)
        rates = rate * (TABLE_RATE if config.steps is None else 1.0), rate
        for name, values, gradient, rate in zip(
            PARAMETERS, parameters, gradients, rates, strict=True
        ):
            adam_step_(
                *(values.requires_grad_(False), gradient),
                *(self.moments[f"{name}_{moment}"] for moment in MOMENTS),
                lr=rate,
                betas=BETAS,
                eps=EPS,
                step=number - self.fresh,
            )
        counts = traced.n_samples, traced.n_shaded, float(error.detach()) / 3
        n_samples, n_shaded, mean = team.total(*counts)
        self.shaded_a_ray += 0.1 * (n_shaded / max(n_rays, 1) - self.shaded_a_ray)
        return Stepped(n_rays, int(n_samples), int(n_shaded), mean)

    def restructure(self, number: int, say: Callable[[str], None]) -> bool:
        """Empty the voxels in which nothing is; divide the rest where that is due."""
        prunings, divisions = self._due(number)
        divide, prune = divisions > self.divisions, prunings > self.prunings
        if prune:
            self.prunings = prunings
            self._prune(say)
        if divide:
            self._divide(number)
        return divide or prune

    def _due(self, number: int) -> tuple[int, int]:
        """How many prunings and divisions there should have been by now."""
        if self.config.steps is not None:
            return number // PRUNE_STEPS, sum(at <= number for at in DIVIDE_STEPS)
        if number < LEAST_STEPS:
            return 0, 0
        prunings = math.floor((self.progress - FIRST_PRUNE) / PRUNE_PART) + 1
        first = self.field.octree.voxel * 2**self.divisions
        useful = max(0, math.floor(math.log2(first / self.pixel)))
        return prunings, min(useful, sum(at <= self.progress for at in DIVIDE_PARTS))

    def _divide(self, number: int) -> None:
        self.divisions += 1
        field, step = self.field, self.field.shape.step
        if self.config.steps is not None:
            self.field = field.divided(step / 2)
            self.fresh = number
            self._forget()
            return
        self.field = field.divided(max(step / 2, min(step, SMALLEST_STEP * self.pixel)))
        # A new corner is met by an eighth of the samples, so its gradients are smaller.
        for moment, factor in zip(MOMENTS, (1 / 8, 1 / 64), strict=True):
            name = f"table_{moment}"
            spread = field.corners.divide(field.octree, self.moments[name])[2]
            self.moments[name] = spread.mul_(factor)

    def _prune(self, say: Callable[[str], None]) -> None:
        n = PRUNE_POINTS
        if self.config.steps is None:
            n = min(n, max(2, round(self.field.octree.voxel / self.field.shape.step)))
        densest = self.team.from_leader(lambda: densest_raw(self.field, n, EMPTY_RAW))
        keep = densest > EMPTY_RAW
        fewest = min(len(keep), max(FEWEST_VOXELS, round(FEWEST_PART * len(keep))))
        if int(keep.sum()) < fewest:
            keep[densest.topk(fewest).indices] = True
            if not self.warned_empty:
                self.warned_empty = True
                say(
                    "warning: nearly every voxel is empty; kept the densest ones. Are the camera "
                    "poses and the background right?"
                )
        if bool(keep.all()):
            return
        for moment in MOMENTS:
            name = f"table_{moment}"
            self.moments[name] = self.field.corners.keep(keep, self.moments[name])[1]
        self.field = self.field.pruned(keep)

    def _forget(self) -> None:
        self.moments = {
            f"{name}_{moment}": torch.zeros_like(getattr(self.field, name))
            for name in PARAMETERS
            for moment in MOMENTS
        }

    def tensors(self) -> dict[str, Tensor]:
        field = self.field
        return {
            "octree_codes": field.octree.codes,
            "octree_box_min": field.octree.box_min,
            "octree_size": torch.tensor([field.octree.size], dtype=torch.float64),
            **{name: getattr(field, name) for name in PARAMETERS},
        }

    def metadata(self) -> dict[str, str]:
        return {
            "shape": json.dumps(asdict(self.field.shape)),
            "depth": str(self.field.octree.depth),
        }

    def companion(self) -> dict[str, Tensor]:
        return dict(self.moments)

    def memory(self) -> dict[str, Any]:
        names = "pixel", "divisions", "prunings", "fresh", "shaded_a_ray"
        return {name: getattr(self, name) for name in names}

    def checkpoint_bytes(self) -> float:
        return 12.0 * (self.field.table.numel() + self.field.network.numel())

    def voxels(self) -> tuple[int, int]:
        return len(self.field.octree), self.field.octree.resolution
