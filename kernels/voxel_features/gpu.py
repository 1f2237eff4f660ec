"""The Triton voxel_features kernels; see `nerfkit.kernels.voxel_features.voxel_features`.

Symbols: a program has POINTS points; tiles of values are [POINTS, CHANNELS]. LEVELS has bit s set
where there is a level of resolution >> s, TOP is the highest; a level's voxel is the finest one's
shifted by s.
"""

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

from .grid import RenderGrid

POINTS = {1: 256, 16: 64}  # by channels
WARPS = 4


@triton.jit
def vertex_rows(tables, n, x, y, z, mask):
    """Rows in storage of vertices of one level, whose table of n^3 bricks is at `tables`."""
    at = ((z >> 2) * n + (y >> 2)).to(tl.int64) * n + (x >> 2)
    place = tl.load(tables + at, mask=mask, other=0).to(tl.int64)
    return place * 64 + ((x & 3) + 4 * (y & 3) + 16 * (z & 3))


@triton.jit
def _axis(points, i, a: tl.constexpr, low, voxel, exists):
    return (tl.load(points + 3 * i + a, mask=exists, other=-1.0) - low) / voxel


@triton.jit
def _cells(points, n_points, words, resolution, low_x, low_y, low_z, voxel, POINTS: tl.constexpr):
    """Index of each point, its place and its cell in finest voxels, whether that is occupied."""
    i = tl.program_id(0).to(tl.int64) * POINTS + tl.arange(0, POINTS)
    exists = i < n_points
    px = _axis(points, i, 0, low_x, voxel, exists)
    py = _axis(points, i, 1, low_y, voxel, exists)
    pz = _axis(points, i, 2, low_z, voxel, exists)
    top = resolution.to(tl.float32)
    inside = (px >= 0) & (px < top) & (py >= 0) & (py < top) & (pz >= 0) & (pz < top)
    inside = inside & exists
    x = tl.where(inside, px, 0.0).to(tl.int32)
    y = tl.where(inside, py, 0.0).to(tl.int32)
    z = tl.where(inside, pz, 0.0).to(tl.int32)
    n = (resolution + 3) // 4
    block = ((z >> 2) * n + (y >> 2)).to(tl.int64) * n + (x >> 2)
    word = tl.load(words + block, mask=inside, other=0)
    bit = (x & 3) + 4 * (y & 3) + 16 * (z & 3)
    occupied = inside & (((word >> bit.to(tl.int64)) & 1) != 0)
    return i, exists, px, py, pz, x, y, z, occupied


@triton.jit
def _in_level(px, py, pz, x, y, z, s):
    """Cell of a level and the place in it, in [0, 1]; its edge's reciprocal in finest voxels."""
    cx, cy, cz = x >> s, y >> s, z >> s
    shrink = 1.0 / (tl.zeros([], tl.int32) + (1 << s)).to(tl.float32)
    ux = px * shrink - cx.to(tl.float32)
    uy = py * shrink - cy.to(tl.float32)
    uz = pz * shrink - cz.to(tl.float32)
    return cx, cy, cz, ux, uy, uz, shrink


@triton.jit(do_not_specialize=["resolution"])
def _forward_kernel(
    points,
    n_points,
    words,
    resolution,
    tables,
    low_x,
    low_y,
    low_z,
    voxel,
    values,
    out,
    LEVELS: tl.constexpr,
    TOP: tl.constexpr,
    CHANNELS: tl.constexpr,
    POINTS: tl.constexpr,
):
    i, exists, px, py, pz, x, y, z, occupied = _cells(
        points, n_points, words, resolution, low_x, low_y, low_z, voxel, POINTS
    )
    channel = tl.arange(0, CHANNELS)[None, :]
    total = tl.zeros([POINTS, CHANNELS], tl.float32)
    for up in range(TOP + 1):  # not unrolled: the loads of one level are enough in flight
        s = TOP - up
        if (LEVELS >> s) & 1:
            n = (resolution >> s) // 4 + 1
            cx, cy, cz, ux, uy, uz, _ = _in_level(px, py, pz, x, y, z, s)
            for c in tl.static_range(8):
                row = vertex_rows(
                    tables, n, cx + (c & 1), cy + (c >> 1 & 1), cz + (c >> 2), occupied
                )
                w = ux if c & 1 else 1.0 - ux
                w *= uy if c >> 1 & 1 else 1.0 - uy
                w *= uz if c >> 2 else 1.0 - uz
                found = tl.load(
                    values + row[:, None] * CHANNELS + channel, mask=occupied[:, None], other=0.0
                )
                total += w[:, None] * found.to(tl.float32)
            tables += n.to(tl.int64) * n * n
    total = tl.where(occupied[:, None], total, 0.0)
    tl.store(out + i[:, None] * CHANNELS + channel, total, mask=exists[:, None])


@triton.jit(do_not_specialize=["resolution"])
def _backward_kernel(
    points,
    n_points,
    words,
    resolution,
    tables,
    low_x,
    low_y,
    low_z,
    voxel,
    values,
    g_out,
    g_points,  # None: not wanted
    g_values,  # float32, added to; None: not wanted
    LEVELS: tl.constexpr,
    TOP: tl.constexpr,
    CHANNELS: tl.constexpr,
    POINTS: tl.constexpr,
):
    i, exists, px, py, pz, x, y, z, occupied = _cells(
        points, n_points, words, resolution, low_x, low_y, low_z, voxel, POINTS
    )
    channel = tl.arange(0, CHANNELS)[None, :]
    g = tl.load(g_out + i[:, None] * CHANNELS + channel, mask=occupied[:, None], other=0.0)
    gx = tl.zeros([POINTS], tl.float32)
    gy = tl.zeros([POINTS], tl.float32)
    gz = tl.zeros([POINTS], tl.float32)
    for up in range(TOP + 1):  # not unrolled: the loads of one level are enough in flight
        s = TOP - up
        if (LEVELS >> s) & 1:
            n = (resolution >> s) // 4 + 1
            cx, cy, cz, ux, uy, uz, shrink = _in_level(px, py, pz, x, y, z, s)
            for c in tl.static_range(8):
                row = vertex_rows(
                    tables, n, cx + (c & 1), cy + (c >> 1 & 1), cz + (c >> 2), occupied
                )
                at = row[:, None] * CHANNELS + channel
                wx = ux if c & 1 else 1.0 - ux
                wy = uy if c >> 1 & 1 else 1.0 - uy
                wz = uz if c >> 2 else 1.0 - uz
                if g_values is not None:
                    share = (wx * wy * wz)[:, None] * g
                    tl.atomic_add(g_values + at, share, mask=occupied[:, None], sem="relaxed")
                if g_points is not None:
                    found = tl.load(values + at, mask=occupied[:, None], other=0.0)
                    slope = tl.sum(g * found.to(tl.float32), 1) * shrink
                    gx += slope * wy * wz * (1.0 if c & 1 else -1.0)
                    gy += slope * wx * wz * (1.0 if c >> 1 & 1 else -1.0)
                    gz += slope * wx * wy * (1.0 if c >> 2 else -1.0)
            tables += n.to(tl.int64) * n * n
    if g_points is not None:
        tl.store(g_points + 3 * i, gx / voxel, mask=exists)
        tl.store(g_points + 3 * i + 1, gy / voxel, mask=exists)
        tl.store(g_points + 3 * i + 2, gz / voxel, mask=exists)


class _VoxelFeatures(torch.autograd.Function):
    @staticmethod
    def forward(ctx, points, values, grid):
        out = points.new_empty(len(points), *values.shape[1:])
        _launch(_forward_kernel, points, values, grid, out)
        ctx.save_for_backward(points, values)
        ctx.grid = grid
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, g_out):
        points, values = ctx.saved_tensors
        g_points = torch.empty_like(points) if ctx.needs_input_grad[0] else None
        g_values = None
        if ctx.needs_input_grad[1]:
            g_values = torch.zeros_like(values, dtype=torch.float32)
        _launch(_backward_kernel, points, values, ctx.grid, g_out.contiguous(), g_points, g_values)
        return g_points, None if g_values is None else g_values.to(values.dtype), None


def _launch(kernel, points, values, grid: RenderGrid, *results) -> None:
    channels = 1 if values.dim() == 1 else values.shape[1]
    levels = sum(grid.resolution // r for r in grid.resolutions.tolist())  # powers of two
    launch(
        kernel,
        (triton.cdiv(len(points), POINTS[channels]),),
        *(points, len(points), grid.words, grid.resolution, grid.tables),
        *(*grid.box_min, grid.voxel, values, *results),
        LEVELS=levels,
        TOP=levels.bit_length() - 1,
        CHANNELS=channels,
        POINTS=POINTS[channels],
        num_warps=WARPS,
    )


def voxel_features(points: torch.Tensor, grid: RenderGrid, values: torch.Tensor) -> torch.Tensor:
    """Same function as the reference; points float32, values float32 or 16-bit, sums float32."""
    check_float32(points=points)
    if values.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"`values` must be float32, float16 or bfloat16, got {values.dtype}")
    if grid.words.device != points.device:
        raise ValueError(f"`grid` must be on {points.device}, got {grid.words.device}: grid.to()")
    return _VoxelFeatures.apply(points.contiguous(), values.contiguous(), grid)


_GRID = "*fp32 i32 *i64 i32 *i32 fp32 fp32 fp32 fp32 "


def _aot(channels: int, values: str) -> list[Configuration]:
    constants = {"LEVELS": 0b11111, "TOP": 4, "CHANNELS": channels, "POINTS": POINTS[channels]}
    wide = (r"LDG\.E\S*(128|64)",) if channels == 16 else ()
    return [
        Configuration(
            f"voxel_features {channels} {values} forward",
            _forward_kernel,
            f"{_GRID} *{values} *fp32",
            constants,
            WARPS,
            max_registers=128,
            wanted=wide,
        ),
        Configuration(
            f"voxel_features {channels} {values} backward",
            _backward_kernel,
            f"{_GRID} *{values} *fp32 *fp32 *fp32",
            constants,
            WARPS,
            max_registers=255,  # 106 on sm_90, which adds four values at once
            wanted=(*wide, "RED(?!UX)|ATOMG"),
        ),
    ]


AOT = [*_aot(1, "fp32"), *_aot(16, "fp32"), *_aot(16, "fp16"), *_aot(16, "bf16")]
