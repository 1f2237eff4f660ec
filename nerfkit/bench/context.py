"""What every suite is given: where and how much to measure, and the machine's ceilings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from nerfkit.kernels import _backend, _native

from .case import Case
from .ceilings import Ceilings
from .effort import Effort
from .figure import Figure
from .measure import measure


@dataclass(frozen=True)
class Context:
    """Of one suite.

    Attributes:
        suite: its name.
        effort: how much to measure.
        place: the device.
        ceilings: of that device, measured for this suite.
        data: folder of posed images in place of the built-in scene.
        scratch: folder that the suites of a run share.
        number: of the pass over the suite, from 0.
        say: tells the reader what is being done.
    """

    suite: str
    effort: Effort
    place: torch.device
    ceilings: Ceilings
    data: Path | None
    scratch: Path
    number: int
    say: Callable[[str], None]

    @property
    def native(self) -> str:
        """The fastest backend of the device that can run."""
        name = "gpu" if self.place.type == "cuda" else "cpu"
        return name if _backend.has("fused_render", name, self.place) else "reference"

    def measure(self, case: Case, threads: int | None = None) -> Iterator[Figure]:
        """Figures of a case, by default with as many threads as the kernels use."""
        count = threads or _native.num_threads()
        self.say(f"{case.name}, {case.size}, {count} threads")
        effort = self.effort
        yield from measure(
            *(self.suite, case, self.ceilings.at(count), effort.seconds / effort.passes),
            *(effort.fewest, count),
        )
