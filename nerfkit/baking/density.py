"""Densities of a baked scene, in 16 bits."""

import torch
from torch import Tensor

from nerfkit.fields.bakeable import Source
from nerfkit.fields.baked import BakedShape
from nerfkit.kernels.baked_render import Layout
from nerfkit.octree import morton_decode

PIECE = 1 << 15  # corners at a time


def quantised_density(source: Source, layout: Layout) -> tuple[BakedShape, Tensor]:
    """Shape of the baked scene, and [V] int16."""
    corners = morton_decode(layout.codes)
    raw = torch.cat([source.density(piece) for piece in corners.split(PIECE)])
    low, high = raw.min().item(), max(raw.max().item(), raw.min().item() + 1e-3)
    scale = (high - low) / 65535
    values = ((raw - low) / scale).round().clamp(0, 65535) - 32768
    shape = BakedShape(
        *(source.density_scale, source.density_bias, (low + 32768 * scale, scale)),
        *(source.step_voxels, source.near),
    )
    return shape, values.to(torch.int16)
