"""The networks that NerfField can have: coordinates and view directions to raw colour and density.

A network is told by its sizes: NerfMlpConfig is NeRF's (2003.08934), FastNerfMlpConfig those of
FastNeRF (2103.10380). Symbols: N samples, R rays, P parameters.
"""

import math

import torch
from torch import Tensor

from nerfkit.kernels import fastnerf_mlp, nerf_mlp
from nerfkit.kernels.fastnerf_mlp import FastNerfMlpConfig
from nerfkit.kernels.nerf_mlp import NerfMlpConfig

Sizes = NerfMlpConfig | FastNerfMlpConfig


def create(sizes: Sizes, generator: torch.Generator) -> Tensor:
    """Parameters [P]: weights uniform as Glorot's, biases 0, what Keras gives NeRF's authors."""
    params = torch.zeros(sizes.n_params)
    package = fastnerf_mlp if isinstance(sizes, FastNerfMlpConfig) else nerf_mlp
    for name, values in package.unpack(params, sizes).items():
        if name.endswith("weight"):
            bound = math.sqrt(6 / sum(values.shape))
            values.uniform_(-bound, bound, generator=generator)
    return params


def evaluate(
    sizes: Sizes, params: Tensor, points: Tensor, views: Tensor, rays: Tensor
) -> tuple[Tensor, Tensor]:
    """rgb_raw [N, 3] and sigma_raw [N] at scaled points [N, 3], seen along views[rays].

    Args:
        params: [P]; the outputs are differentiable with respect to them.
        views: [R, 3] unit directions.
        rays: [N] int64.
    """
    if isinstance(sizes, FastNerfMlpConfig):
        return fastnerf_mlp.fastnerf_mlp(points, views, params, ray_indices=rays, config=sizes)
    return nerf_mlp.nerf_mlp(points, views, params, ray_indices=rays, config=sizes)
