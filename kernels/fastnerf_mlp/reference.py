"""FastNeRF's networks in plain torch: the contract of fastnerf_mlp."""

from typing import NamedTuple

import torch
from torch.nn.functional import linear

from nerfkit.kernels.encodings.reference import frequency_encoding

from .config import FastNerfMlpConfig, unpack


class FastNerfMlpOutput(NamedTuple):
    """Of N samples, before any activation."""

    rgb_raw: torch.Tensor  # [N, 3]
    sigma_raw: torch.Tensor  # [N]


def fastnerf_mlp(
    points: torch.Tensor,
    directions: torch.Tensor,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor,
    config: FastNerfMlpConfig,
) -> FastNerfMlpOutput:
    """See `nerfkit.kernels.fastnerf_mlp.fastnerf_mlp`."""
    p = unpack(params, config)

    def layer(name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    position = frequency_encoding(points, config.position_frequencies)
    x = position
    for i in range(config.depth):
        if i == config.skip:
            x = torch.cat([position, x], 1)
        x = torch.relu(layer(f"position.{i}", x))
    colors = layer("colors", x).view(-1, config.components, 3)
    view = frequency_encoding(directions, config.direction_frequencies)
    for i in range(config.view_depth):
        view = torch.relu(layer(f"view.{i}", view))
    weights = layer("weights", view)[ray_indices]
    return FastNerfMlpOutput((weights[:, :, None] * colors).sum(1), layer("sigma", x)[:, 0])
