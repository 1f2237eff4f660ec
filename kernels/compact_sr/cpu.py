"""C++ compact_sr, forward only. Shapes as in the package."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from nerfkit.kernels import _native

LANES = 8  # channels are stored in multiples of it
WIDEST = 32  # channels in and out of a layer


def compact_sr(
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    slopes: Sequence[torch.Tensor],
    scale: int,
) -> torch.Tensor:
    """Same function as the reference, float32 only; wide networks are left to the reference."""
    for name, tensor in (("x", x), ("weights", weights[0])):
        if tensor.dtype != torch.float32:
            raise ValueError(f"`{name}` must be float32 on backend 'cpu', got {tensor.dtype}")
    n, colours, height, width = x.shape
    if max(weight.shape[0] for weight in weights) > WIDEST:
        from nerfkit.kernels.compact_sr import reference

        return reference.compact_sr(x, weights, biases, slopes, scale)
    packed = pack(weights, biases, slopes)
    out = torch.empty(n, colours, height * scale, width * scale)
    for image, result in zip(x, out, strict=True):
        _native.call(
            "nk_compact_sr",
            image.contiguous(),
            colours,
            height,
            width,
            packed,
            weights[0].shape[0],
            len(weights) - 2,
            scale,
            result,
        )
    return out


def pack(
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    slopes: Sequence[torch.Tensor],
) -> torch.Tensor:
    """Every layer's kernel [row, column, in, out], bias and slopes, channels padded with zeros."""
    parts = []
    slopes = [*slopes, torch.ones_like(biases[-1])]  # the tail has no rectifier
    for i, (weight, bias, slope) in enumerate(zip(weights, biases, slopes, strict=True)):
        more_out = -weight.shape[0] % LANES
        more_in = -weight.shape[1] % LANES if i else 0
        kernel = F.pad(weight.detach().permute(2, 3, 1, 0), (0, more_out, 0, more_in))
        vectors = [F.pad(v.detach(), (0, more_out)) for v in (bias, slope)]
        parts += [kernel.flatten(), *vectors]
    return torch.cat(parts)
