"""Triton pieces of rays. Shapes as in the package docstring; float32 only, without gradients.

One ray a lane, in double as the compiled code: the next cut is the nearest of the 12 that lies
beyond the last one, so that nothing is sorted, and a cut that is there twice is taken once. One
launch counts, one fills.
"""

import functools

import torch
import triton
import triton.language as tl

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch

from . import COLUMNS as _COLUMNS
from . import Pieces
from .reference import SHORTEST as _SHORTEST

RAYS = 128
COLUMNS = tl.constexpr(_COLUMNS)
SHORTEST = tl.constexpr(_SHORTEST)
# t that stands for infinity: Triton 3.6 rounds some constants beside float64 to float32, and a ray
# whose end is rounded down would never be at it
HUGE = tl.constexpr(2.0**100)
OUTSIDE = tl.constexpr(-1)  # the region of no place


@triton.jit
def _cut(above, below, t):
    """above / below where that is after t, else HUGE."""
    usable = tl.abs(below) * HUGE > tl.abs(above)
    at = above / tl.where(usable, below, 1.0)
    return tl.where(usable & (at > t), at, HUGE)


@triton.jit
def _cuts(o, d, o_next, d_next, t):
    """The first after t of the cuts that belong to an axis, given that and the next one."""
    faces = tl.minimum(_cut(1.0 - o, d, t), _cut(-1.0 - o, d, t))
    planes = tl.minimum(_cut(o_next - o, d - d_next, t), _cut(-o_next - o, d + d_next, t))
    return tl.minimum(faces, planes)


@triton.jit
def _next_cut(o, d, t):
    """The first t after the given one at a face of the cube or at a plane |x_a| = |x_b|."""
    nearest = _cuts(o[0], d[0], o[1], d[1], t)
    nearest = tl.minimum(nearest, _cuts(o[1], d[1], o[2], d[2], t))
    return tl.minimum(nearest, _cuts(o[2], d[2], o[0], d[0], t))


@triton.jit
def _region(o, d, t):
    """0 inside; 1 + 2 a beyond the face of positive a, 2 + 2 a beyond that of negative a."""
    x, y, z = o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]
    sx, sy, sz = tl.abs(x), tl.abs(y), tl.abs(z)
    most = tl.maximum(tl.maximum(sx, sy), sz)
    on_x, on_y = sx == most, sy == most  # the first axis of the largest
    face = tl.where(on_x, 1, tl.where(on_y, 3, 5))
    at = tl.where(on_x, x, tl.where(on_y, y, z))
    return tl.where(most <= 1.0, 0, face + (at < 0.0).to(tl.int32))


@triton.jit
def _end(o, d, t, region):
    """Place (x, y, z) in the cube, u and m of the point at t, also at HUGE."""
    away, outer = t >= HUGE, region > 0
    axis = (region - 1) >> 1
    sign = tl.where((region & 1) == 1, 1.0, -1.0).to(tl.float64)
    near_t = tl.where(away, 0.0, t)
    x = tl.where(away, d[0], o[0] + near_t * d[0])
    y = tl.where(away, d[1], o[1] + near_t * d[1])
    z = tl.where(away, d[2], o[2] + near_t * d[2])
    along = tl.where(axis == 0, x, tl.where(axis == 1, y, z))
    scale = 1.0 / tl.where(outer, sign * along, 1.0)
    u = tl.where(away, 0.0, scale)
    m = tl.where(away, scale, scale * near_t)
    shell = sign * (2.0 - u)
    x = tl.where(outer & (axis == 0), shell, x * scale)
    y = tl.where(outer & (axis == 1), shell, y * scale)
    z = tl.where(outer & (axis == 2), shell, z * scale)
    return x, y, z, u, m


@triton.jit
def _load(origins, directions, cube, ray, a: tl.constexpr, exists):
    """One component of rays in units of half a cube, and whether that is a number."""
    o = tl.load(origins + 3 * ray + a, mask=exists, other=0.0).to(tl.float64)
    d = tl.load(directions + 3 * ray + a, mask=exists, other=0.0).to(tl.float64)
    half = tl.load(cube + 3)
    o = (o - tl.load(cube + a)) / half
    sane = (tl.abs(o) < 1e18) & (tl.abs(d) < 1e6)  # false for NaN
    return tl.where(sane, o, 0.0), tl.where(sane, d / half, 0.0), sane


@triton.jit
def _kernel(
    origins,
    directions,
    cube,  # [5] double: centre [3], half edge, near
    n_rays,
    counts,  # [R], written alone where given; else the rows are
    first,
    rows,
    RAYS: tl.constexpr,
):
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    exists = ray < n_rays
    half, near = tl.load(cube + 3), tl.load(cube + 4)
    ox, dx, sane_x = _load(origins, directions, cube, ray, 0, exists)
    oy, dy, sane_y = _load(origins, directions, cube, ray, 1, exists)
    oz, dz, sane_z = _load(origins, directions, cube, ray, 2, exists)
    o, d = (ox, oy, oz), (dx, dy, dz)
    moves = (dx != 0.0) | (dy != 0.0) | (dz != 0.0)
    alive = exists & sane_x & sane_y & sane_z & moves

    t = tl.zeros([RAYS], tl.float64) + near
    start = t
    region = tl.zeros([RAYS], tl.int32) + OUTSIDE
    out = tl.zeros([RAYS], tl.int64)
    if counts is None:
        out += tl.load(first + ray, mask=exists, other=0)
    found = tl.zeros([RAYS], tl.int64)
    while tl.max(alive.to(tl.int32), 0) > 0:
        after = _next_cut(o, d, t)
        middle = tl.where(after >= HUGE, 2.0 * t + half, 0.5 * (t + after))
        here = tl.where(t >= HUGE, OUTSIDE, _region(o, d, middle))
        ended = alive & (here != region) & (region != OUTSIDE)
        ax, ay, az, au, am = _end(o, d, start, region)
        bx, by, bz, bu, bm = _end(o, d, t, region)
        wx, wy, wz = bx - ax, by - ay, bz - az
        square = wx * wx + wy * wy + wz * wz
        ended = ended & (square > SHORTEST * SHORTEST)
        if counts is None:
            length = tl.sqrt(tl.where(ended, square, 1.0))
            at = rows + (out + found) * COLUMNS
            tl.store(at, ax.to(tl.float32), mask=ended)
            tl.store(at + 1, ay.to(tl.float32), mask=ended)
            tl.store(at + 2, az.to(tl.float32), mask=ended)
            tl.store(at + 3, (wx / length).to(tl.float32), mask=ended)
            tl.store(at + 4, (wy / length).to(tl.float32), mask=ended)
            tl.store(at + 5, (wz / length).to(tl.float32), mask=ended)
            tl.store(at + 6, length.to(tl.float32), mask=ended)
            tl.store(at + 7, au.to(tl.float32), mask=ended)
            tl.store(at + 8, ((bu - au) / length).to(tl.float32), mask=ended)
            tl.store(at + 9, am.to(tl.float32), mask=ended)
            tl.store(at + 10, ((bm - am) / length).to(tl.float32), mask=ended)
        found += ended.to(tl.int64)
        start = tl.where(here != region, t, start)
        region = here
        alive = alive & (t < HUGE)
        t = tl.where(alive, after, t)
    if counts is not None:
        tl.store(counts + ray, found, mask=exists)


@functools.lru_cache(maxsize=64)
def _cube(device: torch.device, *numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float64, device=device)


def ray_pieces(
    origins: torch.Tensor,
    directions: torch.Tensor,
    center: tuple[float, float, float],
    half: float,
    near: float,
) -> Pieces:
    """Same function as the reference."""
    check_float32(origins=origins, directions=directions)
    for name, rays in (("origins", origins), ("directions", directions)):
        if rays.requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"`{name}` must not require gradients on backend 'gpu': detach it or use "
                "backend='reference'"
            )
    n, device = len(origins), origins.device
    cube = _cube(device, *map(float, (*center, half, near)))
    given = origins.detach().contiguous(), directions.detach().contiguous(), cube, n
    programs, first = (triton.cdiv(n, RAYS),), torch.zeros(n + 1, dtype=torch.int64, device=device)
    launch(_kernel, programs, *given, first[1:], None, None, RAYS=RAYS)
    first = first.cumsum(0)
    rows = origins.new_empty(int(first[-1]), COLUMNS.value)
    if len(rows):
        launch(_kernel, programs, *given, None, first, rows, RAYS=RAYS)
    return Pieces(rows, first)


AOT = [
    Configuration(
        f"ray_pieces {name}",
        _kernel,
        f"*fp32 *fp32 *fp64 i32 {outputs}",
        {"RAYS": RAYS},
        max_registers=128,
    )
    for name, outputs in (("count", "*i64 None None"), ("fill", "None *i64 *fp32"))
]
