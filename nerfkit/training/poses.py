"""Poses of cameras, corrected while a scene is fitted to their photographs (2104.06405, BARF).

Symbols: N views, R rays. A ray o, d of view v, as its given pose has it, becomes

    d' = turn_v d,     o' = o + shift_v,      turn [N, 3, 3] rotations, shift [N, 3], world axes

Descent goes along small turns w after the present one, d' + w x d': dL/dw = sum d' x dL/dd'. The
octree, coarse at first, does what BARF's masked encoding does.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.device import CPU
from nerfkit.errors import NerfkitError
from nerfkit.fields.fast import FastField
from nerfkit.kernels.fused_render import fit_rays
from nerfkit.ranks import ALONE, Team

BETAS, EPS = (0.9, 0.99), 1e-15
FIRST_RATE, LAST_RATE = 2e-3, 2e-5  # radians, and parts of the reach
FACING_FROM, FACING_PART = 0.3, 0.03  # of a fit, and of the rates
ALIGN_STEPS, ALIGN_RAYS = 120, 4096
ALIGN_RATES = 2e-3, 1e-4
STOP, WEIGHT = 1e-3, 1e-3


class Poses:
    """Corrections of N cameras, and Adam's moments of them.

    Attributes:
        turns, shifts: [N, 3, 3] and [N, 3].
    """

    def __init__(self, n_views: int, reach: float, device: torch.device = CPU) -> None:
        """`reach`: how far cameras are from what they look at; the unit of shifts."""
        self.reach = reach
        self.turns = torch.eye(3, device=device).repeat(n_views, 1, 1)
        self.shifts = torch.zeros(n_views, 3, device=device)
        self._mean, self._square = (torch.zeros(n_views, 6, device=device) for _ in range(2))
        self._steps = 0

    def corrected(self, views: Tensor, origins: Tensor, directions: Tensor) -> list[Tensor]:
        """Rays [R, 3] of views [R]: origins and directions."""
        turned = (self.turns[views] @ directions[:, :, None])[:, :, 0]
        return [origins + self.shifts[views], turned]

    def step(
        self,
        views: Tensor,
        directions: Tensor,
        gradient: Tensor,
        rate: float,
        team: Team = ALONE,
    ) -> None:
        """One step of Adam.

        Args:
            views: [R].
            directions: [R, 3], corrected.
            gradient: [R, 6] of corrected origins and directions.
            rate: in radians, and parts of the reach.
            team: each rank has rays of its own.
        """
        self._steps += 1
        turning = torch.linalg.cross(directions, gradient[:, 3:])
        total = torch.zeros_like(self._mean)
        total.index_add_(0, views, torch.cat([turning, gradient[:, :3] * self.reach], 1))
        total[~total.isfinite()] = 0
        team.sum_(total)
        self._mean.lerp_(total, 1 - BETAS[0])
        self._square.lerp_(total**2, 1 - BETAS[1])
        mean = self._mean / (1 - BETAS[0] ** self._steps)
        square = self._square / (1 - BETAS[1] ** self._steps)
        move = -rate * mean / (square.sqrt() + EPS)
        self.turns = torch.linalg.matrix_exp(_cross_matrix(move[:, :3])) @ self.turns
        self.shifts += self.reach * move[:, 3:]

    def hold_mean(self) -> None:
        """Take out what all cameras have in common: the scene as a whole stays where it is."""
        self.shifts -= self.shifts.mean(0)
        left, _, right = torch.linalg.svd(self.turns.mean(0).cpu())  # of one small matrix
        if float(torch.linalg.det(left @ right)) > 0:
            self.turns = (left @ right).T.to(self.turns.device) @ self.turns

    def cameras(self, given: Cameras) -> Cameras:
        """The N cameras, corrected."""
        turns, shifts = self.turns.cpu().double(), self.shifts.cpu().double()
        c2w = torch.cat([turns @ given.c2w[:, :, :3], given.c2w[:, :, 3:] + shifts[:, :, None]], 2)
        shutter = None if given.shutter is None else given.shutter.moved(turns, shifts)
        return dataclasses.replace(given, c2w=c2w, shutter=shutter)

    def memory(self) -> dict[str, Any]:
        """For JSON."""
        return {"turns": self.turns.tolist(), "shifts": self.shifts.tolist(), "reach": self.reach}

    @staticmethod
    def of_memory(values: dict[str, Any], n_views: int, device: torch.device = CPU) -> Poses:
        """What `memory` gave; the moments begin anew."""
        poses = Poses(n_views, float(values["reach"]), device)
        poses.turns = torch.tensor(values["turns"], device=device)
        poses.shifts = torch.tensor(values["shifts"], device=device)
        sizes = poses.turns.shape, poses.shifts.shape
        finite = bool(poses.turns.isfinite().all()) and bool(poses.shifts.isfinite().all())
        if sizes != ((n_views, 3, 3), (n_views, 3)) or not finite:
            raise NerfkitError(f"the run has poses of {len(poses.turns)} photographs")
        return poses


def rate_at(progress: float, facing: bool = False) -> float:
    """Of a step of a fit.

    Args:
        facing: all cameras face one way, and a turn looks much like a shift. Before there is a
            scene they would be moved together: fog without parallax fits them best.
    """
    rate = FIRST_RATE * (LAST_RATE / FIRST_RATE) ** progress
    if not facing:
        return rate
    return FACING_PART * rate if progress >= FACING_FROM else 0.0


class Aligner:
    """Finds the pose of a photograph in a scene that stays as it is."""

    def __init__(self, field: FastField) -> None:
        self.field = field
        self._scratch = {
            "grad_density": torch.zeros_like(field.summed),
            "grad_features": torch.zeros_like(field.features, dtype=torch.float32),
            "grad_mlp": torch.zeros_like(field.network),
            "features_touched": torch.zeros_like(field.summed, dtype=torch.uint8),
        }

    def align(self, camera: Cameras, image: Tensor, background: Tensor) -> Cameras:
        """The camera (a `Cameras` of length one), moved to where the image [H, W, 3] fits best."""
        octree, device = self.field.octree, self.field.device
        center = octree.box_min.cpu() + octree.size / 2
        if self.field.shape.unbounded is not None:
            center = torch.tensor(self.field.shape.unbounded.center)
        poses = Poses(1, float((camera.c2w[0, :, 3].float() - center).norm()), device)
        generator = torch.Generator().manual_seed(0)  # the same pixels on all devices
        width = image.shape[1]
        flat, background = image.reshape(-1, 3).to(device), background.to(device)
        for number in range(ALIGN_STEPS):
            chosen = torch.randint(len(flat), (ALIGN_RAYS,), generator=generator).to(device)
            pixels = torch.stack([chosen % width, chosen // width], 1) + 0.5
            views = torch.zeros(ALIGN_RAYS, dtype=torch.int64, device=device)
            given = camera.rays(views[:1], pixels)
            rays = poses.corrected(views, given.origins, given.directions)
            gradient = self._gradient(*rays, flat[chosen], background)
            rate = ALIGN_RATES[0] * (ALIGN_RATES[1] / ALIGN_RATES[0]) ** (number / ALIGN_STEPS)
            poses.step(views, rays[1], gradient, rate)
        return poses.cameras(camera)

    def _gradient(
        self, origins: Tensor, directions: Tensor, targets: Tensor, background: Tensor
    ) -> Tensor:
        field = self.field
        bent = field.bent(origins, directions)
        gradient = torch.zeros_like(bent.rows)
        fit_rays(
            *(bent.origins, bent.directions, targets, field.grid, field.summed, field.features),
            *(field.network, field.shape.widths),
            scale=1 / len(targets),
            **self._scratch,
            background=background,
            early_stop=STOP,
            weight_min=WEIGHT,
            pieces=bent.pieces,
            grad_rays=gradient,
            **field.sampling(field.shape.render_step),
        )
        return bent.to_world(gradient)


def _cross_matrix(w: Tensor) -> Tensor:
    """[N, 3, 3] that multiply as w x."""
    zero = torch.zeros_like(w[:, 0])
    x, y, z = w.unbind(1)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).view(-1, 3, 3)
