"""C++ renderer of baked scenes. Shapes as in the package docstring."""

import torch

from nerfkit.kernels import _native
from nerfkit.kernels.fused_render.reference import Rendered

from .grid import BakedGrid

FAR_AWAY = 3e38  # stands for infinity, which the compiled code does not know


def render_baked(
    origins: torch.Tensor,
    directions: torch.Tensor,
    grid: BakedGrid,
    *,
    step: float,
    density_scale: float,
    density_bias: float,
    background: torch.Tensor | None,
    near: float,
    far: float,
    early_stop: float,
    weight_min: float,
    max_weights: torch.Tensor | None,
) -> Rendered:
    """Same function as the reference, float32 only."""
    for name, tensor in (
        ("origins", origins),
        ("directions", directions),
        ("background", background),
    ):
        if tensor is not None and tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
    n_rays = origins.shape[0]
    if background is not None:
        background = background.expand(n_rays, 3).contiguous()
    settings = torch.tensor(
        [*grid.box_min, grid.voxel, *grid.density_range, density_scale, density_bias]
        + [step, near, min(far, FAR_AWAY), early_stop, weight_min]
    )
    colors, depths, opacities = torch.empty(n_rays, 3), torch.empty(n_rays), torch.empty(n_rays)
    _native.call(
        "nk_baked_render_forward",
        *(origins.contiguous(), directions.contiguous(), background, n_rays, grid.resolution),
        *(grid.places, grid.distances, grid.words, grid.density, grid.ranks, grid.first),
        *(grid.records, grid.levels, grid.views, settings, max_weights),
        *(colors, depths, opacities),
    )
    return Rendered(colors, depths, opacities)
