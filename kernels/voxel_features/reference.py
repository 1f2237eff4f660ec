"""Multi-level trilinear interpolation in plain torch. Symbols as in the package docstring."""

import torch

from .grid import RenderGrid


def corners(
    grid: RenderGrid, points: torch.Tensor, cells: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and weights, both [levels * 8, N], of the corners around points inside the cube.

    `points` [N, 3] in finest voxels from the lowest corner, `cells` [N, 3] the finest voxels.
    """
    rows, weights = [], []
    for level, resolution in enumerate(grid.resolutions.tolist()):
        ratio = grid.resolution // resolution
        cell = cells // ratio
        inside = points / ratio - cell
        for corner in range(8):
            bits = [corner & 1, corner >> 1 & 1, corner >> 2]
            x, y, z = (inside[:, a] if bit else 1 - inside[:, a] for a, bit in enumerate(bits))
            rows.append(grid.vertex_index(level, cell + cell.new_tensor(bits)))
            weights.append(x * y * z)
    return torch.stack(rows), torch.stack(weights)


def interpolate(
    grid: RenderGrid, points: torch.Tensor, cells: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Sum over the levels of the trilinear interpolation of `values` [V] or [V, C]."""
    rows, weights = corners(grid, points, cells)
    # One lookup for all corners: the backward of each lookup touches all of `values`.
    found = values[rows]  # [levels * 8, N] or [levels * 8, N, C]
    return ((weights[..., None] if values.dim() == 2 else weights) * found).sum(0)


def voxel_features(points: torch.Tensor, grid: RenderGrid, values: torch.Tensor) -> torch.Tensor:
    """See `nerfkit.kernels.voxel_features.voxel_features`."""
    at = grid.to_grid(points)
    cells = at.detach().floor().long()
    inside = ((cells >= 0) & (cells < grid.resolution)).all(1)
    cells = cells.clamp(0, grid.resolution - 1)
    kept = inside & grid.occupied(cells)
    found = interpolate(grid, at[kept], cells[kept], values)
    return points.new_zeros(len(points), *values.shape[1:]).index_put((kept,), found)
