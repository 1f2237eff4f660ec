"""The network that blends warped photographs into an enlarged render.

Frames are [B, 3, H, W] with H = scale h; "in cells" means [B, 3 scale^2, h, w], what
pixel_unshuffle makes of a frame: all work is done at the small size. Starts as the bicubic
enlargement, exactly: its last layer is zero.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nerfkit.postprocess.convolution import Conv2d
from nerfkit.postprocess.networks import BicubicSkip, ResidualBlock
from nerfkit.postprocess.scene.geometry import HINTS


class SceneRefiner(nn.Module):
    """render + sum over sources of gate (photograph - render) + residual, pixel by pixel.

    Args:
        scale: 2, 3 or 4.
        sources: photographs a frame.
        encoded: channels that each photograph is brought to, by the same weights.
        width: channels of the body.
        blocks: residual blocks.
    """

    def __init__(
        self, scale: int, sources: int = 3, encoded: int = 16, width: int = 48, blocks: int = 2
    ) -> None:
        super().__init__()
        self.scale, self.sources = scale, sources
        self.encoded, self.width = encoded, width
        self.skip = BicubicSkip(scale)
        cells = scale * scale
        self.encode = Conv2d(3 * cells + HINTS, encoded, 1)
        self.merge = Conv2d(sources * encoded + 4, width)
        self.body = nn.Sequential(*(ResidualBlock(width, 1.0) for _ in range(blocks)))
        self.tail = Conv2d(width, (sources + 3) * cells)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)

    @property
    def radius(self) -> int:
        """Frames depend on small pixels at most so many rows or columns away."""
        return 2 * len(self.body) + 2

    def settings(self) -> dict[str, int]:
        """The arguments of the constructor."""
        return {
            "scale": self.scale,
            "sources": self.sources,
            "encoded": self.encoded,
            "width": self.width,
            "blocks": len(self.body),
        }

    def enlarged(self, render: Tensor) -> Tensor:
        """The bicubic enlargement of `render` [B, 3, h, w], in cells."""
        return self.skip.cells(render)

    def forward(self, render: Tensor, opacity: Tensor, photos: Tensor, hints: Tensor) -> Tensor:
        """The refined frame [B, 3, H, W], not clamped.

        Args:
            render: [B, 3, h, w] in 0..1.
            opacity: [B, 1, h, w].
            photos: [B, sources, 3 scale^2, h, w], warped, in cells.
            hints: [B, sources, HINTS, h, w] (see `geometry.correspond`).
        """
        batch, sources, _, height, width = photos.shape
        up = self.enlarged(render)
        details = (photos - up[:, None]) * hints[:, :, :1]
        seen = torch.cat([details, hints], dim=2).flatten(0, 1)
        seen = F.relu(self.encode(seen.contiguous(memory_format=torch.channels_last)))
        seen = seen.reshape(batch, sources * self.encoded, height, width)
        known = torch.cat([seen, render - 0.5, opacity], dim=1)
        features = self.body(
            F.relu(self.merge(known.contiguous(memory_format=torch.channels_last)))
        )
        out = self.tail(features)
        inner = self.scale * self.scale
        gates = out[:, : sources * inner].reshape(batch, sources, 1, inner, height, width)
        blend = (gates * details.reshape(batch, sources, 3, inner, height, width)).sum(1)
        residual = out[:, sources * inner :]
        return F.pixel_shuffle(up + blend.flatten(1, 2) + residual, self.scale)
