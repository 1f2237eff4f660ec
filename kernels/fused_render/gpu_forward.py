"""Triton: rays to pixels in one kernel. One ray a lane; a lane whose ray has ended takes the next.

A round of a program's loop: idle lanes take rays from a global counter; every lane marches up to
INNER points, over empty nodes and samples too light for a colour, and waits at the first sample
that needs one; once FILL lanes wait, or none can march, the network is asked for all of them. With
PIECES a lane whose piece has ended takes the ray's next one as the next round begins.

Symbols as in the package docstring; optical depth is -log of transmittance.
"""

import triton
import triton.language as tl

from .gpu_march import (
    after_node,
    empty_node,
    lattice_range,
    locate,
    raw_density,
    thickness,
)
from .gpu_network import (
    FEATURES,
    OUT,
    biases,
    gather_features,
    harmonics,
    product,
    tile,
)
from .gpu_pieces import load_piece, shift_after, where_each, world_distance
from .gpu_rays import load_ray, write_rays

# Values that change from scene to scene, or as a fit goes on: no new compilation for any of them.
RUNTIME = [
    *("n_rays", "back_stride", "n_levels", "finest_offset", "resolution"),
    *("box_x", "box_y", "box_z", "voxel", "step", "near", "far"),
    *("optical_stop", "weight_min", "density_scale", "density_bias"),
]


@triton.jit(do_not_specialize=RUNTIME)
def forward_kernel(
    # rays
    origins,
    directions,
    jitter,
    backgrounds,
    back_stride,
    n_rays,
    pieces,
    first_piece,
    # field
    words,
    tables,
    levels,
    n_levels,
    finest_offset,
    resolution,
    density,
    features,
    mlp,
    packed,
    # results
    colors,
    depths,
    opacities,
    last,
    optical,
    last_row,
    places,
    moments,
    counter,
    counts,
    # settings
    box_x,
    box_y,
    box_z,
    voxel,
    step,
    near,
    far,
    optical_stop,
    weight_min,
    density_scale,
    density_bias,
    HAS_JITTER: tl.constexpr,
    HAS_BACK: tl.constexpr,
    SAVE: tl.constexpr,
    PIECES: tl.constexpr,
    WORLD: tl.constexpr,
    MOMENTS: tl.constexpr,
    BANDS: tl.constexpr,
    D: tl.constexpr,
    N_HIDDEN: tl.constexpr,
    H1: tl.constexpr,
    P1: tl.constexpr,
    H2: tl.constexpr,
    P2: tl.constexpr,
    DTYPE: tl.constexpr,
    BLOCK: tl.constexpr,
    INNER: tl.constexpr,
    FILL: tl.constexpr,
    REGEN: tl.constexpr,
):
    """Colours, depths and opacities; with SAVE also what the backward starts from (README.md).

    Where rays are in pieces, depths are sums of w t in the world (WORLD) or of w s in the octree's
    space, which are `moments` where both are wanted (MOMENTS).
    """
    n_in: tl.constexpr = FEATURES + BANDS * BANDS
    at_1: tl.constexpr = (FEATURES + D) * P1
    channel = tl.arange(0, OUT)[None, :]
    finest = tables + finest_offset

    zero = tl.zeros([BLOCK], tl.float32)
    none = tl.zeros([BLOCK], tl.int32)
    ray, k, k_end, k_last = none - 1, none, none, none - 1
    alive, waiting = none > 0, none > 0
    ox, oy, oz, vx, vy, vz, shift, t_out = zero, zero, zero, zero, zero, zero, zero, zero
    red, green, blue, depth, opacity, thick, before = zero, zero, zero, zero, zero, zero, zero
    t_wait, w_wait = zero, zero
    if PIECES:
        row, row_end, row_last, n_over = none, none, none, tl.full([], 0, tl.int32)
        travelled, reached, moment = zero, zero, zero  # s where a piece begins, and ends
    seen, shaded = none, none
    view = tl.zeros([BLOCK, D], DTYPE)
    n_idle = tl.full([], BLOCK, tl.int32)
    left = tl.full([], 1, tl.int32)
    working = tl.full([], 1, tl.int32)

    while working > 0:
        if (left > 0) & (n_idle >= REGEN):
            idle = ~(alive | waiting)
            write_rays(
                colors,
                depths,
                opacities,
                last,
                optical,
                backgrounds,
                back_stride,
                ray,
                idle & (ray >= 0),
                red,
                green,
                blue,
                depth,
                opacity,
                k_last,
                before,
                HAS_BACK,
                SAVE,
            )
            if PIECES and SAVE:
                tl.store(last_row + ray, row_last, mask=idle & (ray >= 0))
            if MOMENTS:
                tl.store(moments + ray, moment, mask=idle & (ray >= 0))
            base = tl.atomic_add(counter, n_idle, sem="relaxed")
            fresh = base + tl.cumsum(idle.to(tl.int32), 0) - 1
            fresh = tl.where(fresh < n_rays, fresh, -1)
            ray = tl.where(idle, fresh, ray)
            begun = idle & (fresh >= 0)
            left = tl.where(base + n_idle < n_rays, 1, 0)
            nox, noy, noz, nvx, nvy, nvz, njitter = load_ray(
                origins, directions, jitter, fresh, begun, box_x, box_y, box_z, voxel, HAS_JITTER
            )
            if PIECES:
                begins = tl.load(first_piece + fresh, mask=begun, other=0).to(tl.int32)
                ends = tl.load(first_piece + fresh + 1, mask=begun, other=0).to(tl.int32)
                row, row_end = tl.where(begun, begins - 1, row), tl.where(begun, ends, row_end)
                reached, moment = tl.where(begun, 0.0, reached), tl.where(begun, 0.0, moment)
                k, k_end = tl.where(begun, 0, k), tl.where(begun, 0, k_end)
                n_over += BLOCK
            else:
                first, end, out = lattice_range(
                    (nox, noy, noz), (nvx, nvy, nvz), voxel, njitter, step, near, far, resolution
                )
                ox, oy, oz = (
                    tl.where(begun, nox, ox),
                    tl.where(begun, noy, oy),
                    tl.where(begun, noz, oz),
                )
                vx, vy, vz = (
                    tl.where(begun, nvx, vx),
                    tl.where(begun, nvy, vy),
                    tl.where(begun, nvz, vz),
                )
                shift, t_out = tl.where(begun, njitter, shift), tl.where(begun, out, t_out)
                k, k_end = tl.where(begun, first, k), tl.where(begun, end, k_end)
            k_last = tl.where(begun, -1, k_last)
            red, green = tl.where(begun, 0.0, red), tl.where(begun, 0.0, green)
            blue, depth = tl.where(begun, 0.0, blue), tl.where(begun, 0.0, depth)
            opacity, thick = tl.where(begun, 0.0, opacity), tl.where(begun, 0.0, thick)
            before = tl.where(begun, 0.0, before)
            alive = alive | (begun & (thick <= optical_stop))
            fresh_view = harmonics(nvx, nvy, nvz, BANDS, D).to(DTYPE)
            view = tl.where(begun[:, None], fresh_view, view)

        if PIECES:
            if n_over > 0:
                on_way = (k < k_end) & ((k.to(tl.float32) + shift) * step < t_out)
                over = alive & ~waiting & ~on_way & (row + 1 < row_end)
                row = tl.where(over, row + 1, row)
                no, nv, length = load_piece(pieces, row, over, box_x, box_y, box_z, voxel)
                travelled = tl.where(over, reached, travelled)
                reached = tl.where(over, reached + length, reached)
                njitter = tl.full([BLOCK], 0.5, tl.float32)
                if HAS_JITTER:
                    njitter = tl.load(jitter + ray, mask=over, other=0.5)
                njitter = shift_after(njitter, travelled, step)
                first, end, out = lattice_range(
                    no, nv, voxel, njitter, step, 0.0, length, resolution
                )
                ox, oy, oz = where_each(over, no, (ox, oy, oz))
                vx, vy, vz = where_each(over, nv, (vx, vy, vz))
                shift, t_out = tl.where(over, njitter, shift), tl.where(over, out, t_out)
                k, k_end = tl.where(over, first, k), tl.where(over, end, k_end)
                if SAVE:
                    at = places + row.to(tl.int64) * 2
                    tl.store(at, travelled, mask=over)
                    tl.store(at + 1, shift, mask=over)

        for _ in range(INNER):
            t = (k.to(tl.float32) + shift) * step
            if PIECES:
                going = alive & ~waiting & (k < k_end) & (t < t_out)
            else:
                alive = alive & (waiting | ((k < k_end) & (t < t_out)))
                going = alive & ~waiting
            o, v = (ox, oy, oz), (vx, vy, vz)
            p, cell = locate(o, v, voxel, t, resolution)
            edge = empty_node(words, resolution, cell, going)
            sample = going & (edge < 0)
            raw = raw_density(density, finest, resolution, p, cell, sample)
            tau, _slope = thickness(raw, density_scale, density_bias, step)
            weight = tl.where(sample, tl.exp(-thick) * (1.0 - tl.exp(-tau)), 0.0)
            if PIECES:
                if WORLD:
                    depth += weight * world_distance(pieces, row, t, sample)
                else:
                    depth += weight * (t + travelled)
                if MOMENTS:
                    moment += weight * (t + travelled)
                row_last = tl.where(sample, row, row_last)
            else:
                depth += weight * t
            opacity += weight
            before = tl.where(sample, thick, before)
            k_last = tl.where(sample, k, k_last)
            thick = tl.where(sample, thick + tau, thick)
            seen += sample.to(tl.int32)
            colored = sample & (weight > weight_min)
            waiting = waiting | colored
            t_wait, w_wait = tl.where(colored, t, t_wait), tl.where(colored, weight, w_wait)
            beyond = after_node(o, v, voxel, cell, edge, k, shift, step)
            k = tl.where(sample, k + 1, tl.where(going, beyond, k))
            alive = alive & (thick <= optical_stop)

        # counts in one reduction: lanes that wait, that can march, and that want another piece
        if PIECES:
            on_way = (k < k_end) & ((k.to(tl.float32) + shift) * step < t_out)
            alive = alive & (waiting | on_way | (row + 1 < row_end))
        marching = alive & ~waiting
        codes = waiting.to(tl.int32) + (marching.to(tl.int32) << 10)
        if PIECES:
            codes += (marching & ~on_way).to(tl.int32) << 20
        code = tl.sum(codes, 0)
        n_waiting, n_marching = code & 1023, code >> 10
        if PIECES:
            n_marching, n_over = n_marching & 1023, code >> 20
        n_idle = BLOCK - n_waiting - n_marching
        if (n_waiting >= FILL) | ((n_marching == 0) & (n_waiting > 0)):
            p, cell = locate((ox, oy, oz), (vx, vy, vz), voxel, t_wait, resolution)
            found = gather_features(features, tables, levels, n_levels, p, cell, waiting)
            # The weights are read anew each round: in registers they would cost lanes.
            out = product(found.to(DTYPE), tile(packed, FEATURES, P1))
            out += product(view, tile(packed + FEATURES * P1, D, P1))
            if N_HIDDEN == 1:
                h = tl.maximum(out, 0.0).to(DTYPE)
                bias = biases(mlp + H1 * (n_in + 1) + 3 * H1, 3, OUT)
                out = product(h, tile(packed + at_1, P1, OUT)) + bias
            if N_HIDDEN == 2:
                h = tl.maximum(out, 0.0).to(DTYPE)
                bias = biases(mlp + H1 * (n_in + 1) + H2 * H1, H2, P2)
                out_2 = product(h, tile(packed + at_1, P1, P2)) + bias
                h = tl.maximum(out_2, 0.0).to(DTYPE)
                bias = biases(mlp + H1 * (n_in + 1) + H2 * (H1 + 1) + 3 * H2, 3, OUT)
                out = product(h, tile(packed + at_1 + P1 * P2, P2, OUT)) + bias
            rgb = tl.sigmoid(out)
            weight = tl.where(waiting, w_wait, 0.0)
            red += weight * tl.sum(tl.where(channel == 0, rgb, 0.0), 1)
            green += weight * tl.sum(tl.where(channel == 1, rgb, 0.0), 1)
            blue += weight * tl.sum(tl.where(channel == 2, rgb, 0.0), 1)
            shaded += waiting.to(tl.int32)
            waiting = none > 0
            n_idle = BLOCK - tl.sum(alive.to(tl.int32), 0)
            if PIECES:
                n_over += BLOCK  # those that waited may have been at an end
        working = tl.where((n_idle < BLOCK) | (left > 0), 1, 0)

    write_rays(
        colors,
        depths,
        opacities,
        last,
        optical,
        backgrounds,
        back_stride,
        ray,
        ray >= 0,
        red,
        green,
        blue,
        depth,
        opacity,
        k_last,
        before,
        HAS_BACK,
        SAVE,
    )
    if PIECES and SAVE:
        tl.store(last_row + ray, row_last, mask=ray >= 0)
    if MOMENTS:
        tl.store(moments + ray, moment, mask=ray >= 0)
    tl.atomic_add(counts, tl.sum(seen, 0).to(tl.int64), sem="relaxed")
    tl.atomic_add(counts + 1, tl.sum(shaded, 0).to(tl.int64), sem="relaxed")
