"""What the two players minimise, as functions of the discriminator's raw output.

`real` and `fake` are outputs before any sigmoid, of any shape (one number a sample, or a map);
D = sigmoid(output) is the probability of being data, where the loss has one. Losses are means.

| name | discriminator minimises | generator minimises | source |
|---|---|---|---|
| minimax | -log D(real) - log(1 - D(fake)) | log(1 - D(fake)) | arXiv 1406.2661, eq. 1 |
| nonsaturating | the same | -log D(fake) | arXiv 1406.2661, sec. 3 |
| least_squares | (real - 1)^2 / 2 + fake^2 / 2 | (fake - 1)^2 / 2 | arXiv 1611.04076, eq. 9 |
| hinge | max(0, 1 - real) + max(0, 1 + fake) | -fake | arXiv 1705.02894 |
| wasserstein | fake - real | -fake | arXiv 1701.07875, with clipped weights or a penalty |
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AdversarialLoss:
    """discriminator(real, fake) and generator(fake), both to a scalar."""

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    return F.softplus(-real).mean() + F.softplus(fake).mean()


LOSSES: dict[str, AdversarialLoss] = {
    "minimax": AdversarialLoss(_cross_entropy, lambda fake: -F.softplus(fake).mean()),
    "nonsaturating": AdversarialLoss(_cross_entropy, lambda fake: F.softplus(-fake).mean()),
    "least_squares": AdversarialLoss(
        lambda real, fake: 0.5 * ((real - 1).square().mean() + fake.square().mean()),
        lambda fake: 0.5 * (fake - 1).square().mean(),
    ),
    "hinge": AdversarialLoss(
        lambda real, fake: F.relu(1 - real).mean() + F.relu(1 + fake).mean(),
        lambda fake: -fake.mean(),
    ),
    "wasserstein": AdversarialLoss(
        lambda real, fake: fake.mean() - real.mean(), lambda fake: -fake.mean()
    ),
}
