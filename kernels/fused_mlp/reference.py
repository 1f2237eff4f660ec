"""Torch reference of fused_mlp: the contract. Shapes as in the package docstring."""

from collections.abc import Sequence

import torch


def fused_mlp(
    x: torch.Tensor,  # [N, Cin]
    weights: Sequence[torch.Tensor],  # [out, in] each
    biases: Sequence[torch.Tensor],  # [out] each
    *,
    output_activation: str = "none",
) -> torch.Tensor:  # [N, Cout]
    """h_{l+1} = relu(h_l W_l^T + b_l), the last layer without relu; then the output activation."""
    last = len(weights) - 1
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        x = x @ weight.T + bias
        if layer < last:
            x = torch.relu(x)
    return torch.sigmoid(x) if output_activation == "sigmoid" else x
