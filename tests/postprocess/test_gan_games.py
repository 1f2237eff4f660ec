"""Games with known answers: the Gaussian, the optimal discriminator, the ring of eight."""

import pytest
import torch

from nerfkit.postprocess.gan import toys
from nerfkit.postprocess.gan.game import GameConfig
from nerfkit.postprocess.gan.losses import LOSSES


@pytest.mark.parametrize("loss", ["nonsaturating", "least_squares"])
def test_gaussian_game_learns_mean_and_deviation(loss):
    mean, deviation = toys.play_gaussian(GameConfig(loss, r1=0.1, average=0.99))
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


def test_ring_is_covered():
    modes, near = toys.play_ring(GameConfig("nonsaturating", r1=0.1, average=0.99))
    assert modes >= 7
    assert near > 0.5


def test_collapse_is_seen():
    one_mode = toys.centres()[:1] + 0.01 * torch.randn(500, 2)
    assert toys.covered(one_mode) == (1, 1.0)
    assert toys.covered(torch.zeros(500, 2)) == (0, 0.0)
    assert toys.covered(toys.ring(4000))[0] == 8
