"""Torch reference of level_sum: the contract. Symbols as in the package docstring."""

import torch

BRICK = 64  # vertices


def brick_vertices(coords: torch.Tensor) -> torch.Tensor:
    """Coordinates (x, y, z) of the vertices of bricks at `coords` [B, 3]: [B * 64, 3] int64."""
    i = torch.arange(BRICK, device=coords.device)
    inner = torch.stack([i & 3, i >> 2 & 3, i >> 4], dim=1)
    return (coords.long()[:, None] * 4 + inner).reshape(-1, 3)


def level_sum(values: torch.Tensor, vertices) -> torch.Tensor:
    """See `nerfkit.kernels.level_sum.level_sum`."""
    starts = (vertices.level_start() * BRICK).tolist()
    summed = torch.cat([torch.zeros_like(values[:BRICK]), values[BRICK : starts[1]]])
    for level in range(1, len(vertices.resolutions)):
        first, last = starts[level], starts[level + 1]
        fine = brick_vertices(vertices.coords[first // BRICK : last // BRICK])
        table = vertices.table(level - 1)
        interpolated = torch.zeros_like(values[first:last])
        for corner in range(8):
            # An even coordinate lies on a coarse vertex twice, an odd one between two.
            coarse = (fine + fine.new_tensor([corner & 1, corner >> 1 & 1, corner >> 2])) >> 1
            # Beyond the table there is nothing stored: brick 0.
            inside = ((coarse >> 2) < len(table)).all(1, keepdim=True)
            rows = vertices.index(level - 1, torch.where(inside, coarse, 0))
            rows = torch.where(inside[:, 0], rows, 0)
            interpolated = interpolated + summed[rows] / 8
        summed = torch.cat([summed, values[first:last] + interpolated])
    return summed


def level_sum_(values: torch.Tensor, vertices, transposed: bool) -> None:
    """See `nerfkit.kernels.level_sum.level_sum_`."""
    if transposed:
        with torch.enable_grad():
            x = torch.zeros_like(values, requires_grad=True)
            (result,) = torch.autograd.grad(level_sum(x, vertices), x, values.clone())
    else:
        result = level_sum(values, vertices)
    values.copy_(result)
