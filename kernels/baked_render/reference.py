"""The renderer of baked scenes in torch, a whole batch at once. Symbols as in `__init__.py`."""

import torch
import torch.nn.functional as F

from nerfkit.kernels.encodings.reference import spherical_harmonics
from nerfkit.kernels.first_hit.reference import lattice_points
from nerfkit.kernels.fused_render.reference import Rendered

from .grid import BANDS, DETAIL, BakedGrid, Fitted, channels, detail_channels


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
    details = grid.detail_levels[0] + grid.detail_levels[1] * grid.bricks
    return _render(origins, directions, grid, values, details, background, max_weights, **sampling)


def color_gradient_(
    components: Fitted,
    details: Fitted,
    origins: torch.Tensor,
    directions: torch.Tensor,
    targets: torch.Tensor,
    background: torch.Tensor,
    grid: BakedGrid,
    **sampling: float,
) -> torch.Tensor:
    """See `nerfkit.kernels.baked_render.color_gradient_`."""
    tables = components, details
    with torch.enable_grad():
        leaves = [table.values.detach().requires_grad_() for table in tables]
        read = (leaf[table.rows.long()] for leaf, table in zip(leaves, tables, strict=True))
        out = _render(origins, directions, grid, *read, background, None, **sampling)
        losses = (out.colors - targets).square().sum(1)
        grads = torch.autograd.grad(losses.sum(), leaves)
    for table, grad in zip(tables, grads, strict=True):
        table.grads.add_(grad)
        table.touched.logical_or_((grad != 0).any(1))
    return losses.detach()


def _render(
    origins: torch.Tensor,
    directions: torch.Tensor,
    grid: BakedGrid,
    values: torch.Tensor,
    details: torch.Tensor,
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
    """With `values` [M, 24] for the records and `details` [n_leaves, 27, 8] for the bricks."""
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
    coefficients = channels((weights[..., None] * corner_values).sum(0))
    view = spherical_harmonics(directions, BANDS)  # [R, 16]
    rgbs = (coefficients * view[rays, :, None]).sum(1)
    fine = _detail(grid, place, found.cells, inside, details.to(dtype))
    rgbs = rgbs + detail_channels(fine, view[rays])
    sums = zeros[:, None].expand(-1, 3).index_add(0, rays, shaded[:, None] * rgbs)
    # Unshaded samples have the mean colour of the others; where there are none nothing is seen.
    seen = torch.where(total > 0, opacities, 0.0)
    colors = sums * (seen / torch.where(total > 0, total, 1.0))[:, None]
    if background is not None:
        colors = colors + (1 - seen)[:, None] * background
    return Rendered(colors, depths, opacities)


def _detail(
    grid: BakedGrid,
    place: torch.Tensor,
    cells: torch.Tensor,
    inside: torch.Tensor,
    details: torch.Tensor,
) -> torch.Tensor:
    """Details [N, 8] between corners of half voxels, of places `inside` [N, 3] `cells` [N, 3]."""
    number, bits = voxels(cells), torch.arange(64, device=cells.device)
    before = (grid.words[place][:, None] >> bits & 1) * (bits < number[:, None])
    brick = grid.first_brick[place].long() + before.sum(1)
    low = (inside >= 0.5).long()
    part = 2 * inside - low
    fine = details.new_zeros(len(cells), DETAIL)
    for c in range(8):
        bit = low.new_tensor([c & 1, c >> 1 & 1, c >> 2])
        share = torch.where(bit.bool(), part, 1 - part).prod(1)
        i, j, k = (low + bit).unbind(1)
        fine = fine + share[:, None] * details[brick, i + 3 * j + 9 * k]
    return fine
