"""Textbook games whose answers are known, to check losses and remedies on.

`play_gaussian`: data N(mean, deviation^2) in one dimension, generator mean + deviation z: both
numbers must come out. `play_ring`: eight narrow Gaussians on a circle (arXiv 1611.02163, section
3.1): a generator that collapses covers one or two of them.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nerfkit.postprocess.gan.game import AdversarialGame, GameConfig

MEAN, DEVIATION = 3.0, 0.5
MODES, RADIUS, SPREAD = 8, 2.0, 0.05
NEAR = 3 * SPREAD  # a sample this near to a mode belongs to it
SHARE = 0.01  # of all samples, without which a mode is not covered
FINAL_RATE = 0.02  # of the learning rate, at the end of its cosine


class Affine(nn.Module):
    """z [N, 1] -> mean + deviation z, from N(0, 1) at first."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1))
        self.deviation = nn.Parameter(torch.ones(1))

    def forward(self, z: Tensor) -> Tensor:
        return self.mean + self.deviation * z


def perceptron(
    inputs: int, outputs: int, width: int, layers: int, smooth: bool = True
) -> nn.Sequential:
    """`layers` hidden layers of smooth or leaky rectifiers."""
    stack: list[nn.Module] = []
    for _ in range(layers):
        stack += [nn.Linear(inputs, width), nn.Softplus() if smooth else nn.LeakyReLU(0.2)]
        inputs = width
    return nn.Sequential(*stack, nn.Linear(inputs, outputs))


def play_gaussian(
    config: GameConfig,
    steps: int = 1000,
    rates: tuple[float, float] = (1e-2, 1e-2),
    batch: int = 256,
    seed: int = 0,
) -> tuple[float, float]:
    """(mean, deviation) of the averaged generator, to compare with MEAN and DEVIATION.

    Args:
        config: how to play.
        rates: learning rates of generator and discriminator, Adam (0, 0.9), cosine decay.
    """
    torch.manual_seed(seed)
    generator, discriminator = Affine(), perceptron(1, 1, 32, 2)
    _play(
        game := _game(generator, discriminator, config, rates, (0.0, 0.9)),
        lambda: (MEAN + DEVIATION * stratified(batch), stratified(batch)),
        steps,
        rates,
    )
    learnt = game.average.network
    return learnt.mean.item(), abs(learnt.deviation.item())


def play_ring(
    config: GameConfig,
    steps: int = 1000,
    rates: tuple[float, float] = (1e-3, 1e-3),
    batch: int = 256,
    seed: int = 0,
) -> tuple[int, float]:
    """(modes covered of MODES, share of samples near one) of the averaged generator.

    Leaky rectifiers: smooth ones bend too slowly for modes so narrow.
    """
    torch.manual_seed(seed)
    generator = perceptron(2, 2, 128, 2, smooth=False)
    discriminator = perceptron(2, 1, 128, 2, smooth=False)
    _play(
        game := _game(generator, discriminator, config, rates, (0.5, 0.9)),
        lambda: (ring(batch), torch.randn(batch, 2)),
        steps,
        rates,
    )
    with torch.no_grad():
        return covered(game.average.network(torch.randn(4000, 2)))


def stratified(count: int) -> Tensor:
    """[count, 1] of N(0, 1), one out of each of `count` equally likely intervals, shuffled.

    Their mean and deviation hardly vary from batch to batch: what is left is the game's own error.
    """
    places = (torch.randperm(count) + torch.rand(count)) / count
    return torch.special.ndtri(places.clamp(1e-6, 1 - 1e-6))[:, None]


def centres() -> Tensor:
    """[MODES, 2]."""
    angle = torch.arange(MODES) * (2 * math.pi / MODES)
    return RADIUS * torch.stack([angle.cos(), angle.sin()], dim=1)


def ring(count: int) -> Tensor:
    """[count, 2] samples of the eight Gaussians."""
    return centres()[torch.randint(MODES, (count,))] + SPREAD * torch.randn(count, 2)


def covered(samples: Tensor) -> tuple[int, float]:
    """(modes with at least SHARE of the samples within NEAR, share of samples near any)."""
    distance, mode = torch.cdist(samples, centres()).min(1)
    near = distance < NEAR
    counts = torch.bincount(mode[near], minlength=MODES)
    return int((counts >= SHARE * len(samples)).sum()), near.float().mean().item()


def _game(
    generator: nn.Module,
    discriminator: nn.Module,
    config: GameConfig,
    rates: tuple[float, float],
    betas: tuple[float, float],
) -> AdversarialGame:
    return AdversarialGame(
        generator,
        discriminator,
        torch.optim.Adam(generator.parameters(), rates[0], betas),
        torch.optim.Adam(discriminator.parameters(), rates[1], betas),
        config,
    )


def _play(
    game: AdversarialGame,
    data: Callable[[], tuple[Tensor, Tensor]],
    steps: int,
    rates: tuple[float, float],
) -> None:
    for step in range(steps):
        share = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps))
        for optimiser, rate in zip(
            (game.generator_optimiser, game.discriminator_optimiser), rates, strict=True
        ):
            optimiser.param_groups[0]["lr"] = rate * share
        game.step(data)
