"""What keeps a discriminator from growing steep.

Samples are [N, ...]; `discriminate` maps them to raw outputs of any shape, summed here over all
but the batch, so that a map of patches is penalised as the sum of its patches.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Discriminate = Callable[[Tensor], Tensor]


def squared_gradient(discriminate: Discriminate, samples: Tensor) -> Tensor:
    """|d discriminate / d samples|^2 of each sample: [N], differentiable in the weights."""
    samples = samples.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminate(samples).sum(), samples, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def r1(discriminate: Discriminate, real: Tensor) -> Tensor:
    """E |grad D(real)|^2 / 2: at the optimum D is flat on the data (arXiv 1801.04406, eq. 9)."""
    return 0.5 * squared_gradient(discriminate, real).mean()


def r2(discriminate: Discriminate, fake: Tensor) -> Tensor:
    """E |grad D(fake)|^2 / 2, R1's counterpart on the samples (arXiv 1801.04406)."""
    return 0.5 * squared_gradient(discriminate, fake).mean()


def unit_gradient(
    discriminate: Discriminate, real: Tensor, fake: Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """E (|grad D| - 1)^2 on lines between data and samples: WGAN-GP (arXiv 1704.00028, eq. 3)."""
    where = torch.rand(len(real), generator=generator).to(real)
    where = where.reshape(-1, *[1] * (real.dim() - 1))
    between = torch.lerp(real.detach(), fake.detach(), where)
    # the root of an exact zero has no gradient
    norm = (squared_gradient(discriminate, between) + 1e-12).sqrt()
    return (norm - 1).square().mean()


@torch.no_grad()
def clip_weights(discriminator: nn.Module, limit: float) -> None:
    """Bring every weight into -limit .. limit: the first WGAN (arXiv 1701.07875, algorithm 1)."""
    for parameter in discriminator.parameters():
        parameter.clamp_(-limit, limit)
