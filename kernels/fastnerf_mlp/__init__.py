"""The networks of FastNeRF (2103.10380), encodings included, all layers fused.

Symbols: N samples, R rays, D components, P parameters (1,147,425 for the paper's networks). Points
are scaled by the caller, to about [-pi, pi] or less: the lowest frequency is 1. Outputs are raw, as
those of `nerf_mlp`: a colour is sigmoid(rgb_raw), a density per unit of length relu(sigma_raw).
"""

from importlib import import_module
from types import ModuleType

import torch

from nerfkit.kernels import _backend

from .config import FastNerfMlpConfig, unpack
from .reference import FastNerfMlpOutput

__all__ = [
    "FastNerfMlpConfig",
    "FastNerfMlpOutput",
    "fastnerf_mlp",
    "point_components",
    "unpack",
    "view_weights",
]

PAPER = FastNerfMlpConfig()


def fastnerf_mlp(
    points: torch.Tensor,
    directions: torch.Tensor,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor,
    config: FastNerfMlpConfig = PAPER,
    known: FastNerfMlpOutput | None = None,
    backend: str | None = None,
) -> FastNerfMlpOutput:
    """Raw colour and density of samples.

    The position network reads the encoded point (`frequency_encoding`, without the pi of NeRF's
    eq. 4), which its layer `config.skip` gets again, as NeRF's trunk does; it gives sigma and D
    colours (u, v, w). The direction network reads the encoded direction, once a ray, and gives D
    weights. rgb_raw is the sum of the colours times the weights. Hidden layers have ReLU.

    The backward recomputes the activations a tile at a time: of the whole batch nothing is kept but
    the arguments. Gradients with respect to points and directions come from the reference alone.

    Args:
        points: [N, 3].
        directions: [R, 3] unit view directions.
        params: [P], laid out as `unpack` says.
        ray_indices: [N] int64, the row of `directions` of each sample; checked on the CPU alone.
        known: what it returned for these arguments, where only gradients are wanted any more.

    Returns:
        rgb_raw [N, 3] and sigma_raw [N].

    Raises:
        ValueError: a shape, dtype or index is wrong, or the C++ kernel is asked for gradients with
            respect to points or directions.
    """
    _check(params, config, points=points, directions=directions)
    _check_rays(ray_indices, len(points), len(directions))
    run = _module(points, backend).fastnerf_mlp
    return run(points, directions, params, ray_indices=ray_indices, config=config, known=known)


def point_components(
    points: torch.Tensor,
    params: torch.Tensor,
    *,
    config: FastNerfMlpConfig = PAPER,
    backend: str | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the position network says, for a cache or for many directions of one point.

    Differentiable in the reference alone.

    Args:
        points, params: as for `fastnerf_mlp`.

    Returns:
        Colours [N, D, 3], to be weighted, and sigma_raw [N].

    Raises:
        ValueError: as for `fastnerf_mlp`, and where the C++ kernel is asked for gradients.
    """
    _check(params, config, points=points)
    return _module(points, backend).point_components(points, params, config=config)


def view_weights(
    directions: torch.Tensor,
    params: torch.Tensor,
    *,
    config: FastNerfMlpConfig = PAPER,
    backend: str | None = None,
) -> torch.Tensor:
    """What the direction network says: weights [R, D] of a point's colours.

    Arguments, differentiability and errors are those of `point_components`.
    """
    _check(params, config, directions=directions)
    return _module(directions, backend).view_weights(directions, params, config=config)


def _module(tensor: torch.Tensor, backend: str | None) -> ModuleType:
    chosen = _backend.choose("fastnerf_mlp", tensor, backend)
    return import_module(f"{__name__}.{chosen}")


def _check(params: torch.Tensor, config: FastNerfMlpConfig, **vectors: torch.Tensor) -> None:
    for name, tensor in vectors.items():
        if tensor.ndim != 2 or tensor.shape[1] != 3:
            raise ValueError(f"{name} must have shape (n, 3), got {tuple(tensor.shape)}")
    config.check()
    if params.shape != (config.n_params,):
        raise ValueError(f"params must have shape ({config.n_params},), got {tuple(params.shape)}")


def _check_rays(ray_indices: torch.Tensor, n: int, n_rays: int) -> None:
    if ray_indices.shape != (n,) or ray_indices.dtype != torch.int64:
        raise ValueError(
            f"ray_indices must be int64 of shape ({n},), got {ray_indices.dtype} of shape "
            f"{tuple(ray_indices.shape)}"
        )
    if n and not ray_indices.is_cuda:  # the host would wait for the GPU
        low, high = ray_indices.aminmax()
        if low < 0 or high >= n_rays:
            raise ValueError(f"ray_indices must be in [0, {n_rays}), got {int(low)} to {int(high)}")
