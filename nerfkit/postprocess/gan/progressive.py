"""Progressive growing: a x2 generator becomes x4 by a second x2 stage that is faded in.

After arXiv 1710.10196, section 2: while the new stage learns, the output is a blend of it and of
the plain enlargement of the stage before, so that what was learnt is not shaken. The
discriminators here judge patches and take any size, so that they need not grow with it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class GrowingGenerator(nn.Module):
    """Image [N, C, h, w] -> [N, C, 2 h, 2 w], and once grown [N, C, 4 h, 4 w].

    Args:
        first: [N, C, h, w] -> [N, C, 2 h, 2 w].
        second: the same, applied to what `first` gives; may be a copy of it.

    Attributes:
        grown: whether the second stage is in use.
        blend: share of the second stage in the output, 0..1.
    """

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second
        self.grown = False
        self.register_buffer("blend", torch.zeros(()))

    @property
    def scale(self) -> int:
        return 4 if self.grown else 2

    def grow(self) -> None:
        """Put the second stage in, at blend 0: the output is that of before, enlarged."""
        self.grown = True
        self.blend.zero_()

    def fade(self, step: int, steps: int) -> None:
        """Set the blend for step `step` of `steps` of the fading; 1 from then on."""
        if not self.grown:
            raise ValueError("`fade` needs a second stage: call `grow` first")
        self.blend.fill_(min(1.0, step / steps))

    def forward(self, image: Tensor) -> Tensor:
        x = self.first(image)
        if not self.grown:
            return x
        if self.blend == 1:
            return self.second(x)
        plain = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
        return torch.lerp(plain, self.second(x), self.blend)

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.grown)

    def set_extra_state(self, state: Tensor) -> None:
        self.grown = bool(state)
