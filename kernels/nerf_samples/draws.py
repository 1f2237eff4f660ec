"""How many strata, and random places in them.

A GPU is not asked how long the rays are, for the host would have to wait: there are as many strata
as any ray can have, and numbers are drawn for rays that cross nothing too.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nerfkit.kernels import _backend

from .samples import Rays


def columns(rays: Rays, most: int, spacing: float, backend: str | None = None) -> int:
    """N for `coarse_samples`: `most`, or away from a GPU what the longest ray needs."""
    if not spacing or _backend.choose("nerf_samples", rays.origins, backend) == "gpu":
        return most
    lengths = rays.spans.lengths()
    return int((lengths / spacing).ceil().clamp(1, most).max()) if len(lengths) else 1


def uniform(
    rays: Rays, n: int, generator: torch.Generator | None, backend: str | None = None
) -> Tensor | None:
    """Numbers [R, n] in [0, 1); None without a generator.

    Away from a GPU rays that cross nothing take none from the generator and get 0.5.
    """
    if generator is None:
        return None
    shape, device = (len(rays.origins), n), rays.origins.device
    if _backend.choose("nerf_samples", rays.origins, backend) == "gpu":
        return torch.rand(shape, generator=generator, device=device)
    live = rays.spans.lengths() > 0
    numbers = torch.full(shape, 0.5, device=device)
    numbers[live] = torch.rand(int(live.sum()), n, generator=generator, device=device)
    return numbers
