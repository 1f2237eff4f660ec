"""Bake a fitted scene: drop what no training camera sees, replace the network by a few components.

Symbols: V corners of visible voxels, K directions a corner, D = 5 components, H = 16 spherical
harmonics, M = views [D, H]. A corner's colour from direction v is  sum_d (M h(v))_d u_d.

M is common to the scene, found from some corners by alternating least squares; then every corner's
u [D, 3] by least squares over directions from which training cameras see it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.fields.baked import BakedField, BakedShape
from nerfkit.fields.fast import RENDER_STEP, FastField
from nerfkit.fields.frame import render_frame
from nerfkit.kernels.baked_render import Layout, Rendered, render_baked
from nerfkit.kernels.baked_render.grid import BANDS, COMPONENTS, RECORD
from nerfkit.kernels.encodings import spherical_harmonics
from nerfkit.kernels.fused_mlp import fused_mlp
from nerfkit.kernels.fused_render.reference import unpack
from nerfkit.octree import Octree, morton_decode
from nerfkit.paths import at_size

VISIBLE = 0.01  # weight that a voxel must have in a training view, or one of its neighbours
PIXELS = 160_000  # of a training view that is asked what it sees
DIRECTIONS = 10  # of cameras a corner is seen by
AROUND = 8  # directions all around
FEW = 1e-2  # their weight
RIDGE = 1e-3
LEARNERS = 6_000  # corners that the view functions are learned from
ROUNDS = 12
PIECE = 1 << 15  # corners at a time
TAIL = 2e-4  # of the components' values are clipped, half at each end


@dataclass(frozen=True)
class Source:
    """Any field on an octree, as baking asks it.

    Attributes:
        octree: the voxels outside of which it is empty.
        density: corners [N, 3] int64 (x, y, z) -> raw density [N];
            sigma = density_scale softplus(raw + density_bias).
        colors: corners [N, 3] and unit directions [N, K, 3] -> RGB [N, K, 3].
        density_scale, density_bias, step_voxels, near: as `BakedShape` has them.
    """

    octree: Octree
    density: Callable[[Tensor], Tensor]
    colors: Callable[[Tensor, Tensor], Tensor]
    density_scale: float
    density_bias: float
    step_voxels: float
    near: float

    @staticmethod
    def of(field: FastField) -> Source:
        """The default field, all levels summed into the finest (`FastField.collapsed`)."""
        layers = unpack(field.network, field.shape.widths)

        def density(corners: Tensor) -> Tensor:
            return field.summed[field.vertices.index(0, corners)]

        def colors(corners: Tensor, directions: Tensor) -> Tensor:
            n, k = directions.shape[:2]
            features = field.features[field.vertices.index(0, corners)]
            harmonics = spherical_harmonics(directions.reshape(-1, 3), field.shape.bands)
            inputs = torch.cat([features.repeat_interleave(k, 0), harmonics], 1)
            return fused_mlp(inputs, *layers, output_activation="sigmoid").view(n, k, 3)

        shape = field.shape
        step = min(RENDER_STEP, shape.step_voxels)
        return Source(
            *(field.octree, density, colors, shape.density_scale, shape.density_bias),
            *(step, shape.near),
        )


def bake(
    source: Source,
    cameras: Cameras,
    progress: Callable[[str, float], None] = lambda what, done: None,
) -> BakedField:
    """Bake a field as the training `cameras` see it.

    Args:
        progress: called with what is being done and the share of it that is done.
    """
    octree, seen = _visible(source, cameras, progress)
    centers = cameras.c2w[:, :, 3].float()
    layout = Layout.of(octree)
    corners = morton_decode(layout.codes)
    shape, density = _quantised_density(source, corners)
    views = _learn_views(source, octree, seen, corners, centers)
    components = _fit_components(source, octree, seen, corners, centers, views, progress)
    levels, colors = _quantised_colors(components)
    return BakedField(shape, octree, layout, density, colors, levels, views)


def _quantised_density(source: Source, corners: Tensor) -> tuple[BakedShape, Tensor]:
    raw = torch.cat([source.density(piece) for piece in corners.split(PIECE)])
    low, high = raw.min().item(), max(raw.max().item(), raw.min().item() + 1e-3)
    scale = (high - low) / 65535
    values = ((raw - low) / scale).round().clamp(0, 65535) - 32768
    shape = BakedShape(
        *(source.density_scale, source.density_bias, (low + 32768 * scale, scale)),
        *(source.step_voxels, source.near),
    )
    return shape, values.to(torch.int16)


class _Watcher:
    """A scene without colours that notes which voxels rays see."""

    def __init__(self, source: Source) -> None:
        self.layout = Layout.of(source.octree)
        shape, density = _quantised_density(source, morton_decode(self.layout.codes))
        blank = torch.zeros(len(density), RECORD, dtype=torch.uint8)
        self.field = BakedField(
            *(shape, source.octree, self.layout, density, blank, torch.zeros(2, RECORD)),
            torch.zeros(COMPONENTS, BANDS**2),
        )
        self.max_weights = torch.zeros(len(self.field.grid.words), 64)

    def render(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        return render_baked(
            *(origins, directions, self.field.grid),
            max_weights=self.max_weights,
            **self.field.sampling(),
        )


def _visible(
    source: Source, cameras: Cameras, progress: Callable[[str, float], None]
) -> tuple[Octree, Tensor]:
    """The voxels that cameras see, and [n, cameras] uint8 how much: the largest weight * 255."""
    octree, watcher = source.octree, _Watcher(source)
    x, y, z = (octree.cells() & 3).unbind(1)
    block = 1 + torch.searchsorted(watcher.layout.blocks, octree.codes >> 6)
    number = block * 64 + x + 4 * y + 16 * z
    seen = torch.zeros(len(octree), len(cameras), dtype=torch.uint8)
    for i in range(len(cameras)):
        camera = cameras[torch.tensor([i])]
        width, height = int(camera.width[0]), int(camera.height[0])
        shrink = max(1.0, math.sqrt(width * height / PIXELS))
        small = at_size(camera, round(width / shrink), round(height / shrink))
        watcher.max_weights.zero_()
        render_frame(watcher, small, torch.zeros(3), ["rgb"])
        seen[:, i] = (watcher.max_weights.view(-1)[number] * 255).to(torch.uint8)
        progress("looking", (i + 1) / len(cameras))
    keep = seen.amax(1) > VISIBLE * 255
    keep = octree.dilate(keep)
    return octree.keep(keep), seen[keep]


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
    # Between two of the cameras, in turn: what is seen there must not be left to chance.
    share = torch.linspace(0.2, 0.8, towards.shape[1])[:, None]
    between = torch.nn.functional.normalize(
        towards * share + towards.roll(1, 1) * (1 - share), dim=2
    )
    between_weights = torch.minimum(weights, weights.roll(1, 1))
    around = _sphere(AROUND).expand(len(corners), -1, -1)
    few = torch.full((len(corners), AROUND), FEW)
    return torch.cat([towards, between, around], 1), torch.cat([weights, between_weights, few], 1)


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


def _learn_views(
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


def _fit_components(
    source: Source,
    octree: Octree,
    seen: Tensor,
    corners: Tensor,
    centers: Tensor,
    views: Tensor,
    progress: Callable[[str, float], None],
) -> Tensor:
    """u [V, D, 3] of every corner."""
    parts = []
    for start in range(0, len(corners), PIECE):
        here = slice(start, start + PIECE)
        directions, weights = _views_of(octree, seen, corners[here], centers)
        harmonics = spherical_harmonics(directions.reshape(-1, 3), BANDS)
        view = (harmonics @ views.T).view(*directions.shape[:2], COMPONENTS)
        parts.append(_solve(source.colors(corners[here], directions), view, weights))
        progress("fitting colours", min(1.0, (start + PIECE) / len(corners)))
    return torch.cat(parts)


def _quantised_colors(components: Tensor) -> tuple[Tensor, Tensor]:
    """levels [2, 16] and bytes [V, 16] of u [V, D, 3]."""
    flat = components.flatten(1)
    ordered = flat[torch.randperm(len(flat))[:200_000]].sort(0).values
    clipped = int(len(ordered) * TAIL / 2)
    low, high = ordered[clipped], ordered[len(ordered) - 1 - clipped]
    scale = ((high - low) / 255).clamp_min(1e-6)
    levels, colors = torch.zeros(2, RECORD), torch.zeros(len(flat), RECORD, dtype=torch.uint8)
    levels[0, : flat.shape[1]], levels[1, : flat.shape[1]] = low, scale
    colors[:, : flat.shape[1]] = ((flat - low) / scale).round().clamp(0, 255).to(torch.uint8)
    return levels, colors
