"""The fused renderer in torch, a whole batch at once. Symbols as in the package docstring."""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from nerfkit.kernels.encodings.reference import spherical_harmonics
from nerfkit.kernels.first_hit.reference import lattice_points
from nerfkit.kernels.fused_mlp.reference import fused_mlp
from nerfkit.kernels.ray_pieces import Pieces
from nerfkit.kernels.voxel_features.grid import RenderGrid
from nerfkit.kernels.voxel_features.reference import corners, interpolate

DEPTH_ERROR = 0.2  # relative; larger ones pull no harder


class Rendered(NamedTuple):
    """What rays see."""

    colors: torch.Tensor  # [R, 3]
    depths: torch.Tensor  # [R] sum of weight * t
    opacities: torch.Tensor  # [R] sum of weights


class Fitted(NamedTuple):
    """What a training pass reports."""

    squared_errors: torch.Tensor  # [R] |color - target|^2
    n_samples: int  # densities looked up
    n_shaded: int  # colours evaluated
    colors: torch.Tensor  # [R, 3] rendered


class Samples(NamedTuple):
    """Samples of all rays that are not behind the early stop; S of them."""

    ray_indices: torch.Tensor  # [S] int64
    t: torch.Tensor  # [S]
    s: torch.Tensor  # [S] the same in the octree's space
    points: torch.Tensor  # [S, 3] finest voxels
    cells: torch.Tensor  # [S, 3] int64
    transmittance: torch.Tensor  # [S] before the sample
    weights: torch.Tensor  # [S]


def trace(
    origins: torch.Tensor,
    directions: torch.Tensor,
    grid: RenderGrid,
    density: torch.Tensor,
    *,
    step: float,
    density_scale: float,
    density_bias: float,
    jitter: torch.Tensor | None = None,
    near: float = 0.0,
    far: float = math.inf,
    early_stop: float = 1e-4,
    pieces: Pieces | None = None,
) -> Samples:
    """The samples of all rays and their weights."""
    if pieces is None:
        found = lattice_points(origins, directions, grid, step, jitter, near, far)
        rays, t, s = found.ray_indices, found.t, found.t
    else:
        found, rays, t, s = _bent(pieces, grid, step, jitter)
    raw = interpolate(grid.finest(), found.points, found.cells, density)
    tau = density_scale * F.softplus(raw + density_bias) * step
    transmittance = torch.exp(-_before(tau, rays, len(origins)))
    weights = transmittance * -torch.expm1(-tau)
    kept = transmittance >= early_stop
    columns = rays, t, s, found.points, found.cells, transmittance, weights
    return Samples(*(x[kept] for x in columns))


def _bent(pieces: Pieces, grid: RenderGrid, step: float, jitter: torch.Tensor | None) -> tuple:
    """Lattice points of the pieces, their rays, and t and s along these."""
    origins, directions = pieces.rows[:, :3], pieces.rows[:, 3:6]
    length, u, du, m, dm = pieces.rows[:, 6:].unbind(1)
    owners = pieces.owners()
    travelled = length.double().cumsum(0) - length  # of all rays: more than float32 holds
    starts = pieces.first[:-1].clamp_max(max(len(length) - 1, 0))
    travelled = travelled - travelled[starts][owners] if len(length) else travelled
    travelled = travelled.to(length)
    offset = torch.full_like(length, 0.5) if jitter is None else jitter.to(length)[owners]
    shift = (offset - travelled / step).detach()
    found = lattice_points(origins, directions, grid, step, shift - shift.floor(), 0.0, length)
    piece, s = found.ray_indices, found.t
    t = (m[piece] + s * dm[piece]) / (u[piece] + s * du[piece])
    return found, owners[piece], t, s + travelled[piece]


def spread(samples: Samples, step: float) -> torch.Tensor:
    """Sum over the rays of sum_ij w_i w_j |s_i - s_j| + 1/3 sum_i w_i^2 step.

    In order of s the first is 2 sum_i w_i (s_i sum_{j<i} w_j - sum_{j<i} w_j s_j).
    """
    w, s, rays = samples.weights, samples.s, samples.ray_indices
    n_rays = int(rays.max()) + 1 if len(rays) else 0
    pairs = 2 * w * (s * _before(w, rays, n_rays) - _before(w * s, rays, n_rays))
    return pairs.sum() + step / 3 * w.square().sum()


def _before(values: torch.Tensor, rays: torch.Tensor, n_rays: int) -> torch.Tensor:
    """Sums of the `values` [S] of a ray that lie before each, where `rays` [S] ascend."""
    counts = torch.bincount(rays, minlength=n_rays)
    place = torch.arange(len(rays), device=rays.device) - (counts.cumsum(0) - counts)[rays]
    longest = int(counts.max()) if len(rays) else 0
    padded = values.new_zeros(n_rays, longest).index_put((rays, place), values)
    return (padded.cumsum(1) - padded)[rays, place]


def unpack(mlp: torch.Tensor, widths: Sequence[int]) -> tuple[list[torch.Tensor], ...]:
    """Weights [out, in] and biases [out] of every layer from the flat parameters."""
    weights, biases = [], []
    for n_in, n_out in itertools.pairwise(widths):
        weight, bias, mlp = mlp.split([n_in * n_out, n_out, len(mlp) - (n_in + 1) * n_out])
        weights.append(weight.view(n_out, n_in))
        biases.append(bias)
    return weights, biases


def shade(
    samples: Samples,
    directions: torch.Tensor,
    grid: RenderGrid,
    features: torch.Tensor,
    mlp: torch.Tensor,
    widths: Sequence[int],
    bands: int,
    background: torch.Tensor | None,
    weight_min: float,
) -> Rendered:
    """Colours of the samples that weigh enough, and the sums along the rays."""
    rays, weights = samples.ray_indices, samples.weights
    zeros = directions.new_zeros(len(directions))
    seen = weights > weight_min
    found = interpolate(grid, samples.points[seen], samples.cells[seen], features)
    inputs = torch.cat([found, spherical_harmonics(directions, bands)[rays[seen]]], 1)
    rgbs = fused_mlp(inputs, *unpack(mlp, widths), output_activation="sigmoid")
    depths = zeros.index_add(0, rays, weights * samples.t)
    opacities = zeros.index_add(0, rays, weights)
    colors = zeros[:, None].expand(-1, 3).index_add(0, rays[seen], weights[seen, None] * rgbs)
    if background is not None:
        colors = colors + (1 - opacities)[:, None] * background
    return Rendered(colors, depths, opacities)


def render_rays(
    origins: torch.Tensor,
    directions: torch.Tensor,
    grid: RenderGrid,
    density: torch.Tensor,
    features: torch.Tensor,
    mlp: torch.Tensor,
    widths: Sequence[int],
    *,
    bands: int,
    background: torch.Tensor | None,
    weight_min: float,
    **sampling,
) -> Rendered:
    """See `nerfkit.kernels.fused_render.render_rays`."""
    samples = trace(origins, directions, grid, density, **sampling)
    return shade(samples, directions, grid, features, mlp, widths, bands, background, weight_min)


def fit_rays(
    origins: torch.Tensor,
    directions: torch.Tensor,
    targets: torch.Tensor,
    grid: RenderGrid,
    density: torch.Tensor,
    features: torch.Tensor,
    mlp: torch.Tensor,
    widths: Sequence[int],
    *,
    scale: float,
    grad_density: torch.Tensor,
    grad_features: torch.Tensor,
    grad_mlp: torch.Tensor,
    features_touched: torch.Tensor,
    max_weights: torch.Tensor | None,
    bands: int,
    background: torch.Tensor | None,
    weight_min: float,
    distortion: float = 0.0,
    depths: torch.Tensor | None = None,
    depth_weight: float = 0.0,
    grad_rays: torch.Tensor | None = None,
    pieces: Pieces | None = None,
    **sampling,
) -> Fitted:
    """See `nerfkit.kernels.fused_render.fit_rays`."""
    rays = torch.cat([origins, directions], 1) if pieces is None else pieces.rows[:, :6]
    leaves = [x.detach().requires_grad_() for x in (density, features, mlp, rays)]
    with torch.enable_grad():
        if pieces is None:
            way = leaves[3][:, :3], leaves[3][:, 3:]
        else:
            way = origins, directions
            pieces = Pieces(torch.cat([leaves[3], pieces.rows[:, 6:]], 1), pieces.first)
        samples = trace(*way, grid, leaves[0], pieces=pieces, **sampling)
        rendered = shade(
            *(samples, directions, grid, leaves[1], leaves[2], widths, bands, background),
            weight_min,
        )
        squared = (rendered.colors - targets).square().sum(1)
        loss = squared.sum()
        if distortion:
            loss = loss + distortion * spread(samples, sampling["step"])
        if depths is not None:
            known = depths > 0
            wrong = rendered.depths[known] / depths[known] - 1
            # Huber's: x^2 within the bound, 2 bound |x| - bound^2 beyond
            bound = wrong.abs().detach().clamp_max(DEPTH_ERROR)
            loss = loss + depth_weight * (2 * bound * wrong.abs() - bound**2).sum()
        found = torch.autograd.grad(scale * loss, leaves, allow_unused=True)
    with torch.no_grad():
        buffers = grad_density, grad_features, grad_mlp, grad_rays
        for buffer, gradient in zip(buffers, found, strict=True):
            if buffer is not None and gradient is not None:
                buffer += gradient
        seen = samples.weights > weight_min
        rows, _ = corners(grid, samples.points[seen], samples.cells[seen])
        features_touched[rows] = 1
        if max_weights is not None:
            lowest = grid.vertex_index(len(grid.resolutions) - 1, samples.cells)
            max_weights.scatter_reduce_(0, lowest, samples.weights.detach(), "amax")
    return Fitted(squared.detach(), len(samples.t), int(seen.sum()), rendered.colors.detach())
