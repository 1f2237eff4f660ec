"""Multi-layer perceptron with ReLU hidden layers, all layers fused.

Symbols: N samples, Cin inputs, Cout outputs; layer l has weights[l] [out_l, in_l] and biases[l]
[out_l] with in_0 = Cin, in_{l+1} = out_l and out_last = Cout.
"""

from collections.abc import Sequence

import torch

from nerfkit.kernels import _backend

OUTPUT_ACTIVATIONS = ("none", "sigmoid")


def fused_mlp(
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    *,
    output_activation: str = "none",
    backend: str | None = None,
) -> torch.Tensor:
    """h_0 = x, h_{l+1} = relu(W_l h_l + b_l); the last layer is linear or a sigmoid.

    The backward recomputes the activations a tile of samples at a time: of the whole batch nothing
    is kept but `x`. On the `cpu` backend layers have at most 256 units and there are at most 16.

    Args:
        x: [N, Cin].
        weights: one [out, in] tensor a layer (torch.nn.Linear's layout).
        biases: one [out] tensor a layer.
        output_activation: "none" or "sigmoid".

    Returns:
        [N, Cout].

    Raises:
        ValueError: shapes that do not chain, or an unknown activation or backend.
    """
    if x.dim() != 2:
        raise ValueError(f"`x` must have shape (N, Cin), got {tuple(x.shape)}")
    if not weights or len(weights) != len(biases):
        raise ValueError(
            f"`weights` and `biases` must hold one tensor a layer, got {len(weights)} and "
            f"{len(biases)}"
        )
    width = x.shape[1]
    for layer, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if weight.dim() != 2 or weight.shape[1] != width:
            raise ValueError(
                f"`weights[{layer}]` must have shape (out, {width}), got {tuple(weight.shape)}"
            )
        width = weight.shape[0]
        if bias.shape != (width,):
            raise ValueError(
                f"`biases[{layer}]` must have shape ({width},), got {tuple(bias.shape)}"
            )
    if output_activation not in OUTPUT_ACTIVATIONS:
        raise ValueError(
            f"`output_activation` must be one of {', '.join(OUTPUT_ACTIVATIONS)}, "
            f"got {output_activation!r}"
        )
    chosen = _backend.choose("fused_mlp", x, backend)
    if chosen == "cpu":
        from nerfkit.kernels.fused_mlp import cpu as implementation
    elif chosen == "gpu":
        from nerfkit.kernels.fused_mlp import gpu as implementation
    else:
        from nerfkit.kernels.fused_mlp import reference as implementation
    return implementation.fused_mlp(x, weights, biases, output_activation=output_activation)
