"""Bring a baked scene's colours closer to its field, as training cameras see both.

A corner's components are found for the corner alone; between corners a network is not linear, and a
pixel blends many. So the components are fitted again to pixels: Adam on the squared error of rays,
64 neighbours at a time, against what the field itself shows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.baking.visible import shrunk
from nerfkit.cameras import Cameras
from nerfkit.fields.baked import STOP, WEIGHT, BakedField
from nerfkit.fields.field import Field
from nerfkit.fields.frame import frame_rays
from nerfkit.kernels.baked_render import color_gradient_
from nerfkit.kernels.sparse_adam import sparse_adam_step_

PIXELS = 160_000  # of a training view, at most
SECONDS = 60.0  # that the field may take to show its views
TRIAL = 4096  # pixels that it is timed with
TILE = 64  # neighbouring rays
TILES = 2048  # a step
EPOCHS = 4
RATE = (0.02, 0.001)  # first and last, of the components' root mean square
BETAS, EPS = (0.9, 0.99), 1e-8


@dataclass(frozen=True)
class Views:
    """Rays of training views that meet something, in tiles [N, 64, 3], and what the field shows."""

    origins: Tensor
    directions: Tensor
    colors: Tensor

    @staticmethod
    def of(
        field: Field, cameras: Cameras, background: Tensor, progress: Callable[[float], None]
    ) -> Views:
        parts, pixels = [], _affordable(field, cameras, background)
        for i in range(len(cameras)):
            rays = frame_rays(shrunk(cameras, i, pixels))
            whole = len(rays.origins) // TILE * TILE
            origins, directions = rays.origins[:whole], rays.directions[:whole]
            hit = field.hits(origins, directions).view(-1, TILE).any(1)
            origins, directions = (x.view(-1, TILE, 3)[hit] for x in (origins, directions))
            shown = field.render(origins.view(-1, 3), directions.view(-1, 3), background)
            colors = shown.colors.clamp(0, 1).view(-1, TILE, 3)
            parts.append((origins[:, :1], directions, colors.half()))
            progress((i + 1) / len(cameras))
        return Views(*(torch.cat(values) for values in zip(*parts, strict=True)))


def _affordable(field: Field, cameras: Cameras, background: Tensor) -> int:
    """Pixels a view, so that the field shows all of them in the time it has."""
    trial = frame_rays(shrunk(cameras, 0, TRIAL))
    start = time.perf_counter()
    field.render(trial.origins, trial.directions, background)
    seconds = (time.perf_counter() - start) / len(trial.origins)
    return max(TRIAL, min(PIXELS, int(SECONDS / (seconds * len(cameras)))))


def fit_to_views(
    baked: BakedField,
    components: Tensor,
    views: Views,
    background: Tensor,
    progress: Callable[[float], None],
) -> float:
    """Improve `components` [V, 16] in place; returns the last epoch's mean squared error a ray."""
    grads, mean = torch.zeros_like(components), torch.zeros_like(components)
    squares = torch.zeros(len(components), 1)
    touched = torch.zeros(len(components), dtype=torch.uint8)
    rows = baked.layout.rows.to(torch.int32)
    generator = torch.Generator().manual_seed(0)
    size = components.square().mean().sqrt().item()
    n_tiles = len(views.directions)
    steps, step, loss = EPOCHS * -(-n_tiles // TILES), 0, 0.0
    for _ in range(EPOCHS):
        loss = 0.0
        for tiles in torch.randperm(n_tiles, generator=generator).split(TILES):
            step += 1
            rate = size * RATE[0] * (RATE[1] / RATE[0]) ** (step / steps)
            losses = color_gradient_(
                *(grads, touched),
                views.origins[tiles].expand(-1, TILE, 3).reshape(-1, 3),
                views.directions[tiles].view(-1, 3),
                views.colors[tiles].float().view(-1, 3),
                *(background, baked.grid, rows, components),
                early_stop=STOP,
                weight_min=WEIGHT,
                **baked.sampling(),
            )
            loss += losses.sum().item() / (n_tiles * TILE)
            sparse_adam_step_(
                *(components, grads, mean, squares, touched),
                lr=rate,
                betas=BETAS,
                eps=EPS,
                step=step,
            )
            progress(step / steps)
    return loss
