"""nerfacc's occupancy grid and compositing; the field is tiny-cuda-nn's hash grid if installed.

With it this is the instant-ngp of nerfacc's examples (0.5, `train_ngp_nerf_occ.py`): 128^3 cells,
the diagonal of the box in 1024 steps, Adam from 1e-2. Without, its plain network of 8 layers.
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from .peer import Fit, not_installed
from .task import Task
from .torch_nerf import Network

CELLS, STEPS_ACROSS = 128, 1024
RAYS, CHUNK, LEAST = 4096, 8192, 1e-2
HASH = {
    "otype": "HashGrid",
    "n_levels": 16,
    "n_features_per_level": 2,
    "log2_hashmap_size": 19,
    "base_resolution": 16,
    "per_level_scale": 1.4472692,
}
LAYERS = {"otype": "FullyFusedMLP", "activation": "ReLU", "n_neurons": 64}


class NerfaccGrid:
    name = "nerfacc"
    module = "nerfacc"

    def absent(self, place: torch.device) -> str | None:
        if missing := not_installed(self.module):
            return missing
        return None if place.type == "cuda" else "its scans and grid need a CUDA device"

    def fit(self, task: Task, deadline: float) -> Fit:
        import nerfacc

        generator = task.start()
        fast = not_installed("tinycudann") is None
        field = (HashField(task.box) if fast else Network(task.box, 256)).to(task.place)
        grid = nerfacc.OccGridEstimator(task.box.flatten(), CELLS, levels=1).to(task.place)
        optimiser = torch.optim.Adam(field.parameters(), lr=1e-2 if fast else 5e-4, eps=1e-15)
        step = float((task.box[1] - task.box[0]).norm()) / STEPS_ACROSS
        steps = 0
        while steps == 0 or time.monotonic() < deadline:
            grid.train()
            grid.update_every_n_steps(
                step=steps, occ_eval_fn=lambda x: density(field, x)[:, None] * step, occ_thre=LEAST
            )
            origins, directions, wanted = task.draw(RAYS, generator)
            seen = colours(field, grid, origins, directions, step, task, jitter=True)
            loss = nn.functional.smooth_l1_loss(seen, wanted)
            optimiser.zero_grad(set_to_none=True)
            if loss.requires_grad:  # not where the grid is empty along all rays
                loss.backward()
                optimiser.step()
            steps += 1
        grid.eval()

        @torch.no_grad()
        def render(origins: Tensor, directions: Tensor) -> Tensor:
            pieces = zip(origins.split(CHUNK), directions.split(CHUNK), strict=True)
            parts = [colours(field, grid, o, d, step, task, jitter=False) for o, d in pieces]
            return torch.cat(parts)

        return Fit(steps, steps * RAYS, render)


class HashField(nn.Module):
    """A hash grid, and networks of 64 units for density and colour."""

    def __init__(self, box: Tensor) -> None:
        super().__init__()
        import tinycudann

        self.register_buffer("low", box[0])
        self.register_buffer("size", box[1] - box[0])
        self.base = tinycudann.NetworkWithInputEncoding(
            3, 16, HASH, {**LAYERS, "n_hidden_layers": 1}
        )
        self.harmonics = tinycudann.Encoding(3, {"otype": "SphericalHarmonics", "degree": 4})
        self.head = tinycudann.Network(16 + 16, 3, {**LAYERS, "n_hidden_layers": 2})

    def forward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.base((points - self.low) / self.size).float()
        angles = self.harmonics((directions + 1) / 2).float()
        colour = torch.sigmoid(self.head(torch.cat([angles, raw], 1)).float())
        return torch.exp((raw[:, 0] - 1).clamp_max(math.log(1e4))), colour


def density(field: nn.Module, points: Tensor) -> Tensor:
    """[N] of points [N, 3]."""
    with torch.no_grad():
        return field(points, torch.zeros_like(points))[0]


def colours(
    field: nn.Module,
    grid: Any,
    origins: Tensor,
    directions: Tensor,
    step: float,
    task: Task,
    jitter: bool,
) -> Tensor:
    """Of rays, on white [R, 3]."""
    import nerfacc

    def points(starts: Tensor, ends: Tensor, rays: Tensor) -> Tensor:
        return origins[rays] + directions[rays] * ((starts + ends) / 2)[:, None]

    def both(starts: Tensor, ends: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
        sigmas, rgbs = field(points(starts, ends, rays), directions[rays])
        return rgbs, sigmas

    rays, starts, ends = grid.sampling(
        *(origins, directions),
        sigma_fn=lambda *at: density(field, points(*at)),
        near_plane=task.near,
        far_plane=task.far,
        render_step_size=step,
        stratified=jitter,
    )
    white = torch.ones(3, device=origins.device)
    return nerfacc.rendering(
        starts, ends, rays, len(origins), rgb_sigma_fn=both, render_bkgd=white
    )[0]
