"""The network of NSVF (2007.11571, section 3.1) on embeddings interpolated in voxels, all fused.

Symbols: V corners of voxels, E numbers at each (32), L voxels, N samples, R rays, P parameters.
Outputs are raw: the caller takes relu of sigma_raw and the sigmoid of rgb_raw.
"""

import torch

from nerfkit.kernels import _backend

from .config import NsvfMlpConfig, unpack
from .reference import NsvfMlpOutput

__all__ = ["NsvfMlpConfig", "NsvfMlpOutput", "nsvf_mlp", "unpack"]

PAPER = NsvfMlpConfig()


def nsvf_mlp(
    table: torch.Tensor,
    corners: torch.Tensor,
    voxels: torch.Tensor,
    places: torch.Tensor,
    directions: torch.Tensor | None,
    params: torch.Tensor,
    *,
    ray_indices: torch.Tensor | None = None,
    config: NsvfMlpConfig = PAPER,
    backend: str | None = None,
) -> NsvfMlpOutput:
    """Raw density of samples and, given directions, their raw colour.

    The eight embeddings at the corners of a sample's voxel are interpolated trilinearly and encoded
    as in `frequency_encoding`, x -> (x, sin x, cos x, sin 2x, ...) with `embedding_frequencies`
    frequencies, the lowest 1 (no pi). Layers with ReLU make features of that, from which come sigma
    and, together with the encoded direction, rgb.

    The backward recomputes the activations a tile of samples at a time: of the whole batch only the
    arguments are kept. Gradients go to `table` and `params`; those with respect to places and
    directions come from the reference alone.

    Args:
        table: [V, E] embeddings.
        corners: [L, 8] int32, rows of `table` at the corners of each voxel; bit 0 of the column is
            the high side in x, bit 1 in y, bit 2 in z.
        voxels: [N] int64, the voxel of each sample.
        places: [N, 3] where in it, 0 at its low corner and 1 at its high one.
        directions: [R, 3] unit view directions; [N, 3] without `ray_indices`; None for no colour.
        params: [P], laid out as `unpack` says.
        ray_indices: [N] int64, the row of `directions` of each sample.

    Returns:
        rgb_raw [N, 3], or None without directions, and sigma_raw [N].

    Raises:
        ValueError: a shape, dtype or index is wrong, or the C++ kernel is asked for gradients with
            respect to places or directions.
    """
    _check(table, corners, voxels, places, directions, params, ray_indices, config)
    chosen = _backend.choose("nsvf_mlp", table, backend)
    if chosen == "cpu":
        from .cpu import nsvf_mlp as run
    elif chosen == "gpu":
        from .gpu import nsvf_mlp as run
    else:
        from .reference import nsvf_mlp as run
    return run(
        *(table, corners, voxels, places, directions, params),
        ray_indices=ray_indices,
        config=config,
    )


def _check(
    table: torch.Tensor,
    corners: torch.Tensor,
    voxels: torch.Tensor,
    places: torch.Tensor,
    directions: torch.Tensor | None,
    params: torch.Tensor,
    ray_indices: torch.Tensor | None,
    config: NsvfMlpConfig,
) -> None:
    config.check()
    if table.ndim != 2 or table.shape[1] != config.embedding:
        raise ValueError(
            f"table must have shape (n_corners, {config.embedding}), got {tuple(table.shape)}"
        )
    if corners.ndim != 2 or corners.shape[1] != 8 or corners.dtype != torch.int32:
        raise ValueError(
            f"corners must be int32 of shape (n_voxels, 8), got {corners.dtype} of shape "
            f"{tuple(corners.shape)}"
        )
    n = len(voxels)
    if places.shape != (n, 3):
        raise ValueError(f"places must have shape ({n}, 3) as voxels, got {tuple(places.shape)}")
    if params.shape != (config.n_params,):
        raise ValueError(f"params must have shape ({config.n_params},), got {tuple(params.shape)}")
    _check_indices("voxels", voxels, n, len(corners))
    if n and len(corners):
        low, high = corners.aminmax()
        if low < 0 or high >= len(table):
            raise ValueError(f"corners must be in [0, {len(table)}), got {int(low)} to {int(high)}")
    if directions is None:
        return
    if directions.ndim != 2 or directions.shape[1] != 3:
        raise ValueError(f"directions must have shape (n, 3), got {tuple(directions.shape)}")
    if ray_indices is not None:
        _check_indices("ray_indices", ray_indices, n, len(directions))
    elif len(directions) != n:
        raise ValueError(
            f"directions must have shape ({n}, 3), one a sample, without ray_indices; got "
            f"{tuple(directions.shape)}"
        )


def _check_indices(name: str, indices: torch.Tensor, n: int, end: int) -> None:
    if indices.shape != (n,) or indices.dtype != torch.int64:
        raise ValueError(
            f"{name} must be int64 of shape ({n},), got {indices.dtype} of shape "
            f"{tuple(indices.shape)}"
        )
    if n:
        low, high = indices.aminmax()
        if low < 0 or high >= end:
            raise ValueError(f"{name} must be in [0, {end}), got {int(low)} to {int(high)}")
