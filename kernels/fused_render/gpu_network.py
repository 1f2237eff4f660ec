"""Triton: features of samples, and the colour network. One sample a row.

Symbols: B rows of a tile; H1, H2 units of the hidden layers, N_HIDDEN of which exist; P1, P2 the
same rounded up to a power of two, at least 16. The input of the first layer is in two parts, 16
features and the direction's harmonics with a 1 after them, whose weight is the bias: D columns.
"""

import triton
import triton.language as tl

from .gpu_march import cell_terms, corner

FEATURES = tl.constexpr(16)
OUT = tl.constexpr(16)  # columns of the output, of which 3 are used: the least a tl.dot takes


@triton.jit
def harmonics(x, y, z, BANDS: tl.constexpr, D: tl.constexpr):
    """Real spherical harmonics [B, D] of directions [B], as in `encodings`, then 1, then zeros."""
    return harmonics_of(x, y, z, tl.arange(0, D)[None, :], BANDS)


@triton.jit
def harmonics_of(x, y, z, column, BANDS: tl.constexpr):
    """The same for given columns [1, D]."""
    x, y, z = x[:, None], y[:, None], z[:, None]
    out = tl.where(column == BANDS * BANDS, 1.0, 0.0) + 0.0 * x
    out = tl.where(column == 0, 0.28209479177387814, out)
    if BANDS >= 2:
        out = tl.where(column == 1, -0.48860251190291987 * y, out)
        out = tl.where(column == 2, 0.48860251190291987 * z, out)
        out = tl.where(column == 3, -0.48860251190291987 * x, out)
    if BANDS >= 3:
        out = tl.where(column == 4, 1.0925484305920792 * x * y, out)
        out = tl.where(column == 5, -1.0925484305920792 * y * z, out)
        out = tl.where(column == 6, 0.94617469575756008 * z * z - 0.31539156525251999, out)
        out = tl.where(column == 7, -1.0925484305920792 * x * z, out)
        out = tl.where(column == 8, 0.54627421529603959 * (x * x - y * y), out)
    if BANDS >= 4:
        edge = 1.0 - 5.0 * z * z
        out = tl.where(column == 9, 0.59004358992664352 * y * (y * y - 3.0 * x * x), out)
        out = tl.where(column == 10, 2.8906114426405538 * x * y * z, out)
        out = tl.where(column == 11, 0.45704579946446572 * y * edge, out)
        out = tl.where(column == 12, 0.3731763325901154 * z * (5.0 * z * z - 3.0), out)
        out = tl.where(column == 13, 0.45704579946446572 * x * edge, out)
        out = tl.where(column == 14, 1.4453057213202769 * z * (x * x - y * y), out)
        out = tl.where(column == 15, 0.59004358992664352 * x * (3.0 * y * y - x * x), out)
    return out


@triton.jit
def as_columns(p):
    """A tuple of tensors [B] as one of [B, 1]."""
    return p[0][:, None], p[1][:, None], p[2][:, None]


@triton.jit
def level_terms(tables, levels, level, upper, p, cell):
    """The level's table, and the `cell_terms` of points in it (given in finest voxels).

    With those of z for the lower or upper four corners alone, so that corner c < 4 is one of them:
    eight records at once would take the registers of as many more warps.
    """
    shift = tl.load(levels + level * 3)
    n = tl.load(levels + level * 3 + 1)
    table = tables + tl.load(levels + level * 3 + 2)
    edge = (1 << shift).to(tl.float32)
    p = p[0] / edge, p[1] / edge, p[2] / edge
    cell = cell[0] >> shift, cell[1] >> shift, cell[2] >> shift
    weights, bricks, inner = cell_terms(p, cell, n)
    weight = weights[4] + (weights[5] - weights[4]) * upper
    brick = bricks[4] + (bricks[5] - bricks[4]) * upper
    place = inner[4] + (inner[5] - inner[4]) * upper
    weights = weights[0], weights[1], weights[2], weights[3], weight
    bricks = bricks[0], bricks[1], bricks[2], bricks[3], brick
    inner = inner[0], inner[1], inner[2], inner[3], place
    return table, (weights, bricks, inner)


@triton.jit
def gather_features(features, tables, levels, n_levels, p, cell, mask):
    """Features [B, 16] float32, summed over levels and corners, of points [B]; zeros if masked."""
    channel = tl.arange(0, FEATURES)[None, :]
    p, cell, mask = as_columns(p), as_columns(cell), mask[:, None]
    found = tl.zeros([mask.shape[0], FEATURES], tl.float32)
    for half in range(2 * n_levels):
        table, terms = level_terms(tables, levels, half >> 1, half & 1, p, cell)
        for c in tl.static_range(4):
            row, weight = corner(terms, table, c, mask)
            record = tl.load(features + row * FEATURES + channel, mask=mask, other=0.0)
            found += weight * record.to(tl.float32)
    return found


@triton.jit
def scatter_features(grad_features, touched, tables, levels, n_levels, p, cell, gradient, mask):
    """The transpose of `gather_features`; `touched` gets a 1 at every row it adds to."""
    channel = tl.arange(0, FEATURES)[None, :]
    p, cell, mask = as_columns(p), as_columns(cell), mask[:, None]
    one = tl.full([mask.shape[0], 1], 1, tl.uint8)
    for half in range(2 * n_levels):
        table, terms = level_terms(tables, levels, half >> 1, half & 1, p, cell)
        for c in tl.static_range(4):
            row, weight = corner(terms, table, c, mask)
            at = grad_features + row * FEATURES + channel
            tl.atomic_add(at, weight * gradient, mask=mask, sem="relaxed")
            tl.store(touched + row, one, mask=mask)


@triton.jit
def tile(packed, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Weights [ROWS, COLUMNS] at `packed`, as `gpu_launch.pack` lays them out."""
    return tl.load(packed + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :])


@triton.jit
def biases(mlp, N: tl.constexpr, P: tl.constexpr):
    """Biases [1, P] float32 of a layer after the first; `mlp` points at them."""
    n = tl.arange(0, P)[None, :]
    return tl.load(mlp + n, mask=n < N, other=0.0)


@triton.jit
def add_layer(
    grad, weight, bias, K: tl.constexpr, N: tl.constexpr, PK: tl.constexpr, PN: tl.constexpr
):
    """Add gradients [PK, PN] and [PN] of a later layer to `grad`, which points at the layer."""
    k, n = tl.arange(0, PK)[:, None], tl.arange(0, PN)[None, :]
    tl.atomic_add(grad + n * K + k, weight, mask=(n < N) & (k < K), sem="relaxed")
    n = tl.arange(0, PN)
    tl.atomic_add(grad + N * K + n, bias, mask=n < N, sem="relaxed")


@triton.jit
def add_inputs_weights(
    grad, gf, gd, BANDS: tl.constexpr, D: tl.constexpr, N: tl.constexpr, P: tl.constexpr
):
    """Add gradients of the first layer, with a part for features and one for harmonics and bias."""
    n_in: tl.constexpr = FEATURES + BANDS * BANDS
    unit = tl.arange(0, P)[None, :]
    f, j = tl.arange(0, FEATURES)[:, None], tl.arange(0, D)[:, None]
    tl.atomic_add(grad + unit * n_in + f, gf, mask=unit < N, sem="relaxed")
    at = tl.where(j == BANDS * BANDS, N * n_in + unit, unit * n_in + FEATURES + j)
    tl.atomic_add(grad + at, gd, mask=(unit < N) & (j <= BANDS * BANDS), sem="relaxed")


@triton.jit
def product(a, b):
    """a b, accumulated in float32 whatever the operands."""
    return tl.dot(a, b, input_precision="ieee", out_dtype=tl.float32)
