"""Volume rendering of packed samples: densities and colours along rays to one pixel a ray.

Symbols: R rays, S samples of all rays together. Ray r owns the samples
`packed_info[r, 0] : packed_info[r, 0] + packed_info[r, 1]`, front to back. Distances are along the
unit ray in scene units, densities per scene unit.
"""

import torch

from nerfkit.kernels import _backend

from .reference import Composite

__all__ = ["Composite", "composite"]


def composite(
    sigmas: torch.Tensor,
    rgbs: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    packed_info: torch.Tensor,
    *,
    background: torch.Tensor | None = None,
    early_stop: float = 0.0,
    backend: str | None = None,
) -> Composite:
    """Composite samples front to back (2003.08934 eq. 3).

    With x_i = sigma_i (t_ends_i - t_starts_i), transmittance T_i = exp(-sum_{j<i} x_j) and weight
    w_i = T_i (1 - exp(-x_i)), a ray's colour is sum w_i rgb_i + (1 - sum w_i) background.

    Args:
        sigmas: [S] densities, not negative.
        rgbs: [S, 3] linear or display colours; they are only averaged.
        t_starts, t_ends: [S] sample intervals, t_ends >= t_starts. Only the reference
            differentiates with respect to them.
        packed_info: [R, 2] int64 (start, count). Rays must not share samples; samples that no ray
            owns get zero weights and gradients. The numbers are checked on the CPU alone.
        background: [R, 3] or [3] colour behind the samples; None is black.
        early_stop: a sample with transmittance before it below this contributes nothing; what is
            left of the transmittance then shows the background.

    Returns:
        colors [R, 3]; depths [R], the expected distance sum w_i (t_starts_i + t_ends_i) / 2, not
        divided by the opacity; opacities [R], sum w_i; weights [S]; distortions [R], the loss of
        2111.12077 eq. 15 in units of length (t is not normalised).

    Raises:
        ValueError: a shape, dtype or range of packed_info is wrong, or the C++ kernel is asked for
            gradients with respect to t_starts or t_ends.
    """
    _check(sigmas, rgbs, t_starts, t_ends, packed_info, background)
    chosen = _backend.choose("composite", sigmas, backend)
    if chosen == "cpu":
        from .cpu import composite as run
    elif chosen == "gpu":
        from .gpu import composite as run
    else:
        from .reference import composite as run
    return run(
        sigmas, rgbs, t_starts, t_ends, packed_info, background=background, early_stop=early_stop
    )


def _check(
    sigmas: torch.Tensor,
    rgbs: torch.Tensor,
    t_starts: torch.Tensor,
    t_ends: torch.Tensor,
    packed_info: torch.Tensor,
    background: torch.Tensor | None,
) -> None:
    if sigmas.ndim != 1:
        raise ValueError(f"sigmas must have shape (n_samples,), got {tuple(sigmas.shape)}")
    n_samples = len(sigmas)
    if packed_info.ndim != 2 or packed_info.shape[1] != 2:
        raise ValueError(f"packed_info must have shape (n_rays, 2), got {tuple(packed_info.shape)}")
    if packed_info.dtype != torch.int64:
        raise ValueError(f"packed_info must be int64, got {packed_info.dtype}")
    n_rays = len(packed_info)
    wanted = {
        "rgbs": (rgbs, [(n_samples, 3)]),
        "t_starts": (t_starts, [(n_samples,)]),
        "t_ends": (t_ends, [(n_samples,)]),
    }
    if background is not None:
        wanted["background"] = (background, [(n_rays, 3), (3,)])
    for name, (tensor, shapes) in wanted.items():
        if tuple(tensor.shape) not in shapes:
            options = " or ".join(map(str, shapes))
            raise ValueError(f"{name} must have shape {options}, got {tuple(tensor.shape)}")
    if n_rays and not packed_info.is_cuda:  # the host would wait for the GPU
        starts, counts = packed_info.unbind(1)
        if min(starts.min(), counts.min()) < 0 or (starts + counts).max() > n_samples:
            raise ValueError(f"packed_info must stay within the {n_samples} samples")
        if counts.sum() > n_samples:
            raise ValueError(
                f"packed_info assigns {int(counts.sum())} samples of {n_samples}: rays overlap"
            )
