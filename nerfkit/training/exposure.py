"""Exposure of each photograph: what its colours are to those of the scene.

Symbols: N views, R rays, c a colour of the scene, p the same in a photograph, both RGB.

    p = gain c + offset,      gain, offset [N, 3] of a view's channels

as in 2111.14643 (section 3.2), without what mixes channels, and found by least squares instead of
descent, from running sums of what rays saw. The mean view is the scene's: log gains and offsets
have mean 0, so a view that was not fitted to is shown as an ordinary photograph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.device import CPU
from nerfkit.errors import NerfkitError
from nerfkit.ranks import ALONE, Team

MEMORY = 0.99  # of the sums, a step
PRIOR = 0.01  # variance of colours that a view must show for its own gain to count half
NEIGHBOURS = 3
MOST_GAIN, MOST_OFFSET = 2.0, 0.2


class Exposure:
    """Gains and offsets, and what they are found from.

    Attributes:
        gains, offsets: [N, 3].
    """

    def __init__(self, n_views: int, device: torch.device = CPU) -> None:
        self.gains = torch.ones(n_views, 3, device=device)
        self.offsets = torch.zeros_like(self.gains)
        # of a view's channels: 1, c, p, c c, c p
        self._sums = torch.zeros(n_views, 3, 5, device=device)

    def of_scene(self, views: Tensor, colors: Tensor) -> Tensor:
        """Colours of photographs [R, 3], of views [R], as colours of the scene."""
        return (colors - self.offsets[views]) / self.gains[views]

    def learn(
        self, views: Tensor, photographed: Tensor, rendered: Tensor, team: Team = ALONE
    ) -> None:
        """Take colours [R, 3] of photographs and what was rendered for them into account.

        Each rank of the `team` has rays of its own.
        """
        columns = [torch.ones_like(rendered), rendered, photographed]
        columns += [rendered**2, rendered * photographed]
        fresh = torch.zeros_like(self._sums).index_add_(0, views, torch.stack(columns, 2))
        self._sums.mul_(MEMORY).add_(team.sum_(fresh))
        self._solve()

    def predicted(self, given: Cameras, camera: Cameras) -> tuple[Tensor, Tensor]:
        """Gain and offset [3] that a new photograph may have: those of the cameras most like it.

        A camera that exposes by itself does so by what it sees, so its neighbours say it.

        Args:
            given: the N cameras.
            camera: a `Cameras` of length one.
        """
        apart = (given.c2w[:, :, 3] - camera.c2w[0, :, 3]).norm(dim=1)
        extent = (given.c2w[:, :, 3] - given.c2w[:, :, 3].mean(0)).norm(dim=1).max()
        turned = 1 - given.c2w[:, :, 2] @ camera.c2w[0, :, 2]
        nearest = (apart / extent.clamp_min(1e-12) + turned).topk(
            min(NEIGHBOURS, len(given)), largest=False
        )
        share = (1 / (nearest.values + 1e-3)).float()
        share = (share / share.sum())[:, None]
        chosen = nearest.indices
        return (self.gains[chosen] * share).sum(0), (self.offsets[chosen] * share).sum(0)

    def memory(self) -> dict[str, Any]:
        """For JSON."""
        return {"gains": self.gains.tolist(), "offsets": self.offsets.tolist()}

    def recall(self, values: dict[str, Any]) -> None:
        """What `memory` gave."""
        for name, mine in (("gains", self.gains), ("offsets", self.offsets)):
            stored = torch.tensor(values[name])
            if stored.shape != mine.shape or not bool(stored.isfinite().all()):
                raise NerfkitError(f"the run's {name} are those of {len(stored)} photographs")
            mine.copy_(stored)

    def _solve(self) -> None:
        count, *sums = self._sums.unbind(2)
        seen = count > 0
        c, p, cc, cp = (total / count.clamp_min(1e-9) for total in sums)
        gain = (cp - c * p + PRIOR) / (cc - c**2 + PRIOR)
        gain = gain.clamp(1 / MOST_GAIN, MOST_GAIN)
        offset = (p - gain * c).clamp(-MOST_OFFSET, MOST_OFFSET)
        n = seen.sum(0).clamp_min(1)
        usual = (torch.where(seen, gain.log(), 0).sum(0) / n).exp()
        shift = torch.where(seen, offset, 0).sum(0) / n
        self.gains = torch.where(seen, gain / usual, self.gains)
        self.offsets = torch.where(seen, offset - gain / usual * shift, self.offsets)
