"""Triton: gradients of `gpu_forward`, back to front, with nothing of a sample kept in between.

The forward leaves two numbers a ray: k of its last sample and the optical depth S before it. From
there a lane marches to the front, and at each sample takes its thickness off again:

    S_k = S_{k+1} - tau_k,   T_k = exp(-S_k),
    w_k = T_k (1 - exp(-tau_k)),   T_{k+1} = exp(-S_{k+1})

(the last sample's own tau is never in S, so a wall of any thickness costs no digits). Rounds are as
in the forward: lanes march over samples that have no colour, and wait at one that has. Pieces of a
ray (PIECES) are taken from the last with a sample to the first.

Products run on operands scaled by GAIN / max |dL/dcolor|, and what they give is scaled back in
float32 (README.md, Precision).
"""

import triton
import triton.language as tl

from .gpu_forward import RUNTIME
from .gpu_march import (
    before_node,
    cell_terms,
    corner,
    empty_node,
    lattice_range,
    locate,
    raw_density,
    scatter_density,
    thickness,
)
from .gpu_network import (
    FEATURES,
    OUT,
    add_inputs_weights,
    add_layer,
    biases,
    gather_features,
    harmonics,
    product,
    scatter_features,
    tile,
)
from .gpu_pieces import load_piece, where_each, world_distance
from .gpu_places import add_place, feature_slopes, raw_density_slopes
from .gpu_rays import add_ray, load_ray, upstream

GAIN = tl.constexpr(256.0)
AHEAD = tl.constexpr(1 << 30)  # a first k that no lane has reached: it wants a piece


@triton.jit(do_not_specialize=[*RUNTIME, "scale", "depth_weight", "spread"])
def backward_kernel(
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
    # what the forward left
    colors,
    last,
    optical,
    last_row,
    places,
    depths,
    opacities,
    moments,
    # upstream
    targets,
    scale,
    depth_targets,
    depth_weight,
    spread,
    g_colors,
    g_depths,
    g_opacities,
    peak,
    # results
    squared,
    grad_density,
    grad_features,
    grad_mlp,
    touched,
    max_weights,
    grad_rays,
    counter,
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
    FIT: tl.constexpr,
    HAS_MAX: tl.constexpr,
    PIECES: tl.constexpr,
    SPREAD: tl.constexpr,
    DEPTH: tl.constexpr,
    RAYS: tl.constexpr,
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
    """Adds to the gradients; with FIT also writes `squared` [R] and raises `max_weights`.

    SPREAD and DEPTH: the loss of a fit has these terms. RAYS: also adds to `grad_rays`.
    """
    n_in: tl.constexpr = FEATURES + BANDS * BANDS
    at_1: tl.constexpr = (FEATURES + D) * P1
    grad_wf = tl.zeros([FEATURES, P1], tl.float32)
    grad_wd = tl.zeros([D, P1], tl.float32)
    if N_HIDDEN == 1:
        grad_w2 = tl.zeros([P1, OUT], tl.float32)
        grad_b2 = tl.zeros([OUT], tl.float32)
    if N_HIDDEN == 2:
        grad_w2 = tl.zeros([P1, P2], tl.float32)
        grad_b2 = tl.zeros([P2], tl.float32)
        grad_w3 = tl.zeros([P2, OUT], tl.float32)
        grad_b3 = tl.zeros([OUT], tl.float32)
    channel = tl.arange(0, OUT)[None, :]
    finest = tables + finest_offset
    largest = tl.load(peak)
    gain = tl.where(largest > 0.0, GAIN / largest, 0.0)
    ungain = largest / GAIN

    zero = tl.zeros([BLOCK], tl.float32)
    none = tl.zeros([BLOCK], tl.int32)
    k, k_first = none - 1, none
    alive, waiting, newest = none > 0, none > 0, none > 0
    ox, oy, oz, vx, vy, vz, shift, thick = zero, zero, zero, zero, zero, zero, zero, zero
    g_red, g_green, g_blue, g_along, g_cover, later = zero, zero, zero, zero, zero, zero
    t_wait, w_wait, after_wait, slope_wait = zero, zero, zero, zero
    if PIECES or RAYS:
        row = none - 1  # of a piece, or of the ray
    if PIECES:
        row_first, n_over = none, tl.full([], 0, tl.int32)
        travelled, t_out = zero, zero
    if SPREAD:
        uneven, tilted = zero, zero  # W and M of README.md before a sample, less those behind it
    if RAYS:
        go, gd = (zero, zero, zero), (zero, zero, zero)
    view = tl.zeros([BLOCK, D], DTYPE)
    n_idle = tl.full([], BLOCK, tl.int32)
    left = tl.full([], 1, tl.int32)
    working = tl.full([], 1, tl.int32)

    while working > 0:
        if (left > 0) & (n_idle >= REGEN):
            idle = ~(alive | waiting)
            if RAYS:
                add_ray(grad_rays, row, idle & (row >= 0), go, gd, voxel)
            base = tl.atomic_add(counter, n_idle, sem="relaxed")
            ray = base + tl.cumsum(idle.to(tl.int32), 0) - 1
            begun = idle & (ray < n_rays)
            left = tl.where(base + n_idle < n_rays, 1, 0)
            nox, noy, noz, nvx, nvy, nvz, njitter = load_ray(
                origins, directions, jitter, ray, begun, box_x, box_y, box_z, voxel, HAS_JITTER
            )
            if PIECES:
                first = none + AHEAD
            else:
                first, _end, _out = lattice_range(
                    (nox, noy, noz), (nvx, nvy, nvz), voxel, njitter, step, near, far, resolution
                )
            pixels = colors, targets, scale, squared
            seen = depths, depth_targets, depth_weight
            red, green, blue, along, cover = upstream(
                pixels, seen, (g_colors, g_depths, g_opacities), ray, begun, FIT, DEPTH
            )
            if HAS_BACK:
                back = ray.to(tl.int64) * back_stride
                cover -= red * tl.load(backgrounds + back, mask=begun, other=0.0)
                cover -= green * tl.load(backgrounds + back + 1, mask=begun, other=0.0)
                cover -= blue * tl.load(backgrounds + back + 2, mask=begun, other=0.0)
            k_last = tl.load(last + ray, mask=begun, other=-1)
            before = tl.load(optical + ray, mask=begun, other=0.0)
            ox = tl.where(begun, nox, ox)
            oy = tl.where(begun, noy, oy)
            oz = tl.where(begun, noz, oz)
            vx = tl.where(begun, nvx, vx)
            vy = tl.where(begun, nvy, vy)
            vz = tl.where(begun, nvz, vz)
            shift = tl.where(begun, njitter, shift)
            k = tl.where(begun, k_last, k)
            k_first = tl.where(begun, first, k_first)
            thick = tl.where(begun, before, thick)
            g_red = tl.where(begun, red, g_red)
            g_green = tl.where(begun, green, g_green)
            g_blue = tl.where(begun, blue, g_blue)
            g_along = tl.where(begun, along, g_along)
            g_cover = tl.where(begun, cover, g_cover)
            later = tl.where(begun, 0.0, later)
            newest = newest | begun
            if PIECES:
                # one beyond the last with a sample: a lane goes to the one before as it begins
                beyond = tl.load(last_row + ray, mask=begun, other=0) + 1
                row = tl.where(idle, tl.where(begun & (k_last >= 0), beyond, -1), row)
                begins = tl.load(first_piece + ray, mask=begun, other=0).to(tl.int32)
                row_first = tl.where(begun, begins, row_first)
                alive = alive | (begun & (k_last >= 0))
                n_over += BLOCK
            else:
                alive = alive | begun
            if RAYS and not PIECES:
                row = tl.where(idle, tl.where(begun, ray, -1), row)
            if RAYS:
                go = where_each(idle, (zero, zero, zero), go)
                gd = where_each(idle, (zero, zero, zero), gd)
            if SPREAD:
                weighed = tl.load(opacities + ray, mask=begun, other=0.0)
                uneven = tl.where(begun, weighed, uneven)
                weighed = tl.load(moments + ray, mask=begun, other=0.0)
                tilted = tl.where(begun, weighed, tilted)
            fresh_view = harmonics(nvx, nvy, nvz, BANDS, D).to(DTYPE)
            view = tl.where(begun[:, None], fresh_view, view)

        if PIECES:
            if n_over > 0:
                over = alive & ~waiting & (k < k_first) & (row > row_first)
                if RAYS:
                    add_ray(grad_rays, row, over & ~newest, go, gd, voxel)
                    go = where_each(over, (zero, zero, zero), go)
                    gd = where_each(over, (zero, zero, zero), gd)
                row = tl.where(over, row - 1, row)
                no, nv, length = load_piece(pieces, row, over, box_x, box_y, box_z, voxel)
                at = places + row.to(tl.int64) * 2
                travelled = tl.where(over, tl.load(at, mask=over, other=0.0), travelled)
                shift = tl.where(over, tl.load(at + 1, mask=over, other=0.0), shift)
                first, end, out = lattice_range(no, nv, voxel, shift, step, 0.0, length, resolution)
                ox, oy, oz = where_each(over, no, (ox, oy, oz))
                vx, vy, vz = where_each(over, nv, (vx, vy, vz))
                t_out = tl.where(over, out, t_out)
                k = tl.where(over & ~newest, end - 1, k)  # the first lane's k is known
                k_first = tl.where(over, first, k_first)

        for _ in range(INNER):
            if PIECES:
                going = alive & ~waiting & (k >= k_first)
            else:
                alive = alive & (waiting | (k >= k_first))
                going = alive & ~waiting
            t = (k.to(tl.float32) + shift) * step
            o, v = (ox, oy, oz), (vx, vy, vz)
            p, cell = locate(o, v, voxel, t, resolution)
            edge = empty_node(words, resolution, cell, going)
            sample = going & (edge < 0)
            if PIECES:
                outside = going & (t >= t_out)  # the end is a k or two beyond the last
                sample = sample & ~outside
            if RAYS:
                raw, rise = raw_density_slopes(density, finest, resolution, p, cell, sample)
            else:
                raw = raw_density(density, finest, resolution, p, cell, sample)
            tau, slope = thickness(raw, density_scale, density_bias, step)
            # `thick` is the optical depth before the sample last met; of the ray's last, its own
            before = tl.where(newest, thick, tl.maximum(thick - tau, 0.0))
            after = tl.exp(-before - tau)
            weight = tl.where(sample, tl.exp(-before) * (1.0 - tl.exp(-tau)), 0.0)
            thick = tl.where(sample, before, thick)
            newest = newest & ~sample
            colored = sample & (weight > weight_min)
            plain = sample & ~colored
            if PIECES and (DEPTH or not FIT):
                g_weight = g_cover + g_along * world_distance(pieces, row, t, plain)
            else:
                g_weight = g_cover + g_along * t
            if SPREAD:
                s = t
                if PIECES:
                    s += travelled
                g_weight += spread * (2.0 * (s * uneven - tilted) + (2.0 / 3.0) * step * weight)
                uneven -= tl.where(plain, 2.0 * weight, 0.0)
                tilted -= tl.where(plain, 2.0 * weight * s, 0.0)
            g_raw = (after * g_weight - later) * slope
            later += tl.where(plain, weight * g_weight, 0.0)
            scatter_density(grad_density, finest, resolution, p, cell, g_raw, plain)
            if RAYS:
                go, gd = add_place(go, gd, rise, tl.where(plain, g_raw, 0.0), t)
            if HAS_MAX:
                lowest, _ = corner(cell_terms(p, cell, resolution // 4 + 1), finest, 0, sample)
                known = tl.load(max_weights + lowest, mask=sample, other=3e38)
                tl.atomic_max(max_weights + lowest, weight, mask=weight > known, sem="relaxed")
            waiting = waiting | colored
            t_wait = tl.where(colored, t, t_wait)
            w_wait = tl.where(colored, weight, w_wait)
            after_wait = tl.where(colored, after, after_wait)
            slope_wait = tl.where(colored, slope, slope_wait)
            ahead = before_node(o, v, voxel, cell, edge, k, shift, step)
            if PIECES:
                ahead = tl.where(outside, k - 1, ahead)
            k = tl.where(sample, k - 1, tl.where(going, ahead, k))

        if PIECES:
            over = ~waiting & (k < k_first)
            marching = alive & ~waiting & ~(over & (row <= row_first))
            code = waiting.to(tl.int32) + (marching.to(tl.int32) << 10)
            code = tl.sum(code + ((marching & over).to(tl.int32) << 20), 0)
            n_waiting, n_marching, n_over = code & 1023, (code >> 10) & 1023, code >> 20
        else:
            marching = alive & ~waiting & (k >= k_first)
            code = tl.sum(waiting.to(tl.int32) + (marching.to(tl.int32) << 10), 0)
            n_waiting, n_marching = code & 1023, code >> 10
        n_idle = BLOCK - n_waiting - n_marching
        alive = waiting | marching
        if (n_waiting >= FILL) | ((n_marching == 0) & (n_waiting > 0)):
            p, cell = locate((ox, oy, oz), (vx, vy, vz), voxel, t_wait, resolution)
            found = gather_features(features, tables, levels, n_levels, p, cell, waiting)
            x = found.to(DTYPE)
            wf = tile(packed, FEATURES, P1)
            out_1 = product(x, wf) + product(view, tile(packed + FEATURES * P1, D, P1))
            out = out_1
            if N_HIDDEN == 1:
                h_1 = tl.maximum(out_1, 0.0).to(DTYPE)
                w2 = tile(packed + at_1, P1, OUT)
                out = product(h_1, w2) + biases(mlp + H1 * (n_in + 1) + 3 * H1, 3, OUT)
            if N_HIDDEN == 2:
                h_1 = tl.maximum(out_1, 0.0).to(DTYPE)
                w2 = tile(packed + at_1, P1, P2)
                out_2 = product(h_1, w2) + biases(mlp + H1 * (n_in + 1) + H2 * H1, H2, P2)
                h_2 = tl.maximum(out_2, 0.0).to(DTYPE)
                w3 = tile(packed + at_1 + P1 * P2, P2, OUT)
                bias = biases(mlp + H1 * (n_in + 1) + H2 * (H1 + 1) + 3 * H2, 3, OUT)
                out = product(h_2, w3) + bias
            rgb = tl.sigmoid(out)
            g_rgb = tl.where(channel == 0, g_red[:, None], 0.0)
            g_rgb = tl.where(channel == 1, g_green[:, None], g_rgb)
            g_rgb = tl.where(channel == 2, g_blue[:, None], g_rgb)
            weight = tl.where(waiting, w_wait, 0.0)
            if PIECES and (DEPTH or not FIT):
                g_weight = g_cover + g_along * world_distance(pieces, row, t_wait, waiting)
                g_weight += tl.sum(g_rgb * rgb, 1)
            else:
                g_weight = g_cover + g_along * t_wait + tl.sum(g_rgb * rgb, 1)
            if SPREAD:
                s = t_wait
                if PIECES:
                    s += travelled
                g_weight += spread * (2.0 * (s * uneven - tilted) + (2.0 / 3.0) * step * weight)
                uneven -= 2.0 * weight
                tilted -= 2.0 * weight * s
            g_raw = (after_wait * g_weight - later) * slope_wait
            later += weight * g_weight
            scatter_density(grad_density, finest, resolution, p, cell, g_raw, waiting)
            if RAYS:
                _raw, rise = raw_density_slopes(density, finest, resolution, p, cell, waiting)
                go, gd = add_place(go, gd, rise, tl.where(waiting, g_raw, 0.0), t_wait)

            d_out = (weight * gain)[:, None] * g_rgb * rgb * (1.0 - rgb)
            d = d_out.to(DTYPE)
            if N_HIDDEN == 2:
                grad_w3 += product(tl.trans(h_2), d)
                grad_b3 += tl.sum(d_out, 0)
                d_out = tl.where(out_2 > 0.0, product(d, tl.trans(w3)), 0.0)
                d = d_out.to(DTYPE)
            if N_HIDDEN >= 1:
                grad_w2 += product(tl.trans(h_1), d)
                grad_b2 += tl.sum(d_out, 0)
                d_out = tl.where(out_1 > 0.0, product(d, tl.trans(w2)), 0.0)
                d = d_out.to(DTYPE)
            grad_wf += product(tl.trans(x), d)
            grad_wd += product(tl.trans(view), d)
            g_found = product(d, tl.trans(wf)) * ungain
            scatter_features(
                grad_features, touched, tables, levels, n_levels, p, cell, g_found, waiting
            )
            if RAYS:
                rise = feature_slopes(features, tables, levels, n_levels, p, cell, g_found, waiting)
                go, gd = add_place(go, gd, rise, tl.where(waiting, 1.0, 0.0), t_wait)
            waiting = none > 0
            if PIECES:
                n_over += BLOCK  # those that waited may have been at an end
            else:
                alive = alive & (k >= k_first)
            n_idle = BLOCK - tl.sum(alive.to(tl.int32), 0)
        working = tl.where((n_idle < BLOCK) | (left > 0), 1, 0)

    if RAYS:
        add_ray(grad_rays, row, row >= 0, go, gd, voxel)
    add_inputs_weights(grad_mlp, grad_wf * ungain, grad_wd * ungain, BANDS, D, H1, P1)
    if N_HIDDEN == 1:
        at = grad_mlp + H1 * (n_in + 1)
        add_layer(at, grad_w2 * ungain, grad_b2 * ungain, H1, 3, P1, OUT)
    if N_HIDDEN == 2:
        at = grad_mlp + H1 * (n_in + 1)
        add_layer(at, grad_w2 * ungain, grad_b2 * ungain, H1, H2, P1, P2)
        at += H2 * (H1 + 1)
        add_layer(at, grad_w3 * ungain, grad_b3 * ungain, H2, 3, P2, OUT)
