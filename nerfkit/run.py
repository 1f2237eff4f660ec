"""A fitted scene on disk, ready to render.

A run's folder holds config.json (all settings, background, versions), cameras.json (the training
cameras), checkpoint.safetensors and, for going on, optimiser-STEP.safetensors. A baked file
(nerfkit.baking.storage) holds what is needed of all that, and is loaded alike.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nerfkit import device
from nerfkit.baking.storage import load_baked
from nerfkit.cameras import Cameras, check_cameras
from nerfkit.errors import NerfkitError
from nerfkit.evaluate import background_colour
from nerfkit.fields.field import Field
from nerfkit.fields.frame import render_frame
from nerfkit.files import read_json
from nerfkit.threads import kernels_alone
from nerfkit.training.checkpoint import load_field
from nerfkit.training.stored import UNREADABLE

CONFIG = "config.json"
CAMERAS = "cameras.json"


class Run:
    """A fitted scene.

    Attributes:
        folder: where it lies; a baked file.
        config: what config.json holds; "data", "downscale" and "background" among it.
        train_cameras: the cameras it was fitted to.
        scene_box: [2, 3] corners of the box round the scene, world units.
        iteration: optimiser steps taken.
        field: the scene, in the form that renders fastest.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        train_cameras: Cameras,
        field: Field,
        iteration: int,
    ) -> None:
        self.folder, self.config, self.train_cameras = folder, config, train_cameras
        self.scene_box = torch.tensor(config["scene_box"], dtype=torch.float32)
        if self.scene_box.shape != (2, 3) or not bool(torch.isfinite(self.scene_box).all()):
            raise ValueError("scene_box is no box")
        self.field, self.iteration = field, iteration
        self.background = background_colour(config["background"])

    @classmethod
    def load(cls, folder: str | Path, place: torch.device | None = None) -> "Run":
        """Read a run or a baked file; NerfkitError if there is none or it is damaged.

        Args:
            place: the device to render on; None is the best there is.
        """
        folder, place = Path(folder), place or device.best()
        if folder.is_file():
            return cls._load_baked(folder, place)
        field, state = load_field(folder)
        config = read_json(folder / CONFIG)
        try:
            cameras = _cameras(folder / CAMERAS, read_json(folder / CAMERAS))
            field = field.to(place).collapsed()
            return cls(folder, config, cameras, field, state.step)
        except UNREADABLE as error:
            raise NerfkitError(
                f"{folder}: {CONFIG} or {CAMERAS} is not what nerfkit fit writes ({error!r}); "
                "restore it or fit again"
            ) from error

    @classmethod
    def _load_baked(cls, path: Path, place: torch.device) -> "Run":
        field, run = load_baked(path)
        try:
            cameras = _cameras(path, run["cameras"])
            return cls(path, run["config"], cameras, field.to(place), int(run["iteration"]))
        except UNREADABLE as error:
            raise NerfkitError(
                f"{path}: not what nerfkit bake writes ({error!r}); bake the run again"
            ) from error

    def facts(self) -> dict[str, Any]:
        """What a baked file keeps of a run, JSON-ready."""
        return {
            "config": self.config,
            "cameras": self.train_cameras.to_dict(),
            "iteration": self.iteration,
        }

    def render(self, camera: Cameras, outputs: Sequence[str]) -> dict[str, Tensor]:
        """Images of one camera (a `Cameras` of length one): see `nerfkit.fields.frame`."""
        with kernels_alone():
            return render_frame(self.field, camera, self.background, outputs)


def _cameras(source: Path, values: dict[str, Any]) -> Cameras:
    """Cameras that a file holds, checked."""
    cameras = Cameras.from_dict(values)
    if not len(cameras):
        raise ValueError("no cameras")
    check_cameras(cameras, [f"{source}: camera {i}" for i in range(len(cameras))])
    return cameras
