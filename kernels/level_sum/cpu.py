"""C++ level_sum. Symbols as in the package docstring."""

import itertools

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


def level_sum_together_(values: torch.Tensor, vertices, transposed: bool, team) -> None:
    """`level_sum_` by the ranks of a node, level by level: each writes its part of the bricks."""
    _check(values)
    values[:BRICK].zero_()
    channels = 1 if values.dim() == 1 else values.shape[1]
    sizes = [(r // 4 + 1) ** 3 for r in vertices.resolutions.tolist()]
    tables = [0, *itertools.accumulate(sizes)]
    starts = vertices.level_start().tolist()
    finer = range(1, len(sizes))
    for level in reversed(finer) if transposed else finer:
        written = level - 1 if transposed else level
        part = team.rows(starts[written + 1] - starts[written])
        first, last = starts[written] + part.start, starts[written] + part.stop
        # two levels, of which the kernel writes one and finds the other by its table
        bounds = torch.tensor([first, last, last] if transposed else [first, first, last])
        _native.call(
            "nk_level_sum",
            *(values, channels, vertices.resolutions[level - 1 : level + 1], 2, bounds),
            *(vertices.tables[tables[level - 1] :], vertices.coords, transposed),
        )
        team.barrier()
