"""Adam on selected rows in plain torch."""

import torch


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
    b1, b2 = betas
    rows = slice(None) if touched is None else touched.nonzero().squeeze(1)
    g = grads[rows]
    m = exp_avg[rows].lerp(g, 1 - b1)
    square = g * g if exp_avg_sq.shape == params.shape else (g * g).mean(1, keepdim=True)
    v = exp_avg_sq[rows].lerp(square, 1 - b2)
    denominator = (v / (1 - b2**step)).sqrt() + eps
    params[rows] -= lr * (m / (1 - b1**step)) / denominator
    exp_avg[rows] = m
    exp_avg_sq[rows] = v
    grads[rows] = 0
    if touched is not None:
        touched.zero_()
