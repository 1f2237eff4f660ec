"""Rays to pixels of a baked scene: march, density, colour components, compositing; no network.

Symbols: R rays o + t d with unit d, t in world units; a `BakedGrid` of B blocks. Samples lie at
t_k = (k + 1/2) step in occupied voxels; weights w_k and transmittance T_k as in `fused_render`.
There is no backward: what would be fitted is the field that a scene was baked from.
"""

import math

import torch

from nerfkit.kernels import _backend
from nerfkit.kernels.first_hit import check_rays
from nerfkit.kernels.fused_render.reference import Rendered

from .grid import BakedGrid, Layout

__all__ = ["BakedGrid", "Layout", "Rendered", "render_baked"]


def render_baked(
    origins: torch.Tensor,
    directions: torch.Tensor,
    grid: BakedGrid,
    *,
    step: float,
    density_scale: float,
    density_bias: float,
    background: torch.Tensor | None = None,
    near: float = 0.0,
    far: float = math.inf,
    early_stop: float = 2e-3,
    weight_min: float = 2e-3,
    max_weights: torch.Tensor | None = None,
    backend: str | None = None,
) -> Rendered:
    """Render rays; not differentiable.

    sigma = density_scale * softplus(density + density_bias), density and colour components
    interpolated trilinearly; rgb = sum_d (views @ harmonics(direction))_d component_d. Samples with
    T < early_stop do not exist; those with w <= weight_min have no colour.

    Args:
        origins, directions: [R, 3], world axes; directions of unit length (not checked).
        step: distance between samples, world units.
        background: [R, 3] or [3]; None is black.
        near, far: range of t.
        max_weights: [B, 64] float32, raised to the largest weight seen in a voxel.

    Returns:
        colors [R, 3]; depths [R], sum w t, not divided by the opacity; opacities [R], sum w.

    Raises:
        ValueError: wrong shapes or ranges, or an unknown backend.
    """
    check_rays(origins, directions)
    n_rays, n_blocks = origins.shape[0], grid.words.shape[0]
    if background is not None and tuple(background.shape) not in ((n_rays, 3), (3,)):
        raise ValueError(
            f"`background` must have shape ({n_rays}, 3) or (3,), got {tuple(background.shape)}"
        )
    if not step > 0:
        raise ValueError(f"`step` must be positive, got {step}")
    if max_weights is not None and (
        max_weights.shape != (n_blocks, 64)
        or max_weights.dtype != torch.float32
        or not max_weights.is_contiguous()
    ):
        raise ValueError(
            f"`max_weights` must be contiguous, float32 of shape {(n_blocks, 64)}, got "
            f"{max_weights.dtype} of shape {tuple(max_weights.shape)}"
        )
    if _backend.choose("baked_render", origins, backend) == "cpu":
        from . import cpu as implementation
    else:
        from . import reference as implementation
    with torch.no_grad():
        return implementation.render_baked(
            *(origins, directions, grid),
            step=step,
            density_scale=density_scale,
            density_bias=density_bias,
            background=background,
            near=near,
            far=far,
            early_stop=early_stop,
            weight_min=weight_min,
            max_weights=max_weights,
        )
