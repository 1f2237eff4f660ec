"""What a fit asks of the kind of field it fits; nerfkit.training.kinds lists the kinds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.fields.field import Field
from nerfkit.ranks import ALONE, Team
from nerfkit.training.config import FitConfig
from nerfkit.training.hull import Scene
from nerfkit.training.pixels import Pixels
from nerfkit.training.stored import Stored


class Stepped(NamedTuple):
    """One step of a fit, of all ranks together."""

    n_rays: int
    n_samples: int  # at which the field was asked for its density, of all rays together
    n_shaded: int  # at which it was asked for a colour that counts
    loss: float  # mean squared error of the rays' colours


class Learner(Protocol):
    """A field, and what it takes to fit it.

    Attributes:
        format: names the kind of field in a run's files.
        rate_options: what to lower when a fit diverges.
        preview_side: previews have at most this many pixels a side.
        field: as it is now.
    """

    format: ClassVar[str]
    rate_options: ClassVar[str]
    preview_side: ClassVar[int]
    field: Field

    @staticmethod
    def devices(config: FitConfig) -> tuple[str, ...]:
        """Types of the devices that it can be fitted on."""
        ...

    @classmethod
    def create(
        cls,
        config: FitConfig,
        scene: Scene,
        cameras: Cameras,
        generator: torch.Generator,
        team: Team = ALONE,
    ) -> Learner:
        """Begin, where `generator` is, with a scene of which no more is known.

        `cameras` are those fitted to. Every rank of the `team` has a learner, and they stay alike.
        """
        ...

    @classmethod
    def load_field(cls, stored: Stored) -> Field:
        """The field of a checkpoint; NerfkitError if its tensors or metadata do not fit."""
        ...

    @classmethod
    def resume(
        cls,
        config: FitConfig,
        cameras: Cameras,
        field: Any,
        companion: Stored,
        memory: dict[str, Any],
        team: Team = ALONE,
    ) -> Learner:
        """Go on with what `load_field`, `companion` and `memory` kept, where `field` is."""
        ...

    def step(
        self, progress: float, number: int, pixels: Pixels, generator: torch.Generator
    ) -> Stepped:
        """Step `number`, from 1, at this `progress` of the fit in 0..1.

        On a GPU, which works while the host is ahead, what it returns is of the step before.
        """
        ...

    def restructure(self, number: int, say: Callable[[str], None]) -> bool:
        """What is due after step `number`; whether `field.hits` may have become fewer."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """The field, for the checkpoint."""
        ...

    def metadata(self) -> dict[str, str]:
        """The field's shape, for the checkpoint."""
        ...

    def companion(self) -> dict[str, Tensor]:
        """What only a fit needs to go on."""
        ...

    def memory(self) -> dict[str, Any]:
        """Numbers that a fit needs to go on, for JSON."""
        ...

    def checkpoint_bytes(self) -> float:
        """About how much `tensors` and `companion` take on the disk."""
        ...

    def voxels(self) -> tuple[int, int]:
        """How many are occupied, and how many there would be along an edge."""
        ...
