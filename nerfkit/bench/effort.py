"""How much is measured: sizes, repeats, time. Rays of a batch, pixels along an edge of a frame."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch


@dataclass(frozen=True)
class Effort:
    """Of one run.

    Attributes:
        seconds: to spend on each figure, and fewest: repeats it has at least.
        rays: batches of the kernels, from tiny to saturating; kernels after the march get 16
            samples for each ray.
        depth, fit_depth: of the octrees of the kernels, and of the fused renderer at its largest.
        step_rays: batches of a fit's step.
        scene: pixels along an edge, training views and steps of the scene that is fitted.
        baked_views: training views that it is baked for.
        fits: limits of the fits of the curve of quality, by the options of `nerfkit fit`.
        passes: times that a suite is measured from start to end; they share the seconds.
        frames: edges of rendered frames.
        pictures: edges of enlarged pictures.
        memory_rays, growth_rays, growth_depths: batches, and depths of octrees.
    """

    seconds: float
    fewest: int
    rays: tuple[int, ...]
    depth: int
    fit_depth: int
    step_rays: tuple[int, ...]
    scene: tuple[int, int, int]
    baked_views: int
    fits: tuple[dict[str, float], ...]
    passes: int
    frames: tuple[int, ...]
    pictures: tuple[int, ...]
    memory_rays: tuple[int, ...]
    growth_rays: tuple[int, ...]
    growth_depths: tuple[int, ...]

    def on(self, place: torch.device) -> Effort:
        """The same for a device: it takes more to saturate a GPU."""
        if place.type != "cuda" or self.rays == QUICK.rays:
            return self
        return replace(
            self,
            rays=(*self.rays, 65536),
            growth_rays=tuple(16 * n for n in self.growth_rays),
            frames=(*self.frames, 1600),
            memory_rays=tuple(4 * n for n in self.memory_rays),
        )


FULL = Effort(
    seconds=0.7,
    fewest=5,
    rays=(64, 1024, 8192),
    depth=7,
    fit_depth=8,
    step_rays=(1024, 8192),
    scene=(200, 24, 300),
    baked_views=24,
    fits=tuple({"minutes": seconds / 60} for seconds in (4, 8, 16, 32)),
    passes=2,
    frames=(100, 200, 400, 800),
    pictures=(100, 200, 400),
    memory_rays=(1024, 4096, 16384),
    growth_rays=(512, 2048, 8192, 32768),
    growth_depths=(4, 5, 6, 7, 8),
)
# Seconds instead of minutes, for tests: every suite, nothing to be learned from its figures.
QUICK = Effort(
    seconds=0.0,
    fewest=2,
    rays=(64,),
    depth=5,
    fit_depth=5,
    step_rays=(64,),
    scene=(16, 3, 2),
    baked_views=1,
    fits=({"steps": 2},),
    passes=1,
    frames=(8, 16),
    pictures=(16, 24),
    memory_rays=(256,),
    growth_rays=(64, 256),
    growth_depths=(4, 5),
)
