"""The Triton first_hit kernel; see `nerfkit.kernels.first_hit.first_hit`.

One ray a lane, in finest voxels from the cube's lowest corner: t = (k + 1/2) step, o + t d.
"""

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

from .occupancy import Occupancy
from .reference import PARALLEL as _PARALLEL

RAYS = 128
WARPS = 4
PARALLEL = tl.constexpr(_PARALLEL)


@triton.jit
def _slab(o, d, top, t_in, t_out):
    parallel = tl.abs(d) < PARALLEL
    inverse = 1.0 / tl.where(parallel, 1.0, d)
    t_0, t_1 = -o * inverse, (top - o) * inverse
    outside = parallel & ((o < 0.0) | (o >= top))
    t_in = tl.where(parallel, t_in, tl.maximum(t_in, tl.minimum(t_0, t_1)))
    t_out = tl.where(parallel, t_out, tl.minimum(t_out, tl.maximum(t_0, t_1)))
    return t_in, tl.where(outside, -1.0, t_out)


@triton.jit
def _cell(o, d, t, resolution):
    """Points a rounding error outside belong to the outermost voxel."""
    p = o + t * d
    p = tl.where(p > 0.0, tl.minimum(p, 2048.0), 0.0)  # NaN too is somewhere
    return tl.minimum(p.to(tl.int32), resolution - 1)


@triton.jit
def _exit(o, d, cell, edge):
    """Distance at which a ray leaves the node of 2^edge voxels around a cell, along one axis."""
    low = (cell >> edge) << edge
    face = tl.where(d > 0.0, low + (1 << edge), low).to(tl.float32)
    parallel = tl.abs(d) < PARALLEL
    return tl.where(parallel, 1e30, (face - o) / tl.where(parallel, 1.0, d))


@triton.jit
def _empty_node(words, resolution, x, y, z, mask, LEVELS: tl.constexpr):
    """log2 of the edge of the largest empty node around a voxel, -1 if the voxel is occupied."""
    edge = tl.full(x.shape, -1, tl.int32)
    n = resolution
    for level in tl.static_range(LEVELS):
        n = (n + 3) // 4
        s = 2 * level
        block = ((z >> (s + 2)) * n + (y >> (s + 2))).to(tl.int64) * n + (x >> (s + 2))
        word = tl.load(words + block, mask=mask, other=0)
        bit = ((x >> s) & 3) + 4 * ((y >> s) & 3) + 16 * ((z >> s) & 3)
        edge = tl.where(((word >> bit.to(tl.int64)) & 1) == 0, s, edge)
        words += n.to(tl.int64) * n * n
    return edge


@triton.jit(do_not_specialize=["resolution"])
def _kernel(
    origins,
    directions,
    n_rays,
    words,
    resolution,
    low_x,
    low_y,
    low_z,
    voxel,
    step,
    t_hit,
    LEVELS: tl.constexpr,
    RAYS: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    exists = i < n_rays
    ox = (tl.load(origins + 3 * i, mask=exists, other=0.0) - low_x) / voxel
    oy = (tl.load(origins + 3 * i + 1, mask=exists, other=0.0) - low_y) / voxel
    oz = (tl.load(origins + 3 * i + 2, mask=exists, other=0.0) - low_z) / voxel
    dx = tl.load(directions + 3 * i, mask=exists, other=0.0) / voxel
    dy = tl.load(directions + 3 * i + 1, mask=exists, other=0.0) / voxel
    dz = tl.load(directions + 3 * i + 2, mask=exists, other=0.0) / voxel
    top = resolution.to(tl.float32)
    t_in = tl.zeros([RAYS], tl.float32)
    t_out = tl.full([RAYS], 3e38, tl.float32)
    t_in, t_out = _slab(ox, dx, top, t_in, t_out)
    t_in, t_out = _slab(oy, dy, top, t_in, t_out)
    t_in, t_out = _slab(oz, dz, top, t_in, t_out)
    # Integer ends, so that a march ends whatever the ray: NaN, infinite, of no direction.
    end = tl.ceil(t_out / step - 0.5)
    first = tl.ceil(t_in / step - 0.5)
    sane = exists & (end < 1e9) & (first <= end)
    k = tl.where(sane, tl.maximum(first, 0.0), 1.0).to(tl.int32)
    k_end = tl.where(sane, end + 1.0, 0.0).to(tl.int32)
    t = (k.to(tl.float32) + 0.5) * step
    hit = tl.full([RAYS], float("inf"), tl.float32)
    marching = (k < k_end) & (t < t_out)
    while tl.max(marching.to(tl.int32)) > 0:
        x = _cell(ox, dx, t, resolution)
        y = _cell(oy, dy, t, resolution)
        z = _cell(oz, dz, t, resolution)
        edge = _empty_node(words, resolution, x, y, z, marching, LEVELS)
        found = marching & (edge < 0)
        hit = tl.where(found, t, hit)
        marching = marching & (edge >= 0)
        edge = tl.maximum(edge, 0)
        t_exit = tl.minimum(_exit(ox, dx, x, edge), _exit(oy, dy, y, edge))
        t_exit = tl.minimum(t_exit, _exit(oz, dz, z, edge))
        # A hair less than the face, so that a point on the face is looked at itself.
        jump = tl.minimum(tl.maximum(t_exit / step - 0.501, -1.0), 1e9).to(tl.int32) + 1
        k = tl.where(marching, tl.maximum(jump, k + 1), k)
        t = (k.to(tl.float32) + 0.5) * step
        marching = marching & (k < k_end) & (t < t_out)
    tl.store(t_hit + i, hit, mask=exists)


def first_hit(
    origins: torch.Tensor, directions: torch.Tensor, occupancy: Occupancy, step: float
) -> torch.Tensor:
    """Same function as the reference, float32 only."""
    check_float32(origins=origins, directions=directions)
    if occupancy.words.device != origins.device:
        raise ValueError(
            f"`occupancy` must be on {origins.device}, got {occupancy.words.device}: occupancy.to()"
        )
    t = origins.new_empty(len(origins))
    launch(
        _kernel,
        (triton.cdiv(len(origins), RAYS),),
        *(origins.contiguous(), directions.contiguous(), len(origins), occupancy.words),
        *(occupancy.resolution, *occupancy.box_min, occupancy.voxel, step, t),
        LEVELS=_levels(occupancy.resolution),
        RAYS=RAYS,
        num_warps=WARPS,
    )
    return t


def _levels(resolution: int) -> int:
    """Levels of the bit pyramid."""
    levels, n = 1, -(-resolution // 4)
    while n > 1:
        levels, n = levels + 1, -(-n // 4)
    return levels


AOT = [
    Configuration(
        f"first_hit {resolution}",
        _kernel,
        "*fp32 *fp32 i32 *i64 i32 fp32 fp32 fp32 fp32 fp32 *fp32",
        {"LEVELS": _levels(resolution), "RAYS": RAYS},
        WARPS,
        max_registers=64,
    )
    for resolution in (256, 1024)
]
