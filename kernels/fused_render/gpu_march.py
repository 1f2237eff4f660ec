"""Triton: lattice points of rays in occupied voxels, and the density there. One ray a lane.

Symbols: t_k = (k + jitter) step; o, d a ray in finest voxels from the cube's lowest corner; p a
point likewise; `cell` the finest voxel it is in; a node of edge 2^e voxels. o, d, p and `cell` are
tuples (x, y, z) of tensors with one element a lane.
"""

import triton
import triton.language as tl

NONE = tl.constexpr(-1)  # edge of the empty node round an occupied voxel


@triton.jit
def node_bit(words, offset, n, x, y, z, mask):
    """The bit of node (x, y, z) in a level of n^3 words (read as pairs of int32) at `offset`."""
    word = offset + ((z >> 2) * n + (y >> 2)) * n + (x >> 2)
    half = word.to(tl.int64) * 2 + ((z & 3) >> 1)
    bits = tl.load(words + half, mask=mask, other=0)
    return (bits >> ((x & 3) + ((y & 3) << 2) + ((z & 1) << 4))) & 1


@triton.jit
def empty_node(words, resolution, cell, mask):
    """log2 of the edge of the largest empty node round a voxel, at most 6; NONE if occupied.

    Nodes of 1, 4, 16 and 64 voxels are all asked at once: their words lie at addresses that the
    voxel alone decides, so that the loads wait for memory together.
    """
    x, y, z = cell
    n_0 = (resolution + 3) // 4
    n_1 = (n_0 + 3) // 4
    n_2 = (n_1 + 3) // 4
    n_3 = (n_2 + 3) // 4
    at_1 = n_0 * n_0 * n_0
    at_2 = at_1 + n_1 * n_1 * n_1
    at_3 = at_2 + n_2 * n_2 * n_2
    # tensors, not scalars: the interpreter makes int32 of a mask and a scalar
    has_1, has_2, has_3 = n_0 + 0 * x > 1, n_1 + 0 * x > 1, n_2 + 0 * x > 1
    bit_0 = node_bit(words, 0, n_0, x, y, z, mask)
    bit_1 = node_bit(words, at_1, n_1, x >> 2, y >> 2, z >> 2, mask & has_1)
    bit_2 = node_bit(words, at_2, n_2, x >> 4, y >> 4, z >> 4, mask & has_2)
    bit_3 = node_bit(words, at_3, n_3, x >> 6, y >> 6, z >> 6, mask & has_3)
    edge = tl.where(bit_0 == 0, 0, NONE)
    edge = tl.where((bit_1 == 0) & has_1, 2, edge)
    edge = tl.where((bit_2 == 0) & has_2, 4, edge)
    return tl.where((bit_3 == 0) & has_3, 6, edge)


@triton.jit
def clamp_cell(p, resolution):
    """The voxel along one axis; points a rounding error outside belong to the outermost one."""
    return tl.minimum(tl.maximum(p, 0.0).to(tl.int32), resolution - 1)


@triton.jit
def locate(o, v, voxel, t, resolution):
    """Points at distances t along rays of direction v / voxel, and their voxels."""
    px = o[0] + t * (v[0] / voxel)
    py = o[1] + t * (v[1] / voxel)
    pz = o[2] + t * (v[2] / voxel)
    cell = clamp_cell(px, resolution), clamp_cell(py, resolution), clamp_cell(pz, resolution)
    return (px, py, pz), cell


@triton.jit
def slab(o, d, top, t_in, t_out):
    """Narrow [t_in, t_out] to 0 <= o + t d < top."""
    parallel = tl.abs(d) < 1e-12
    inverse = 1.0 / tl.where(parallel, 1.0, d)
    t_0, t_1 = -o * inverse, (top - o) * inverse
    outside = parallel & ((o < 0.0) | (o >= top))
    t_in = tl.where(parallel, t_in, tl.maximum(t_in, tl.minimum(t_0, t_1)))
    t_out = tl.where(parallel, t_out, tl.minimum(t_out, tl.maximum(t_0, t_1)))
    return t_in, tl.where(outside, -1.0, t_out)


@triton.jit
def lattice_range(o, v, voxel, jitter, step, near, far, resolution):
    """First k of a ray, the first beyond its last, and where it leaves the cube.

    Integer ends, so that a march ends whatever the ray: NaN, infinite, of no direction.
    """
    top = resolution.to(tl.float32)
    t_in, t_out = tl.zeros_like(jitter) + near, tl.zeros_like(jitter) + far
    t_in, t_out = slab(o[0], v[0] / voxel, top, t_in, t_out)
    t_in, t_out = slab(o[1], v[1] / voxel, top, t_in, t_out)
    t_in, t_out = slab(o[2], v[2] / voxel, top, t_in, t_out)
    first = tl.maximum(tl.ceil(t_in / step - jitter), 0.0)
    end = tl.ceil(t_out / step - jitter)
    sane = (end < 1e9) & (first <= end)  # false for NaN
    first = tl.where(sane, first, 0.0).to(tl.int32)
    end = tl.where(sane, end, -1.0).to(tl.int32) + 1
    return first, end, t_out


@triton.jit
def face(o, d, cell, edge, AHEAD: tl.constexpr):
    """Distance to the face of the node round `cell` that a ray leaves by (AHEAD) or came in by."""
    low = (cell >> edge) << edge
    high = low + (1 << edge)
    if AHEAD:
        at = tl.where(d > 0.0, high, low).to(tl.float32)
        away = 1e30
    else:
        at = tl.where(d > 0.0, low, high).to(tl.float32)
        away = -1e30
    parallel = tl.abs(d) < 1e-12
    return tl.where(parallel, away, (at - o) / tl.where(parallel, 1.0, d))


@triton.jit
def after_node(o, v, voxel, cell, edge, k, jitter, step):
    """The first k that may lie beyond an empty node.

    A hair less than the face says, so that a point on the face is looked at itself.
    """
    edge = tl.maximum(edge, 0)  # NONE is no shift
    t = face(o[0], v[0] / voxel, cell[0], edge, True)
    t = tl.minimum(t, face(o[1], v[1] / voxel, cell[1], edge, True))
    t = tl.minimum(t, face(o[2], v[2] / voxel, cell[2], edge, True))
    jump = tl.minimum(tl.maximum(t / step - jitter - 1e-3, -1.0), 1e9)
    return tl.maximum(jump.to(tl.int32) + 1, k + 1)


@triton.jit
def before_node(o, v, voxel, cell, edge, k, jitter, step):
    """`after_node` for a march to the front: the last k that may lie before an empty node."""
    edge = tl.maximum(edge, 0)
    t = face(o[0], v[0] / voxel, cell[0], edge, False)
    t = tl.maximum(t, face(o[1], v[1] / voxel, cell[1], edge, False))
    t = tl.maximum(t, face(o[2], v[2] / voxel, cell[2], edge, False))
    jump = tl.maximum(tl.minimum(tl.ceil(t / step - jitter + 1e-3), 1e9), -1.0)
    return tl.minimum(jump.to(tl.int32) - 1, k - 1)


@triton.jit
def cell_terms(p, cell, n):
    """What the corners of a cell are made of, low and high along each axis.

    `p` in the level's own voxels, n bricks along an axis of its table.

    Returns:
        weights, brick offsets and offsets in the brick, each (x0, x1, y0, y1, z0, z1).
    """
    x, y, z = cell
    fx, fy, fz = p[0] - x.to(tl.float32), p[1] - y.to(tl.float32), p[2] - z.to(tl.float32)
    weights = 1.0 - fx, fx, 1.0 - fy, fy, 1.0 - fz, fz
    square = n * n
    bricks = (
        x >> 2,
        (x + 1) >> 2,
        (y >> 2) * n,
        ((y + 1) >> 2) * n,
        (z >> 2) * square,
        ((z + 1) >> 2) * square,
    )
    inner = (
        x & 3,
        (x + 1) & 3,
        (y & 3) << 2,
        ((y + 1) & 3) << 2,
        (z & 3) << 4,
        ((z + 1) & 3) << 4,
    )
    return weights, bricks, inner


@triton.jit
def corner(terms, table, c: tl.constexpr, mask):
    """Row (int64) and weight of corner c, bit 0 of which is x; `table` is that of the level."""
    weights, bricks, inner = terms
    i: tl.constexpr = c & 1
    j: tl.constexpr = 2 + (c >> 1 & 1)
    k: tl.constexpr = 4 + (c >> 2)
    place = bricks[i] + bricks[j] + bricks[k]
    brick = tl.load(table + place, mask=mask, other=0)
    row = brick.to(tl.int64) * 64 + (inner[i] + inner[j] + inner[k])
    return row, weights[i] * weights[j] * weights[k]


@triton.jit
def raw_density(density, table, resolution, p, cell, mask):
    """Trilinear interpolation of `density` at the finest level; `table` is that level's."""
    terms = cell_terms(p, cell, resolution // 4 + 1)
    raw = tl.zeros_like(p[0])
    for c in tl.static_range(8):
        row, weight = corner(terms, table, c, mask)
        raw += weight * tl.load(density + row, mask=mask, other=0.0)
    return raw


@triton.jit
def scatter_density(grad_density, table, resolution, p, cell, gradient, mask):
    """The transpose of `raw_density`: add `gradient` to the corners."""
    terms = cell_terms(p, cell, resolution // 4 + 1)
    for c in tl.static_range(8):
        row, weight = corner(terms, table, c, mask)
        tl.atomic_add(grad_density + row, weight * gradient, mask=mask, sem="relaxed")


@triton.jit
def thickness(raw, density_scale, density_bias, step):
    """tau = sigma step of a sample, and d tau / d raw."""
    raw += density_bias
    e = tl.exp(tl.minimum(raw, 20.0))
    # log1p(e) for small e, where log(1 + e) would round to nothing
    soft = tl.where(e < 1e-3, e - 0.5 * e * e, tl.log(1.0 + e))
    soft = tl.where(raw > 15.0, raw, soft)
    gain = density_scale * step
    return gain * soft, gain * (e / (1.0 + e))
