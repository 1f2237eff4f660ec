"""Losses, penalties, averages, replay, balance, unrolling: each against its definition."""

import math

import pytest
import torch
from torch import nn

from nerfkit.postprocess.gan import penalties
from nerfkit.postprocess.gan.average import WeightAverage
from nerfkit.postprocess.gan.balance import Balance
from nerfkit.postprocess.gan.game import GameConfig
from nerfkit.postprocess.gan.losses import LOSSES
from nerfkit.postprocess.gan.replay import ReplayBuffer
from nerfkit.postprocess.gan.unrolled import unrolled_output

REAL, FAKE = torch.tensor([0.5, -2.0]), torch.tensor([1.5, -0.25])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def mean(f, values) -> float:
    return sum(map(f, values.tolist())) / len(values)


def cross_entropy() -> float:
    return mean(lambda r: -math.log(sigmoid(r)), REAL) + mean(
        lambda f: -math.log(1 - sigmoid(f)), FAKE
    )


@pytest.mark.parametrize(
    ("name", "discriminator", "generator"),
    [
        ("minimax", cross_entropy(), mean(lambda f: math.log(1 - sigmoid(f)), FAKE)),
        ("nonsaturating", cross_entropy(), mean(lambda f: -math.log(sigmoid(f)), FAKE)),
        (
            "least_squares",
            0.5 * (mean(lambda r: (r - 1) ** 2, REAL) + mean(lambda f: f**2, FAKE)),
            0.5 * mean(lambda f: (f - 1) ** 2, FAKE),
        ),
        ("hinge", (0.5 + 3.0) / 2 + (2.5 + 0.75) / 2, -0.625),
        ("wasserstein", 0.625 + 0.75, -0.625),
    ],
)
def test_losses_are_their_formulas(name, discriminator, generator):
    loss = LOSSES[name]
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(discriminator, rel=1e-6)
    assert loss.generator(FAKE).item() == pytest.approx(generator, rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_pull_the_right_way(name):
    real, fake = REAL.clone().requires_grad_(True), FAKE.clone().requires_grad_(True)
    LOSSES[name].discriminator(real, fake).backward()
    assert real.grad.sum() < 0 < fake.grad.sum()
    (gradient,) = torch.autograd.grad(LOSSES[name].generator(fake), fake)
    if name != "least_squares":  # which pulls outputs above one back down
        assert (gradient < 0).all()


def test_penalties_of_a_linear_discriminator():
    weight = torch.tensor([3.0, 4.0])  # |weight| = 5
    samples = torch.randn(6, 2)
    assert penalties.r1(lambda x: x @ weight, samples).item() == pytest.approx(12.5)
    assert penalties.r2(lambda x: x @ weight, samples).item() == pytest.approx(12.5)
    away = penalties.unit_gradient(lambda x: x @ weight, samples, -samples)
    assert away.item() == pytest.approx(16.0, rel=1e-5)


def test_penalty_reaches_the_weights():
    layer = nn.Sequential(nn.Linear(2, 4), nn.Softplus(), nn.Linear(4, 1)).double()
    samples = torch.randn(5, 2, dtype=torch.float64)
    weights = [p for p in layer.parameters() if p.requires_grad][:3]  # the last bias has no slope

    def penalty(*_):
        return penalties.r1(layer, samples)

    assert torch.autograd.gradcheck(penalty, weights)


def test_clipping_bounds_every_weight():
    layer = nn.Linear(3, 2)
    penalties.clip_weights(layer, 0.05)
    assert max(p.abs().max().item() for p in layer.parameters()) <= 0.05 * (1 + 1e-6)


def test_average_follows_slowly_and_copies_buffers():
    network = nn.BatchNorm1d(2)
    average = WeightAverage(network, decay=0.9)
    for _ in range(200):  # past the warm-up
        average.update(network)
    with torch.no_grad():
        network.weight += 1
    network.running_mean += 5
    average.update(network)
    torch.testing.assert_close(average.network.weight, torch.full((2,), 1.1))
    torch.testing.assert_close(average.network.running_mean, torch.full((2,), 5.0))
    assert not average.network.training


def test_replay_returns_half_of_the_past_and_keeps_pairs_together():
    buffer = ReplayBuffer(8, torch.Generator().manual_seed(0))
    for i in range(2):
        fresh = torch.full((4, 1, 2), float(i))
        sample, condition = buffer.mix(fresh, fresh[:, 0] + 10)
        assert torch.equal(sample, fresh)  # filling up
    sample, condition = buffer.mix(torch.full((4, 1, 2), 9.0), torch.full((4, 2), 19.0))
    assert sample.shape == (4, 1, 2)
    old = sample[:, 0, 0] < 9
    assert old.sum() == 2
    torch.testing.assert_close(condition, sample[:, 0] + 10)
    assert (buffer.samples == 9).any()


def test_balance_holds_back_the_winner():
    balance = Balance(0.6, 0.9)
    for _ in range(60):
        balance.observe(torch.ones(8), -torch.ones(8))
    assert (balance.discriminator_moves, balance.generator_moves) == (False, True)
    for _ in range(60):
        balance.observe(-torch.ones(8), torch.ones(8))
    assert (balance.discriminator_moves, balance.generator_moves) == (True, False)
    with pytest.raises(ValueError, match="low < high"):
        Balance(0.9, 0.6)


def test_unrolling_is_gradient_descent_and_leaves_the_weights():
    discriminator = nn.Linear(1, 1).double()
    real = torch.tensor([[2.0]], dtype=torch.float64)
    fake = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)
    before = discriminator.weight.item()
    out = unrolled_output(discriminator, LOSSES["wasserstein"], real, fake, 2, 0.1)
    # d(fake - real)/d weight = 0.5 - 2, twice; the bias has no gradient
    wanted = (before + 2 * 0.1 * 1.5) * 0.5 + discriminator.bias.item()
    assert out.item() == pytest.approx(wanted)
    assert discriminator.weight.item() == before
    (gradient,) = torch.autograd.grad(out.sum(), fake)
    # through the steps as well: d/df (w + 2 * 0.1 * (2 - f)) f = w + 0.2 * (2 - 2 f)
    assert gradient.item() == pytest.approx(before + 0.2 * (2 - 2 * 0.5))


def test_game_config_is_checked():
    with pytest.raises(ValueError, match="`loss` must be one of minimax"):
        GameConfig(loss="vanilla")
