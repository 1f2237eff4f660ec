"""Fit a baked scene's colours to pixels.

A corner's components are found for the corner alone; between corners a network is not linear, and a
pixel blends many. So they are fitted again: Adam on the squared error of rays.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nerfkit.baking.views import TILE, Views
from nerfkit.fields.baked import STOP, WEIGHT, BakedField
from nerfkit.kernels.baked_render import color_gradient_
from nerfkit.kernels.sparse_adam import sparse_adam_step_

TILES = 1024  # a step
EPOCHS = 4
RATE = (0.02, 0.001)  # first and last, of the components' root mean square
BETAS, EPS = (0.9, 0.99), 1e-8


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
