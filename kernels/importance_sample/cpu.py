"""The C++ importance_sample kernel; see `nerfkit.kernels.importance_sample.importance_sample`."""

import torch

from nerfkit.kernels import _native

from .reference import PADDING


def importance_sample(
    t_edges: torch.Tensor,  # [R, B + 1]
    weights: torch.Tensor,  # [R, B]
    u: torch.Tensor,  # [R, n] or [n]
) -> torch.Tensor:
    """See `nerfkit.kernels.importance_sample.importance_sample`."""
    for name, tensor in {"t_edges": t_edges, "weights": weights, "u": u}.items():
        if tensor.dtype != torch.float32:
            raise ValueError(f"{name} must be float32 for backend 'cpu', got {tensor.dtype}")
    (n_rays, n_bins), n_samples = weights.shape, u.shape[-1]
    t = torch.empty(n_rays, n_samples)
    _native.call(
        "nk_importance_sample",
        *(t_edges.contiguous(), weights.contiguous(), u.contiguous()),
        *(n_rays, n_bins, n_samples, n_samples if u.ndim == 2 else 0, PADDING, t),
    )
    return t
