"""Convolutions whose every output pixel has the same bits whatever the size of the image.

torch on the CPU gives inputs of at most 20480 values to another algorithm than larger ones, which
adds in another order; a tile would then differ from the same pixels of the whole image in the
last bits, and now and then by a grey level. oneDNN's own kernels do not depend on the size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
    """`F.conv2d` with stride 1; by oneDNN for fp32 on the CPU where no gradient is wanted."""
    if (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and torch.backends.mkldnn.is_available()
    ):
        return torch.mkldnn_convolution(x, weight, bias, [padding] * 2, [1, 1], [1, 1], 1)
    return F.conv2d(x, weight, bias, padding=padding)


class Conv2d(nn.Conv2d):
    """A `side` x `side` convolution that keeps the size of the image, zero beyond its borders."""

    def __init__(self, inputs: int, outputs: int, side: int = 3) -> None:
        super().__init__(inputs, outputs, side, padding=side // 2)

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.weight, self.bias, self.padding[0])
