"""Inverse-CDF sampling of a step function in plain torch."""

import torch

PADDING = 1e-5  # NeRF's sample_pdf; makes rays without weight uniform


@torch.no_grad()
def importance_sample(
    t_edges: torch.Tensor,  # [R, B + 1]
    weights: torch.Tensor,  # [R, B]
    u: torch.Tensor,  # [R, n] or [n]
) -> torch.Tensor:
    """See `nerfkit.kernels.importance_sample.importance_sample`."""
    n_rays, n_bins = weights.shape
    padded = weights + PADDING
    sums = padded.cumsum(1)
    cdf = torch.cat([torch.zeros_like(sums[:, :1]), sums], 1)  # [R, B + 1], not normalised
    target = u.expand(n_rays, u.shape[-1]).sort(1).values * sums[:, -1:]
    bin = (torch.searchsorted(cdf, target, right=True) - 1).clamp(0, n_bins - 1)
    inside = ((target - cdf.gather(1, bin)) / padded.gather(1, bin)).clamp(0, 1)
    lower, upper = t_edges.gather(1, bin), t_edges.gather(1, bin + 1)
    return torch.minimum(lower + inside * (upper - lower), upper)
