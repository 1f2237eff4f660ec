"""Colour of direction as a few components, the same functions of direction for a whole scene.

Symbols: V corners of visible voxels, K directions a corner, D = 5 components, H = 16 spherical
harmonics, M = views [D, H]. A corner's colour from direction v is  sum_d (M h(v))_d u_d.

M is found from some corners by alternating least squares; then every corner's u [D, 3] by least
squares over directions from which training cameras see it. The factorisation is FastNeRF's
(2103.10380, eq. 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nerfkit.fields.bakeable import Source
from nerfkit.kernels.baked_render.grid import BANDS, COMPONENTS
from nerfkit.kernels.encodings import spherical_harmonics
from nerfkit.octree import Octree

DIRECTIONS = 6  # of cameras that a corner is seen by
AROUND = 6  # directions all around
FEW = 1e-2  # their weight
RIDGE = 1e-3
LEARNERS = 6_000  # corners that the view functions are learned from
ROUNDS = 12
PIECE = 1 << 15  # corners at a time
TAIL = 2e-4  # of the components' values are clipped, half at each end


def _views_of(
    octree: Octree, seen: Tensor, corners: Tensor, centers: Tensor
) -> tuple[Tensor, Tensor]:
    """Directions [N, K, 3] in which cameras at `centers` see corners [N, 3], and weights [N, K].

    Cameras that see a corner's voxels most come first; all of the sphere has a little weight.
    """
    most = torch.zeros(len(corners), seen.shape[1], dtype=torch.uint8)
    for c in range(8):
        voxel = octree.find(corners - torch.tensor([c & 1, c >> 1 & 1, c >> 2]))
        most = torch.maximum(most, seen[voxel] * (voxel >= 0)[:, None])
    # The share at random spreads the choice over cameras that see as much.
    chance = torch.rand(most.shape, generator=torch.Generator().manual_seed(len(corners)))
    score = (most > 0) * (0.2 + most / 255) * chance
    chosen = score.topk(min(DIRECTIONS, most.shape[1]), dim=1).indices
    weights = most.gather(1, chosen).float() / 255
    points = octree.box_min + corners.float() * octree.voxel
    towards = torch.nn.functional.normalize(points[:, None] - centers[chosen], dim=2)
    around = _sphere(AROUND).expand(len(corners), -1, -1)
    few = torch.full((len(corners), AROUND), FEW)
    return torch.cat([towards, around], 1), torch.cat([weights, few], 1)


def _sphere(count: int) -> Tensor:
    """Unit directions [count, 3], evenly spread (a Fibonacci spiral)."""
    i = torch.arange(count) + 0.5
    z, angle = 1 - 2 * i / count, math.pi * (1 + math.sqrt(5)) * i
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * angle.cos(), ring * angle.sin(), z], 1)


def _solve(colors: Tensor, view: Tensor, weights: Tensor) -> Tensor:
    """u [N, D, 3] of least squares: colours [N, K, 3] as view [N, K, D] times u."""
    weighted = view * weights[..., None]
    gram = weighted.transpose(1, 2) @ view
    trace = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    gram = gram + RIDGE * trace * torch.eye(COMPONENTS)
    return torch.linalg.solve(gram, weighted.transpose(1, 2) @ colors)


def learn_views(
    source: Source, octree: Octree, seen: Tensor, corners: Tensor, centers: Tensor
) -> Tensor:
    """M [D, H], from some of the corners."""
    generator = torch.Generator().manual_seed(0)
    some = torch.randint(len(corners), (LEARNERS,), generator=generator)
    directions, weights = _views_of(octree, seen, corners[some], centers)
    colors = source.colors(corners[some], directions)
    harmonics = spherical_harmonics(directions.reshape(-1, 3), BANDS).view(
        *directions.shape[:2], -1
    )
    heavy = harmonics * weights[..., None]
    views = _first_views(source, corners[some])
    for _ in range(ROUNDS):
        u = _solve(colors, harmonics @ views.T, weights)  # [N, D, 3]
        # Normal equations of M with u fixed: sum over samples of (u u^T) x (h h^T).
        inner = u @ u.transpose(1, 2)  # [N, D, D]
        outer = heavy.transpose(1, 2) @ harmonics  # [N, H, H]
        size = COMPONENTS * BANDS**2
        left = torch.einsum("nij,nkl->ikjl", inner, outer).reshape(size, size)
        right = torch.einsum("nkc,ndc,nkh->dh", colors, u, heavy).reshape(size)
        left = left + 1e-4 * left.diagonal().mean() * torch.eye(size)
        views = torch.linalg.solve(left, right).view(COMPONENTS, -1)
        # An orthonormal basis of the same functions keeps the components of one size.
        views = torch.linalg.qr(views.T)[0].T.contiguous()
    return views


def _first_views(source: Source, corners: Tensor) -> Tensor:
    """The functions of direction that the colours of all directions consist of most."""
    sphere = _sphere(64)
    colors = source.colors(corners, sphere.expand(len(corners), -1, -1))
    functions = colors.transpose(1, 2).reshape(-1, len(sphere))
    _, basis = torch.linalg.eigh(functions.T @ functions)
    harmonics = spherical_harmonics(sphere, BANDS)
    return torch.linalg.lstsq(harmonics, basis[:, -COMPONENTS:]).solution.T.contiguous()


def fit_components(
    source: Source,
    octree: Octree,
    seen: Tensor,
    corners: Tensor,
    centers: Tensor,
    views: Tensor,
    progress: Callable[[float], None],
) -> Tensor:
    """u [V, 16] of every corner, component by component, each R, G, B, and a zero."""
    parts = []
    for start in range(0, len(corners), PIECE):
        here = slice(start, start + PIECE)
        directions, weights = _views_of(octree, seen, corners[here], centers)
        harmonics = spherical_harmonics(directions.reshape(-1, 3), BANDS)
        view = (harmonics @ views.T).view(*directions.shape[:2], COMPONENTS)
        parts.append(_solve(source.colors(corners[here], directions), view, weights))
        progress(min(1.0, (start + PIECE) / len(corners)))
    return torch.nn.functional.pad(torch.cat(parts).flatten(1), (0, 1))


def quantised(components: Tensor) -> tuple[Tensor, Tensor]:
    """levels [2, 16] and bytes [V, 16] of u [V, 16]."""
    generator = torch.Generator().manual_seed(0)
    some = torch.randint(len(components), (200_000,), generator=generator)
    ordered = components[some].sort(0).values
    clipped = int(len(ordered) * TAIL / 2)
    low, high = ordered[clipped], ordered[len(ordered) - 1 - clipped]
    levels = torch.stack([low, ((high - low) / 255).clamp_min(1e-6)])
    values = ((components - levels[0]) / levels[1]).round().clamp(0, 255)
    values[:, 3 * COMPONENTS :] = 0
    levels[:, 3 * COMPONENTS :] = 0
    return levels, values.to(torch.uint8)
