"""Frames a second against resolution: with and without the early stop of rays, and baked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import Tensor

from nerfkit.baking import bake
from nerfkit.bench.case import Case
from nerfkit.bench.context import Context
from nerfkit.bench.figure import Figure
from nerfkit.bench.scene import Fitted, backend_is, fitted, images, needed
from nerfkit.cameras import Cameras
from nerfkit.device import CPU
from nerfkit.fields.fast import RENDER_STOP, RENDER_WEIGHT, FastField
from nerfkit.fields.field import Field
from nerfkit.fields.frame import frame_rays, render_frame
from nerfkit.kernels.fused_render import Rendered, render_rays
from nerfkit.paths import at_size

COLOUR_BYTES = 3 * 4
COUNTED = 64  # one ray of so many is asked how many samples it needs


def figures(context: Context) -> Iterator[Figure]:
    data = context.data or images(context.effort, context.scratch)
    scene = fitted(data, context.effort.scene[2], context.place)
    context.say("baking")
    views = scene.pixels.cameras[: context.effort.baked_views]
    # least squares of the corners are solved on the processor
    baked = bake(scene.field.to(CPU), views, scene.background.to(CPU)).to(context.place)
    for side in context.effort.frames:
        # the reference takes long: at the smallest size alone
        smallest = side == context.effort.frames[0]
        both = tuple(dict.fromkeys(("reference", context.native)))
        backends = both if smallest else (context.native,)
        yield from context.measure(_frame("frame", scene, scene.rendered, side, backends))
        whole = Unstopped(scene.rendered)
        yield from context.measure(_frame("frame, no early stop", scene, whole, side, backends))
        yield from context.measure(_frame("frame, baked", scene, baked, side, backends))


class Unstopped:
    """A field whose rays go on behind what hides everything."""

    stop = 0.0

    def __init__(self, field: FastField) -> None:
        self.field, self.device = field, field.device

    def render(self, origins: Tensor, directions: Tensor, background: Tensor) -> Rendered:
        field = self.field
        return render_rays(
            *(*field.path(origins, directions)[:2], field.grid, field.summed, field.features),
            *(field.network, field.shape.widths),
            background=background,
            early_stop=self.stop,
            weight_min=RENDER_WEIGHT,
            **field.sampling(field.shape.render_step),
        )


def _frame(
    name: str, scene: Fitted, field: Field | Unstopped, side: int, backends: tuple[str, ...]
) -> Case:
    camera = at_size(scene.camera, side, side)

    def run(backend: str, background: Tensor) -> Tensor:
        with backend_is(backend):
            return render_frame(field, camera, background, ["rgb"])["rgb"]

    shaded, records = 0.0, 0
    if isinstance(field, FastField | Unstopped):
        shaded, records = _needed(scene, camera, getattr(field, "stop", RENDER_STOP))
    widths = scene.field.shape.widths
    return Case(
        *("fused_render", name, f"{side}x{side}", 1, "frames"),
        *({"background": scene.background}, run),
        backends=backends,
        flops=2.0 * shaded * sum(i * o for i, o in itertools.pairwise(widths)),
        traffic=side**2 * COLOUR_BYTES,
        gathers=records,
        curve="frames",
        axis="pixels along an edge",
        x=side,
    )


def _needed(scene: Fitted, camera: Cameras, early_stop: float) -> tuple[float, int]:
    """Samples of a frame with a colour, from those of some of its rays; records these look up."""
    field, place = scene.field, scene.background.device
    rays = frame_rays(camera, place)
    some = slice(None, None, max(1, min(COUNTED, len(rays.origins) // 64)))
    shaded, records = needed(
        *(field, rays.origins[some], rays.directions[some]),
        *(field.shape.render_step, early_stop, RENDER_WEIGHT),
    )
    return shaded * len(rays.origins) / len(rays.origins[some]), records
