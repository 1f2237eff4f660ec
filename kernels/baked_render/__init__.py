"""Rays to pixels of a baked scene: march, density, colour components, compositing; no network.

Symbols: R rays o + t d with unit d, t in world units; a `BakedGrid` of B blocks. Samples lie at
t_k = (k + 1/2) step in occupied voxels; weights w_k and transmittance T_k as in `fused_render`.
There is no backward: what would be fitted is the field that a scene was baked from.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from nerfkit.kernels import _backend
from nerfkit.kernels.first_hit import check_rays
from nerfkit.kernels.fused_render.reference import Rendered

from .grid import BRICK, DETAIL, RECORD, BakedGrid, Fitted, Layout

__all__ = ["BakedGrid", "Fitted", "Layout", "Rendered", "color_gradient_", "render_baked"]


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

    sigma = density_scale * softplus(density + density_bias), density and coefficients
    interpolated trilinearly; rgb = sum_h harmonics(direction)_h coefficient_h + detail, the detail,
    of fewer harmonics, interpolated between corners of half voxels. Samples with
    T < early_stop do not exist, and the one before them stops what light is left; those with
    w <= weight_min have the mean colour of the others on their ray, which ends in the background if
    there are no others.

    Args:
        origins, directions: [R, 3], world axes; directions of unit length (not checked).
        step: distance between samples, world units.
        background: [R, 3] or [3], expanded tensors as they are; None is black.
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
    if max_weights is not None:
        _check_buffer("max_weights", max_weights, (n_blocks, 64), torch.float32)
    with torch.no_grad():
        return _implementation(origins, backend).render_baked(
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


def color_gradient_(
    components: Fitted,
    details: Fitted,
    origins: torch.Tensor,
    directions: torch.Tensor,
    targets: torch.Tensor,
    background: torch.Tensor,
    grid: BakedGrid,
    *,
    step: float,
    density_scale: float,
    density_bias: float,
    near: float = 0.0,
    far: float = math.inf,
    early_stop: float = 2e-3,
    weight_min: float = 2e-3,
    backend: str | None = None,
) -> torch.Tensor:
    """Squared error [R] of the rays' colours; its gradients are added to both tables' `grads`.

    Args:
        components: values [V, 24] in place of the grid's records and levels.
        details: values [F, 8] in place of the grid's bricks and their levels.
        targets: [R, 3]; background: [3].

    Others as in `render_baked`.

    Raises:
        ValueError: wrong shapes or ranges, or an unknown backend.
    """
    check_rays(origins, directions)
    for name, tensor, wanted in (
        ("targets", targets, origins.shape),
        ("background", background, (3,)),
        ("components.values", components.values, (len(components.values), RECORD)),
        ("components.rows", components.rows, grid.records.shape[:1]),
        ("details.values", details.values, (len(details.values), DETAIL)),
        ("details.rows", details.rows, (len(grid.bricks), BRICK)),
    ):
        if tuple(tensor.shape) != tuple(wanted):
            raise ValueError(f"`{name}` must have shape {tuple(wanted)}, got {tuple(tensor.shape)}")
    for name, table in (("components", components), ("details", details)):
        if table.rows.dtype != torch.int32:
            raise ValueError(f"`{name}.rows` must be int32, got {table.rows.dtype}")
        values = table.values
        _check_buffer(f"{name}.grads", table.grads, values.shape, values.dtype)
        _check_buffer(f"{name}.touched", table.touched, values.shape[:1], torch.uint8)
    if not step > 0:
        raise ValueError(f"`step` must be positive, got {step}")
    with torch.no_grad():
        return _implementation(origins, backend).color_gradient_(
            *(components, details, origins, directions, targets, background, grid),
            step=step,
            density_scale=density_scale,
            density_bias=density_bias,
            near=near,
            far=far,
            early_stop=early_stop,
            weight_min=weight_min,
        )


def _implementation(origins: torch.Tensor, backend: str | None) -> Any:
    chosen = _backend.choose("baked_render", origins, backend)
    if chosen == "cpu":
        from . import cpu as implementation
    elif chosen == "gpu":
        from . import gpu as implementation
    else:
        from . import reference as implementation
    return implementation


def _check_buffer(
    name: str, tensor: torch.Tensor, shape: Sequence[int], dtype: torch.dtype
) -> None:
    """Of a tensor that is written to in place."""
    if tuple(tensor.shape) != tuple(shape) or tensor.dtype != dtype or not tensor.is_contiguous():
        raise ValueError(
            f"`{name}` must be contiguous, {dtype} of shape {tuple(shape)}, got {tensor.dtype} of "
            f"shape {tuple(tensor.shape)}"
        )
