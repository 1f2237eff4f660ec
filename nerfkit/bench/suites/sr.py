"""Super-resolution: one picture enlarged whole, and in tiles that stay in the cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from nerfkit.bench.case import Case
from nerfkit.bench.context import Context
from nerfkit.bench.figure import Figure
from nerfkit.bench.scene import backend_is
from nerfkit.postprocess.models import shipped_network
from nerfkit.postprocess.upscale import Upscaler

SCALES = (2, 4)
WAYS = ("whole", "tiles")


def figures(context: Context) -> Iterator[Figure]:
    for scale in SCALES:
        for side in context.effort.pictures:
            yield from context.measure(_picture(scale, side, context.place))


def _picture(scale: int, side: int, place: torch.device) -> Case:
    upscalers = {
        way: Upscaler(shipped_network(scale), tile, place)
        for way, tile in zip(WAYS, (0, None), strict=True)
    }
    image = torch.rand(side, side, 3, generator=torch.Generator().manual_seed(0))
    image = image.to(place)

    def run(way: str, image: Tensor) -> Tensor:
        return upscalers[way](image)

    network = upscalers["whole"].network
    seen = torch.zeros(1, network.channels, side, side)
    with backend_is("reference"), FlopCounterMode(display=False) as counter:
        network(seen.to(upscalers["whole"].device, next(network.parameters()).dtype))
    return Case(
        *("sr", f"enlarge x{scale}", f"{side}x{side}", side**2, "pixels", {"image": image}, run),
        flops=counter.get_total_flops(),
        backends=WAYS,
        half=WAYS if place.type == "cuda" else (),
        curve="enlarge",
        axis="pixels along an edge",
        x=side,
    )
