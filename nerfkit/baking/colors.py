"""Colours of corners, as functions of the direction.

Symbols: V corners of visible voxels, F of half voxels, K directions a corner, H = 16 spherical
harmonics Y. A corner's colour from direction v is sum_h Y_h(v) u_h; of half voxels' corners it
differs from what lies between by a detail e. Of every corner u is found by least squares over
directions from which training cameras see it, and e from what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nerfkit.fields.bakeable import Source, corners_around
from nerfkit.kernels.baked_render import Layout
from nerfkit.kernels.baked_render.grid import (
    BANDS,
    DETAIL,
    GREYS,
    HARMONICS,
    RECORD,
    channels,
)
from nerfkit.kernels.encodings import spherical_harmonics
from nerfkit.octree import Octree, morton_decode, morton_encode

DIRECTIONS = 40  # of cameras that a corner is seen by
DETAIL_DIRECTIONS = 10  # of those that a half voxel's is
AROUND = 24  # directions all around
FEW = 0.03  # their weight
RIDGE = 1e-4
DETAIL_RIDGE = 0.03
PIECE = 1 << 14  # corners at a time
# [3, 16, 24]: what value of a record is a channel's coefficient of a harmonic; and of two of them.
PLACES = channels(torch.eye(RECORD)).permute(2, 1, 0).contiguous()
PRODUCTS = torch.einsum("ahr,aiq->hirq", PLACES, PLACES).reshape(HARMONICS**2, RECORD**2)
TAIL = 2e-4  # of a column's values are clipped, half at each end


def _views_of(
    octree: Octree, seen: Tensor, corners: Tensor, centers: Tensor, count: int
) -> tuple[Tensor, Tensor]:
    """Directions [N, K, 3] in which cameras at `centers` see corners [N, 3], and weights [N, K].

    Cameras that see a corner's voxels most come first. Corners may be those of half voxels.
    """
    most = torch.zeros(len(corners), seen.shape[1], dtype=torch.uint8)
    low, high = corners.ceil().long() - 1, corners.floor().long()
    for c in range(8):
        lower = torch.tensor([c & 1, c >> 1 & 1, c >> 2]).bool()
        voxel = octree.find(torch.where(lower, low, high))
        most = torch.maximum(most, seen[voxel] * (voxel >= 0)[:, None])
    # The share at random spreads the choice over cameras that see as much.
    generator = torch.Generator().manual_seed(len(corners))
    chance = torch.rand(most.shape, generator=generator)
    score = (most > 0) * (0.2 + most / 255) * chance
    chosen = score.topk(min(count, most.shape[1]), dim=1).indices
    weights = most.gather(1, chosen).float() / 255
    points = octree.box_min + corners * octree.voxel
    return torch.nn.functional.normalize(points[:, None] - centers[chosen], dim=2), weights


def _views_around(
    octree: Octree, seen: Tensor, corners: Tensor, centers: Tensor
) -> tuple[Tensor, Tensor]:
    """As `_views_of`, and all of the sphere with a little weight."""
    towards, weights = _views_of(octree, seen, corners.float(), centers, DIRECTIONS)
    around = _sphere(AROUND).expand(len(corners), -1, -1)
    few = torch.full((len(corners), AROUND), FEW)
    return torch.cat([towards, around], 1), torch.cat([weights, few], 1)


def _sphere(count: int) -> Tensor:
    """Unit directions [count, 3], evenly spread (a Fibonacci spiral)."""
    i = torch.arange(count) + 0.5
    z, angle = 1 - 2 * i / count, math.pi * (1 + math.sqrt(5)) * i
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), z], 1)


def _harmonics(directions: Tensor) -> Tensor:
    """[N, K, 16] of directions [N, K, 3]."""
    return spherical_harmonics(directions.reshape(-1, 3), BANDS).view(*directions.shape[:2], -1)


def _solve(colors: Tensor, harmonics: Tensor, weights: Tensor) -> Tensor:
    """Records [N, 24] of least squares: colours [N, K, 3] by harmonics [N, K, 16]."""
    weighted = (harmonics * weights[..., None]).transpose(1, 2)
    inner, outer = weighted @ harmonics, weighted @ colors  # [N, 16, 16], [N, 16, 3]
    # Each channel's equations, added where its coefficients lie in a record.
    gram = (inner.flatten(1) @ PRODUCTS).view(-1, RECORD, RECORD)
    right = torch.einsum("ahr,nha->nr", PLACES, outer)
    trace = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    gram = gram + RIDGE * trace * torch.eye(RECORD)
    return torch.linalg.solve(gram, right[..., None])[..., 0]


def fit_records(
    source: Source,
    octree: Octree,
    seen: Tensor,
    corners: Tensor,
    centers: Tensor,
    progress: Callable[[float], None],
) -> Tensor:
    """Records u [V, 24] of every corner, see `nerfkit.kernels.baked_render.BakedGrid`."""
    parts = []
    for start in range(0, len(corners), PIECE):
        here = slice(start, start + PIECE)
        directions, weights = _views_around(octree, seen, corners[here], centers)
        colors = source.colors(corners[here], directions)
        parts.append(_solve(colors, _harmonics(directions), weights))
        progress(min(1.0, (start + PIECE) / len(corners)))
    return torch.cat(parts)


def fit_details(
    source: Source,
    octree: Octree,
    seen: Tensor,
    layout: Layout,
    centers: Tensor,
    records: Tensor,
    progress: Callable[[float], None],
) -> Tensor:
    """e [F, 8] of every corner of a half voxel: R, G, B, three grey harmonics, and zeros."""
    parts, n = [], len(layout.details)
    for piece in layout.details.split(PIECE):
        places = morton_decode(piece) / 2
        directions, weights = _views_of(octree, seen, places, centers, DETAIL_DIRECTIONS)
        codes = (morton_encode(corners) for corners in corners_around(places))
        between = sum(records[torch.searchsorted(layout.codes, code)] for code in codes) / 8
        harmonics = _harmonics(directions)
        coarse = harmonics @ channels(between)
        left = source.colors(places, directions) - coarse
        mean = (left * weights[..., None]).sum(1) / weights.sum(1).clamp_min(1e-6)[:, None]
        other = (left - mean[:, None]).mean(2, keepdim=True)
        some = harmonics[..., 1 : 1 + GREYS]
        weighted = (some * weights[..., None]).transpose(1, 2)
        ridge = (DETAIL_RIDGE * weights.mean(1) + 1e-6)[:, None, None] * torch.eye(GREYS)
        grey = torch.linalg.solve(weighted @ some + ridge, weighted @ other)[..., 0]
        # The grey harmonics have a mean over these directions, which is in `mean` already.
        shift = (weighted.sum(2) * grey).sum(1) / weights.sum(1).clamp_min(1e-6)
        parts.append(torch.cat([mean - shift[:, None], grey], 1))
        progress(min(1.0, len(parts) * PIECE / n))
    return torch.nn.functional.pad(torch.cat(parts), (0, DETAIL - 3 - GREYS))


def quantised(values: Tensor) -> tuple[Tensor, Tensor]:
    """Bytes [N, C] of values [N, C], and their levels [2, C]."""
    generator = torch.Generator().manual_seed(0)
    some = torch.randint(len(values), (200_000,), generator=generator)
    ordered = values[some].sort(0).values
    clipped = int(len(ordered) * TAIL / 2)
    low, high = ordered[clipped], ordered[len(ordered) - 1 - clipped]
    levels = torch.stack([low, ((high - low) / 255).clamp_min(1e-6)])
    found = ((values - levels[0]) / levels[1]).round().clamp(0, 255)
    return found.to(torch.uint8), levels
