"""What enlarges and refines frames: the compact network, and photographs looked up.

A frame has about as many small pixels as there are rays in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nerfkit.bench.case import Case
from nerfkit.kernels.bicubic_add import bicubic_add
from nerfkit.kernels.compact_sr import compact_sr
from nerfkit.kernels.photo_details import photo_details

SCALE, WIDTH, LAYERS = 2, 24, 7  # of the networks that come along
SOURCES, HINTS, REFINED = 3, 4, 4  # photographs, hints of each, and the factor they refine by


def cases(n_pixels: int, place: torch.device) -> Iterator[Case]:
    """Of square frames."""
    side = max(4, round(n_pixels**0.5))
    generator = torch.Generator().manual_seed(9)

    def random(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator).to(place)

    yield _network(side, random)
    yield _photographs(side, random)
    yield Case(
        *("bicubic_add", "bicubic_add", f"{side}x{side} enlarged {SCALE} times"),
        *(side**2, "pixels"),
        {
            "pixels": (255 * random(side, side, 3)).to(torch.uint8),
            "residual": random(SCALE * side, SCALE * side) / 8,
        },
        lambda b, pixels, residual: bicubic_add(pixels, residual, backend=b).float() / 255,
    )


def _network(side: int, random: Callable[..., Tensor]) -> Case:
    shapes = [(WIDTH, 1, 5, 5), *[(WIDTH, WIDTH, 3, 3)] * LAYERS, (SCALE**2, WIDTH, 3, 3)]
    weights = {f"w{i}": (random(*shape) - 0.5) / 8 for i, shape in enumerate(shapes)}
    biases = {f"b{i}": random(shape[0]) - 0.5 for i, shape in enumerate(shapes)}
    slopes = {f"s{i}": random(WIDTH) / 4 for i in range(len(shapes) - 1)}

    def run(b: str, x: Tensor, **p: Tensor) -> Tensor:
        return compact_sr(
            *(x, [p[k] for k in weights], [p[k] for k in biases], [p[k] for k in slopes], SCALE),
            backend=b,
        )

    return Case(
        *("compact_sr", "compact_sr", f"{side}x{side} enlarged {SCALE} times", side**2, "pixels"),
        *({"x": random(1, 1, side, side), **weights, **biases, **slopes}, run),
        flops=2.0 * side**2 * sum(w.numel() for w in weights.values()),
    )


def _photographs(side: int, random: Callable[..., Tensor]) -> Case:
    edge = side * REFINED
    photos = {f"photo{i}": (255 * random(edge, edge, 3)).to(torch.uint8) for i in range(SOURCES)}
    rows, columns = torch.meshgrid(*[torch.arange(side) + 0.5] * 2, indexing="ij")
    grid = torch.stack([columns, rows], 2).to(photos["photo0"].device)
    inputs = {
        "positions": grid + random(SOURCES, side, side, 2) - 0.5,
        "hints": random(SOURCES, side, side, HINTS).round(),
        "enlarged": random(side, side, 3 * REFINED**2),
    }

    def run(b: str, positions: Tensor, hints: Tensor, enlarged: Tensor, **seen: Tensor) -> Tensor:
        return photo_details(list(seen.values()), positions, hints, enlarged, backend=b)

    return Case(
        *("photo_details", "photo_details", f"{side}x{side}, {SOURCES} photographs"),
        *(SOURCES * side**2, "pixels", {**inputs, **photos}, run),
    )
