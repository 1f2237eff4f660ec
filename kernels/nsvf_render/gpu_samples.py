"""Triton: the kept samples of a fit: laid together, and from raw outputs of the network to pixels.

Symbols as in the package docstring; ray r has samples firsts[r] to firsts[r] + kept[r]. Compositing
takes one ray a lane.
"""

import triton
import triton.language as tl

from nerfkit.kernels.shared.triton_math import one_minus_exp


@triton.jit
def gather_kernel(
    starts,
    kept,
    firsts,  # [R] of each ray's kept samples among all
    kept_t,
    kept_steps,
    kept_voxels,
    kept_places,
    rays,
    t,
    steps,
    voxels,
    places,
    PIECE: tl.constexpr,
):
    """The samples of one ray a program, to where they lie without gaps."""
    ray = tl.program_id(0)
    start, to, n = tl.load(starts + ray), tl.load(firsts + ray), tl.load(kept + ray)
    for i in range(0, n, PIECE):
        nth = i + tl.arange(0, PIECE)
        exists = nth < n
        at, out = start + nth, to + nth
        tl.store(rays + out, tl.zeros([PIECE], tl.int64) + ray, mask=exists)
        tl.store(t + out, tl.load(kept_t + at, mask=exists, other=0.0), mask=exists)
        tl.store(steps + out, tl.load(kept_steps + at, mask=exists, other=0.0), mask=exists)
        tl.store(voxels + out, tl.load(kept_voxels + at, mask=exists, other=0), mask=exists)
        for axis in tl.static_range(3):
            value = tl.load(kept_places + 3 * at + axis, mask=exists, other=0.0)
            tl.store(places + 3 * out + axis, value, mask=exists)


@triton.jit
def composite_kernel(
    rgb_raw,  # [N, 3]
    sigma_raw,  # [N]
    t,
    steps,
    firsts,
    kept,
    backgrounds,  # [R, 3]
    colors,
    depths,
    opacities,
    before,  # [N] optical depth before each sample, for the backward
    n_rays,
    density_scale,
    RAYS: tl.constexpr,
):
    """Pixels."""
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    exists = ray < n_rays
    first = tl.load(firsts + ray, mask=exists, other=0)
    count = tl.load(kept + ray, mask=exists, other=0)
    zero = tl.zeros([RAYS], tl.float32)
    thick, red, green, blue, depth, opacity = zero, zero, zero, zero, zero, zero
    for i in range(tl.max(count, 0)):
        mask, at = i < count, first + i
        sigma = tl.load(sigma_raw + at, mask=mask, other=0.0)
        tau = tl.maximum(sigma, 0.0) * density_scale * tl.load(steps + at, mask=mask, other=0.0)
        tl.store(before + at, thick, mask=mask)
        weight = tl.exp(-thick) * one_minus_exp(tau)
        thick += tau
        red += weight * tl.sigmoid(tl.load(rgb_raw + 3 * at, mask=mask, other=0.0))
        green += weight * tl.sigmoid(tl.load(rgb_raw + 3 * at + 1, mask=mask, other=0.0))
        blue += weight * tl.sigmoid(tl.load(rgb_raw + 3 * at + 2, mask=mask, other=0.0))
        depth += weight * tl.load(t + at, mask=mask, other=0.0)
        opacity += weight
    through = 1.0 - opacity
    red += through * tl.load(backgrounds + 3 * ray, mask=exists, other=0.0)
    green += through * tl.load(backgrounds + 3 * ray + 1, mask=exists, other=0.0)
    blue += through * tl.load(backgrounds + 3 * ray + 2, mask=exists, other=0.0)
    tl.store(colors + 3 * ray, red, mask=exists)
    tl.store(colors + 3 * ray + 1, green, mask=exists)
    tl.store(colors + 3 * ray + 2, blue, mask=exists)
    tl.store(depths + ray, depth, mask=exists)
    tl.store(opacities + ray, opacity, mask=exists)


@triton.jit
def composite_back_kernel(
    rgb_raw,
    sigma_raw,
    steps,
    firsts,
    kept,
    backgrounds,
    before,
    g_colors,
    g_opacities,
    g_rgb_raw,
    g_sigma_raw,
    n_rays,
    density_scale,
    RAYS: tl.constexpr,
):
    """Gradients of the raw outputs, back to front (../composite/README.md)."""
    ray = tl.program_id(0).to(tl.int64) * RAYS + tl.arange(0, RAYS)
    exists = ray < n_rays
    first = tl.load(firsts + ray, mask=exists, other=0)
    count = tl.load(kept + ray, mask=exists, other=0)
    g_red = tl.load(g_colors + 3 * ray, mask=exists, other=0.0)
    g_green = tl.load(g_colors + 3 * ray + 1, mask=exists, other=0.0)
    g_blue = tl.load(g_colors + 3 * ray + 2, mask=exists, other=0.0)
    g_cover = tl.load(g_opacities + ray, mask=exists, other=0.0)
    g_cover -= g_red * tl.load(backgrounds + 3 * ray, mask=exists, other=0.0)
    g_cover -= g_green * tl.load(backgrounds + 3 * ray + 1, mask=exists, other=0.0)
    g_cover -= g_blue * tl.load(backgrounds + 3 * ray + 2, mask=exists, other=0.0)
    later = tl.zeros([RAYS], tl.float32)  # sum of w g over the samples behind
    most = tl.max(count, 0)
    for i in range(most):
        nth = most - 1 - i
        mask, at = nth < count, first + nth
        sigma = tl.load(sigma_raw + at, mask=mask, other=0.0)
        slope = density_scale * tl.load(steps + at, mask=mask, other=0.0)
        tau = tl.maximum(sigma, 0.0) * slope
        thick = tl.load(before + at, mask=mask, other=0.0)
        weight = tl.exp(-thick) * one_minus_exp(tau)
        red = tl.sigmoid(tl.load(rgb_raw + 3 * at, mask=mask, other=0.0))
        green = tl.sigmoid(tl.load(rgb_raw + 3 * at + 1, mask=mask, other=0.0))
        blue = tl.sigmoid(tl.load(rgb_raw + 3 * at + 2, mask=mask, other=0.0))
        g_weight = g_cover + g_red * red + g_green * green + g_blue * blue
        g_tau = tl.exp(-thick - tau) * g_weight - later
        later += tl.where(mask, weight * g_weight, 0.0)
        tl.store(g_sigma_raw + at, tl.where(sigma > 0.0, g_tau * slope, 0.0), mask=mask)
        tl.store(g_rgb_raw + 3 * at, weight * g_red * red * (1.0 - red), mask=mask)
        tl.store(g_rgb_raw + 3 * at + 1, weight * g_green * green * (1.0 - green), mask=mask)
        tl.store(g_rgb_raw + 3 * at + 2, weight * g_blue * blue * (1.0 - blue), mask=mask)
