"""Triton: rounds of coarse samples. Symbols as in the package docstring."""

import triton
import triton.language as tl

from .gpu_kernels import store_points


@triton.jit
def advance_kernel(
    s,
    edges,
    counts,
    sigma_raw,  # None before the first round, as all that belongs to the last one
    sums,  # [R] of the samples of the last round, up to and with a ray's own
    seen,
    number,
    thickness,
    n_rays,
    n,
    last,
    dark,
    scale,
    new_seen,
    new_number,
    new_thickness,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Optical depths, and how many samples of each ray come next."""
    ray = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = ray < n_rays
    before, thick = tl.zeros([ROWS], tl.int32), tl.zeros([ROWS], tl.float32)
    if sigma_raw is not None:
        before = tl.load(seen + ray, mask=exists, other=0)
        asked = tl.load(number + ray, mask=exists, other=0)
        start = tl.load(sums + ray, mask=exists, other=0) - asked
        thick = tl.load(thickness + ray, mask=exists, other=0.0)
        for i in range(0, tl.max(asked, 0), BLOCK):
            nth = i + tl.arange(0, BLOCK)[None, :]
            there = nth < asked[:, None]
            at = before[:, None] - asked[:, None] + nth
            here = tl.load(s + ray[:, None] * n + at, mask=there, other=0.0)
            inner = there & (at + 1 < n)
            outer = there & (at + 1 >= n)
            following = tl.load(s + ray[:, None] * n + at + 1, mask=inner, other=0.0)
            end = tl.load(edges + ray[:, None] * (n + 1) + n, mask=outer, other=0.0)
            step = (tl.where(inner, following, end) - here) * scale
            sigma = tl.load(sigma_raw + start[:, None] + nth, mask=there, other=0.0)
            thick += tl.sum(tl.where(there, tl.maximum(sigma, 0.0) * step, 0.0), 1)
    most = tl.minimum(tl.load(counts + ray, mask=exists, other=0), last)
    more = tl.where(thick < dark, tl.maximum(most - before, 0), 0)
    tl.store(new_seen + ray, before + more, mask=exists)
    tl.store(new_number + ray, more, mask=exists)
    tl.store(new_thickness + ray, thick, mask=exists)


@triton.jit
def gather_kernel(
    t,
    seen,
    number,
    sums,
    origins,
    directions,
    center,
    scale,
    n_rays,
    n,
    points,
    ray_indices,
    places,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The samples of a round, laid together."""
    ray = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    exists = ray < n_rays
    asked = tl.load(number + ray, mask=exists, other=0)
    begin = tl.load(seen + ray, mask=exists, other=0) - asked
    start = tl.load(sums + ray, mask=exists, other=0) - asked
    for i in range(0, tl.max(asked), BLOCK):
        nth = i + tl.arange(0, BLOCK)[None, :]
        there = nth < asked
        place = ray * n + begin + nth
        at = start + nth
        distance = tl.load(t + place, mask=there, other=0.0)
        store_points(points, at, distance, ray, there, origins, directions, center, scale)
        tl.store(ray_indices + at, ray + tl.zeros_like(at), mask=there)
        tl.store(places + at, place, mask=there)


@triton.jit
def ended_kernel(
    s,
    edges,
    seen,
    n_rays,
    n,
    scale,
    there,
    steps,
    packed_info,
    ROWS: tl.constexpr,
    STRATA: tl.constexpr,
):
    """What coarse samples stand for."""
    ray = (tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    exists = ray < n_rays
    k = tl.arange(0, STRATA)[None, :]
    inside = exists & (k < n)
    count = tl.load(seen + ray, mask=exists, other=0)
    end = tl.load(edges + ray * (n + 1) + count, mask=exists, other=0.0)
    mine = inside & (k < count)
    here = tl.load(s + ray * n + k, mask=mine, other=0.0)
    following = tl.load(s + ray * n + k + 1, mask=mine & (k + 1 < count), other=0.0)
    step = (tl.where(k + 1 < count, following, end) - here) * scale
    tl.store(there + ray * n + k, mine, mask=inside)
    tl.store(steps + ray * n + k, tl.where(mine, step, 0.0), mask=inside)
    tl.store(packed_info + 2 * ray, ray * n, mask=exists)
    tl.store(packed_info + 2 * ray + 1, count.to(tl.int64), mask=exists)
