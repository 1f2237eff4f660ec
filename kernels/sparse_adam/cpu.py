"""The C++ Adam step; see `nerfkit.kernels.sparse_adam`."""

import torch

from nerfkit.kernels import _native


@torch.no_grad()
def adam_step_(
    params: torch.Tensor,  # [N, C]
    grads: torch.Tensor,  # [N, C]
    exp_avg: torch.Tensor,  # [N, C]
    exp_avg_sq: torch.Tensor,  # [N, C] or [N, 1]
    touched: torch.Tensor | None,  # [N] uint8; None updates all rows
    *,
    lr: float | torch.Tensor,
    betas: tuple[float, float],
    eps: float,
    step: int,
) -> None:
    """See `nerfkit.kernels.sparse_adam`."""
    if params.dtype != torch.float32:
        raise ValueError(f"params must be float32 for backend 'cpu', got {params.dtype}")
    (rows, columns), (b1, b2) = params.shape, betas
    rates = torch.as_tensor(lr, dtype=torch.float64).expand(columns) / (1 - b1**step)
    _native.call(
        "nk_adam_step",
        *(params, grads, exp_avg, exp_avg_sq, touched, rows, columns, exp_avg_sq.shape[1]),
        rates.float().contiguous(),
        *(1 - float(b1), 1 - float(b2), float(eps), (1 - b2**step) ** -0.5),
    )
    for changed in (params, grads, exp_avg, exp_avg_sq):
        torch.autograd.graph.increment_version(changed)  # autograd must notice stale graphs
