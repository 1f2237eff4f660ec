"""A built-in scene, or the user's own, fitted for a moment to measure steps and frames on."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nerfkit.cameras import Cameras
from nerfkit.data import load_dataset
from nerfkit.evaluate import background_colour
from nerfkit.fields.fast import FastField
from nerfkit.kernels.fused_render import fit_rays
from nerfkit.run import Run
from nerfkit.scenes import build
from nerfkit.training import FitConfig, checkpoint, fit
from nerfkit.training.pixels import Pixels

from .effort import Effort

SCENE, TEST_VIEWS = "machine", 4


@dataclass(frozen=True)
class Fitted:
    """A field after some steps, as it is fitted and as it is rendered, and what it saw."""

    field: FastField
    rendered: FastField
    pixels: Pixels
    camera: Cameras
    background: Tensor


def images(effort: Effort, folder: Path) -> Path:
    """The built-in scene in `folder`, made unless an earlier suite has."""
    side, n_views, _ = effort.scene
    return build(SCENE, folder / SCENE, size=(side, side), n_train=n_views, n_test=TEST_VIEWS)


def fitted(data: Path, steps: int, place: torch.device) -> Fitted:
    """Fit the images in a folder, and load the result onto a device."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        fit(FitConfig(data=data, output=output, steps=steps))
        field, _ = checkpoint.load_field(output)
        run = Run.load(output, place)
    field = field.to(place)
    dataset = load_dataset(data, splits=("train",))
    pixels = Pixels(dataset, dataset.splits["train"], place)
    pixels.keep_hit(field.hits)
    background = background_colour(run.config["background"]).to(place)
    return Fitted(field, run.field, pixels, pixels.cameras[0], background)


def needed(
    field: FastField,
    origins: Tensor,
    directions: Tensor,
    step_voxels: float,
    early_stop: float,
    weight_min: float,
) -> tuple[int, int]:
    """At how many samples of rays [R, 3] a colour is evaluated, and records looked up for them."""
    path = field.path(origins, directions)
    touched = torch.zeros_like(field.density, dtype=torch.uint8)
    counted = fit_rays(
        *(*path[:2], torch.zeros_like(origins), field.grid, field.summed, field.features),
        *(field.network, field.shape.widths),
        scale=0.0,
        grad_density=torch.zeros_like(field.density),
        grad_features=torch.zeros_like(field.features),
        grad_mlp=torch.zeros_like(field.network),
        features_touched=touched,
        early_stop=early_stop,
        weight_min=weight_min,
        **field.sampling(step_voxels),
    )
    return int(counted.n_shaded), int(touched.sum())


@contextlib.contextmanager
def backend_is(backend: str) -> Iterator[None]:
    """All kernels on `backend`, for what calls many of them."""
    before = os.environ.get("NERFKIT_BACKEND")
    os.environ["NERFKIT_BACKEND"] = backend
    try:
        yield
    finally:
        if before is None:
            del os.environ["NERFKIT_BACKEND"]
        else:
            os.environ["NERFKIT_BACKEND"] = before
