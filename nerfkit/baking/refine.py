"""Fit a baked scene's colours to pixels.

Harmonics and details are found for each corner alone; between corners a network is not linear, and
a pixel blends many. So they are fitted again: Adam on the squared error of rays.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nerfkit.baking.views import TILE, Views
from nerfkit.fields.baked import STOP, WEIGHT, BakedField
from nerfkit.kernels.baked_render import Fitted, color_gradient_
from nerfkit.kernels.sparse_adam import sparse_adam_step_

TILES = 1024  # a step
EPOCHS = 4
RATE = (2e-3, 3e-4)  # first and last, of the records' root mean square
BETAS, EPS = (0.9, 0.99), 1e-8


def fit_to_views(
    baked: BakedField,
    records: Tensor,
    details: Tensor,
    views: Views,
    background: Tensor,
    progress: Callable[[float], None],
) -> float:
    """Improve `records` [V, 24] and `details` [F, 8] in place.

    Returns:
        The last epoch's mean squared error a ray.
    """
    layout = baked.layout
    tables = Fitted.of(records, layout.rows), Fitted.of(details, layout.detail_rows)
    moments = [(torch.zeros_like(t.values), torch.zeros(len(t.values), 1)) for t in tables]
    generator = torch.Generator().manual_seed(0)
    size = records.square().mean().sqrt().item()
    n_tiles = len(views.directions)
    steps, step, loss = EPOCHS * -(-n_tiles // TILES), 0, 0.0
    for _ in range(EPOCHS):
        loss = 0.0
        for tiles in torch.randperm(n_tiles, generator=generator).split(TILES):
            step += 1
            losses = color_gradient_(
                *tables,
                views.origins[tiles].expand(-1, TILE, 3).reshape(-1, 3),
                views.directions[tiles].view(-1, 3),
                views.colors[tiles].float().view(-1, 3),
                *(background, baked.grid),
                early_stop=STOP,
                weight_min=WEIGHT,
                **baked.sampling(),
            )
            loss += losses.sum().item() / (n_tiles * TILE)
            rate = size * RATE[0] * (RATE[1] / RATE[0]) ** (step / steps)
            for table, (mean, square) in zip(tables, moments, strict=True):
                sparse_adam_step_(
                    *(table.values, table.grads, mean, square, table.touched),
                    lr=rate,
                    betas=BETAS,
                    eps=EPS,
                    step=step,
                )
            progress(step / steps)
    return loss
