"""Fits: quality against time, and one step of the optimiser on its own. R rays of a step."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from nerfkit.bench import pace
from nerfkit.bench.case import Case
from nerfkit.bench.context import Context
from nerfkit.bench.figure import Figure
from nerfkit.bench.scene import Fitted, backend_is, fitted, images, needed
from nerfkit.bench.threads import threads
from nerfkit.bench.timing import Timing
from nerfkit.evaluate import evaluate
from nerfkit.files import read_json
from nerfkit.kernels import _native
from nerfkit.run import Run
from nerfkit.training import FitConfig, fit
from nerfkit.training.optimiser import Optimiser, Rates

# So low that no parameter changes: every step timed is the same step.
RATES = Rates(density=1e-20, features=1e-20, network=1e-20)
STOP = WEIGHT = 1e-4
RAY_BYTES = 4 * (3 + 3 + 3 + 1)  # an origin, a direction, a colour with alpha


def figures(context: Context) -> Iterator[Figure]:
    data = context.data or images(context.effort, context.scratch)
    for limit in context.effort.fits:
        yield _quality(context, data, limit)
    scene = fitted(data, context.effort.scene[2], context.place)
    for n_rays in context.effort.step_rays:
        yield from context.measure(_step(context, scene, n_rays))


def _quality(context: Context, data: Path, limit: dict[str, float]) -> Figure:
    """PSNR of the test views after a fit of one limit, with another seed in each pass.

    Each limit is fitted for from the start: learning rates fall over the whole of a fit, so a
    longer one has not yet got at some time what a fit of that time gets.
    """
    (amount,) = limit.items()
    size = f"{60 * amount[1]:g} s" if amount[0] == "minutes" else f"{amount[1]:g} steps"
    context.say(f"a fit of {size}")
    before = _pieces(context)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "run"
        began = time.monotonic()
        fit(FitConfig(data=data, output=output, seed=context.number, **limit))
        seconds = time.monotonic() - began
        psnr = evaluate(Run.load(output), "test")["psnr"]
        rays = read_json(output / "metrics.json")["rays"]
    return Figure(
        *(context.suite, "fit", size, context.native, "forward+backward", _native.num_threads()),
        unit="dB",
        value=psnr,
        low=psnr,
        high=psnr,
        repeats=1,
        throughput=rays / seconds,
        items="rays",
        curve="quality",
        axis="s",
        x=seconds,
        pace=pace.of(Timing.of([*before, *_pieces(context)]), "sgemm"),
    )


def _pieces(context: Context) -> list[float]:
    """How busy the machine is before or after a fit."""
    with threads(_native.num_threads()):
        return pace.sample("sgemm", context.place, min(pace.SECONDS, context.effort.seconds))


def _step(context: Context, scene: Fitted, n_rays: int) -> Case:
    """A whole step, on a batch that stays the same; of the smallest the reference's too."""
    field, place = scene.field, context.place
    generator = torch.Generator(place).manual_seed(0)
    batch = scene.pixels.draw(n_rays, generator)
    count = len(batch.origins)
    background = torch.rand(count, 3, generator=generator, device=place)
    jitter = torch.rand(count, generator=generator, device=place)
    optimiser = Optimiser(field)

    def step(background, jitter):
        return optimiser.step(batch, background, jitter, RATES, 1000, STOP, WEIGHT)

    def run(backend: str, **inputs):
        with backend_is(backend):
            return (step(**inputs).squared_errors,)

    rays = batch.origins, batch.directions
    shaded, records = needed(field, *rays, field.shape.step_voxels, STOP, WEIGHT)
    smallest = n_rays == context.effort.step_rays[0]
    flops = 3 * 2.0 * shaded * sum(i * o for i, o in itertools.pairwise(field.shape.widths))
    return Case(
        *("fused_render", "step of a fit", f"{n_rays} rays", count, "rays"),
        *({"background": background, "jitter": jitter}, run),
        backends=("reference", context.native) if smallest else (context.native,),
        flops=flops,
        traffic=2 * count * RAY_BYTES,
        gathers=3 * records,
    )
