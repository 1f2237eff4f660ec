"""compact_sr in torch; see the package."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from nerfkit.postprocess.convolution import conv2d


def compact_sr(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slopes: Sequence[Tensor],
    scale: int,
) -> Tensor:
    """See `nerfkit.kernels.compact_sr.compact_sr`."""
    layers = list(zip(weights, biases, strict=True))
    first = features = F.prelu(conv2d(x - 0.5, *layers[0], 2), slopes[0])
    for layer, slope in zip(layers[1:-1], slopes[1:], strict=True):
        features = F.prelu(conv2d(features, *layer, 1), slope)
    return F.pixel_shuffle(conv2d(features + first, *layers[-1], 1), scale)
