"""Pieces of rays in torch. Symbols as in the package docstring."""

from __future__ import annotations

import math

import torch

from . import COLUMNS, Pieces

SHORTEST = 1e-6  # pieces shorter than this, in the cube, are left out


def ray_pieces(
    origins: torch.Tensor,
    directions: torch.Tensor,
    center: tuple[float, float, float],
    half: float,
    near: float,
) -> Pieces:
    """See `nerfkit.kernels.ray_pieces.ray_pieces`."""
    o, d = (origins - origins.new_tensor(center)) / half, directions / half
    n_rays = len(o)
    start, end, region, rays = _intervals(o.detach(), d.detach(), near, half)
    a, b = _Ends(o[rays], d[rays], start, region), _Ends(o[rays], d[rays], end, region)
    difference = b.place - a.place
    square = difference.square().sum(1)
    kept = square > SHORTEST**2
    length = torch.where(kept, square, 1).sqrt()[:, None]
    columns = a.place, difference / length, length, a.u, (b.u - a.u) / length
    rows = torch.cat([*columns, a.m, (b.m - a.m) / length], 1)
    counts = torch.bincount(rays[kept], minlength=n_rays)
    first = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return Pieces(rows[kept].view(-1, COLUMNS), first)


def _intervals(
    o: torch.Tensor, d: torch.Tensor, near: float, half: float
) -> tuple[torch.Tensor, ...]:
    """Parts of rays in one region each: start and end [P] in t, region [P], ray [P].

    Regions: 0 inside; 1 + 2 a beyond the face of positive a, 2 + 2 a beyond that of negative a.
    """
    found = []
    for a in range(3):
        for sign in (1, -1):
            found.append((sign - o[:, a]) / d[:, a])
            b = (a + 1) % 3
            found.append((sign * o[:, b] - o[:, a]) / (d[:, a] - sign * d[:, b]))
    cuts = torch.stack(found, 1)
    cuts = torch.where(cuts > near, cuts, math.inf).sort(dim=1).values  # NaN is not larger
    start = torch.cat([torch.full_like(cuts[:, :1], near), cuts], 1)
    end = torch.cat([cuts, torch.full_like(cuts[:, :1], math.inf)], 1)
    middle = torch.where(end.isinf(), 2 * start + half, (start + end) / 2)
    point = o[:, None] + middle[:, :, None] * d[:, None]
    most, axis = point.abs().max(dim=2)
    negative = point.gather(2, axis[:, :, None])[:, :, 0] < 0
    region = torch.where(most <= 1, 0, 1 + 2 * axis + negative)
    finite = (o.isfinite() & d.isfinite()).all(1) & (d != 0).any(1)
    valid = (start < end) & finite[:, None]
    rays = torch.arange(len(o), device=o.device)[:, None].expand_as(region)[valid]
    start, end, region = start[valid], end[valid], region[valid]
    fresh = torch.ones_like(rays, dtype=torch.bool)
    fresh[1:] = (rays[1:] != rays[:-1]) | (region[1:] != region[:-1])
    last = torch.ones_like(fresh)
    last[:-1] = fresh[1:]
    return start[fresh], end[last], region[fresh], rays[fresh]


class _Ends:
    """place [P, 3] in the cube, u [P, 1] and m = u t [P, 1] of points at t [P], also infinite."""

    def __init__(
        self, o: torch.Tensor, d: torch.Tensor, t: torch.Tensor, region: torch.Tensor
    ) -> None:
        away = t.isinf()
        axis = ((region - 1).clamp_min(0) // 2)[:, None]
        sign = torch.where(region % 2 == 1, 1.0, -1.0).to(o)[:, None]
        inside = (region == 0)[:, None]
        point = o + torch.where(away, 0, t)[:, None] * d
        along, way = sign * point.gather(1, axis), sign * d.gather(1, axis)
        infinite = away[:, None]
        scale = 1 / torch.where(inside, 1, torch.where(infinite, way, along))
        self.u = torch.where(infinite, 0, scale)
        self.m = torch.where(infinite, scale, scale * torch.where(away, 0, t)[:, None])
        place = torch.where(infinite, d, point) * scale
        outer = sign * (2 - self.u)
        here = torch.arange(3, device=o.device) == axis
        self.place = torch.where(here & ~inside, outer, place)
