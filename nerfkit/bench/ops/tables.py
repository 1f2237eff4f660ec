"""Values at the corners of the octree: summed over its levels, and moved by Adam. V vertices."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from nerfkit.bench.case import Case
from nerfkit.bench.subject import Subject
from nerfkit.kernels.level_sum import level_sum
from nerfkit.kernels.sparse_adam import sparse_adam_step_

ADAM = {"lr": 1e-2, "betas": (0.9, 0.99), "eps": 1e-15, "step": 10}
TOUCHED = 0.25  # of the vertices, by the rays of one step


def cases(subject: Subject) -> Iterator[Case]:
    """Of all vertices of the subject, however many rays there are."""
    generator = torch.Generator().manual_seed(2)
    vertices, features = subject.vertices, subject.features
    size = f"{len(vertices)} vertices"
    yield Case(
        *("level_sum", "level_sum", size, len(vertices), "vertices"),
        {"values": subject.density},
        lambda b, values: level_sum(values, vertices, backend=b),
        wanted=("values",),
    )
    touched = (torch.rand(len(vertices), generator=generator) < TOUCHED).to(torch.uint8)
    grads = torch.randn(features.shape, generator=generator) * touched[:, None]

    def adam(b, params, grads, exp_avg, exp_avg_sq, touched):
        sparse_adam_step_(params, grads, exp_avg, exp_avg_sq, touched, **ADAM, backend=b)
        return params, exp_avg, exp_avg_sq

    state = {
        "params": features,
        "grads": grads.to(subject.place),
        "exp_avg": torch.zeros_like(features),
        "exp_avg_sq": torch.ones_like(features),
        "touched": touched.to(subject.place),
    }
    rows = int(touched.sum())
    yield Case(
        *("sparse_adam", "sparse_adam", f"a quarter of {size} of 16", rows, "rows", state, adam),
        fresh=tuple(state),
        traffic=rows * 4 * 64 * 2,
    )
