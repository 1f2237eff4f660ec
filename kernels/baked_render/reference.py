"""The renderer of baked scenes in torch, a whole batch at once. Symbols as in `__init__.py`."""

import torch
import torch.nn.functional as F

from nerfkit.kernels.encodings.reference import spherical_harmonics
from nerfkit.kernels.first_hit.reference import lattice_points
from nerfkit.kernels.fused_render.reference import Rendered

from .grid import BANDS, COMPONENTS, BakedGrid


class _Voxels:
    """Which voxels of the grid are occupied, as `lattice_points` asks."""

    def __init__(self, grid: BakedGrid) -> None:
        self.grid, self.resolution, self.voxel = grid, grid.resolution, grid.voxel

    def to_grid(self, points: torch.Tensor) -> torch.Tensor:
        return (points - points.new_tensor(self.grid.box_min)) / self.voxel

    def occupied(self, cells: torch.Tensor) -> torch.Tensor:
        return (self.grid.words[blocks(self.grid, cells)] >> voxels(cells) & 1).bool()


def blocks(grid: BakedGrid, cells: torch.Tensor) -> torch.Tensor:
    """Places [N] of the blocks that hold `cells` [N, 3]."""
    x, y, z = (cells >> 2).unbind(1)
    return grid.places[z, y, x].long()


def voxels(cells: torch.Tensor) -> torch.Tensor:
    """Numbers [N] of `cells` [N, 3] in their blocks."""
    x, y, z = (cells & 3).unbind(1)
    return x + 4 * y + 16 * z


def render_baked(
    origins: torch.Tensor,
    directions: torch.Tensor,
    grid: BakedGrid,
    *,
    background: torch.Tensor | None = None,
    max_weights: torch.Tensor | None = None,
    **sampling: float,
) -> Rendered:
    """See `nerfkit.kernels.baked_render.render_baked`."""
    values = grid.levels[0] + grid.levels[1] * grid.records
    return _render(origins, directions, grid, values, background, max_weights, **sampling)


def color_gradient_(
    grads: torch.Tensor,
    touched: torch.Tensor,
    origins: torch.Tensor,
    directions: torch.Tensor,
    targets: torch.Tensor,
    background: torch.Tensor,
    grid: BakedGrid,
    rows: torch.Tensor,
    values: torch.Tensor,
    **sampling: float,
) -> torch.Tensor:
    """See `nerfkit.kernels.baked_render.color_gradient_`."""
    with torch.enable_grad():
        leaf = values.detach().requires_grad_()
        out = _render(origins, directions, grid, leaf[rows.long()], background, None, **sampling)
        losses = (out.colors - targets).square().sum(1)
        (grad,) = torch.autograd.grad(losses.sum(), leaf)
    grads += grad
    touched |= (grad != 0).any(1)
    return losses.detach()


def _render(
    origins: torch.Tensor,
    directions: torch.Tensor,
    grid: BakedGrid,
    values: torch.Tensor,
    background: torch.Tensor | None,
    max_weights: torch.Tensor | None,
    *,
    step: float,
    density_scale: float,
    density_bias: float,
    near: float,
    far: float,
    early_stop: float,
    weight_min: float,
) -> Rendered:
    """With `values` [M, 16] for the records."""
    found = lattice_points(origins, directions, _Voxels(grid), step, None, near, far)
    rays, dtype = found.ray_indices, origins.dtype
    place = blocks(grid, found.cells)
    inside = found.points - found.cells
    corners, weights = [], []
    for c in range(8):
        bits = [c & 1, c >> 1 & 1, c >> 2]
        i, j, k = ((found.cells[:, a] & 3) + bits[a] for a in range(3))
        x, y, z = (inside[:, a] if bit else 1 - inside[:, a] for a, bit in enumerate(bits))
        corners.append(i + 5 * j + 25 * k)
        weights.append(x * y * z)
    corners, weights = torch.stack(corners), torch.stack(weights)  # [8, S]
    lowest, per_count = grid.density_range
    raw = (weights * (lowest + per_count * grid.density[place, corners].to(dtype))).sum(0)
    tau = density_scale * F.softplus(raw + density_bias) * step
    # In double, for it goes on from ray to ray.
    before = tau.double().cumsum(0) - tau
    starts = torch.searchsorted(rays, rays)  # of each sample's ray
    transmittance = torch.exp(before[starts] - before).to(dtype)
    kept = transmittance >= early_stop
    weight = torch.where(kept, transmittance * -torch.expm1(-tau), 0.0)
    if max_weights is not None:
        number = place * 64 + voxels(found.cells)
        max_weights.view(-1).scatter_reduce_(0, number, weight.to(max_weights.dtype), "amax")
    zeros = directions.new_zeros(len(directions))
    depths = zeros.index_add(0, rays, weight * found.t)
    opacities = zeros.index_add(0, rays, weight)
    # A ray that was stopped sees nothing behind its last sample.
    last = zeros.scatter_reduce(0, rays, torch.where(kept, found.t, 0.0), "amax")
    left = torch.where(1 - opacities < early_stop, 1 - opacities, 0.0)
    depths, opacities = depths + left * last, opacities + left

    shaded = torch.where(weight > weight_min, weight, 0.0)
    total = zeros.index_add(0, rays, shaded)
    corner_values = values[grid.first[place].long() + grid.ranks[place, corners].long()].to(dtype)
    coefficients = (weights[..., None] * corner_values).sum(0)[:, : 3 * COMPONENTS]
    view = spherical_harmonics(directions, BANDS) @ grid.views.to(dtype).T  # [R, COMPONENTS]
    rgbs = (coefficients.view(-1, COMPONENTS, 3) * view[rays, :, None]).sum(1)
    sums = zeros[:, None].expand(-1, 3).index_add(0, rays, shaded[:, None] * rgbs)
    # Unshaded samples have the mean colour of the others; where there are none nothing is seen.
    seen = torch.where(total > 0, opacities, 0.0)
    colors = sums * (seen / torch.where(total > 0, total, 1.0))[:, None]
    if background is not None:
        colors = colors + (1 - seen)[:, None] * background
    return Rendered(colors, depths, opacities)
