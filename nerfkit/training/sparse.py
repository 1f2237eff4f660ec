"""Sparse points of a reconstruction: where the scene is, and how far what some pixels show is.

Symbols: P points, N views, A anchors. World units; depths lie along the optical axis.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.data import Dataset

FEWEST = 100  # points: fewer say nothing
NEIGHBOURS, LONELY = 8, 6.0  # points so many times as far from others as the median one are wrong
MOST_POINTS = 50_000  # to look at, where there are more
OUTSIDE, MARGIN = 0.01, 0.1  # part of the points beyond a box's side; its margin, in edges
CELLS = 32  # of the longer side of an image: the nearest points of a cell hide the others
HIDDEN = 1.05  # times as far as the nearest


class Anchors(NamedTuple):
    """Pixels whose depth a point says."""

    views: Tensor  # [A] int64
    x: Tensor  # [A] int64, column
    y: Tensor  # [A] int64, row
    depths: Tensor  # [A]

    def to(self, device: torch.device) -> Anchors:
        """The same on another device."""
        return Anchors(*(column.to(device) for column in self))


def reliable(points: Tensor | None, cameras: Cameras) -> Tensor | None:
    """The points [P, 3] that two cameras or more see and that are not alone; None if too few."""
    if points is None or len(points) < FEWEST:
        return None
    points = points[:: -(-len(points) // MOST_POINTS)]
    count = torch.zeros(len(points), dtype=torch.int32)
    for i in range(len(cameras)):
        count += _in_sight(cameras, i, points)[0].int()
    points = points[count >= min(2, len(cameras))]
    if len(points) < FEWEST:
        return None
    places = points.numpy()
    distances = cKDTree(places).query(places, NEIGHBOURS + 1)[0][:, 1:].mean(1)
    points = points[torch.from_numpy(distances < LONELY * np.median(distances))]
    return points if len(points) >= FEWEST else None


def box_of(points: Tensor) -> tuple[Tensor, Tensor]:
    """Low and high corner of a box round all but the outermost of the points [P, 3]."""
    low, high = torch.quantile(points, torch.tensor([OUTSIDE, 1 - OUTSIDE]), dim=0)
    margin = MARGIN * (high - low).max()
    return low - margin, high + margin


def anchors_of(dataset: Dataset, views: Tensor) -> Anchors | None:
    """Where the views `views` of a data set show its points; None if it has too few.

    Which view sees which point the reconstruction knows; where the data do not say it, a point is
    taken to be hidden by those that are much nearer, in the same part of the image.
    """
    points = dataset.points
    if points is None or len(points) < FEWEST:
        return None
    found: list[tuple[Tensor, ...]] = []
    for k, i in enumerate(views.tolist()):
        if dataset.seen is None:
            chosen = torch.arange(len(points))
        else:
            chosen = dataset.seen[dataset.seen[:, 0] == i, 1]
        inside, pixels, depth = _in_sight(dataset.cameras, i, points[chosen])
        if dataset.seen is None:
            inside = _unhidden(dataset.cameras, i, inside, pixels, depth)
        x, y = pixels[inside].long().unbind(1)  # rounds down: pixel j begins at j
        found.append((torch.full_like(x, k), x, y, depth[inside]))
    anchors = Anchors(*(torch.cat(column) for column in zip(*found, strict=True)))
    return anchors if len(anchors.views) >= FEWEST else None


def _in_sight(cameras: Cameras, i: int, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether camera i has points [P, 3] in its image, [P]; pixels [P, 2] and depths [P]."""
    pixels, depth = cameras.project(points, i)
    size = torch.tensor([float(cameras.width[i]), float(cameras.height[i])])
    return ((pixels >= 0) & (pixels < size)).all(1) & (depth > 0), pixels, depth


def _unhidden(cameras: Cameras, i: int, inside: Tensor, pixels: Tensor, depth: Tensor) -> Tensor:
    side = max(int(cameras.width[i]), int(cameras.height[i])) / CELLS
    cells = (pixels / side).nan_to_num(0).clamp(0, CELLS - 1).long()
    cell = cells[:, 1] * CELLS + cells[:, 0]
    far = torch.full((CELLS * CELLS,), torch.inf)
    nearest = far.scatter_reduce(0, cell[inside], depth[inside], "amin")
    return inside & (depth < HIDDEN * nearest[cell])
