"""What any kind of field can do: show itself along rays."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from nerfkit.kernels.fused_render import Rendered
from nerfkit.octree import Octree


class Field(Protocol):
    """Something that rays can be sent through; R rays, world units and axes.

    Attributes:
        shape: its numbers; where these have an `ndc`, the octree is that of its cube.
        octree: leaves outside which rays meet nothing.
        device: where rays must be, and results are.
    """

    shape: Any
    octree: Octree

    @property
    def device(self) -> torch.device: ...

    def to(self, device: torch.device) -> Field:
        """The field on another device; itself, if it can only be where it is."""
        ...

    def hits(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Which of the rays [R, 3] may meet something: [R] bool."""
        ...

    def render(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        """Colours [R, 3], depths [R] (sum w t) and opacities [R] of rays [R, 3] on `background`."""
        ...

    def collapsed(self) -> Field:
        """The same field in the form that renders fastest."""
        ...
