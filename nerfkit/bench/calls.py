"""Calls whose memory is measured, by name: made for a subject, a number of rays and a backend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from nerfkit.bench.ops import fused
from nerfkit.bench.scene import backend_is
from nerfkit.bench.subject import Subject, camera, rays
from nerfkit.fields.frame import render_frame
from nerfkit.training.optimiser import Optimiser, Rates
from nerfkit.training.pixels import Batch

Call = Callable[[], Any]
RATES = Rates(density=0.01, features=0.01, network=0.01)


def _rendering(subject: Subject, n_rays: int, backend: str) -> Call:
    render, _ = fused.cases(subject, n_rays)
    return lambda: render.call(backend, [], render.inputs)


def _backward(subject: Subject, n_rays: int, backend: str) -> Call:
    _, fit = fused.cases(subject, n_rays)
    inputs = fit.copies()
    return lambda: fit.call(backend, [], inputs)


def _step(subject: Subject, n_rays: int, backend: str) -> Call:
    optimiser = Optimiser(subject.field())
    origins, directions = (x.to(subject.place) for x in rays(n_rays))
    colours = torch.full_like(origins, 0.5)
    batch = Batch(origins, directions, colours, colours[:, :1])
    jitter = colours[:, 0].contiguous()

    def call() -> None:
        with backend_is(backend):
            optimiser.step(batch, colours, jitter, RATES, 1, 1e-4, 1e-4)

    return call


def _frame(subject: Subject, n_rays: int, backend: str) -> Call:
    field, view = subject.field(), camera(round(n_rays**0.5))
    background = torch.ones(3, device=subject.place)

    def call() -> None:
        with backend_is(backend):
            render_frame(field, view, background, ["rgb"])

    return call


CALLS: dict[str, Callable[[Subject, int, str], Call]] = {
    "rendering": _rendering,
    "forward and backward": _backward,
    "step of a fit": _step,
    "frame": _frame,
}
