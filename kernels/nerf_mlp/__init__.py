"""The network of NeRF (2003.08934, appendix A, figure 7), encodings included, all layers fused.

Symbols: N samples, R rays, P parameters (595,844 for the paper's network). Points are scaled by the
caller, to about [-pi, pi] or less: the lowest frequency is 1. Outputs are raw; the paper's colour
is sigmoid(rgb_raw) and its density, per unit of length, relu(sigma_raw).
"""

import torch

from nerfkit.kernels import _backend

from .config import GPU_UNITS, NerfMlpConfig, unpack
from .reference import NerfMlpOutput

__all__ = ["GPU_UNITS", "NerfMlpConfig", "NerfMlpOutput", "nerf_mlp", "unpack"]

PAPER = NerfMlpConfig()


def nerf_mlp(
    points: torch.Tensor,
    directions: torch.Tensor,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor | None = None,
    config: NerfMlpConfig = PAPER,
    known: NerfMlpOutput | None = None,
    backend: str | None = None,
) -> NerfMlpOutput:
    """Raw colour and density of samples.

    The encoding is that of `frequency_encoding`: the input, then sin and cos of 2^k times it,
    without the pi of the paper's eq. 4, as in the authors' code. A trunk of `config.depth` layers
    with ReLU reads the encoded point, which layer `config.skip` gets again, in front of the output
    of the layer before it (`skips=[4]` in that code is a skip of 5 here: there it names the layer
    before). From the last come sigma and, without activation, `config.width` features; [features,
    encoded direction] go through a layer with ReLU and one without to rgb.

    The backward recomputes the activations a tile of samples at a time: of the whole batch nothing
    is kept but the arguments. Gradients with respect to points and directions come from the
    reference alone.

    Args:
        points: [N, 3].
        directions: [R, 3] unit view directions; [N, 3] without `ray_indices`.
        params: [P], laid out as `unpack` says.
        ray_indices: [N] int64, the row of `directions` of each sample; checked on the CPU alone.
        known: what it returned for these arguments, where only gradients are wanted any more.

    Returns:
        rgb_raw [N, 3] and sigma_raw [N].

    Raises:
        ValueError: a shape, dtype or index is wrong, or the C++ kernel is asked for gradients with
            respect to points or directions.
    """
    _check(points, directions, params, ray_indices, config)
    chosen = _backend.choose("nerf_mlp", points, backend)
    if chosen == "cpu":
        from .cpu import nerf_mlp as run
    elif chosen == "gpu":
        from .gpu import nerf_mlp as run
    else:
        from .reference import nerf_mlp as run
    return run(points, directions, params, ray_indices=ray_indices, config=config, known=known)


def _check(
    points: torch.Tensor,
    directions: torch.Tensor,
    params: torch.Tensor,
    ray_indices: torch.Tensor | None,
    config: NerfMlpConfig,
) -> None:
    if points.ndim != 2 or points.shape[1] != 3:
        raise ValueError(f"points must have shape (n, 3), got {tuple(points.shape)}")
    if directions.ndim != 2 or directions.shape[1] != 3:
        raise ValueError(f"directions must have shape (n, 3), got {tuple(directions.shape)}")
    config.check()
    if params.shape != (config.n_params,):
        raise ValueError(f"params must have shape ({config.n_params},), got {tuple(params.shape)}")
    n = len(points)
    if ray_indices is None:
        if len(directions) != n:
            raise ValueError(
                f"directions must have shape ({n}, 3), one a point, without ray_indices; "
                f"got {tuple(directions.shape)}"
            )
        return
    if ray_indices.shape != (n,) or ray_indices.dtype != torch.int64:
        raise ValueError(
            f"ray_indices must be int64 of shape ({n},), got {ray_indices.dtype} of shape "
            f"{tuple(ray_indices.shape)}"
        )
    if n and not ray_indices.is_cuda:  # the host would wait for the GPU
        low, high = ray_indices.aminmax()
        if low < 0 or high >= len(directions):
            raise ValueError(
                f"ray_indices must be in [0, {len(directions)}), got {int(low)} to {int(high)}"
            )
