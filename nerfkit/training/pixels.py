"""Training pixels: all views in one table, of bytes or 16 bits, drawn at random where it pays.

A block is 4x4 pixels; blocks whose rays meet nothing but empty space are not drawn, which is most
of an image of an object. P pixels of all views, one after the other, row by row; R rays a draw.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from nerfkit.data import Dataset
from nerfkit.device import CPU
from nerfkit.ranks import ALONE, Team
from nerfkit.training.sparse import Anchors

BLOCK = 4
ANCHORED = 16  # one in so many rays goes to a pixel with a sparse point, where there are any
# A block is named by one integer: view << VIEW_BITS | row << ROW_BITS | column, of its first pixel.
VIEW_BITS, ROW_BITS = 40, 20
LOW_BITS = (1 << ROW_BITS) - 1


class Batch(NamedTuple):
    """Rays of one rank and what they should see."""

    origins: Tensor  # [R, 3]
    directions: Tensor  # [R, 3] unit
    colors: Tensor  # [R, 3] in 0..1, straight alpha
    alphas: Tensor  # [R, 1]
    views: Tensor | None = None  # [R] int64
    depths: Tensor | None = None  # [R] along the rays, 0 where not known
    n_all: int = 0  # rays of all ranks
    share: slice = slice(None)  # of all of them, these


class Pixels:
    """Pixels of the views `views` of a data set, whose images are taken from it one by one.

    The table, and the rays drawn from it, are on `device`.
    """

    def __init__(self, dataset: Dataset, views: Tensor, device: torch.device = CPU) -> None:
        chosen = views.tolist()
        self.cameras = dataset.cameras[views]
        self.has_alpha = any(dataset.images[i].shape[2] == 4 for i in chosen)
        sizes = self.cameras.width * self.cameras.height
        self.starts = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
        deep = any(dataset.images[i].dtype == torch.uint16 for i in chosen)
        dtype = torch.uint16 if deep else torch.uint8
        self.full = torch.iinfo(dtype).max
        self.colors = torch.full((int(self.starts[-1]), 4), self.full, dtype=dtype)
        masked = any(dataset.masks[i] is not None for i in chosen)
        self.used = torch.ones(len(self.colors), dtype=torch.bool) if masked else None
        for k, i in enumerate(chosen):
            rows = slice(int(self.starts[k]), int(self.starts[k + 1]))
            image, mask = dataset.images[i], dataset.masks[i]
            if image.dtype != dtype:  # 65535 = 257 * 255
                image = (image.int() * 257).to(dtype)
            self.colors[rows, : image.shape[2]] = image.view(-1, image.shape[2])
            if mask is not None:
                self.used[rows] = mask.view(-1) > 0
            # the only reader from here on is this table: do not hold the set twice
            dataset.images[i] = torch.empty(0)
        known = [dataset.depths[i] for i in chosen]
        self.depths = None  # [P] along the optical axis, 0 where not known
        if any(depth is not None for depth in known):
            self.depths = torch.zeros(len(self.colors))
            for k, depth in enumerate(known):
                if depth is not None:
                    self.depths[int(self.starts[k]) : int(self.starts[k + 1])] = depth.view(-1)
        whole = torch.int64 if deep else torch.int32
        self.anchors: Anchors | None = None  # of some rays of every batch
        self.blocks = torch.cat([self._all_blocks(k) for k in range(len(chosen))]).to(device)
        self.device, self.first = device, self.starts.to(device)
        self.width, self.height = self.cameras.width.to(device), self.cameras.height.to(device)
        self.colors = self.colors.to(device)
        self.used = None if self.used is None else self.used.to(device)
        self.packed = self.colors.view(whole).squeeze(1)  # a pixel is one gather
        self.depths = None if self.depths is None else self.depths.to(device)

    def __len__(self) -> int:
        return len(self.cameras)

    def image(self, view: int) -> Tensor:
        """[H, W, 4] of one view, uint8 or uint16, on the CPU."""
        rows = self.colors[int(self.starts[view]) : int(self.starts[view + 1])]
        return rows.view(int(self.cameras.height[view]), int(self.cameras.width[view]), 4).cpu()

    def mean_color(self) -> Tensor:
        """Mean [3] in 0..1 of all pixels."""
        total = sum(part.double().sum(0) for part in self.colors.split(1 << 20))
        return (total[:3] / len(self.colors) / self.full).float().cpu()

    def keep_hit(self, hits: Callable[[Tensor, Tensor], Tensor], team: Team = ALONE) -> None:
        """Keep the blocks whose rays, or those of a block beside them, meet something.

        Args:
            hits: from origins and directions [R, 3] to [R] bool.
            team: who share the work, each with all the pixels.
        """
        owners = self.blocks >> VIEW_BITS
        views = torch.arange(len(self) + 1, device=self.device)
        bounds = torch.searchsorted(owners, views).tolist()
        flags = torch.zeros(len(self.blocks), dtype=torch.uint8, device=self.device)
        for k in range(team.rank, len(self), team.size):
            own = slice(bounds[k], bounds[k + 1])
            flags[own] = self._hit(k, self.blocks[own], hits).to(torch.uint8)
        kept = self.blocks[team.sum_(flags).bool()]
        if len(kept):  # with nothing to look at, the old list is the better one
            self.blocks = kept

    def draw(self, n_rays: int, generator: torch.Generator, team: Team = ALONE) -> Batch:
        """Random pixels of random blocks; slightly fewer than `n_rays` where masks ignore some.

        `generator` must be one of `device`. All ranks draw the same ones, and each gets its share.
        """
        on = {"generator": generator, "device": self.device}
        place = torch.randint(len(self.blocks), (n_rays,), **on)
        within = torch.randint(BLOCK * BLOCK, (n_rays,), **on)
        block = self.blocks[place]
        view = block >> VIEW_BITS
        # the last blocks of a row or column may stick out of the image
        x = torch.minimum((block & LOW_BITS) + (within & 3), self.width[view] - 1)
        y = torch.minimum((block >> ROW_BITS & LOW_BITS) + (within >> 2), self.height[view] - 1)
        if self.anchors is not None:
            k = n_rays // ANCHORED
            chosen = torch.randint(len(self.anchors.views), (k,), **on)
            view[:k], x[:k] = self.anchors.views[chosen], self.anchors.x[chosen]
            y[:k] = self.anchors.y[chosen]
        row = self.first[view] + y * self.width[view] + x
        axial = None  # depth along the optical axis
        if self.depths is not None:
            axial = self.depths[row]
        elif self.anchors is not None:
            axial = torch.zeros(n_rays, device=self.device)
        if self.anchors is not None:
            axial[:k] = self.anchors.depths[chosen]
        if self.used is not None:
            good = self.used[row]
            view, x, y, row = view[good], x[good], y[good], row[good]
            axial = None if axial is None else axial[good]
        n_all, share = len(row), team.share(len(row))
        view, x, y, row = view[share], x[share], y[share], row[share]
        axial = None if axial is None else axial[share]
        pixels = torch.stack([x, y], 1).float().add_(0.5)
        rays = self.cameras.rays(view, pixels)
        values = self.packed[row].view(-1, 1).view(self.colors.dtype).float().mul_(1 / self.full)
        depths = None
        if axial is not None:
            depths = axial / self.cameras.cosines(view, pixels, rays.directions).clamp_min(1e-3)
        colors, alphas = values[:, :3], values[:, 3:]
        return Batch(rays.origins, rays.directions, colors, alphas, view, depths, n_all, share)

    def _all_blocks(self, view: int) -> Tensor:
        """Blocks of one view with at least one pixel that counts, in reading order."""
        width, height = int(self.cameras.width[view]), int(self.cameras.height[view])
        y, x = torch.meshgrid(
            torch.arange(0, height, BLOCK), torch.arange(0, width, BLOCK), indexing="ij"
        )
        blocks = (view << VIEW_BITS) + (y << ROW_BITS) + x
        if self.used is None:
            return blocks.view(-1)
        used = self.used[int(self.starts[view]) : int(self.starts[view + 1])]
        used = used.view(1, 1, height, width).float()
        some = torch.nn.functional.max_pool2d(used, BLOCK, BLOCK, ceil_mode=True)
        return blocks[some[0, 0] > 0]

    def _hit(self, view: int, blocks: Tensor, hits: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        x, y = blocks & LOW_BITS, blocks >> ROW_BITS & LOW_BITS
        middle = torch.stack([x, y], 1).float() + BLOCK / 2
        rays = self.cameras.rays(torch.tensor([view], device=self.device), middle)
        across = -(-int(self.cameras.width[view]) // BLOCK)
        down = -(-int(self.cameras.height[view]) // BLOCK)
        place = y // BLOCK * across + x // BLOCK
        field = torch.zeros(down * across, device=self.device)
        field[place] = hits(rays.origins, rays.directions).float()
        spread = torch.nn.functional.max_pool2d(field.view(1, 1, down, across), 3, 1, 1)
        return spread.view(-1)[place] > 0
