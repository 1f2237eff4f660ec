"""Multi-level trilinear interpolation in plain torch. Symbols as in the package docstring."""

from collections.abc import Iterator

import torch

from .grid import RenderGrid


def corners(
    grid: RenderGrid, points: torch.Tensor, cells: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Row [N] and weight [N] of every corner at every level of points inside the cube.

    `points` [N, 3] in finest voxels from the lowest corner, `cells` [N, 3] the finest voxels.
    """
    for level, resolution in enumerate(grid.resolutions.tolist()):
        ratio = grid.resolution // resolution
        cell = cells // ratio
        inside = points / ratio - cell
        for corner in range(8):
            bits = [corner & 1, corner >> 1 & 1, corner >> 2]
            factors = [inside[:, a] if bit else 1 - inside[:, a] for a, bit in enumerate(bits)]
            yield (
                grid.vertex_index(level, cell + cell.new_tensor(bits)),
                factors[0] * factors[1] * factors[2],
            )


def interpolate(
    grid: RenderGrid, points: torch.Tensor, cells: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Sum over the levels of the trilinear interpolation of `values` [V] or [V, C]."""
    total = points.new_zeros(len(points), *values.shape[1:])
    for index, weight in corners(grid, points, cells):
        total = total + (weight[:, None] if values.dim() == 2 else weight) * values[index]
    return total


def voxel_features(points: torch.Tensor, grid: RenderGrid, values: torch.Tensor) -> torch.Tensor:
    """See `nerfkit.kernels.voxel_features.voxel_features`."""
    at = grid.to_grid(points)
    cells = at.detach().floor().long()
    inside = ((cells >= 0) & (cells < grid.resolution)).all(1)
    cells = cells.clamp(0, grid.resolution - 1)
    kept = inside & grid.occupied(cells)
    found = interpolate(grid, at[kept], cells[kept], values)
    return points.new_zeros(len(points), *values.shape[1:]).index_put((kept,), found)
