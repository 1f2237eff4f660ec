"""C++ renderer of baked scenes. Shapes as in the package docstring."""

import torch

from nerfkit.kernels import _native
from nerfkit.kernels.fused_render.reference import Rendered

from .grid import BakedGrid, Fitted

FAR_AWAY = 3e38  # stands for infinity, which the compiled code does not know


def render_baked(
    origins: torch.Tensor,
    directions: torch.Tensor,
    grid: BakedGrid,
    *,
    background: torch.Tensor | None,
    max_weights: torch.Tensor | None,
    **sampling: float,
) -> Rendered:
    """Same function as the reference, float32 only."""
    _want_float32(origins=origins, directions=directions, background=background)
    n_rays = origins.shape[0]
    origins, origin_stride = _rows(origins)
    background, background_stride = (None, 0) if background is None else _rows(background)
    colors, depths, opacities = torch.empty(n_rays, 3), torch.empty(n_rays), torch.empty(n_rays)
    _native.call(
        "nk_baked_render_forward",
        *(origins, origin_stride, directions.contiguous(), background, background_stride, n_rays),
        *_scene(grid),
        *(grid.records, grid.levels, grid.bricks, grid.detail_levels),
        *(_settings(grid, **sampling), max_weights),
        *(colors, depths, opacities),
    )
    return Rendered(colors, depths, opacities)


def color_gradient_(
    components: Fitted,
    details: Fitted,
    origins: torch.Tensor,
    directions: torch.Tensor,
    targets: torch.Tensor,
    background: torch.Tensor,
    grid: BakedGrid,
    **sampling: float,
) -> torch.Tensor:
    """Same function as the reference, float32 only."""
    _want_float32(
        origins=origins,
        directions=directions,
        targets=targets,
        background=background,
        components=components.values,
        details=details.values,
    )
    losses = torch.empty(len(origins))
    _native.call(
        "nk_baked_render_gradient",
        *(origins.contiguous(), directions.contiguous(), background.contiguous()),
        *(targets.contiguous(), len(origins), *_scene(grid)),
        *(_settings(grid, **sampling), *_table(components), *_table(details), losses),
    )
    return losses


def _table(fitted: Fitted) -> tuple[torch.Tensor, ...]:
    locks = torch.zeros(len(fitted.values), dtype=torch.uint8)
    values, rows = fitted.values.contiguous(), fitted.rows.contiguous()
    return values, rows, locks, fitted.grads, fitted.touched


def _rows(values: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Something to point at, and how far apart rows are: [3], or [R, 3] that may be expanded."""
    if values.dim() == 1:
        return values.contiguous(), 0
    if len(values) and values.stride(0) == 0:
        return values[0].contiguous(), 0
    return values.contiguous(), 3


def _scene(grid: BakedGrid) -> tuple[object, ...]:
    if grid.density.numel() >= 1 << 31:  # eight of them are addressed together, by 32 bits
        raise ValueError(f"`grid` must have under 2^31 densities, got {grid.density.numel()}")
    return (
        *(grid.resolution, grid.places, grid.distances, grid.words),
        *(grid.density, grid.ranks, grid.first, grid.first_brick),
    )


def _settings(
    grid: BakedGrid,
    *,
    step: float,
    density_scale: float,
    density_bias: float,
    near: float,
    far: float,
    early_stop: float,
    weight_min: float,
) -> torch.Tensor:
    return torch.tensor(
        [*grid.box_min, grid.voxel, *grid.density_range, density_scale, density_bias]
        + [step, near, min(far, FAR_AWAY), early_stop, weight_min]
    )


def _want_float32(**tensors: torch.Tensor | None) -> None:
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
