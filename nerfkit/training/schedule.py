"""How far a fit has come, and what is due: all in progress from 0 to 1 or in steps.

A fit of so many minutes ends when its process has run for that long, less what writing the result
takes; a fit of so many steps never looks at the clock.
"""

import os
import time
from pathlib import Path

# The octree is pruned at these steps, and at 1000, 2000, 4000, 8000 ...
FIRST_PRUNES = (60, 200, 300, 500, 700, 1200, 1500)
SUBDIVISIONS = (100, 400, 1000, 1500)
WARM_UP = 0.01  # of the fit: learning rates rise from a tenth


def process_start() -> float:
    """When this process began, on the clock of `time.monotonic`; now, where it cannot be told."""
    try:
        ticks = int(Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic()
    return time.monotonic() - max(age, 0.0)


class Budget:
    """Progress of a fit limited by minutes or by steps.

    Args:
        started: when the command began, `time.monotonic`.
        minutes, steps: exactly one is not None.
        elapsed, progress: seconds used and progress made before this process, by a resumed run.
    """

    def __init__(
        self,
        started: float,
        minutes: float | None,
        steps: int | None,
        elapsed: float = 0.0,
        progress: float = 0.0,
    ) -> None:
        self.started, self.steps, self.before = started, steps, elapsed
        self.seconds = None if minutes is None else 60 * minutes
        self.reserve = 0.0
        # A larger budget than that of the stored run puts it back to where it stands in this one.
        self.first = 0.0 if self.seconds is None else min(progress, elapsed / self.seconds)
        self._last = self.first
        self._span = 0.0

    def elapsed(self) -> float:
        """Seconds used, those of the run it goes on with included."""
        return self.before + time.monotonic() - self.started

    def remaining(self) -> float:
        """Seconds until the fit must stop to be written in time; infinity if steps limit it."""
        if self.seconds is None:
            return float("inf")
        return self.seconds - self.reserve - self.elapsed()

    def begin(self) -> None:
        """Preparations are over: progress counts from now."""
        self._span = max(self.remaining(), 1e-3)

    def progress(self, step: int) -> float:
        """In 0..1; never goes back."""
        if self.steps is not None:
            return min(1.0, step / self.steps)
        done = self.first + (1 - self.first) * (1 - self.remaining() / self._span)
        self._last = min(1.0, max(self._last, done))
        return self._last

    def seconds_left(self, progress: float) -> float:
        """An estimate for the reader."""
        if self.seconds is not None:
            return max(0.0, self.remaining())
        rest = 1 - progress
        return self.elapsed() * rest / progress if progress > 0 else float("nan")


def prune_due(step: int) -> bool:
    """Whether voxels that weigh nothing are emptied after this step: often at first."""
    thousands, rest = divmod(step, 1000)
    return step in FIRST_PRUNES or (rest == 0 and thousands & (thousands - 1) == 0)


def divisions(step: int) -> int:
    """How often the octree should have been divided by this step."""
    return sum(at <= step for at in SUBDIVISIONS)


def rate_factor(progress: float, decay: float) -> float:
    """What learning rates are multiplied by: a short rise, then an exponential fall to `decay`."""
    return decay**progress * min(1.0, progress / WARM_UP + 0.1)
