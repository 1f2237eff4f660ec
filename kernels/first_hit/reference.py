"""Lattice points of rays in occupied voxels, in torch. Symbols as in the package docstring."""

import math
from typing import NamedTuple

import torch

from .occupancy import Occupancy

PARALLEL = 1e-12  # direction components below this many voxels a unit of t count as zero


class LatticePoints(NamedTuple):
    """Points of all rays, ray by ray, each ray's front to back."""

    ray_indices: torch.Tensor  # [S] int64
    t: torch.Tensor  # [S]
    points: torch.Tensor  # [S, 3] in voxels from the lowest corner
    cells: torch.Tensor  # [S, 3] int64 (x, y, z)


def lattice_points(
    origins: torch.Tensor,
    directions: torch.Tensor,
    occupancy: Occupancy,
    step: float,
    jitter: torch.Tensor | None = None,
    near: float = 0.0,
    far: float | torch.Tensor = math.inf,
) -> LatticePoints:
    """Points t = (k + jitter) step, k = 0, 1, ..., with near <= t < far, in occupied voxels.

    Args:
        far: one for all, or [R].
    """
    o, d = occupancy.to_grid(origins), directions / occupancy.voxel
    top = occupancy.resolution
    parallel = d.abs() < PARALLEL
    inverse = 1 / torch.where(parallel, torch.ones_like(d), d)
    t_0, t_1 = -o * inverse, (top - o) * inverse
    t_in = torch.where(parallel, -torch.inf, torch.minimum(t_0, t_1)).amax(1).clamp_min(near)
    t_out = torch.where(parallel, torch.inf, torch.maximum(t_0, t_1)).amin(1).clamp_max(far)
    outside = (parallel & ((o < 0) | (o >= top))).any(1)
    t_out = torch.where(outside, -torch.inf, t_out)

    offset = torch.full_like(t_in, 0.5) if jitter is None else jitter.to(t_in.dtype)
    first = torch.ceil(t_in / step - offset).clamp_min(0)
    n = torch.where(t_in < t_out, t_out / step - offset + 2 - first, 0).clamp_min(0).long()
    ray_indices = torch.arange(len(n), device=n.device).repeat_interleave(n)
    k = torch.arange(len(ray_indices), device=n.device) - (n.cumsum(0) - n)[ray_indices]
    t = (first[ray_indices] + k + offset[ray_indices]) * step
    points = o[ray_indices] + t[:, None] * d[ray_indices]
    cells = points.detach().floor().long().clamp(0, top - 1)
    kept = (t < t_out[ray_indices]) & occupancy.occupied(cells)
    return LatticePoints(ray_indices[kept], t[kept], points[kept], cells[kept])


def first_hit(
    origins: torch.Tensor, directions: torch.Tensor, occupancy: Occupancy, step: float
) -> torch.Tensor:
    """See `nerfkit.kernels.first_hit.first_hit`."""
    found = lattice_points(origins, directions, occupancy, step)
    nearest = origins.new_full((len(origins),), torch.inf)
    return nearest.scatter_reduce(0, found.ray_indices, found.t, "amin")
