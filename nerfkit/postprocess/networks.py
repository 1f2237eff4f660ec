"""Residual super-resolution networks on a bicubic skip.

Images are float [N, C, H, W] in 0..1, C = 1 (luma) or 3 (R, G, B); the output is
[N, C, scale H, scale W], not clamped. Every network adds its output to the bicubic enlargement of
its input, so that an untrained one is bicubic interpolation and a trained one learns the rest.

Every network has `scale`, `channels`, `settings()` (the arguments that build it again) and
`radius`: output pixels depend on input pixels at most that many rows or columns away, so that a
tile with a border of `radius` pixels gives what the whole image gives; tiles of `cpu_tile` rows and
columns are the fastest on a processor. `residual(x)` is the output without the bicubic part.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nerfkit.postprocess.convolution import Conv2d, conv2d
from nerfkit.postprocess.resize import mirror, upscale_taps

SCALES = (2, 3, 4)


class BicubicSkip(nn.Module):
    """MATLAB's bicubic enlargement of [N, C, H, W] to [N, C, scale H, scale W]."""

    radius = 2

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.register_buffer("taps", upscale_taps(scale), persistent=False)

    def cells(self, x: Tensor) -> Tensor:
        """The same before the pixel shuffle: [N, C scale^2, H, W]."""
        n, c, h, w = x.shape
        planes = x.reshape(n * c, 1, h, w)
        for dim in (2, 3):
            planes = mirror(planes, self.radius, self.radius, dim)
        return conv2d(planes, self.taps.to(x.dtype)).reshape(n, -1, h, w)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.cells(x), self.scale)


class ResidualBlock(nn.Module):
    """x + res_scale * conv(relu(conv(x))), without normalisation (arXiv:1707.02921, fig. 2c)."""

    def __init__(self, width: int, res_scale: float) -> None:
        super().__init__()
        self.first = Conv2d(width, width)
        self.second = Conv2d(width, width)
        self.res_scale = res_scale

    def forward(self, x: Tensor) -> Tensor:
        out = self.second(F.relu(self.first(x), inplace=True))
        return torch.add(x, out, alpha=self.res_scale)


class ResidualSR(nn.Module):
    """EDSR (arXiv:1707.02921, fig. 3): residual blocks at the low resolution, pixel shuffle.

    Where the paper up-scales x4 in two steps at full width, `narrow_tail` has one convolution to
    scale² channels and one shuffle, far less work; the global skip is bicubic, not the identity
    of features alone.

    Args:
        scale: 2, 3 or 4.
        channels: of the image, 1 or 3.
        width: channels of the features.
        blocks: residual blocks.
        res_scale: factor of each block's residual; 0.1 keeps a width of 256 stable.
        narrow_tail: see above.
    """

    cpu_tile = (96, 256)  # its features stay in a core's cache; others are up to 3 times slower

    def __init__(
        self,
        scale: int = 2,
        channels: int = 3,
        width: int = 32,
        blocks: int = 5,
        res_scale: float = 1.0,
        narrow_tail: bool = True,
    ) -> None:
        super().__init__()
        if scale not in SCALES:
            raise ValueError(f"`scale` must be one of {SCALES}, got {scale!r}")
        self.scale, self.channels = scale, channels
        self.width, self.res_scale, self.narrow_tail = width, res_scale, narrow_tail
        self.skip = BicubicSkip(scale)
        self.head = Conv2d(channels, width)
        self.body = nn.Sequential(*(ResidualBlock(width, res_scale) for _ in range(blocks)))
        self.merge = Conv2d(width, width)
        self.tail = nn.Sequential(*_tail(scale, channels, width, narrow_tail))
        nn.init.zeros_(self.tail[-2].weight if narrow_tail else self.tail[-1].weight)
        nn.init.zeros_(self.tail[-2].bias if narrow_tail else self.tail[-1].bias)

    @property
    def radius(self) -> int:
        steps = len(self.body) * 2 + 2 + sum(isinstance(m, Conv2d) for m in self.tail)
        return max(steps, self.skip.radius)

    def settings(self) -> dict[str, int | float | bool]:
        """The arguments of the constructor."""
        return {
            "scale": self.scale,
            "channels": self.channels,
            "width": self.width,
            "blocks": len(self.body),
            "res_scale": self.res_scale,
            "narrow_tail": self.narrow_tail,
        }

    def residual(self, x: Tensor) -> Tensor:
        """What the network adds to the bicubic enlargement."""
        features = self.head(x - 0.5)
        return self.tail(features + self.merge(self.body(features)))

    def forward(self, x: Tensor) -> Tensor:
        return self.skip(x) + self.residual(x)


def _tail(scale: int, channels: int, width: int, narrow: bool) -> list[nn.Module]:
    if narrow:
        return [
            Conv2d(width, channels * scale * scale),
            nn.PixelShuffle(scale),
        ]
    steps = [2, 2] if scale == 4 else [scale]
    layers: list[nn.Module] = []
    for step in steps:
        layers += [Conv2d(width, width * step * step), nn.PixelShuffle(step)]
    return [*layers, Conv2d(width, channels)]
