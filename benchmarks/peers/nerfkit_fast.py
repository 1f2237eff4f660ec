"""nerfkit's default field, by the public command's function; reading the images is in its time."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import torch
from torch import Tensor

from nerfkit.files import read_json
from nerfkit.run import Run
from nerfkit.threads import kernels_alone
from nerfkit.training import FitConfig, fit

from .peer import Fit
from .task import Task


class NerfkitFast:
    name = "nerfkit fit"
    module = "nerfkit"

    def absent(self, place: torch.device) -> str | None:
        return None

    def fit(self, task: Task, deadline: float) -> Fit:
        minutes = (deadline - time.monotonic()) / 60
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "run"
            fit(
                FitConfig(
                    *(task.data, output),
                    minutes=minutes,
                    downscale=task.downscale,
                    seed=task.seed,
                    background="white",
                )
            )
            run, metrics = Run.load(output), read_json(output / "metrics.json")

        def render(origins: Tensor, directions: Tensor) -> Tensor:
            white = torch.ones(3, device=origins.device)
            with kernels_alone():
                return run.field.render(origins, directions, white).colors

        return Fit(metrics["steps"], metrics["rays"], render)
