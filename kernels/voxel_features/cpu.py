"""C++ voxel_features. Symbols as in the package docstring."""

import torch
from torch.autograd.function import once_differentiable

from nerfkit.kernels import _native

from .grid import RenderGrid


class _VoxelFeatures(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, values, grid, box):
        out = torch.empty(len(points), *values.shape[1:])
        _native.call("nk_voxel_features_forward", *_query(points, values, grid, box), out)
        ctx.save_for_backward(points, values)
        ctx.grid, ctx.box = grid, box
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g_out):
        points, values = ctx.saved_tensors
        g_points = torch.empty_like(points) if ctx.needs_input_grad[0] else None
        g_values = torch.zeros_like(values) if ctx.needs_input_grad[1] else None
        _native.call(
            "nk_voxel_features_backward",
            *(*_query(points, values, ctx.grid, ctx.box), g_out.contiguous(), g_points, g_values),
        )
        return g_points, g_values, None, None


def _query(points: torch.Tensor, values: torch.Tensor, grid: RenderGrid, box: torch.Tensor):
    return (
        *(points, len(points), grid.words, grid.resolutions, len(grid.resolutions)),
        *(grid.tables, box, values, 1 if values.dim() == 1 else values.shape[1]),
    )


def voxel_features(points: torch.Tensor, grid: RenderGrid, values: torch.Tensor) -> torch.Tensor:
    """Same function as the reference, float32 only."""
    for name, tensor in (("points", points), ("values", values)):
        if tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
    box = torch.tensor([*grid.box_min, grid.voxel, grid.resolution], dtype=torch.float32)
    return _VoxelFeatures.apply(points.contiguous(), values.contiguous(), grid, box)
