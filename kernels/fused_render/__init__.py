"""Rays to pixels in one pass: march, density, features, colour network, compositing; and back.

Symbols: R rays o + t d with unit d, t in world units; V vertices of a `RenderGrid`; 16 features a
vertex; P parameters of the colour network. Samples lie at t_k = (k + jitter) step inside occupied
voxels; sample k has density sigma_k, optical thickness tau_k = sigma_k step, transmittance before
it T_k = exp(-sum_{j<k} tau_j) and weight w_k = T_k (1 - exp(-tau_k)).
"""

import itertools
import math
from collections.abc import Sequence

import torch

from nerfkit.kernels import _backend
from nerfkit.kernels.first_hit import check_rays
from nerfkit.kernels.ray_pieces import Pieces
from nerfkit.kernels.voxel_features.grid import RenderGrid

from .reference import Fitted, Rendered

__all__ = ["FEATURES", "Fitted", "RenderGrid", "Rendered", "fit_rays", "render_rays"]

FEATURES = 16
MAX_BANDS = 4
GPU_LAYERS, GPU_UNITS = 2, 128  # most hidden layers, and units of one, of backend gpu


def render_rays(
    origins: torch.Tensor,
    directions: torch.Tensor,
    grid: RenderGrid,
    density: torch.Tensor,
    features: torch.Tensor,
    mlp: torch.Tensor,
    widths: Sequence[int],
    *,
    step: float,
    density_scale: float,
    density_bias: float,
    bands: int,
    jitter: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
    near: float = 0.0,
    far: float = math.inf,
    early_stop: float = 1e-4,
    weight_min: float = 1e-4,
    pieces: Pieces | None = None,
    backend: str | None = None,
) -> Rendered:
    """Render rays, with gradients for density, features, mlp and background.

    sigma = density_scale * softplus(density + density_bias), density interpolated at the finest
    level alone (see `level_sum`); features are interpolated at every level and summed. The network
    sees 16 features and the spherical harmonics of the direction; hidden layers have ReLU, the
    output is a sigmoid. Samples with T < early_stop do not exist; those with w <= weight_min count
    in depth and opacity but have no colour. Color = sum w rgb + (1 - opacity) background.

    The backward renders again, so nothing of a sample is kept. With several threads `cpu` adds to
    shared gradients without locks; only one thread is bitwise repeatable (README.md).

    Args:
        origins, directions: [R, 3], world axes; directions of unit length (not checked).
        density: [V], values that hold the sum over the levels at the finest vertices.
        features: [V, 16], each level's own values.
        mlp: [P] packed parameters: a layer's weights [out, in] row-major, then its biases [out].
        widths: units of all layers, (16 + bands^2, hidden ..., 3).
        step: distance between samples, world units.
        bands: bands of spherical harmonics, 1 to 4.
        jitter: [R] in [0, 1); None is 0.5.
        background: [R, 3] or [3]; None is black.
        near, far: range of t.
        pieces: of the rays in the octree's space, `near` and `far` being already part of them; the
            step is then a distance there, while directions and t stay those of the world.

    Returns:
        colors [R, 3]; depths [R], sum w t, not divided by the opacity; opacities [R], sum w.

    Raises:
        ValueError: wrong shapes or ranges, or an unknown backend.
    """
    _check(origins, directions, grid, density, features, mlp, widths, step, bands, jitter)
    n_rays = origins.shape[0]
    if background is not None and tuple(background.shape) not in ((n_rays, 3), (3,)):
        raise ValueError(
            f"`background` must have shape ({n_rays}, 3) or (3,), got {tuple(background.shape)}"
        )
    _check_pieces(pieces, n_rays)
    return _implementation(origins, backend).render_rays(
        *(origins, directions, grid, density, features, mlp, widths),
        step=step,
        density_scale=density_scale,
        density_bias=density_bias,
        bands=bands,
        jitter=jitter,
        background=background,
        near=near,
        far=far,
        early_stop=early_stop,
        weight_min=weight_min,
        pieces=pieces,
    )


def fit_rays(
    origins: torch.Tensor,
    directions: torch.Tensor,
    targets: torch.Tensor,
    grid: RenderGrid,
    density: torch.Tensor,
    features: torch.Tensor,
    mlp: torch.Tensor,
    widths: Sequence[int],
    *,
    scale: float,
    grad_density: torch.Tensor,
    grad_features: torch.Tensor,
    grad_mlp: torch.Tensor,
    features_touched: torch.Tensor,
    step: float,
    density_scale: float,
    density_bias: float,
    bands: int,
    max_weights: torch.Tensor | None = None,
    jitter: torch.Tensor | None = None,
    background: torch.Tensor | None = None,
    near: float = 0.0,
    far: float = math.inf,
    early_stop: float = 1e-4,
    weight_min: float = 1e-4,
    pieces: Pieces | None = None,
    distortion: float = 0.0,
    depths: torch.Tensor | None = None,
    depth_weight: float = 0.0,
    grad_rays: torch.Tensor | None = None,
    backend: str | None = None,
) -> Fitted:
    """Forward and backward of a loss in one pass, outside autograd.

        loss = scale * sum_r (|color_r - target_r|^2 + distortion * spread_r
                              + depth_weight * h(depth_r / depths_r - 1))

    with h Huber's, h(x) = x^2 up to |x| = 0.2, on rays with a depth; and with the spread of a ray's
    weights (2111.12077, eq. 15; s: distance in the octree's space)

        spread = sum_ij w_i w_j |s_i - s_j| + 1/3 sum_i w_i^2 step

    Everything is as in `render_rays`; gradients are added to buffers that the caller keeps from
    step to step, so that neither they nor the samples cost an allocation.

    Args:
        targets: [R, 3].
        scale: factor of the loss; 1 / (3 R) makes it the mean squared error.
        grad_density, grad_features, grad_mlp: added to; contiguous, shaped as what they belong to.
        features_touched: [V] uint8, set to 1 at the corners of every sample with a colour.
        max_weights: [V], raised to the largest weight seen in a finest voxel, at the row of the
            voxel's lowest corner; None: not wanted.
        distortion: weight of the spread.
        depths: [R] t of what is seen; 0 where it is not known.
        depth_weight: weight of the errors of these.
        grad_rays: [R, 6], or [P, 6] with pieces; added to: the gradient of origins and directions
            by way of where samples are; colours change with the direction too, but not here.

    Raises:
        ValueError: wrong shapes, dtypes or ranges, a buffer that is not contiguous, or an unknown
            backend.
    """
    _check(origins, directions, grid, density, features, mlp, widths, step, bands, jitter)
    n_rays = origins.shape[0]
    if targets.shape != (n_rays, 3):
        raise ValueError(f"`targets` must have shape ({n_rays}, 3), got {tuple(targets.shape)}")
    if background is not None and tuple(background.shape) not in ((n_rays, 3), (3,)):
        raise ValueError(
            f"`background` must have shape ({n_rays}, 3) or (3,), got {tuple(background.shape)}"
        )
    for name, buffer, like, dtype in (
        ("grad_density", grad_density, density, density.dtype),
        # 16-bit features have gradients of the precision of everything else
        ("grad_features", grad_features, features, density.dtype),
        ("grad_mlp", grad_mlp, mlp, mlp.dtype),
        ("features_touched", features_touched, density, torch.uint8),
        ("max_weights", max_weights, density, density.dtype),
    ):
        if buffer is None and name == "max_weights":
            continue
        if buffer.shape != like.shape or buffer.dtype != dtype or not buffer.is_contiguous():
            raise ValueError(
                f"`{name}` must be contiguous, {dtype} of shape {tuple(like.shape)}, got "
                f"{buffer.dtype} of shape {tuple(buffer.shape)}"
            )
    _check_pieces(pieces, n_rays)
    n_rows = n_rays if pieces is None else len(pieces.rows)
    for name, tensor, shape in (
        ("depths", depths, (n_rays,)),
        ("grad_rays", grad_rays, (n_rows, 6)),
    ):
        if tensor is not None and (
            tuple(tensor.shape) != shape
            or tensor.dtype != origins.dtype
            or tensor.requires_grad
            or not tensor.is_contiguous()
        ):
            raise ValueError(f"`{name}` must be contiguous, {origins.dtype} of shape {shape}")
    return _implementation(origins, backend).fit_rays(
        *(origins, directions, targets, grid, density, features, mlp, widths),
        scale=scale,
        grad_density=grad_density,
        grad_features=grad_features,
        grad_mlp=grad_mlp,
        features_touched=features_touched,
        max_weights=max_weights,
        step=step,
        density_scale=density_scale,
        density_bias=density_bias,
        bands=bands,
        jitter=jitter,
        background=background,
        near=near,
        far=far,
        early_stop=early_stop,
        weight_min=weight_min,
        pieces=pieces,
        distortion=distortion,
        depths=depths,
        depth_weight=depth_weight,
        grad_rays=grad_rays,
    )


def _check_pieces(pieces: Pieces | None, n_rays: int) -> None:
    if pieces is not None and len(pieces.first) != n_rays + 1:
        raise ValueError(f"`pieces` must be of {n_rays} rays, got {len(pieces.first) - 1}")


def _implementation(origins: torch.Tensor, backend: str | None):
    chosen = _backend.choose("fused_render", origins, backend)
    if chosen == "cpu":
        from . import cpu as implementation
    elif chosen == "gpu":
        from . import gpu as implementation
    else:
        from . import reference as implementation
    return implementation


def _check(origins, directions, grid, density, features, mlp, widths, step, bands, jitter) -> None:
    check_rays(origins, directions)
    v = grid.n_vertices
    if not 1 <= bands <= MAX_BANDS:
        raise ValueError(f"`bands` must be 1 to {MAX_BANDS}, got {bands}")
    if len(widths) < 2 or widths[0] != FEATURES + bands**2 or widths[-1] != 3:
        raise ValueError(
            f"`widths` must begin with {FEATURES} + bands^2 = {FEATURES + bands**2} and end with "
            f"3, got {tuple(widths)}"
        )
    n_params = sum((i + 1) * o for i, o in itertools.pairwise(widths))
    for name, tensor, shape in (
        ("density", density, (v,)),
        ("features", features, (v, FEATURES)),
        ("mlp", mlp, (n_params,)),
        ("jitter", jitter, (origins.shape[0],)),
    ):
        if tensor is not None and tensor.shape != shape:
            raise ValueError(f"`{name}` must have shape {shape}, got {tuple(tensor.shape)}")
    if not step > 0:
        raise ValueError(f"`step` must be positive, got {step}")
