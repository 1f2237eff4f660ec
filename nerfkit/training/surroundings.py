"""Scenes that do not end: which photographs show one, and where its middle and its voxels are.

Or where it begins, if all cameras look at it from one side.

Symbols: N cameras; reach, the distance of a camera from what the cameras look at.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.data import Dataset
from nerfkit.errors import NerfkitError
from nerfkit.fields.ndc import LEAST_COSINE
from nerfkit.fields.unbounded import Unbounded
from nerfkit.octree import Octree
from nerfkit.training.config import FitConfig
from nerfkit.training.hull import CONVERGING, Scene, find_scene, focus_of
from nerfkit.training.sparse import FEWEST, anchors_of, reliable

DEPTH = 6  # of the first octree
# Of the cube that keeps its shape: half its edge, in reaches. What lies beyond gets larger voxels.
HALF = 0.45
# Nothing is nearer to a camera than this, in reaches: of cameras that look at something, and of
# those that look outwards. Fog right before a camera explains its photograph alone, at no cost.
NEAR_INWARDS, NEAR_OUTWARDS = 0.25, 0.03
# Where points tell, it is this part of the nearest hundredth of what views see, within bounds.
NEAR_PART, NEAR_BOUNDS = 0.6, (0.01, 0.5)
AWAY = 1.4  # a camera speaks of what is so many times as far as the nearest that there can be
# What few cameras see can be explained by anything: out it goes, where it is near.
FEWEST_SEE, PART_SEE = 3, 0.05  # cameras, and part of them
FAR = 1.5  # reaches: beyond, one camera is enough
EDGE = 0.05  # of an image: a voxel that far outside it is in sight
NEAR_POINTS = 0.2  # part of the points to be near where axes meet, to correct it
NEAREST = 0.001  # of what points and depths show, a part that may be wrong
WINDOW = 0.8  # a forward-facing scene begins so far before the nearest thing
# Most that cameras of a forward-facing scene are one before the other, and apart, in distances of
# the nearest thing: those further apart look through windows of their own.
FLAT, APART = 0.5, 3.0


def resolve(config: FitConfig, dataset: Dataset, views: Tensor) -> FitConfig:
    """The configuration with `scene` decided, and without depths where none are known.

    Photographs with alpha show an object; cameras that face one way want normalised device
    coordinates; else things may lie at any distance.
    """
    if config.ndc and config.scene not in ("auto", "forward"):
        raise NerfkitError(f"--ndc: means --scene forward; got --scene {config.scene} as well")
    scene = "forward" if config.ndc else config.scene
    if scene == "unbounded" and config.preset != "fast":
        raise NerfkitError("--scene unbounded: only the preset fast can do that")
    if scene == "auto":
        scene = _recognised(config, dataset, views)
    known = any(dataset.depths[i] is not None for i in views.tolist())
    known |= dataset.points is not None and len(dataset.points) >= FEWEST
    weight = config.depth_weight if config.preset == "fast" and known else 0.0
    return dataclasses.replace(config, scene=scene, ndc=scene == "forward", depth_weight=weight)


def _recognised(config: FitConfig, dataset: Dataset, views: Tensor) -> str:
    has_alpha = any(dataset.images[i].shape[2] == 4 for i in views.tolist())
    if config.preset != "fast" or has_alpha:
        return "bounded"
    cameras = dataset.cameras[views]
    backward = torch.nn.functional.normalize(cameras.c2w[:, :, 2].mean(0), dim=0)
    if float((cameras.c2w[:, :, 2] @ backward).min()) <= LEAST_COSINE:
        return "unbounded"
    nearest, places = nearest_seen(dataset, views), cameras.c2w[:, :, 3]
    if nearest is None or float(torch.cdist(places, places).max()) > APART * nearest:
        return "unbounded"
    along = places @ backward
    return "forward" if float(along.max() - along.min()) < FLAT * nearest else "unbounded"


def nearest_seen(dataset: Dataset, views: Tensor) -> float | None:
    """How near to a camera things are, world units; None where the data do not tell.

    By the bounds of the data; else by points and depths, whose nearest may be wrong.
    """
    if dataset.bounds is not None:
        return float(dataset.bounds[views, 0].min())
    anchors = anchors_of(dataset, views)
    known = [] if anchors is None else [anchors.depths]
    known += [depth[depth > 0] for i in views.tolist() if (depth := dataset.depths[i]) is not None]
    values = torch.cat(known).numpy() if known else np.empty(0)
    return float(np.quantile(values, NEAREST)) if len(values) else None


def find_window(dataset: Dataset, views: Tensor, slack: float = 0.0) -> Scene:
    """The scene of training views that all face one way (`views`: their indices).

    As `nerfkit.training.hull.find_scene`, but it begins before the nearest thing that is known.
    """
    scene = find_scene(dataset, views, slack)
    nearest = nearest_seen(dataset, views)
    return scene if nearest is None else dataclasses.replace(scene, near=WINDOW * nearest)


def find_surroundings(dataset: Dataset, views: Tensor) -> Scene:
    """The scene of the training views (`views`: their indices), without bounds."""
    cameras = dataset.cameras[views]
    center, reach, inwards = _middle(cameras, reliable(dataset.points, cameras))
    unbounded = Unbounded(tuple(center.tolist()), HALF * reach)
    near = (NEAR_INWARDS if inwards else NEAR_OUTWARDS) * reach
    anchors = anchors_of(dataset, views)
    if anchors is not None:
        nearest = NEAR_PART * float(np.quantile(anchors.depths.numpy(), 0.01))
        near = min(max(nearest, NEAR_BOUNDS[0] * reach), NEAR_BOUNDS[1] * reach)
    octree = _seen(unbounded.octree(DEPTH), unbounded, cameras, reach, AWAY * near)
    positions = cameras.c2w[:, :, 3].float()
    low = torch.minimum(positions.amin(0), center - unbounded.half)
    high = torch.maximum(positions.amax(0), center + unbounded.half)
    return Scene(octree, torch.stack([low, high]), near, False, unbounded)


def _middle(cameras: Cameras, points: Tensor | None) -> tuple[Tensor, float, bool]:
    """Centre [3] of what the cameras look at, or of themselves if they look outwards; reach; which.

    Axes that are parallel meet nowhere: `points` [P, 3] then say where things are, as they do of
    things beside the axes.
    """
    positions, forward = cameras.c2w[:, :, 3].float(), -cameras.c2w[:, :, 2].float()
    planes = torch.eye(3) - forward[:, :, None] * forward[:, None, :]
    meet = float(torch.linalg.eigvalsh(planes.mean(0))[0]) > CONVERGING
    focus = focus_of(positions, forward)
    ahead = ((focus - positions) * forward).sum(1) > 0
    if meet and float(ahead.float().mean()) <= 0.5:
        middle = positions.mean(0)
        return middle, max(float((positions - middle).norm(dim=1).max()) / HALF, 1e-6), False
    reach = float((positions - focus).norm(dim=1).median())
    if points is not None:
        near = points[(points - focus).norm(dim=1) < reach] if meet else points
        if len(near) >= NEAR_POINTS * len(points):
            focus = near.median(0).values
            reach = float((positions - focus).norm(dim=1).median())
    return focus, reach, True


def _seen(
    octree: Octree, unbounded: Unbounded, cameras: Cameras, reach: float, away: float
) -> Octree:
    """The leaves that cameras at least `away` see: near the middle several, far from it one."""
    points = unbounded.world(octree.centers())
    count = torch.zeros(len(points), dtype=torch.int16)
    for i in range(len(cameras)):
        pixels, depth = cameras.project(points, i)
        size = torch.tensor([float(cameras.width[i]), float(cameras.height[i])])
        inside = (pixels > -EDGE * size) & (pixels < (1 + EDGE) * size)
        count += (inside.all(1) & (depth > away)).to(torch.int16)
    far = (points - torch.tensor(unbounded.center)).norm(dim=1) > FAR * reach
    n = len(cameras)
    fewest = max(min(FEWEST_SEE, max(1, n // 4)), int(PART_SEE * n))
    return octree.keep(count >= torch.where(far, 1, fewest))
