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

    def forward(self, render: Tensor, opacity: Tensor, seen: Tensor, enlarged: Tensor) -> Tensor:
        """The refined frame [B, 3, H, W], not clamped.

        Args:
            render: [B, 3, h, w] in 0..1.
            opacity: [B, 1, h, w].
            seen: [B, sources, 3 scale^2 + HINTS, h, w], what the photographs show beside
                `enlarged`, in cells, and the hints (see `Sources.details`).
            enlarged: [B, 3 scale^2, h, w]: `enlarged(render)`.
        """
        batch, sources, _, height, width = seen.shape
        of_each = seen.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        of_each = F.relu(self.encode(of_each))
        of_all = of_each.reshape(batch, sources * self.encoded, height, width)
        known = torch.cat([of_all, render - 0.5, opacity], dim=1)
        features = self.body(
            F.relu(self.merge(known.contiguous(memory_format=torch.channels_last)))
        )
        out = self.tail(features)
        inner = self.scale * self.scale
        # channels last, as the convolutions leave and the lookup makes them: no strided passes
        gates, residual = out.permute(0, 2, 3, 1).split((sources * inner, 3 * inner), dim=-1)
        cells = enlarged.permute(0, 2, 3, 1) + residual
        for gate, detail in zip(gates.split(inner, dim=-1), seen.unbind(1), strict=True):
            detail = detail[:, : 3 * inner].permute(0, 2, 3, 1)
            cells = torch.addcmul(
                cells.unflatten(-1, (3, inner)),
                gate[..., None, :],
                detail.unflatten(-1, (3, inner)),
            ).flatten(-2)
        return F.pixel_shuffle(cells.permute(0, 3, 1, 2), self.scale)
