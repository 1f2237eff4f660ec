"""C++ level_sum. Symbols as in the package docstring."""

import torch
from torch.autograd.function import once_differentiable

from nerfkit.kernels import _native

from .reference import BRICK


class _LevelSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, vertices):
        ctx.vertices = vertices
        out = values.clone(memory_format=torch.contiguous_format)
        _run(out, vertices, False)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g_out):
        g_values = g_out.clone(memory_format=torch.contiguous_format)
        _run(g_values, ctx.vertices, True)
        return g_values, None


def _run(values: torch.Tensor, vertices, transposed: bool) -> None:
    values[:BRICK].zero_()  # read in place of whatever is not stored
    _native.call(
        "nk_level_sum",
        *(values, 1 if values.dim() == 1 else values.shape[1]),
        *(vertices.resolutions, len(vertices.resolutions), vertices.level_start()),
        *(vertices.tables, vertices.coords, transposed),
    )


def _check(values: torch.Tensor) -> None:
    if values.dtype != torch.float32:
        raise ValueError(f"`values` must be float32 on backend 'cpu', got {values.dtype}")


def level_sum(values: torch.Tensor, vertices) -> torch.Tensor:
    """Same function as the reference, float32 only."""
    _check(values)
    return _LevelSum.apply(values, vertices)


def level_sum_(values: torch.Tensor, vertices, transposed: bool) -> None:
    """Same function as the reference, float32 only."""
    _check(values)
    _run(values, vertices, transposed)
