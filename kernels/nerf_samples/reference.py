"""Samples along rays in plain torch: the contract of nerf_samples."""

from __future__ import annotations

import torch
from torch import Tensor

from .samples import Coarse, Ended, March, Rays, Samples

NEAREST_INFINITY = 1e-4  # of u: what lies behind is as good as infinitely far


def coarse_samples(rays: Rays, n: int, *, spacing: float, where: Tensor | None = None) -> Coarse:
    """See `nerfkit.kernels.nerf_samples.coarse_samples`."""
    lengths = rays.spans.lengths()[:, None]
    counts = torch.full_like(lengths, n)
    if spacing:
        counts = (lengths / spacing).ceil().clamp(1, n)
    edges = (torch.arange(n + 1, device=lengths.device) / counts).clamp_max(1.0) * lengths
    if where is None:
        where = torch.full((len(edges), n), 0.5, device=lengths.device)
    s = torch.lerp(edges[:, :-1], edges[:, 1:], where)
    if len(rays.spans.t_starts):
        t = torch.where(lengths > 0, rays.spans.t(s), 0)
    else:
        t = torch.zeros_like(s)
    counts = torch.where(lengths > 0, counts, 0).int()[:, 0]
    return Coarse(s, edges, t, in_world(rays.depth, t), counts)


def next_samples(
    rays: Rays,
    coarse: Coarse,
    march: March | None,
    sigma_raw: Tensor | None,
    last: int,
    *,
    dark: float,
) -> March:
    """See `nerfkit.kernels.nerf_samples.next_samples`."""
    n_rays, n = coarse.s.shape
    if march is None:
        seen, thickness = torch.zeros_like(coarse.counts), coarse.s.new_zeros(n_rays)
    else:
        steps = torch.cat([coarse.s, coarse.edges[:, -1:]], 1).diff(dim=1) * rays.scale
        thickness = sigma_raw.relu() * steps.view(-1)[march.places]
        thickness = march.thickness.index_add(0, march.ray_indices, thickness)
        seen = march.seen
    number = torch.where(thickness < dark, (coarse.counts.clamp_max(last) - seen).clamp_min(0), 0)
    before, seen = seen[:, None], seen + number
    nth = torch.arange(n, device=seen.device)
    places = ((nth >= before) & (nth < seen[:, None])).view(-1).nonzero()[:, 0]
    ray_indices = places // n
    points = _points(rays, ray_indices, coarse.t.reshape(-1)[places])
    return March(seen, number, number.cumsum(0), thickness, points, ray_indices, places)


def ended(rays: Rays, coarse: Coarse, march: March) -> Ended:
    """See `nerfkit.kernels.nerf_samples.ended`."""
    n_rays, n = coarse.s.shape
    there, s, end = _seen(coarse, march.seen)
    steps = torch.cat([s, end], 1).diff(dim=1) * rays.scale
    starts = torch.arange(n_rays, device=s.device) * n
    return Ended(there, steps.view(-1), torch.stack([starts, march.seen.long()], 1))


def union_samples(rays: Rays, coarse: Coarse, march: March, drawn: Tensor) -> Samples:
    """See `nerfkit.kernels.nerf_samples.union_samples`."""
    _, s, end = _seen(coarse, march.seen)
    s = torch.minimum(torch.cat([s, drawn], 1), end).sort(dim=1).values
    steps = torch.cat([s, end], 1).diff(dim=1) * rays.scale
    asked = s < end
    counts, places = asked.sum(1), asked.view(-1).nonzero()[:, 0]
    ray_indices = places // s.shape[1]
    t = s.view(-1)[places]
    if len(places):
        t = rays.spans.select(ray_indices).t(t[:, None])[:, 0]
    depth = None if rays.depth is None else rays.depth[ray_indices]
    return Samples(
        _points(rays, ray_indices, t),
        ray_indices,
        in_world(depth, t[:, None])[:, 0],
        steps.view(-1)[places],
        torch.stack([counts.cumsum(0) - counts, counts], 1),
    )


def _seen(coarse: Coarse, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which samples those are [R, N]; s [R, N], the others at the end; the end [R, 1]."""
    end = coarse.edges.gather(1, seen[:, None].long())
    there = torch.arange(coarse.s.shape[1], device=end.device) < seen[:, None]
    return there, torch.where(there, coarse.s, end), end


def _points(rays: Rays, ray_indices: Tensor, t: Tensor) -> Tensor:
    points = rays.origins[ray_indices] + t[:, None] * rays.directions[ray_indices]
    return (points - rays.center) * rays.scale


def in_world(depth: Tensor | None, t: Tensor) -> Tensor:
    """Distances in the world [R, N] at t [R, N]; see `Rays.depth`."""
    if depth is None:
        return t
    start, z, slope, whole = depth[:, :, None].unbind(1)
    part = (t / whole).clamp_max(1 - NEAREST_INFINITY)
    return start + part * z / (slope * (1 - part))
