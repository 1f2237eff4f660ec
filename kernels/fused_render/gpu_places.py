"""Triton: how interpolations change with the place. One sample a lane.

Symbols as in `gpu_march`; slopes are along x, y and z, for finest voxels.
"""

import triton
import triton.language as tl

from .gpu_march import cell_terms, corner
from .gpu_network import FEATURES, as_columns, level_terms


@triton.jit
def corner_slopes(weights, c: tl.constexpr):
    """Slopes of the weight of corner c, bit 0 of which is x."""
    i: tl.constexpr = c & 1
    j: tl.constexpr = c >> 1 & 1
    k: tl.constexpr = c >> 2
    x, y, z = weights[i], weights[2 + j], weights[4 + k]
    return (2 * i - 1) * y * z, (2 * j - 1) * x * z, (2 * k - 1) * x * y


@triton.jit
def raw_density_slopes(density, table, resolution, p, cell, mask):
    """`raw_density`, and its slopes."""
    terms = cell_terms(p, cell, resolution // 4 + 1)
    raw = tl.zeros_like(p[0])
    x, y, z = raw, raw, raw
    for c in tl.static_range(8):
        row, weight = corner(terms, table, c, mask)
        value = tl.load(density + row, mask=mask, other=0.0)
        raw += weight * value
        along_x, along_y, along_z = corner_slopes(terms[0], c)
        x += along_x * value
        y += along_y * value
        z += along_z * value
    return raw, (x, y, z)


@triton.jit
def feature_slopes(features, tables, levels, n_levels, p, cell, gradient, mask):
    """Slopes [B] of the features [B, 16] that `gather_features` finds, times their gradient."""
    channel = tl.arange(0, FEATURES)[None, :]
    p, cell, mask = as_columns(p), as_columns(cell), mask[:, None]
    x = tl.zeros_like(p[0])
    y, z = x, x
    for half in range(2 * n_levels):
        level, upper = half >> 1, half & 1
        table, terms = level_terms(tables, levels, level, upper, p, cell)
        per_voxel = 1.0 / (1 << tl.load(levels + level * 3)).to(tl.float32)
        for c in tl.static_range(4):
            row, _weight = corner(terms, table, c, mask)
            record = tl.load(features + row * FEATURES + channel, mask=mask, other=0.0)
            value = per_voxel * tl.sum(record.to(tl.float32) * gradient, 1)[:, None]
            along_x, along_y, along_z = corner_slopes(terms[0], c)
            x += along_x * value
            y += along_y * value
            z += (1 - 2 * upper) * along_z * value  # corners 0 to 3 are the lower ones
    return tl.sum(x, 1), tl.sum(y, 1), tl.sum(z, 1)


@triton.jit
def add_place(go, gd, slopes, gradient, t):
    """Add gradients of places, slopes times `gradient`, to those of origins and directions."""
    x, y, z = slopes[0] * gradient, slopes[1] * gradient, slopes[2] * gradient
    go = go[0] + x, go[1] + y, go[2] + z
    return go, (gd[0] + t * x, gd[1] + t * y, gd[2] + t * z)
