"""PatchGAN: a fully convolutional discriminator that judges every patch of an image by itself.

Images are [N, C, H, W] in 0..1. After pix2pix (arXiv 1611.07004, appendix 6.1.2): 4x4
convolutions of stride 2, then two of stride 1; with three strides an output sees 70x70 pixels.
Conditional: the input of the generator is stacked onto the image, brought to its size. Spectral
norm (arXiv 1802.05957) instead of batch norm: it works at any batch size and bounds the slope.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

SLOPE = 0.2  # of the leaky rectifier, as in pix2pix and SRGAN


class PatchDiscriminator(nn.Module):
    """One raw output for every patch: [N, 1, h, w].

    Args:
        channels: of the image.
        condition: channels of the condition; 0 for none.
        width: channels of the first layer; doubled at each stride, up to eightfold.
        strides: convolutions of stride 2.
        spectral: spectral norm on every layer.
    """

    def __init__(
        self,
        channels: int = 3,
        condition: int = 0,
        width: int = 64,
        strides: int = 3,
        spectral: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.condition = channels, condition
        widths = [width * min(8, 2**i) for i in range(strides + 1)]
        sizes = zip([channels + condition, *widths], [*widths, 1], strict=True)
        layers = [
            nn.Conv2d(a, b, 4, stride=2 if i < strides else 1, padding=1)
            for i, (a, b) in enumerate(sizes)
        ]
        self.layers = nn.ModuleList(spectral_norm(layer) if spectral else layer for layer in layers)

    def features(self, image: Tensor, condition: Tensor | None = None) -> list[Tensor]:
        """Activations of every layer; the last are the raw outputs."""
        x = 2 * self._stacked(image, condition) - 1
        features = []
        for layer in self.layers[:-1]:
            x = F.leaky_relu(layer(x), SLOPE)
            features.append(x)
        return [*features, self.layers[-1](x)]

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.features(image, condition)[-1]

    def _stacked(self, image: Tensor, condition: Tensor | None) -> Tensor:
        given = 0 if condition is None else condition.shape[1]
        if (image.shape[1], given) != (self.channels, self.condition):
            raise ValueError(
                f"`image` and `condition` must have {self.channels} and {self.condition} channels, "
                f"got {image.shape[1]} and {given}"
            )
        if condition is None:
            return image
        size = image.shape[-2:]
        if condition.shape[-2:] != size:
            condition = F.interpolate(condition, size=size, mode="bicubic", align_corners=False)
        return torch.cat([image, condition], dim=1)
