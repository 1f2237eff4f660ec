"""What a frame costs beside its rays' colours. N pixels in an order of their own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nerfkit.bench.case import Case
from nerfkit.kernels.frame_rows import put_rows_, turned


def cases(directions: Tensor) -> Iterator[Case]:
    """Of as many pixels as there are directions."""
    generator = torch.Generator().manual_seed(8)
    n, place = len(directions), directions.device
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q.to(place)
    yield Case(
        *("frame_rows", "turned", f"{n} directions", n, "directions"),
        {"directions": directions, "rotation": rotation},
        lambda b, directions, rotation: turned(directions, rotation, backend=b),
    )

    def put(b: str, image: Tensor, rows: Tensor, values: Tensor) -> Tensor:
        put_rows_(image, rows, values, backend=b)
        return image

    inputs = {
        "image": torch.zeros(n, 3, device=place),
        "rows": torch.randperm(n, generator=generator).to(place),
        "values": torch.rand(n, 3, generator=generator).to(place),
    }
    yield Case(
        *("frame_rows", "put_rows", f"{n} pixels", n, "pixels", inputs, put),
        fresh=("image",),
        traffic=n * (2 * 3 * 4 + 8),
    )
