"""A plain stack of narrow convolutions for CPUs, over-parametrised while it trains.

After SESR (arXiv:2103.09404): each convolution is trained as the sum of a 3x3 convolution, a 3x3
convolution to many channels followed by a 1x1 convolution back, and the identity. All three are
linear, so they collapse into one 3x3 kernel: the collapsed kernel is what runs even while
training (section 3.3 there), and what is stored. Shapes as in `networks`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nerfkit.kernels.compact_sr import compact_sr
from nerfkit.postprocess.convolution import Conv2d, conv2d
from nerfkit.postprocess.networks import SCALES, BicubicSkip


class CollapsedConv(nn.Module):
    """A `size` x `size` convolution whose kernel is a sum of linear paths.

    Args:
        inputs: channels of x.
        outputs: channels of the result.
        size: side of the kernel, odd.
        hidden: channels between the wide convolution and the 1x1 one.
    """

    def __init__(self, inputs: int, outputs: int, size: int, hidden: int) -> None:
        super().__init__()
        self.direct = Conv2d(inputs, outputs, size)
        self.expand = nn.Parameter(torch.empty(hidden, inputs, size, size))
        self.project = nn.Parameter(torch.zeros(outputs, hidden))
        self.has_identity = inputs == outputs
        nn.init.kaiming_normal_(self.expand)
        nn.init.normal_(self.project, std=0.3 * hidden**-0.5)
        if self.has_identity:
            with torch.no_grad():
                self.direct.weight.mul_(0.3)  # the identity carries the signal

    def kernel(self) -> Tensor:
        """The collapsed kernel [outputs, inputs, size, size]."""
        kernel = self.direct.weight + torch.einsum("oh,hiyx->oiyx", self.project, self.expand)
        if self.has_identity:
            centre = kernel.shape[-1] // 2
            delta = torch.zeros_like(kernel)
            delta[:, :, centre, centre] = torch.eye(kernel.shape[0], dtype=kernel.dtype)
            kernel = kernel + delta
        return kernel

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.kernel(), self.direct.bias, self.direct.padding[0])


class CompactSR(nn.Module):
    """Head 5x5, `layers` convolutions 3x3, tail 3x3 to scale² channels a colour, pixel shuffle.

    Args:
        scale: 2, 3 or 4.
        channels: of the image, 1 or 3.
        width: channels of the features.
        layers: convolutions between head and tail.
        hidden: channels that each convolution expands to while training; 0 builds the collapsed
            network, which is for inference.
    """

    cpu_tile = (512, 2048)  # pixels; its kernel has smaller ones of its own

    def __init__(
        self,
        scale: int = 2,
        channels: int = 1,
        width: int = 24,
        layers: int = 7,
        hidden: int = 0,
    ) -> None:
        super().__init__()
        if scale not in SCALES:
            raise ValueError(f"`scale` must be one of {SCALES}, got {scale!r}")
        self.scale, self.channels = scale, channels
        self.width, self.layers, self.hidden = width, layers, hidden
        self.skip = BicubicSkip(scale)
        self.head = _conv(channels, width, 5, hidden)
        self.body = nn.ModuleList(_conv(width, width, 3, hidden) for _ in range(layers))
        self.tail = _conv(width, channels * scale * scale, 3, hidden)
        self.slopes = nn.ModuleList(nn.PReLU(width) for _ in range(layers + 1))
        if hidden:
            nn.init.zeros_(self.tail.project)
        tail = self.tail.direct if hidden else self.tail
        nn.init.zeros_(tail.weight)
        nn.init.zeros_(tail.bias)

    @property
    def radius(self) -> int:
        return 2 + self.layers + 1

    def settings(self) -> dict[str, int]:
        """The arguments of the constructor."""
        return {
            "scale": self.scale,
            "channels": self.channels,
            "width": self.width,
            "layers": self.layers,
            "hidden": self.hidden,
        }

    def residual(self, x: Tensor) -> Tensor:
        """What the network adds to the bicubic enlargement."""
        if not self.hidden:
            layers = [self.head, *self.body, self.tail]
            return compact_sr(
                x,
                [layer.weight for layer in layers],
                [layer.bias for layer in layers],
                [slope.weight for slope in self.slopes],
                self.scale,
            )
        first = features = self.slopes[0](self.head(x - 0.5))
        for conv, slope in zip(self.body, self.slopes[1:], strict=True):
            features = slope(conv(features))
        return F.pixel_shuffle(self.tail(features + first), self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.residual(x)

    @torch.no_grad()
    def collapse(self) -> "CompactSR":
        """The same function with one kernel a convolution."""
        if not self.hidden:
            return self
        plain = CompactSR(**(self.settings() | {"hidden": 0}))
        trained = [self.head, *self.body, self.tail]
        for conv, source in zip([plain.head, *plain.body, plain.tail], trained, strict=True):
            conv.weight.copy_(source.kernel())
            conv.bias.copy_(source.direct.bias)
        plain.slopes.load_state_dict(self.slopes.state_dict())
        return plain.to(next(self.parameters()).device)


def _conv(inputs: int, outputs: int, size: int, hidden: int) -> nn.Module:
    if hidden:
        return CollapsedConv(inputs, outputs, size, hidden)
    return Conv2d(inputs, outputs, size)
