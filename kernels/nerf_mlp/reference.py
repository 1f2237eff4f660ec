"""The NeRF network in plain torch: the contract of nerf_mlp."""

from typing import NamedTuple

import torch
from torch.nn.functional import linear

from nerfkit.kernels.encodings.reference import frequency_encoding

from .config import NerfMlpConfig, unpack


class NerfMlpOutput(NamedTuple):
    """Of N samples, before any activation."""

    rgb_raw: torch.Tensor  # [N, 3]
    sigma_raw: torch.Tensor  # [N]


def nerf_mlp(
    points: torch.Tensor,
    directions: torch.Tensor,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor | None,
    config: NerfMlpConfig,
    known: NerfMlpOutput | None = None,
) -> NerfMlpOutput:
    """See `nerfkit.kernels.nerf_mlp.nerf_mlp`."""
    del known  # its gradients need everything anew
    p = unpack(params, config)

    def layer(name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, p[f"{name}.weight"], p[f"{name}.bias"])

    position = frequency_encoding(points, config.position_frequencies)
    direction = frequency_encoding(directions, config.direction_frequencies)
    if ray_indices is not None:
        direction = direction[ray_indices]
    x = position
    for i in range(config.depth):
        if i == config.skip:
            x = torch.cat([position, x], 1)
        x = torch.relu(layer(f"trunk.{i}", x))
    sigma_raw = layer("sigma", x)[:, 0]
    view = torch.relu(layer("view", torch.cat([layer("feature", x), direction], 1)))
    return NerfMlpOutput(layer("rgb", view), sigma_raw)
