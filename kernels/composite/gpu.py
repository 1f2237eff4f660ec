"""The Triton composite kernel as a torch function; see `nerfkit.kernels.composite.composite`.

Symbols: x optical thickness of a sample, m its midpoint counted from the ray's first edge, w its
weight. A program has ROWS rays and takes BLOCK samples of each at a time; tiles are [ROWS, BLOCK].
"""

import math

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

from nerfkit.kernels.shared.aot import Configuration
from nerfkit.kernels.shared.triton_launch import check_float32, launch
from nerfkit.kernels.shared.triton_math import exclusive_sum, one_minus_exp

from .reference import Composite

NEVER = 3e38  # optical depth nothing reaches
TILE = {"ROWS": 8, "BLOCK": 32}


@triton.jit
def _forward_kernel(
    sigmas,
    rgbs,
    t_starts,
    t_ends,
    packed_info,
    background,  # None is black
    background_stride,  # 0: one colour for all rays
    n_rays,
    limit,
    colors,
    depths,
    opacities,
    weights,
    behind,  # transmittance behind each sample, 0 after the early stop; None: not wanted
    distortions,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Front to back: T = exp(-sum of x before), w = T (1 - exp(-x))."""
    rays = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = rays < n_rays
    first = tl.load(packed_info + 2 * rays, mask=exists, other=0)
    count = tl.load(packed_info + 2 * rays + 1, mask=exists, other=0)
    origin = tl.load(t_starts + first, mask=count > 0, other=0.0)
    depth = tl.zeros([ROWS], tl.float32)
    red, green, blue, sum_w, sum_wm, spread = depth, depth, depth, depth, depth, depth
    begin = tl.zeros([], tl.int64)
    while tl.min(tl.where(count > begin, depth, float("inf"))) <= limit:
        place = begin + tl.arange(0, BLOCK)[None, :]
        owned = place < count[:, None]
        i = first[:, None] + place
        start = tl.load(t_starts + i, mask=owned, other=0.0)
        delta = tl.load(t_ends + i, mask=owned, other=0.0) - start
        x = tl.load(sigmas + i, mask=owned, other=0.0) * delta
        before = depth[:, None] + exclusive_sum(x, 1)
        kept = owned & (before <= limit)
        w = tl.where(kept, tl.exp(-before) * one_minus_exp(x), 0.0)
        tl.store(weights + i, w, mask=kept)
        if behind is not None:
            tl.store(behind + i, tl.exp(-(before + x)), mask=kept)
        m = tl.where(owned, (start - origin[:, None]) + 0.5 * delta, 0.0)
        red += tl.sum(w * tl.load(rgbs + 3 * i, mask=kept, other=0.0), 1)
        green += tl.sum(w * tl.load(rgbs + 3 * i + 1, mask=kept, other=0.0), 1)
        blue += tl.sum(w * tl.load(rgbs + 3 * i + 2, mask=kept, other=0.0), 1)
        # Sums up to the sample itself: what it adds to one it takes off the other.
        up_to_w = sum_w[:, None] + tl.cumsum(w, 1)
        up_to_wm = sum_wm[:, None] + tl.cumsum(w * m, 1)
        spread += tl.sum(w * (w * delta * (1.0 / 3.0) + 2.0 * (m * up_to_w - up_to_wm)), 1)
        sum_w += tl.sum(w, 1)
        sum_wm += tl.sum(w * m, 1)
        depth += tl.sum(x, 1)
        begin += BLOCK
    if background is not None:
        at = background + background_stride * rays
        red += (1.0 - sum_w) * tl.load(at, mask=exists, other=0.0)
        green += (1.0 - sum_w) * tl.load(at + 1, mask=exists, other=0.0)
        blue += (1.0 - sum_w) * tl.load(at + 2, mask=exists, other=0.0)
    tl.store(colors + 3 * rays, red, mask=exists)
    tl.store(colors + 3 * rays + 1, green, mask=exists)
    tl.store(colors + 3 * rays + 2, blue, mask=exists)
    tl.store(depths + rays, sum_wm + origin * sum_w, mask=exists)
    tl.store(opacities + rays, sum_w, mask=exists)
    tl.store(distortions + rays, spread, mask=exists)


@triton.jit
def _of_ray(values, rays, exists):
    return tl.load(values + rays, mask=exists, other=0.0)[:, None]


@triton.jit
def _backward_kernel(
    rgbs,
    t_starts,
    t_ends,
    packed_info,
    background,
    background_stride,
    weights,
    behind,
    n_rays,
    g_colors,  # every g_* may be None: zero, or not wanted
    g_depths,
    g_opacities,
    g_weights,
    g_distortions,
    g_sigmas,
    g_rgbs,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Back to front: dL/dsigma = delta (G T_behind - sum of G w behind); README.md."""
    rays = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    exists = rays < n_rays
    first = tl.load(packed_info + 2 * rays, mask=exists, other=0)
    count = tl.load(packed_info + 2 * rays + 1, mask=exists, other=0)
    origin = tl.load(t_starts + first, mask=count > 0, other=0.0)
    constant = tl.zeros([ROWS, 1], tl.float32)
    if g_opacities is not None:
        constant += _of_ray(g_opacities, rays, exists)
    if g_colors is not None:
        g_red = _of_ray(g_colors, 3 * rays, exists)
        g_green = _of_ray(g_colors, 3 * rays + 1, exists)
        g_blue = _of_ray(g_colors, 3 * rays + 2, exists)
        if background is not None:
            at = background_stride * rays
            constant -= g_red * _of_ray(background, at, exists)
            constant -= g_green * _of_ray(background, at + 1, exists)
            constant -= g_blue * _of_ray(background, at + 2, exists)
    last_block = (tl.max(count) - 1) // BLOCK * BLOCK
    sum_w = tl.zeros([ROWS], tl.float32)
    sum_wm = tl.zeros([ROWS], tl.float32)
    if g_distortions is not None:
        begin = tl.zeros([], tl.int64)
        while begin <= last_block:
            place = begin + tl.arange(0, BLOCK)[None, :]
            owned = place < count[:, None]
            i = first[:, None] + place
            w = tl.load(weights + i, mask=owned, other=0.0)
            start = tl.load(t_starts + i, mask=owned, other=0.0)
            delta = tl.load(t_ends + i, mask=owned, other=0.0) - start
            sum_w += tl.sum(w, 1)
            sum_wm += tl.sum(w * ((start - origin[:, None]) + 0.5 * delta), 1)
            begin += BLOCK
    gw_behind = tl.zeros([ROWS], tl.float32)
    w_from = tl.zeros([ROWS], tl.float32)
    wm_from = tl.zeros([ROWS], tl.float32)
    begin = last_block
    while begin >= 0:
        place = begin + tl.arange(0, BLOCK)[None, :]
        owned = place < count[:, None]
        i = first[:, None] + place
        w = tl.load(weights + i, mask=owned, other=0.0)
        if g_rgbs is not None:
            if g_colors is not None:
                tl.store(g_rgbs + 3 * i, w * g_red, mask=owned)
                tl.store(g_rgbs + 3 * i + 1, w * g_green, mask=owned)
                tl.store(g_rgbs + 3 * i + 2, w * g_blue, mask=owned)
        if g_sigmas is not None:
            start = tl.load(t_starts + i, mask=owned, other=0.0)
            delta = tl.load(t_ends + i, mask=owned, other=0.0) - start
            m = tl.where(owned, (start - origin[:, None]) + 0.5 * delta, 0.0)
            g = tl.where(owned, constant, 0.0)
            if g_colors is not None:
                g += g_red * tl.load(rgbs + 3 * i, mask=owned, other=0.0)
                g += g_green * tl.load(rgbs + 3 * i + 1, mask=owned, other=0.0)
                g += g_blue * tl.load(rgbs + 3 * i + 2, mask=owned, other=0.0)
            if g_depths is not None:
                g += _of_ray(g_depths, rays, exists) * (m + origin[:, None])
            if g_weights is not None:
                g += tl.load(g_weights + i, mask=owned, other=0.0)
            if g_distortions is not None:
                # From the sample itself to the end; its own parts cancel, as in the forward.
                to_end_w = w_from[:, None] + tl.cumsum(w, 1, reverse=True)
                to_end_wm = wm_from[:, None] + tl.cumsum(w * m, 1, reverse=True)
                pairs = m * (sum_w[:, None] - 2.0 * to_end_w) + 2.0 * to_end_wm - sum_wm[:, None]
                g += _of_ray(g_distortions, rays, exists) * (w * delta * (2.0 / 3.0) + 2.0 * pairs)
                w_from += tl.sum(w, 1)
                wm_from += tl.sum(w * m, 1)
            after = tl.load(behind + i, mask=owned, other=0.0)
            hidden = gw_behind[:, None] + exclusive_sum(g * w, 1, True)
            tl.store(g_sigmas + i, delta * (g * after - hidden), mask=owned)
            gw_behind += tl.sum(g * w, 1)
        begin -= BLOCK


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sigmas, rgbs, t_starts, t_ends, packed_info, background, limit):
        n_rays = len(packed_info)
        colors = sigmas.new_empty(n_rays, 3)
        depths, opacities, distortions = (sigmas.new_empty(n_rays) for _ in range(3))
        weights = torch.zeros_like(sigmas)
        behind = torch.zeros_like(sigmas) if ctx.needs_input_grad[0] else None
        launch(
            _forward_kernel,
            (triton.cdiv(n_rays, TILE["ROWS"]),),
            *(sigmas, rgbs, t_starts, t_ends, packed_info, background, _stride(background)),
            *(n_rays, limit, colors, depths, opacities, weights, behind, distortions),
            **TILE,
        )
        ctx.set_materialize_grads(False)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(
                *(rgbs, t_starts, t_ends, packed_info, background, opacities, weights, behind)
            )
        return colors, depths, opacities, weights, distortions

    @staticmethod
    @once_differentiable
    def backward(ctx, g_colors, g_depths, g_opacities, g_weights, g_distortions):
        (rgbs, t_starts, t_ends, packed_info, background, opacities, weights, behind) = (
            ctx.saved_tensors
        )
        upstream = [
            g if g is None else g.contiguous()
            for g in (g_colors, g_depths, g_opacities, g_weights, g_distortions)
        ]
        g_sigmas = torch.zeros_like(weights) if ctx.needs_input_grad[0] else None
        g_rgbs = torch.zeros_like(rgbs) if ctx.needs_input_grad[1] else None
        if g_sigmas is not None or g_rgbs is not None:
            launch(
                _backward_kernel,
                (triton.cdiv(len(packed_info), TILE["ROWS"]),),
                *(rgbs, t_starts, t_ends, packed_info, background, _stride(background)),
                *(weights, behind, len(packed_info), *upstream, g_sigmas, g_rgbs),
                **TILE,
            )
        g_background = None
        if ctx.needs_input_grad[5] and g_colors is not None:
            g_background = (1 - opacities)[:, None] * g_colors
            if background.ndim == 1:
                g_background = g_background.sum(0)
        return g_sigmas, g_rgbs, None, None, None, g_background, None


def _stride(background: torch.Tensor | None) -> int:
    return 3 if background is not None and background.ndim == 2 else 0


def composite(
    sigmas: torch.Tensor,
    rgbs: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    packed_info: torch.Tensor,
    *,
    background: torch.Tensor | None = None,
    early_stop: float = 0.0,
) -> Composite:
    """See `nerfkit.kernels.composite.composite`."""
    check_float32(sigmas=sigmas, rgbs=rgbs, t_starts=t_starts, t_ends=t_ends, background=background)
    if torch.is_grad_enabled() and (t_starts.requires_grad or t_ends.requires_grad):
        raise ValueError(
            "t_starts and t_ends must not require gradients for backend 'gpu': detach them or use "
            "backend='reference'"
        )
    outputs = _Composite.apply(
        *(t.contiguous() for t in (sigmas, rgbs, t_starts, t_ends, packed_info)),
        background if background is None else background.contiguous(),
        -math.log(early_stop) if early_stop > 0 else NEVER,
    )
    return Composite(*outputs)


AOT = [
    Configuration(
        "composite forward",
        _forward_kernel,
        "*fp32 *fp32 *fp32 *fp32 *i64 *fp32 i32 i32 fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32",
        TILE,
        max_registers=96,
        max_stack=8,
        max_inner_spills=1,
    ),
    Configuration(
        "composite backward",
        _backward_kernel,
        "*fp32 *fp32 *fp32 *i64 *fp32 i32 *fp32 *fp32 i32 "
        "*fp32 *fp32 *fp32 *fp32 *fp32 *fp32 *fp32",
        TILE,
        max_registers=128,
    ),
]
