"""The networks that NerfField can have: coordinates and view directions to raw colour and density.

A network is told by its sizes: NerfMlpConfig is NeRF's (2003.08934), FastNerfMlpConfig those of
FastNeRF (2103.10380). Symbols: N samples, R rays, P parameters.
"""

import math

import torch
from torch import Tensor

from nerfkit.kernels import fastnerf_mlp, nerf_mlp
from nerfkit.kernels.fastnerf_mlp import FastNerfMlpConfig
from nerfkit.kernels.nerf_mlp import GPU_UNITS, NerfMlpConfig

Sizes = NerfMlpConfig | FastNerfMlpConfig


def fits_gpu(sizes: Sizes) -> bool:
    """Whether the kernels of a GPU take networks of these sizes."""
    if isinstance(sizes, FastNerfMlpConfig):
        return True
    return max(sizes.width, sizes.view_width) <= GPU_UNITS


def create(sizes: Sizes, generator: torch.Generator) -> Tensor:
    """Parameters [P]: weights uniform as Glorot's, biases 0, what Keras gives NeRF's authors."""
    params = torch.zeros(sizes.n_params, device=generator.device)
    package = fastnerf_mlp if isinstance(sizes, FastNerfMlpConfig) else nerf_mlp
    for name, values in package.unpack(params, sizes).items():
        if name.endswith("weight"):
            bound = math.sqrt(6 / sum(values.shape))
            values.uniform_(-bound, bound, generator=generator)
    return params


def evaluate(
    sizes: Sizes,
    params: Tensor,
    points: Tensor,
    views: Tensor,
    rays: Tensor,
    known: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """rgb_raw [N, 3] and sigma_raw [N] at scaled points [N, 3], seen along views[rays].

    Args:
        params: [P]; the outputs are differentiable with respect to them.
        views: [R, 3] unit directions.
        rays: [N] int64.
        known: what it returned for these arguments, where only gradients are wanted any more.
    """
    run = nerf_mlp.nerf_mlp
    if isinstance(sizes, FastNerfMlpConfig):
        run = fastnerf_mlp.fastnerf_mlp
    return run(points, views, params, ray_indices=rays, config=sizes, known=known)


def colors_from(sizes: Sizes, params: Tensor, points: Tensor, directions: Tensor) -> Tensor:
    """rgb_raw [N, K, 3] of scaled points [N, 3] along K unit directions each [N, K, 3].

    Not differentiable. FastNeRF asks its position network once a point.
    """
    n, k = directions.shape[:2]
    flat = directions.reshape(-1, 3)
    with torch.no_grad():
        if isinstance(sizes, FastNerfMlpConfig):
            components, _ = fastnerf_mlp.point_components(points, params, config=sizes)
            weights = fastnerf_mlp.view_weights(flat, params, config=sizes)
            return weights.view(n, k, sizes.components) @ components
        each = points.repeat_interleave(k, 0)
        rgb_raw, _ = evaluate(sizes, params, each, flat, torch.arange(n * k, device=flat.device))
    return rgb_raw.view(n, k, 3)
