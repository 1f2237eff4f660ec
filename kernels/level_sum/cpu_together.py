"""C++ level_sum by ranks that share the memory of its values."""

import itertools

import torch

from nerfkit.kernels import _native

from .cpu import _check
from .reference import BRICK


def level_sum_together_(values: torch.Tensor, vertices, transposed: bool, team) -> None:
    """`level_sum_` by the ranks of a node, level by level: each writes its part of the bricks."""
    _check(values)
    values[:BRICK].zero_()
    channels = 1 if values.dim() == 1 else values.shape[1]
    tables = [0, *itertools.accumulate(vertices.table_sizes())]
    starts = vertices.level_start().tolist()
    finer = range(1, len(vertices.resolutions))
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
