"""The Triton level_sum kernels. Symbols as in the package docstring.

A program has BRICKS bricks; tiles are [vertices of these, CHANNELS]. One launch a level, in order,
as each reads what the one before it wrote.
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

from .reference import BRICK

BRICKS = {1: 4, 16: 1}  # by channels
WARPS = 4


@triton.jit
def _row(table, n, x, y, z, mask):
    """Row of a vertex of a level; 0, in the brick of zeros, where it is not stored."""
    bx, by, bz = x >> 2, y >> 2, z >> 2
    inside = mask & (bx >= 0) & (by >= 0) & (bz >= 0) & (bx < n) & (by < n) & (bz < n)
    at = (bz * n + by).to(tl.int64) * n + bx
    place = tl.load(table + at, mask=inside, other=0).to(tl.int64)
    return tl.where(inside, place * 64 + ((x & 3) + 4 * (y & 3) + 16 * (z & 3)), 0)


@triton.jit
def _vertices(coords, first, n_bricks, BRICKS: tl.constexpr):
    """Row, existence and coordinates of each vertex of this program's bricks."""
    inner = tl.arange(0, BRICKS * 64)
    brick = tl.program_id(0).to(tl.int64) * BRICKS + inner // 64
    exists = brick < n_bricks
    at = coords + 3 * (first + brick)
    x = tl.load(at, mask=exists, other=0) * 4 + (inner & 3)
    y = tl.load(at + 1, mask=exists, other=0) * 4 + (inner >> 2 & 3)
    z = tl.load(at + 2, mask=exists, other=0) * 4 + (inner >> 4 & 3)
    return (first + brick) * 64 + inner % 64, exists, x, y, z


@triton.jit
def _prolong_kernel(
    values, coords, table, n, first, n_bricks, CHANNELS: tl.constexpr, BRICKS: tl.constexpr
):
    """fine += interpolation of coarse, whose table is given; fine bricks lie from `first` on."""
    row, exists, x, y, z = _vertices(coords, first, n_bricks, BRICKS)
    channel = tl.arange(0, CHANNELS)[None, :]
    total = tl.zeros([BRICKS * 64, CHANNELS], tl.float32)
    for c in tl.static_range(8):
        # An even coordinate lies on a coarse vertex twice, an odd one between two.
        at = _row(
            table, n, (x + (c & 1)) >> 1, (y + (c >> 1 & 1)) >> 1, (z + (c >> 2)) >> 1, exists
        )
        total += tl.load(values + at[:, None] * CHANNELS + channel, mask=exists[:, None], other=0.0)
    own = values + row[:, None] * CHANNELS + channel
    kept = tl.load(own, mask=exists[:, None], other=0.0)
    tl.store(own, kept + total * 0.125, mask=exists[:, None])


@triton.jit
def _restrict_kernel(
    values, coords, table, n, first, n_bricks, CHANNELS: tl.constexpr, BRICKS: tl.constexpr
):
    """coarse += transposed interpolation of fine, whose table is given: from 27 fine vertices."""
    row, exists, x, y, z = _vertices(coords, first, n_bricks, BRICKS)
    channel = tl.arange(0, CHANNELS)[None, :]
    total = tl.zeros([BRICKS * 64, CHANNELS], tl.float32)
    for c in tl.static_range(27):
        dx, dy, dz = c % 3 - 1, c // 3 % 3 - 1, c // 9 - 1
        at = _row(table, n, 2 * x + dx, 2 * y + dy, 2 * z + dz, exists)
        found = tl.load(values + at[:, None] * CHANNELS + channel, mask=exists[:, None], other=0.0)
        total += found * ((2 - dx * dx) * (2 - dy * dy) * (2 - dz * dz) * 0.125)  # halves
    own = values + row[:, None] * CHANNELS + channel
    kept = tl.load(own, mask=exists[:, None], other=0.0)
    tl.store(own, kept + total, mask=exists[:, None])


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
    channels = 1 if values.dim() == 1 else values.shape[1]
    starts = vertices.level_start().tolist()
    sizes = [r // 4 + 1 for r in vertices.resolutions.tolist()]
    tables = vertices.tables.split(vertices.table_sizes())
    pairs = list(zip(range(len(sizes) - 1), range(1, len(sizes)), strict=True))  # coarse, fine
    for coarse, fine in reversed(pairs) if transposed else pairs:
        kernel = _restrict_kernel if transposed else _prolong_kernel
        written, read = (coarse, fine) if transposed else (fine, coarse)
        n_bricks = starts[written + 1] - starts[written]
        launch(
            kernel,
            (triton.cdiv(n_bricks, BRICKS[channels]),),
            *(values, vertices.coords, tables[read], sizes[read], starts[written], n_bricks),
            CHANNELS=channels,
            BRICKS=BRICKS[channels],
            num_warps=WARPS,
        )


def _check(values: torch.Tensor, vertices) -> None:
    check_float32(values=values)
    if vertices.tables.device != values.device:
        raise ValueError(
            f"`vertices` must be on {values.device}, got {vertices.tables.device}: vertices.to()"
        )


def level_sum(values: torch.Tensor, vertices) -> torch.Tensor:
    """Same function as the reference, float32 only."""
    _check(values, vertices)
    return _LevelSum.apply(values, vertices)


def level_sum_(values: torch.Tensor, vertices, transposed: bool) -> None:
    """Same function as the reference, float32 only."""
    _check(values, vertices)
    _run(values, vertices, transposed)


AOT = [
    Configuration(
        f"level_sum {channels} {name}",
        kernel,
        "*fp32 *i32 *i32 i32 i32 i32",
        {"CHANNELS": channels, "BRICKS": BRICKS[channels]},
        WARPS,
        max_registers=128,
        wanted=(r"LDG\.E\.128",) if channels == 16 else (),
    )
    for name, kernel in (("forward", _prolong_kernel), ("transposed", _restrict_kernel))
    for channels in (1, 16)
]
