"""C++ fused renderer. Shapes as in the package docstring.

A call costs tens of microseconds before the compiled code starts: what does not change from call
to call (settings, widths) is made into tensors once.
"""

import functools
from collections.abc import Sequence

import torch
from torch.autograd.function import once_differentiable

from nerfkit.kernels import _native
from nerfkit.kernels.fused_mlp.cpu import MAX_LAYERS, MAX_WIDTH
from nerfkit.kernels.ray_pieces import Pieces
from nerfkit.kernels.voxel_features.grid import RenderGrid

from .reference import Fitted, Rendered

FAR_AWAY = 3e38  # stands for infinity, which the compiled code does not know


@functools.lru_cache(maxsize=256)
def _settings(*numbers: float) -> torch.Tensor:
    return torch.tensor(numbers, dtype=torch.float32)


@functools.lru_cache(maxsize=64)
def _widths(widths: tuple[int, ...]) -> torch.Tensor:
    if max(widths) > MAX_WIDTH or len(widths) - 1 > MAX_LAYERS:
        raise ValueError(
            f"backend 'cpu' takes at most {MAX_LAYERS} layers of at most {MAX_WIDTH} units, "
            f"got widths {widths}"
        )
    return torch.tensor(widths, dtype=torch.int64)


def _scene(
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
    jitter: torch.Tensor | None,
    background: torch.Tensor | None,
    near: float,
    far: float,
    early_stop: float,
    weight_min: float,
    pieces: Pieces | None,
    distortion: float = 0.0,
) -> tuple:
    """The arguments that all entry points share, in the order of NK_SCENE in cpu.cpp."""
    if background is not None:
        background = background.expand(origins.shape[0], 3)
    tensors = {
        "origins": origins,
        "directions": directions,
        "jitter": jitter,
        "background": background,
        "density": density,
        "features": features,
        "mlp": mlp,
    }
    for name, tensor in tensors.items():
        if tensor is not None:
            if tensor.dtype != torch.float32:
                raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
            tensors[name] = tensor.contiguous()
    for name in ("origins", "directions", "jitter"):
        if tensors[name] is not None and tensors[name].requires_grad and torch.is_grad_enabled():
            raise ValueError(
                f"`{name}` must not require gradients on backend 'cpu': detach it or use "
                "backend='reference'"
            )
    widths = _widths(tuple(widths))
    settings = _settings(
        density_scale,
        density_bias,
        *grid.box_min,
        grid.voxel,
        step,
        near,
        min(far, FAR_AWAY),
        early_stop,
        weight_min,
        distortion,
    )
    rows, first = (None, None) if pieces is None else (pieces.rows, pieces.first)
    return (
        *(tensors["origins"], tensors["directions"], tensors["jitter"], tensors["background"]),
        *(origins.shape[0], grid.resolutions, grid.resolutions.shape[0], grid.tables, grid.words),
        *(tensors["density"], tensors["features"], widths, len(widths) - 1, tensors["mlp"]),
        *(bands, settings, rows, first),
    )


BACKGROUND, DENSITY, FEATURES, MLP = 3, 9, 10, 13  # places in the scene


class _RenderRays(torch.autograd.Function):
    @staticmethod
    def forward(ctx, background, density, features, mlp, scene):
        n_rays = scene[4]
        colors, depths, opacities = (
            torch.empty(n_rays, 3),
            torch.empty(n_rays),
            torch.empty(n_rays),
        )
        counts = torch.empty(2, dtype=torch.int64)
        _native.call("nk_fused_render_forward", *scene, colors, depths, opacities, counts)
        if any(ctx.needs_input_grad):
            ctx.set_materialize_grads(False)
            # The four that may change between the passes are saved by autograd, which notices.
            ctx.save_for_backward(background, density, features, mlp, opacities)
            ctx.scene = [
                None if i in (BACKGROUND, DENSITY, FEATURES, MLP) else a
                for i, a in enumerate(scene)
            ]
        return colors, depths, opacities

    @staticmethod
    @once_differentiable
    def backward(ctx, g_colors, g_depths, g_opacities):
        background, density, features, mlp, opacities = ctx.saved_tensors
        scene = list(ctx.scene)
        scene[BACKGROUND], scene[DENSITY], scene[FEATURES], scene[MLP] = (
            *(background, density, features, mlp),
        )
        n_rays = scene[4]
        g_background = None
        if ctx.needs_input_grad[0] and g_colors is not None:
            g_background = (1 - opacities)[:, None] * g_colors
        if not any(ctx.needs_input_grad[1:]):
            return g_background, None, None, None, None
        # The compiled pass makes all three gradients together.
        grads = [torch.zeros_like(x) for x in (density, features, mlp)]
        _native.call(
            "nk_fused_render_backward",
            *scene,
            torch.zeros(n_rays, 3) if g_colors is None else g_colors.contiguous(),
            torch.zeros(n_rays) if g_depths is None else g_depths.contiguous(),
            torch.zeros(n_rays) if g_opacities is None else g_opacities.contiguous(),
            *grads,
            torch.zeros(density.shape[0], dtype=torch.uint8),
            torch.empty(2, dtype=torch.int64),
        )
        needed = ctx.needs_input_grad[1:4]
        return g_background, *(g if n else None for g, n in zip(grads, needed, strict=True)), None


def render_rays(*args, **settings) -> Rendered:
    """Same function as the reference, float32 only; gradients as the package docstring says."""
    scene = _scene(*args, **settings)
    return Rendered(
        *_RenderRays.apply(scene[BACKGROUND], scene[DENSITY], scene[FEATURES], scene[MLP], scene)
    )


def fit_rays(
    origins: torch.Tensor,
    directions: torch.Tensor,
    targets: torch.Tensor,
    *field,
    scale: float,
    grad_density: torch.Tensor,
    grad_features: torch.Tensor,
    grad_mlp: torch.Tensor,
    features_touched: torch.Tensor,
    max_weights: torch.Tensor | None,
    grad_rays: torch.Tensor | None = None,
    depths: torch.Tensor | None = None,
    depth_weight: float = 0.0,
    **settings,
) -> Fitted:
    """Same function as the reference, float32 only."""
    if targets.dtype != torch.float32:
        raise ValueError(f"`targets` must be float32 on backend 'cpu', got {targets.dtype}")
    with torch.no_grad():
        scene = _scene(origins, directions, *field, **settings)
        colors, squared_errors = torch.empty(origins.shape[0], 3), torch.empty(origins.shape[0])
        counts = torch.empty(2, dtype=torch.int64)
        _native.call(
            "nk_fused_render_fit",
            *scene,
            *(targets.contiguous(), None if depths is None else depths.contiguous()),
            *(float(depth_weight), float(scale)),
            *(grad_density, grad_features, grad_mlp, grad_rays, features_touched, max_weights),
            *(colors, squared_errors, counts),
        )
    return Fitted(squared_errors, *counts.tolist(), colors)
