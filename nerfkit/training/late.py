"""What a step of a fit reports, without waiting for a GPU that is still at work on it."""

from __future__ import annotations

import torch
from torch import Tensor

from nerfkit.kernels.fused_render import Fitted
from nerfkit.ranks import ALONE, Team
from nerfkit.training.learner import Stepped


class LateFigures:
    """On the CPU the figures of a step; on a GPU those of the step before.

    They travel to pinned memory behind the step's own kernels, so that reading them a step later
    waits for no more than that step, while the next one is queued already.
    """

    def __init__(self) -> None:
        self._last: tuple[int, Tensor, torch.cuda.Event] | None = None

    def of(self, fitted: Fitted, n_rays: int, team: Team = ALONE) -> Stepped:
        """Of the step that made `fitted`, or of the one before; the first step waits for itself.

        Several ranks sum their figures, and wait for that.

        Args:
            n_rays: of all ranks together.
        """
        squared = fitted.squared_errors.sum()
        if not squared.is_cuda or team.size > 1:
            counts = float(fitted.n_samples), float(fitted.n_shaded), float(squared)
            n_samples, n_shaded, total = team.total(*counts)
            return Stepped(n_rays, int(n_samples), int(n_shaded), total / max(n_rays, 1) / 3)
        loss = squared / (3 * max(n_rays, 1))
        numbers = torch.stack([x.double() for x in (fitted.n_samples, fitted.n_shaded, loss)])
        pinned = torch.empty(3, dtype=torch.float64, pin_memory=True)
        pinned.copy_(numbers, non_blocking=True)
        done = torch.cuda.Event()
        done.record()
        ready, self._last = self._last or (n_rays, pinned, done), (n_rays, pinned, done)
        ready[2].synchronize()
        n_samples, n_shaded, loss = ready[1].tolist()
        return Stepped(ready[0], int(n_samples), int(n_shaded), loss)
