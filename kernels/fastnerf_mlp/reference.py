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
    known: FastNerfMlpOutput | None = None,
) -> FastNerfMlpOutput:
    """See `nerfkit.kernels.fastnerf_mlp.fastnerf_mlp`."""
    del known  # its gradients need everything anew
    colors, sigma_raw = point_components(points, params, config=config)
    weights = view_weights(directions, params, config=config)[ray_indices]
    return FastNerfMlpOutput((weights[:, :, None] * colors).sum(1), sigma_raw)


def point_components(
    points: torch.Tensor, params: torch.Tensor, *, config: FastNerfMlpConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `nerfkit.kernels.fastnerf_mlp.point_components`."""
    p = unpack(params, config)
    position = frequency_encoding(points, config.position_frequencies)
    x = position
    for i in range(config.depth):
        if i == config.skip:
            x = torch.cat([position, x], 1)
        x = torch.relu(_layer(p, f"position.{i}", x))
    colors = _layer(p, "colors", x).view(-1, config.components, 3)
    return colors, _layer(p, "sigma", x)[:, 0]


def view_weights(
    directions: torch.Tensor, params: torch.Tensor, *, config: FastNerfMlpConfig
) -> torch.Tensor:
    """See `nerfkit.kernels.fastnerf_mlp.view_weights`."""
    p = unpack(params, config)
    x = frequency_encoding(directions, config.direction_frequencies)
    for i in range(config.view_depth):
        x = torch.relu(_layer(p, f"view.{i}", x))
    return _layer(p, "weights", x)


def _layer(p: dict[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    return linear(x, p[f"{name}.weight"], p[f"{name}.bias"])
