"""The suites `fit` and `render`: a built-in scene fitted for a moment, its steps and its frames."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from nerfkit import device
from nerfkit.cameras import Cameras
from nerfkit.data import load_dataset
from nerfkit.fields.fast import FastField
from nerfkit.fields.frame import render_frame
from nerfkit.paths import at_size
from nerfkit.scenes import build
from nerfkit.training import FitConfig, checkpoint, fit
from nerfkit.training.optimiser import Optimiser, Rates
from nerfkit.training.pixels import Pixels

from .case import Case

SCENE = "machine"
BACKENDS = ("reference", "cpu", "gpu")
# So low that no parameter changes: every step timed is the same step.
RATES = Rates(density=1e-20, features=1e-20, network=1e-20)


@dataclass(frozen=True)
class Fitted:
    """A field after some steps, and what it was fitted to."""

    field: FastField
    pixels: Pixels
    camera: Cameras


def fitted(side: int, n_views: int, steps: int) -> Fitted:
    """Trace the scene, fit it, and load the result, in a temporary folder."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        data = build(SCENE, folder / "data", size=(side, side), n_train=n_views, n_test=1)
        fit(FitConfig(data=data, output=folder / "run", steps=steps))
        place, (field, _) = device.best(), checkpoint.load_field(folder / "run")
        field = field.to(place)
        dataset = load_dataset(data, splits=("train",))
        pixels = Pixels(dataset, dataset.splits["train"], field.device)
    pixels.keep_hit(field.hits)
    return Fitted(field, pixels, pixels.cameras[0])


def fit_cases(scene: Fitted, n_rays: int) -> Iterator[Case]:
    """A whole optimiser step, on a batch that stays the same."""
    for count in (n_rays // 8, n_rays):
        place = scene.field.device
        generator = torch.Generator(place).manual_seed(0)
        batch = scene.pixels.draw(count, generator)
        background = torch.rand(len(batch.origins), 3, generator=generator, device=place)
        jitter = torch.rand(len(batch.origins), generator=generator, device=place)
        optimiser = Optimiser(scene.field)

        def step(backend, background, jitter, batch=batch, optimiser=optimiser):
            with _backend_is(backend):
                return optimiser.step(batch, background, jitter, RATES, 1000, 1e-4, 1e-4)

        yield Case(
            *("fused_render", "step of a fit", f"{count} rays", count, "rays"),
            {"background": background, "jitter": jitter},
            lambda b, step=step, **x: (step(b, **x).squared_errors,),
            traffic=None,
            backends=BACKENDS if count < n_rays else BACKENDS[1:],
        )


def render_cases(scene: Fitted, sides: tuple[int, ...]) -> Iterator[Case]:
    """A whole frame; the reference at the smallest size alone, for it takes long."""
    field = scene.field.collapsed()
    for side in sides:
        resized = at_size(scene.camera, side, side)

        def frame(backend, background, resized=resized):
            with _backend_is(backend):
                return render_frame(field, resized, background, ["rgb"])["rgb"]

        yield Case(
            *("fused_render", "frame", f"{side}x{side}", 1, "frames"),
            {"background": torch.ones(3, device=field.device)},
            lambda b, frame=frame, **x: frame(b, **x),
            traffic=None,
            backends=BACKENDS if side == sides[0] else BACKENDS[1:],
        )


@contextlib.contextmanager
def _backend_is(backend: str) -> Iterator[None]:
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
