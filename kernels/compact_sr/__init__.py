"""The residual of a compact super-resolution network: a stack of narrow convolutions, one pass.

Symbols: C colours (1 or 3), W channels of the features, n convolutions between head and tail, s the
scale. All convolutions keep the size and see zeros beyond the image.

    f_0     = prelu_0(head 5x5 (x - 0.5))
    f_{i+1} = prelu_{i+1}(body_i 3x3 (f_i))                          i = 0 .. n - 1
    result  = pixel_shuffle(tail 3x3 (f_n + f_0), s)
"""

from collections.abc import Sequence

import torch

from nerfkit.kernels import _backend


def compact_sr(
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    slopes: Sequence[torch.Tensor],
    scale: int,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """What the network adds to a plain enlargement.

    Every pixel has the same bits whatever the size of the image around what it depends on.
    Differentiable in torch alone: where a gradient is wanted, the reference runs.

    Args:
        x: [N, C, H, W] in 0..1.
        weights: n + 2 kernels: [W, C, 5, 5], n times [W, W, 3, 3], [C s^2, W, 3, 3]; n >= 1.
        biases: n + 2 vectors.
        slopes: n + 1 vectors [W], of the rectifiers below zero.
        scale: s.

    Returns:
        [N, C, s H, s W].

    Raises:
        ValueError: shapes that do not fit each other, or an unknown backend.
    """
    if x.dim() != 4 or len(weights) < 3 or len(biases) != len(weights):
        raise ValueError(
            f"`x` must be (N, C, H, W), with at least 3 `weights` and as many `biases`, got "
            f"{tuple(x.shape)}, {len(weights)} and {len(biases)}"
        )
    colours, width = x.shape[1], weights[0].shape[0]
    wanted = [(width, colours, 5, 5), *[(width, width, 3, 3)] * (len(weights) - 2)]
    wanted.append((colours * scale * scale, width, 3, 3))
    for weight, bias, shape in zip(weights, biases, wanted, strict=True):
        if weight.shape != shape or bias.shape != shape[:1]:
            raise ValueError(
                f"`weights` and `biases` must have shapes {shape} and {shape[:1]}, got "
                f"{tuple(weight.shape)} and {tuple(bias.shape)}"
            )
    if len(slopes) != len(weights) - 1 or any(slope.shape != (width,) for slope in slopes):
        raise ValueError(f"`slopes` must be {len(weights) - 1} times ({width},)")
    if x.numel() == 0:
        return x.new_zeros(len(x), colours, x.shape[2] * scale, x.shape[3] * scale)
    if x.is_cuda and backend is None:
        backend = "reference"  # cuDNN's convolutions are what such a card does best
    chosen = _backend.choose("compact_sr", x, backend)
    if chosen == "cpu" and not (torch.is_grad_enabled() and _any_gradient(x, *weights, *biases)):
        from nerfkit.kernels.compact_sr import cpu as implementation
    else:
        from nerfkit.kernels.compact_sr import reference as implementation
    return implementation.compact_sr(x, weights, biases, slopes, scale)


def _any_gradient(*tensors: torch.Tensor) -> bool:
    return any(tensor.requires_grad for tensor in tensors)
