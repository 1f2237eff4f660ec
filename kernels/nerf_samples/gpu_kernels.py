"""Triton: coarse samples, and their union with others. Symbols as in the package docstring.

Tiles are [ROWS, STRATA] or [ROWS, DRAWN], rays by samples, widened to powers of two; `ray` is
[ROWS, 1]. Places along the list of all crossings are float64, as in the reference: they are sums
over all rays.
"""

import triton
import triton.language as tl

from .reference import NEAREST_INFINITY as _NEAREST_INFINITY

NEAREST_INFINITY = tl.constexpr(_NEAREST_INFINITY)
BITS = tl.constexpr(13)  # steps of a search among up to 4096


@triton.jit
def _distance(s, ray, there, lows, first, count, ends, t_starts):
    """t at s: in the last crossing of the ray that begins no later."""
    place = tl.load(lows + ray, mask=there, other=0.0) + s.to(tl.float64)
    index = tl.load(first + ray, mask=there, other=0)
    last = index + tl.load(count + ray, mask=there, other=1) - 1
    open = tl.max((last - index).to(tl.int32))
    while open > 0:
        middle = (index + last + 1) >> 1
        begun = tl.load(ends + middle, mask=there & (index < last), other=0.0) <= place
        index, last = tl.where(begun, middle, index), tl.where(begun, last, middle - 1)
        last = tl.maximum(index, last)
        open = tl.max((last - index).to(tl.int32))
    inside = place - tl.load(ends + index, mask=there, other=0.0)
    return tl.load(t_starts + index, mask=there, other=0.0) + inside.to(tl.float32)


@triton.jit
def _in_world(t, ray, there, depth):
    """The distance in the world of a ray in normalised device coordinates."""
    start = tl.load(depth + 4 * ray, mask=there, other=0.0)
    z = tl.load(depth + 4 * ray + 1, mask=there, other=0.0)
    slope = tl.load(depth + 4 * ray + 2, mask=there, other=1.0)
    whole = tl.load(depth + 4 * ray + 3, mask=there, other=1.0)
    part = tl.minimum(t / whole, 1.0 - NEAREST_INFINITY)
    return start + part * z / (slope * (1.0 - part))


@triton.jit
def store_points(points, at, t, ray, there, origins, directions, center, scale):
    for axis in tl.static_range(3):
        value = tl.load(origins + 3 * ray + axis, mask=there, other=0.0)
        value += t * tl.load(directions + 3 * ray + axis, mask=there, other=0.0)
        value = (value - tl.load(center + axis)) * scale
        tl.store(points + 3 * at + axis, value, mask=there)


@triton.jit
def coarse_kernel(
    lows,
    highs,
    first,
    count,
    ends,
    t_starts,
    where,  # None: the middle
    depth,  # None: t is the world's
    n_rays,
    n,
    spacing,  # 0: n strata
    s,
    edges,
    t,
    distances,
    counts,
    ROWS: tl.constexpr,
    STRATA: tl.constexpr,
):
    """A sample in each stratum."""
    ray = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    exists = ray < n_rays
    k = tl.arange(0, STRATA)[None, :]
    inside = exists & (k < n)
    length = tl.load(highs + ray, mask=exists, other=0.0) - tl.load(
        lows + ray, mask=exists, other=0.0
    )
    length = length.to(tl.float32)
    number = tl.zeros([ROWS, 1], tl.float32) + n
    if spacing > 0.0:
        number = tl.minimum(tl.maximum(tl.ceil(tl.div_rn(length, spacing)), 1.0), number)
    column = k.to(tl.float32)
    low = tl.minimum(tl.div_rn(column, number), 1.0) * length
    high = tl.minimum(tl.div_rn(column + 1.0, number), 1.0) * length
    part = tl.full([ROWS, STRATA], 0.5, tl.float32)
    if where is not None:
        part = tl.load(where + ray * n + k, mask=inside, other=0.5)
    wide = high - low
    at = tl.where(part < 0.5, low + part * wide, high - wide * (1.0 - part))
    tl.store(s + ray * n + k, at, mask=inside)
    tl.store(edges + ray * (n + 1) + k, low, mask=inside)
    tl.store(edges + ray * (n + 1) + n, length, mask=exists)
    crosses = inside & (length > 0.0)
    distance = _distance(at, ray, crosses, lows, first, count, ends, t_starts)
    distance = tl.where(crosses, distance, 0.0)
    tl.store(t + ray * n + k, distance, mask=inside)
    if depth is not None:
        tl.store(distances + ray * n + k, _in_world(distance, ray, inside, depth), mask=inside)
    number = tl.where(length > 0.0, number, 0.0).to(tl.int32)
    tl.store(counts + ray, number, mask=exists)


@triton.jit
def _below(values, x, size, there, EQUAL: tl.constexpr):
    """How many of the ascending values [size] (pointers to their first) are below x, or equal."""
    low, high = tl.zeros_like(x).to(tl.int32), tl.zeros_like(x).to(tl.int32) + size
    for _ in range(BITS):
        middle = (low + high) >> 1
        value = tl.load(values + middle, mask=there & (low < high), other=float("inf"))
        below = value <= x if EQUAL else value < x
        below = below & (low < high)
        low, high = tl.where(below, middle + 1, low), tl.where(below, high, middle)
    return low


@triton.jit
def count_kernel(
    s,
    edges,
    seen,
    drawn,
    n_rays,
    n,
    n_drawn,
    counts,
    ROWS: tl.constexpr,
    STRATA: tl.constexpr,
    DRAWN: tl.constexpr,
):
    """How many samples of each ray lie in front of its end."""
    ray = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    exists = ray < n_rays
    count = tl.load(seen + ray, mask=exists, other=0)
    end = tl.load(edges + ray * (n + 1) + count, mask=exists, other=0.0)
    k = tl.arange(0, STRATA)[None, :]
    mine = exists & (k < count)
    kept = mine & (tl.load(s + ray * n + k, mask=mine, other=0.0) < end)
    j = tl.arange(0, DRAWN)[None, :]
    mine = exists & (j < n_drawn)
    taken = mine & (tl.load(drawn + ray * n_drawn + j, mask=mine, other=0.0) < end)
    total = tl.sum(kept.to(tl.int64), 1) + tl.sum(taken.to(tl.int64), 1)
    tl.store(counts + ray, total[:, None], mask=exists)


@triton.jit
def _store_sample(at, ray, there, t, step, depth, ray_indices, distances, steps):
    tl.store(ray_indices + at, ray + tl.zeros_like(at), mask=there)
    tl.store(steps + at, step, mask=there)
    if depth is not None:
        t = _in_world(t, ray, there, depth)
    tl.store(distances + at, t, mask=there)


@triton.jit
def union_kernel(
    s,
    edges,
    t,
    seen,
    drawn,
    lows,
    first,
    count,
    ends,
    t_starts,
    depth,
    origins,
    directions,
    center,
    scale,
    counts,
    sums,
    n_rays,
    n,
    n_drawn,
    points,
    ray_indices,
    distances,
    steps,
    packed_info,
    ROWS: tl.constexpr,
    STRATA: tl.constexpr,
    DRAWN: tl.constexpr,
):
    """Both lists in order: a sample's place is its own index and how many of the others precede it.

    Of equal samples the coarse one comes first.
    """
    ray = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    exists = ray < n_rays
    n_seen = tl.load(seen + ray, mask=exists, other=0)
    end = tl.load(edges + ray * (n + 1) + n_seen, mask=exists, other=0.0)
    total = tl.load(counts + ray, mask=exists, other=0)
    start = tl.load(sums + ray, mask=exists, other=0) - total
    tl.store(packed_info + 2 * ray, start, mask=exists)
    tl.store(packed_info + 2 * ray + 1, total, mask=exists)
    row, others = s + ray * n, drawn + ray * n_drawn

    k = tl.arange(0, STRATA)[None, :]
    mine = exists & (k < n_seen)
    here = tl.load(row + k, mask=mine, other=0.0)
    mine = mine & (here < end)
    smaller = _below(others, here, tl.zeros_like(k) + n_drawn, mine, False)
    following = tl.load(row + k + 1, mask=mine & (k + 1 < n_seen), other=float("inf"))
    other = tl.load(others + smaller, mask=mine & (smaller < n_drawn), other=float("inf"))
    step = (tl.minimum(tl.minimum(following, other), end) - here) * scale
    at = start + k + smaller
    distance = tl.load(t + ray * n + k, mask=mine, other=0.0)
    store_points(points, at, distance, ray, mine, origins, directions, center, scale)
    _store_sample(at, ray, mine, distance, step, depth, ray_indices, distances, steps)

    j = tl.arange(0, DRAWN)[None, :]
    mine = exists & (j < n_drawn)
    here = tl.load(others + j, mask=mine, other=0.0)
    mine = mine & (here < end)
    smaller = _below(row, here, n_seen, mine, True)
    following = tl.load(others + j + 1, mask=mine & (j + 1 < n_drawn), other=float("inf"))
    other = tl.load(row + smaller, mask=mine & (smaller < n_seen), other=float("inf"))
    step = (tl.minimum(tl.minimum(following, other), end) - here) * scale
    at = start + j + smaller
    distance = _distance(here, ray, mine, lows, first, count, ends, t_starts)
    store_points(points, at, distance, ray, mine, origins, directions, center, scale)
    _store_sample(at, ray, mine, distance, step, depth, ray_indices, distances, steps)
