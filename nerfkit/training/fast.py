"""Fitting the default field: learning rates, batches, and when its octree is pruned and divided.

Features are stored as float16 and moments as bfloat16: their last bits are noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.fields.fast import FastField, FieldShape
from nerfkit.fields.ndc import Ndc
from nerfkit.fields.unbounded import Unbounded
from nerfkit.fields.vertices import Vertices
from nerfkit.kernels.fused_mlp.cpu import MAX_LAYERS, MAX_WIDTH
from nerfkit.kernels.fused_render import FEATURES, GPU_LAYERS, GPU_UNITS, MAX_BANDS
from nerfkit.memory import free_bytes
from nerfkit.ranks import ALONE, Team
from nerfkit.training.config import FitConfig
from nerfkit.training.exposure import Exposure
from nerfkit.training.hull import Scene, focus_of
from nerfkit.training.late import LateFigures
from nerfkit.training.learner import Stepped
from nerfkit.training.optimiser import MOMENTS, NETWORK_MOMENTS, Optimiser, Rates
from nerfkit.training.pixels import Pixels
from nerfkit.training.poses import Poses, rate_at
from nerfkit.training.schedule import SUBDIVISIONS, divisions, prune_due, rate_factor
from nerfkit.training.stored import DEEPEST, LARGEST, UNREADABLE, Stored, in_range, whole
from nerfkit.training.voxel_layout import (
    finest_depth,
    first_layout,
    room_of,
    room_to_divide,
)

# Before this part of a fit, colours are the same from all sides: one that changes with the
# direction explains a surface at a wrong depth as well as a right one.
DIRECTIONS_FROM = 0.1
# Spread of a ray's weights counts from the first part on, in full from the second: before there is
# a scene, fog right before a camera has the least.
SPREAD_FROM, SPREAD_FULL = 0.1, 0.5
EXPOSURES_FROM = 0.05  # of a fit: before, nothing is known of the scene
FEWEST_LEAVES = 64
FIRST_SAMPLES_PER_RAY = 60.0
FEWEST_RAYS, MOST_RAYS = 2048, 65536
GPU_SAMPLES = 1 << 20  # a step of a GPU: enough rays for all its lanes (not tuned)
CHECKPOINT_BYTES = 110.0  # a vertex


class FastLearner:
    """The default field and its optimiser.

    Attributes:
        finest: depth at which the octree is no more divided.
        first_depth: its depth at the first step.
        samples_per_ray: lately.
    """

    format = "nerfkit fast field 1"
    rate_options = "--lr-density or --lr-features"
    preview_side = 400

    def __init__(
        self,
        config: FitConfig,
        cameras: Cameras,
        optimiser: Optimiser,
        first_depth: int,
        samples_per_ray: float,
    ) -> None:
        self.config, self.optimiser, self.team = config, optimiser, optimiser.team
        self.first_depth, self.samples_per_ray = first_depth, samples_per_ray
        octree = optimiser.field.octree
        finest = finest_depth(config, octree, optimiser.field.shape, cameras)
        self.finest = max(octree.depth, finest)
        self.exposure = Exposure(len(cameras), optimiser.field.device)
        self.poses = None
        if config.refine_poses:
            self.poses = Poses(len(cameras), _reach(cameras), optimiser.field.device)
        self.warned_empty = False
        self.figures = LateFigures()

    @staticmethod
    def devices(config: FitConfig) -> tuple[str, ...]:
        units = config.hidden_units
        fits = len(units) <= GPU_LAYERS and max(units, default=0) <= GPU_UNITS
        return ("cpu", "cuda") if fits else ("cpu",)

    @classmethod
    def create(
        cls,
        config: FitConfig,
        scene: Scene,
        cameras: Cameras,
        generator: torch.Generator,
        team: Team = ALONE,
    ) -> FastLearner:
        octree, shape, depths = first_layout(config, scene, cameras)
        optimiser = Optimiser(FastField.create(shape, octree, depths, generator), team)
        return cls(config, cameras, optimiser, octree.depth, FIRST_SAMPLES_PER_RAY)

    @classmethod
    def load_field(cls, stored: Stored) -> FastField:
        try:
            values = stored.json("shape")
            ndc, hidden = Ndc.from_json(values.pop("ndc", None)), tuple(values.pop("hidden"))
            unbounded = Unbounded.from_json(values.pop("unbounded", None))
            whole(values, 1, MAX_BANDS, "bands")
            whole(dict(enumerate(hidden)), 1, MAX_WIDTH, *range(len(hidden)))
            in_range(values, 1e-3, 1e3, "step_voxels")
            in_range(values, 0, LARGEST, "density_scale", "near")
            in_range(values, -LARGEST, LARGEST, "density_bias")
            if len(hidden) >= MAX_LAYERS:
                raise ValueError(f"{len(hidden)} hidden layers")
            shape = FieldShape(hidden=hidden, ndc=ndc, unbounded=unbounded, **values)
        except UNREADABLE as error:
            raise stored.unreadable(error) from error
        box_min = stored.take("octree_box_min", (3,), torch.float32)
        size = float(stored.take("octree_size", (1,), torch.float64))
        depths = stored.take("depths", (None,), torch.int64).tolist()
        consecutive = depths == [depths[0] + i for i in range(len(depths))]
        if not consecutive or depths[0] < 0 or depths[-1] > DEEPEST:
            raise stored.foreign(f"levels at depths {depths}")
        octree = stored.take_octree("octree_codes", box_min, size, depths[-1])
        vertices = Vertices.of(octree, depths)
        density = stored.take("density", (len(vertices),), torch.float32)
        features = stored.take("features", (len(vertices), FEATURES), torch.float16)
        network = stored.take("network", (shape.n_network,), torch.float32)
        return FastField(shape, octree, vertices, density, features.float(), network)

    @classmethod
    def resume(
        cls,
        config: FitConfig,
        cameras: Cameras,
        field: FastField,
        companion: Stored,
        memory: dict[str, Any],
        team: Team = ALONE,
    ) -> FastLearner:
        optimiser = Optimiser(field, team)
        for name, moment in optimiser.moments.items():
            dtype = torch.bfloat16 if name in MOMENTS else torch.float32
            moment.copy_(companion.take(name, tuple(moment.shape), dtype))
        weights = optimiser.max_weights
        weights.copy_(companion.take("max_weights", tuple(weights.shape), torch.float16))
        team.barrier()  # all ranks have written the same into the tables they share
        whole(memory, 0, DEEPEST, "first_depth")
        in_range(memory, 0, LARGEST, "samples_per_ray")
        learner = cls(
            config,
            cameras,
            optimiser,
            int(memory["first_depth"]),
            float(memory["samples_per_ray"]),
        )
        if config.refine_poses:
            learner.poses = Poses.of_memory(memory["poses"], len(cameras), field.device)
        if "exposure" in memory:
            learner.exposure.recall(memory["exposure"])
        return learner

    @property
    def field(self) -> FastField:
        return self.optimiser.field

    def step(
        self, progress: float, number: int, pixels: Pixels, generator: torch.Generator
    ) -> Stepped:
        config = self.config
        on_gpu = pixels.device.type == "cuda"
        samples = config.samples or (GPU_SAMPLES if on_gpu else config.samples_a_step)
        wanted = int(samples / max(self.samples_per_ray, 1.0))
        n_rays = min(MOST_RAYS, max(FEWEST_RAYS, wanted)) // 64 * 64
        batch = pixels.draw(n_rays, generator, self.team)
        n_rays = batch.n_all
        photographed = batch.colors
        if config.exposure and not pixels.has_alpha:
            batch = batch._replace(colors=self.exposure.of_scene(batch.views, photographed))
        if self.poses is not None:
            corrected = self.poses.corrected(batch.views, batch.origins, batch.directions)
            batch = batch._replace(origins=corrected[0], directions=corrected[1])
        pose_rate = rate_at(progress, config.ndc) if self.poses is not None else 0.0
        factor = rate_factor(progress, config.rate_decay)
        rates = Rates(
            config.density_rate * factor, config.lr_features * factor, config.network_rate * factor
        )
        fitted = self.optimiser.step(
            batch,
            # A new colour at each ray: what is transparent must be so before any background.
            torch.rand(n_rays, 3, generator=generator, device=pixels.device)[batch.share],
            torch.rand(n_rays, generator=generator, device=pixels.device)[batch.share],
            rates,
            number,
            config.least_light,
            config.weight_min,
            directions=progress >= DIRECTIONS_FROM,
            smoothness=config.density_smoothness,
            distortion=config.weight_spread * spread_part(progress),
            depth_weight=config.depth_weight,
            with_rays=pose_rate > 0,
        )
        team = self.team
        if pose_rate > 0:
            gradient = self.optimiser.ray_gradient
            self.poses.step(batch.views, batch.directions, gradient, pose_rate, team)
            self.poses.hold_mean()
        if config.exposure and not pixels.has_alpha and progress >= EXPOSURES_FROM:
            self.exposure.learn(batch.views, photographed, fitted.colors, team)
        stepped = self.figures.of(fitted, n_rays, team)
        now = stepped.n_samples / max(stepped.n_rays, 1)
        self.samples_per_ray = 0.8 * self.samples_per_ray + 0.2 * now
        return stepped

    def restructure(self, number: int, say: Callable[[str], None]) -> bool:
        """Empty the voxels that weigh nothing; divide the rest where that is due."""
        if not prune_due(number) and number not in SUBDIVISIONS:
            return False
        weights = self.team.max_nodes_(self.optimiser.leaf_weights())
        keep, divide = self.team.from_leader(lambda: self._kept(number, weights, say))
        octree, depths = self.field.octree.keep(keep), self.field.depths
        if divide:
            octree, depths = octree.subdivide(), [*depths, octree.depth + 1]
        self.optimiser.relayout(octree, depths)
        return True

    def _kept(
        self, number: int, weights: Tensor, say: Callable[[str], None]
    ) -> tuple[Tensor, bool]:
        """Leaves to keep after step `number`, and whether these are to be divided."""
        octree = self.field.octree
        keep = weights > self.config.least_weight
        if int(keep.sum()) < min(FEWEST_LEAVES, len(octree)):
            keep[weights.topk(min(FEWEST_LEAVES, len(octree))).indices] = True
            if not self.warned_empty:
                self.warned_empty = True
                say(
                    "warning: every voxel weighs too little to keep; kept the heaviest ones. Are "
                    "the camera poses and the background right?"
                )
        keep = octree.dilate(keep)
        if octree.depth >= min(self.finest, self.first_depth + divisions(number)):
            return keep, False
        room = room_of(self.field.shape).within(free_bytes(self.field.device))
        return room_to_divide(keep, weights, room)

    def tensors(self) -> dict[str, Tensor]:
        field = self.field
        return {
            "octree_codes": field.octree.codes,
            "octree_box_min": field.octree.box_min,
            "octree_size": torch.tensor([field.octree.size], dtype=torch.float64),
            "depths": torch.tensor(field.depths),
            "density": field.density,
            "features": field.features.half(),
            "network": field.network,
        }

    def metadata(self) -> dict[str, str]:
        return {"shape": json.dumps(asdict(self.field.shape))}

    def companion(self) -> dict[str, Tensor]:
        moments = self.optimiser.moments
        kept = {name: moments[name].bfloat16() for name in MOMENTS}
        kept |= {name: moments[name] for name in NETWORK_MOMENTS}
        return kept | {"max_weights": self.optimiser.max_weights.half()}

    def memory(self) -> dict[str, Any]:
        values = {
            "first_depth": self.first_depth,
            "samples_per_ray": self.samples_per_ray,
            "exposure": self.exposure.memory(),
        }
        return values if self.poses is None else values | {"poses": self.poses.memory()}

    def checkpoint_bytes(self) -> float:
        return CHECKPOINT_BYTES * len(self.field.vertices)

    def voxels(self) -> tuple[int, int]:
        return len(self.field.octree), self.field.octree.resolution


def spread_part(progress: float) -> float:
    """Part of its weight that the spread counts with at a point of a fit."""
    return min(max((progress - SPREAD_FROM) / (SPREAD_FULL - SPREAD_FROM), 0.0), 1.0)


def _reach(cameras: Cameras) -> float:
    """Median distance of the cameras from the middle of what they look at."""
    positions, forward = cameras.c2w[:, :, 3].float(), -cameras.c2w[:, :, 2].float()
    return float((positions - focus_of(positions, forward)).norm(dim=1).median())
