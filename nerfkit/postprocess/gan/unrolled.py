"""The generator's loss against the discriminator as it will be, some of its steps ahead.

Unrolled GAN (arXiv 1611.02163): the generator sees how the discriminator would answer, and no
longer gains by putting all its samples into one mode. The steps ahead are plain gradient descent
on a copy of the weights; the gradient runs through them.
"""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nerfkit.postprocess.gan.losses import AdversarialLoss


def unrolled_output(
    discriminator: nn.Module,
    loss: AdversarialLoss,
    real: Tensor,
    fake: Tensor,
    steps: int,
    learning_rate: float,
    condition: tuple[Tensor, ...] = (),
) -> Tensor:
    """Output for `fake` of the discriminator after `steps` steps against `real` and `fake`.

    Args:
        discriminator: its own weights stay as they are.
        loss: its loss.
        real: data [N, ...].
        fake: samples [N, ...], with their graph.
        steps: at least one.
        learning_rate: of the steps ahead.
        condition: further inputs of the discriminator, the same for both.
    """
    weights = {name: p for name, p in discriminator.named_parameters() if p.requires_grad}

    def output(samples: Tensor) -> Tensor:
        return functional_call(discriminator, weights, (samples, *condition))

    for _ in range(steps):
        value = loss.discriminator(output(real), output(fake))
        gradients = torch.autograd.grad(value, list(weights.values()), create_graph=True)
        weights = {
            name: p - learning_rate * g
            for (name, p), g in zip(weights.items(), gradients, strict=True)
        }
    return output(fake)
