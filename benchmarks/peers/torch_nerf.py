"""NeRF (arXiv 2003.08934) in plain PyTorch, run eagerly: the coarse and the fine network.

Symbols: R rays, S samples of a ray, t distances along it. 64 stratified samples, then 128 more
where the coarse weights are; 8 layers of 256 units, density after the eighth; Adam at 5e-4.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .peer import Fit
from .task import Task

POINT_BANDS, DIRECTION_BANDS = 10, 4
SKIP = 4  # the layer that sees the encoded point again
CHUNK = 4096  # rays rendered at a time
GPU_RAYS, CPU_RAYS = 1024, 128  # a step of 1024 is 1e12 operations: half a minute of one core


@dataclass
class TorchNerf:
    name = "NeRF, torch eager"
    module = "torch"
    width: int = 256
    rays: int | None = None  # of a step; by default what suits the device
    coarse: int = 64
    fine: int = 128

    def absent(self, place: torch.device) -> str | None:
        return None

    def fit(self, task: Task, deadline: float) -> Fit:
        generator = task.start()
        n_rays = self.rays or (GPU_RAYS if task.place.type == "cuda" else CPU_RAYS)
        networks = nn.ModuleList(Network(task.box, self.width) for _ in range(2)).to(task.place)
        optimiser = torch.optim.Adam(networks.parameters(), lr=5e-4)
        steps = 0
        while steps == 0 or time.monotonic() < deadline:
            origins, directions, wanted = task.draw(n_rays, generator)
            seen = self.colours(networks, origins, directions, task, jitter=True)
            loss = sum((colours - wanted).square().mean() for colours in seen)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            steps += 1

        @torch.no_grad()
        def render(origins: Tensor, directions: Tensor) -> Tensor:
            pieces = zip(origins.split(CHUNK), directions.split(CHUNK), strict=True)
            return torch.cat(
                [self.colours(networks, o, d, task, jitter=False)[1] for o, d in pieces]
            )

        return Fit(steps, steps * n_rays, render)

    def colours(
        self, networks: nn.ModuleList, origins: Tensor, directions: Tensor, task: Task, jitter: bool
    ) -> tuple[Tensor, Tensor]:
        """Of the coarse and of the fine network, [R, 3] each."""
        edges = torch.linspace(task.near, task.far, self.coarse + 1, device=origins.device)
        edges = edges.expand(len(origins), -1)
        part = torch.rand_like(edges[:, 1:]) if jitter else 0.5
        t = edges[:, :-1] + (edges[:, 1:] - edges[:, :-1]) * part
        first, weights = shade(networks[0], origins, directions, t, task.far)
        u = torch.rand(len(t), self.fine, device=t.device)
        if not jitter:
            u = torch.linspace(0.5 / self.fine, 1 - 0.5 / self.fine, self.fine, device=t.device)
            u = u.expand(len(t), -1).contiguous()
        more = invert(edges, weights.detach(), u)
        t = torch.cat([t, more], 1).sort(1).values
        return first, shade(networks[1], origins, directions, t, task.far)[0]


class Network(nn.Module):
    """Points in the scene's box and directions to raw densities and colours."""

    def __init__(self, box: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("middle", box.mean(0))
        self.register_buffer("reach", (box[1] - box[0]).max() / 2)
        inputs = 3 + 6 * POINT_BANDS
        sizes = [inputs, *[width] * 7]
        sizes[SKIP + 1] += inputs
        self.trunk = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.density = nn.Linear(width, 1)
        self.feature = nn.Linear(width, width)
        self.colour = nn.Sequential(
            nn.Linear(width + 3 + 6 * DIRECTION_BANDS, width // 2),
            nn.ReLU(),
            nn.Linear(width // 2, 3),
            nn.Sigmoid(),
        )

    def forward(self, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        encoded = encode((points - self.middle) / self.reach, POINT_BANDS)
        hidden = encoded
        for i, layer in enumerate(self.trunk):
            hidden = torch.relu(layer(hidden))
            if i == SKIP:
                hidden = torch.cat([hidden, encoded], -1)
        seen = torch.cat([self.feature(hidden), encode(directions, DIRECTION_BANDS)], -1)
        return torch.relu(self.density(hidden))[..., 0], self.colour(seen)


def encode(x: Tensor, bands: int) -> Tensor:
    """x, and sine and cosine of pi 2^k x (eq. 4)."""
    angles = x[..., None] * (torch.pi * 2.0 ** torch.arange(bands, device=x.device))
    return torch.cat([x, angles.sin().flatten(-2), angles.cos().flatten(-2)], -1)


def shade(
    network: nn.Module, origins: Tensor, directions: Tensor, t: Tensor, far: float
) -> tuple[Tensor, Tensor]:
    """Colours [R, 3] on white, and weights [R, S], of samples at t [R, S] (eq. 3)."""
    points = origins[:, None] + directions[:, None] * t[..., None]
    sigmas, rgbs = network(points, directions[:, None].expand_as(points))
    ends = torch.full_like(t[:, :1], far)
    alphas = 1 - torch.exp(-sigmas * torch.diff(t, dim=1, append=ends).clamp_min(0))
    light = torch.cumprod(1 - alphas + 1e-10, 1)
    weights = alphas * torch.cat([torch.ones_like(ends), light[:, :-1]], 1)
    colours = (weights[..., None] * rgbs).sum(1)
    return colours + 1 - weights.sum(1, keepdim=True), weights


def invert(edges: Tensor, weights: Tensor, u: Tensor) -> Tensor:
    """Places [R, F] whose part u [R, F] of all weight lies before them (section 5.2)."""
    share = (weights + 1e-5) / (weights + 1e-5).sum(1, keepdim=True)
    below = torch.cat([torch.zeros_like(share[:, :1]), share.cumsum(1)], 1)
    interval = (torch.searchsorted(below, u, right=True) - 1).clamp(0, weights.shape[1] - 1)
    inside = (u - below.gather(1, interval)) / share.gather(1, interval)
    low, high = edges.gather(1, interval), edges.gather(1, interval + 1)
    return low + (high - low) * inside.clamp(0, 1)
