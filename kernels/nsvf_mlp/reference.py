"""The NSVF network in plain torch: the contract of nsvf_mlp."""

from typing import NamedTuple

import torch
from torch.nn.functional import linear

from nerfkit.kernels.encodings.reference import frequency_encoding

from .config import NsvfMlpConfig, unpack


class NsvfMlpOutput(NamedTuple):
    """Of N samples, before any activation."""

    rgb_raw: torch.Tensor | None  # [N, 3]
    sigma_raw: torch.Tensor  # [N]


def interpolate(
    table: torch.Tensor, corners: torch.Tensor, voxels: torch.Tensor, places: torch.Tensor
) -> torch.Tensor:
    """Embeddings [N, E] at `places` [N, 3] in [0, 1] of the voxels of index [N]; trilinear."""
    out = table.new_zeros(())
    for c in range(8):
        high = places.new_tensor([c & 1, c >> 1 & 1, c >> 2 & 1], dtype=torch.bool)
        weights = torch.where(high, places, 1 - places).prod(1, keepdim=True)
        out = out + weights * table[corners[voxels, c].long()]
    return out


def nsvf_mlp(
    table: torch.Tensor,
    corners: torch.Tensor,
    voxels: torch.Tensor,
    places: torch.Tensor,
    directions: torch.Tensor | None,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor | None,
    config: NsvfMlpConfig,
) -> NsvfMlpOutput:
    """See `nerfkit.kernels.nsvf_mlp.nsvf_mlp`."""
    p = unpack(params, config)

    def layer(name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    x = frequency_encoding(
        interpolate(table, corners, voxels, places), config.embedding_frequencies
    )
    for i in range(config.feature_layers):
        x = torch.relu(layer(f"feature.{i}", x))
    sigma_raw = layer("sigma", torch.relu(layer("density", x)))[:, 0]
    if directions is None:
        return NsvfMlpOutput(None, sigma_raw)
    direction = frequency_encoding(directions, config.direction_frequencies)
    if ray_indices is not None:
        direction = direction[ray_indices]
    x = torch.cat([x, direction], 1)
    for i in range(config.color_layers):
        x = torch.relu(layer(f"color.{i}", x))
    return NsvfMlpOutput(layer("rgb", x), sigma_raw)
