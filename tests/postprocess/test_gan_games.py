"""Games with known answers: the Gaussian, the optimal discriminator, the ring of eight."""

import pytest
import torch

from nerfkit.postprocess.gan import toys
from nerfkit.postprocess.gan.game import GameConfig
from nerfkit.postprocess.gan.losses import LOSSES

# worst error measured 0.9 %, WGAN-GP's mean; 0.4 % without it
GAUSSIAN = {
    "minimax": (GameConfig("minimax", r1=0.1, average=0.99), 1000),
    "nonsaturating": (GameConfig("nonsaturating", r1=0.1, average=0.99), 1000),
    "least squares": (GameConfig("least_squares", r1=0.1, average=0.99), 1000),
    "hinge": (GameConfig("hinge", r1=0.1, average=0.99), 1000),
    "WGAN": (GameConfig("wasserstein", clip=0.3, discriminator_steps=5, average=0.99), 900),
    "WGAN-GP": (
        GameConfig("wasserstein", gradient_penalty=0.1, discriminator_steps=5, average=0.99),
        900,
    ),
}


@pytest.mark.parametrize("name", GAUSSIAN)
def test_gaussian_game_learns_mean_and_deviation(name):
    config, steps = GAUSSIAN[name]
    mean, deviation = toys.play_gaussian(config, steps)
    assert mean == pytest.approx(toys.MEAN, rel=0.02)
    assert deviation == pytest.approx(toys.DEVIATION, rel=0.02)


def test_optimal_discriminator_is_the_ratio_of_densities():
    torch.manual_seed(0)
    network = toys.perceptron(1, 1, 32, 2)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    steps = 600
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / steps) + 1e-5
        real, fake = 1 + 0.7 * torch.randn(1024, 1), torch.randn(1024, 1)
        loss = LOSSES["minimax"].discriminator(network(real), network(fake))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    x = torch.linspace(-1.5, 2.5, 81)[:, None]
    data = torch.exp(-0.5 * ((x - 1) / 0.7) ** 2) / 0.7
    model = torch.exp(-0.5 * x**2)
    with torch.no_grad():
        difference = torch.sigmoid(network(x)) - data / (data + model)
    assert difference.abs().max() < 0.04
    assert difference.square().mean().sqrt() < 0.015


@pytest.mark.parametrize("remedy", [{"r1": 0.01}, {"unrolled_steps": 1}], ids=str)
def test_ring_is_covered(remedy):
    modes, near = toys.play_ring(GameConfig("nonsaturating", average=0.99, **remedy))
    assert modes >= 7  # 8 measured
    assert near > 0.3  # 0.41, 0.42


def test_collapse_is_seen():
    one_mode = toys.centres()[:1] + 0.01 * torch.randn(500, 2)
    assert toys.covered(one_mode) == (1, 1.0)
    assert toys.covered(torch.zeros(500, 2)) == (0, 0.0)
    assert toys.covered(toys.ring(4000))[0] == 8
