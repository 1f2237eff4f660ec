"""The C++ composite kernel as a torch function; see `nerfkit.kernels.composite.composite`."""

import math

import torch
from torch.autograd.function import once_differentiable

from nerfkit.kernels import _native

from .reference import Composite

_NEVER = 3e38  # optical depth nothing reaches; infinity is off limits under fast-math


class _Composite(torch.autograd.Function):
    @staticmethod
    def forward(ctx, sigmas, rgbs, t_starts, t_ends, packed_info, background, limit):
        n_rays, n_samples = len(packed_info), len(sigmas)
        colors = torch.empty(n_rays, 3)
        depths, opacities, distortions = (torch.empty(n_rays) for _ in range(3))
        weights = torch.empty(n_samples)
        _native.call(
            "nk_composite_forward",
            *(sigmas, rgbs, t_starts, t_ends, packed_info, background, n_rays, n_samples, limit),
            *(colors, depths, opacities, weights, distortions),
        )
        ctx.set_materialize_grads(False)
        if any(ctx.needs_input_grad):
            ctx.limit = limit
            ctx.save_for_backward(
                *(sigmas, rgbs, t_starts, t_ends, packed_info, background, opacities, weights)
            )
        return colors, depths, opacities, weights, distortions

    @staticmethod
    @once_differentiable
    def backward(ctx, g_colors, g_depths, g_opacities, g_weights, g_distortions):
        (sigmas, rgbs, t_starts, t_ends, packed_info, background, opacities, weights) = (
            ctx.saved_tensors
        )
        upstream = [
            g if g is None else g.contiguous()
            for g in (g_colors, g_depths, g_opacities, g_weights, g_distortions)
        ]
        g_sigmas = torch.empty_like(sigmas) if ctx.needs_input_grad[0] else None
        g_rgbs = torch.empty_like(rgbs) if ctx.needs_input_grad[1] else None
        if g_sigmas is not None or g_rgbs is not None:
            _native.call(
                "nk_composite_backward",
                *(sigmas, rgbs, t_starts, t_ends, packed_info, background, weights),
                *(len(packed_info), len(sigmas), ctx.limit),
                *upstream,
                *(g_sigmas, g_rgbs),
            )
        g_background = None
        if ctx.needs_input_grad[5] and g_colors is not None:
            g_background = (1 - opacities)[:, None] * g_colors
        return g_sigmas, g_rgbs, None, None, None, g_background, None


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
    floats = {"sigmas": sigmas, "rgbs": rgbs, "t_starts": t_starts, "t_ends": t_ends}
    if background is not None:
        floats["background"] = background
    for name, tensor in floats.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} must be float32 for backend 'cpu', got {tensor.dtype}")
    if torch.is_grad_enabled() and (t_starts.requires_grad or t_ends.requires_grad):
        raise ValueError(
            "t_starts and t_ends must not require gradients for backend 'cpu': detach them or use "
            "backend='reference'"
        )
    if background is not None:
        background = background.expand(len(packed_info), 3).contiguous()
    limit = -math.log(early_stop) if early_stop > 0 else _NEVER
    outputs = _Composite.apply(
        *(t.contiguous() for t in (sigmas, rgbs, t_starts, t_ends, packed_info)), background, limit
    )
    return Composite(*outputs)
