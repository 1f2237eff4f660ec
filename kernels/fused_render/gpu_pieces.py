"""Triton: rays in pieces (`ray_pieces`). One ray a lane, which is on one of its pieces at a time.

Symbols: rows of pieces [P, 11]; s distance along a piece, a the length of the ray's pieces before
it. Lattice points of a piece lie at s = (k + shift) step with shift = frac(jitter - a / step).
"""

import triton
import triton.language as tl

from nerfkit.kernels.ray_pieces import COLUMNS as _COLUMNS

COLUMNS = tl.constexpr(_COLUMNS)
AT_INFINITY = tl.constexpr(1e-12)  # least of u: rounding must not make it none


@triton.jit
def load_piece(pieces, row, mask, box_x, box_y, box_z, voxel):
    """Origin in voxels, unit direction and length of pieces [B]."""
    at = pieces + row.to(tl.int64) * COLUMNS
    ox = (tl.load(at, mask=mask, other=0.0) - box_x) / voxel
    oy = (tl.load(at + 1, mask=mask, other=0.0) - box_y) / voxel
    oz = (tl.load(at + 2, mask=mask, other=0.0) - box_z) / voxel
    vx = tl.load(at + 3, mask=mask, other=1.0)
    vy = tl.load(at + 4, mask=mask, other=0.0)
    vz = tl.load(at + 5, mask=mask, other=0.0)
    return (ox, oy, oz), (vx, vy, vz), tl.load(at + 6, mask=mask, other=0.0)


@triton.jit
def shift_after(jitter, travelled, step):
    """Where the lattice that goes through all pieces of a ray begins in one of them."""
    shift = jitter - travelled / step
    return shift - tl.floor(shift)


@triton.jit
def world_distance(pieces, row, s, mask):
    """t along the ray in the world of what lies at s along pieces [B]."""
    at = pieces + row.to(tl.int64) * COLUMNS
    u = tl.load(at + 7, mask=mask, other=1.0) + s * tl.load(at + 8, mask=mask, other=0.0)
    m = tl.load(at + 9, mask=mask, other=0.0) + s * tl.load(at + 10, mask=mask, other=0.0)
    return m / tl.maximum(u, AT_INFINITY)


@triton.jit
def where_each(condition, new, old):
    """tl.where of tuples (x, y, z)."""
    x = tl.where(condition, new[0], old[0])
    y = tl.where(condition, new[1], old[1])
    return x, y, tl.where(condition, new[2], old[2])
