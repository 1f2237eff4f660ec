"""Discriminator, content losses, growing and the Fréchet distance."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nerfkit.errors import NerfkitError
from nerfkit.postprocess.gan import (
    AdversarialGame,
    FeatureStatistics,
    GameConfig,
    GrowingGenerator,
    PatchDiscriminator,
    RestorationLoss,
    RestorationWeights,
    VggFeatures,
    frechet_distance,
)
from nerfkit.postprocess.gan.frechet import gather, gaussian_frechet


def test_patch_discriminator_sees_seventy_pixels():
    torch.manual_seed(0)
    network = PatchDiscriminator(3, width=4)
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    out = network(image)
    assert out.shape == (1, 1, 14, 14)
    out[0, 0, 7, 7].backward()
    seen = image.grad.abs().sum((0, 1)).nonzero()
    assert (seen.max(0).values - seen.min(0).values + 1).tolist() == [70, 70]


def test_spectral_norm_bounds_every_layer():
    network = PatchDiscriminator(3, width=8)
    network.train()
    for _ in range(50):  # power iterations, one a call
        network(torch.rand(1, 3, 64, 64))
    for layer in network.layers:
        norm = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, rel=0.02)  # worst 0.4 %


def test_condition_is_brought_to_size_and_counted():
    network = PatchDiscriminator(3, condition=3, width=4)
    image, condition = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 32, 32)
    first = network(image, condition)
    assert first.shape == (2, 1, 6, 6)
    assert not torch.equal(first, network(image, condition.flip(0)))
    with pytest.raises(ValueError, match="must have 3 and 3 channels, got 3 and 0"):
        network(image)


class Enlarge(nn.Module):
    """x2 by a convolution on top of plain enlargement."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x):
        return F.interpolate(x, scale_factor=2) + F.pixel_shuffle(0.1 * self.conv(x), 2)


def test_growing_is_seamless_and_remembered():
    torch.manual_seed(0)
    network = GrowingGenerator(Enlarge(), Enlarge())
    x = torch.rand(1, 3, 8, 8)
    before = network(x)
    network.grow()
    assert network.scale == 4
    enlarged = F.interpolate(before, scale_factor=2, mode="bicubic", align_corners=False)
    torch.testing.assert_close(network(x), enlarged)
    network.fade(5, 10)
    halfway = torch.lerp(enlarged, network.second(before), 0.5)
    torch.testing.assert_close(network(x), halfway)
    copy = GrowingGenerator(Enlarge(), Enlarge())
    copy.load_state_dict(network.state_dict())
    torch.testing.assert_close(copy(x), halfway)
    network.fade(10, 10)
    torch.testing.assert_close(network(x), network.second(before))


@pytest.mark.parametrize("conditional", [False, True])
def test_restoration_game_learns(conditional):
    torch.manual_seed(0)
    generator = Enlarge()
    discriminator = PatchDiscriminator(3, 3 if conditional else 0, width=8, strides=2)
    content = RestorationLoss(RestorationWeights(features=0 if conditional else 0.1), discriminator)
    game = AdversarialGame(
        generator,
        discriminator,
        torch.optim.Adam(generator.parameters(), 1e-2),
        torch.optim.Adam(discriminator.parameters(), 1e-3),
        GameConfig("hinge", r1=0.1, penalty_every=2, adversarial=0.01, average=0.9, replay=8),
        content,
    )
    truth = F.interpolate(torch.rand(4, 3, 8, 8), size=32, mode="bicubic").clamp(0, 1)

    def data():
        return truth, F.avg_pool2d(truth, 2)

    losses = [game.step(data, conditional) for _ in range(25)]
    assert set(losses[0]) == {"discriminator", "penalty", "adversarial", "content"}
    assert losses[-1]["content"] < 0.9 * losses[0]["content"]
    assert all(math.isfinite(v) for step in losses for v in step.values())


def test_vgg_has_torchvisions_layout_and_says_where_weights_belong(tmp_path):
    network = VggFeatures()
    shapes = [tuple(f.shape[1:]) for f in network(torch.rand(1, 3, 32, 32))]
    assert shapes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)]
    with pytest.raises(NerfkitError, match="no VGG weights there"):
        VggFeatures.from_file(tmp_path / "vgg.pth")
    places = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]
    stored = {
        f"features.{place}.{name}": value
        for place, layer in zip(places, network.convolutions, strict=True)
        for name, value in layer.state_dict().items()
    }
    torch.save(stored, tmp_path / "vgg.pth")
    image = torch.rand(1, 3, 32, 32)
    read = VggFeatures.from_file(tmp_path / "vgg.pth")
    assert torch.equal(read(image)[-1], network(image)[-1])
    assert read.distance(image, image) == 0
    (tmp_path / "other.pth").write_bytes(b"text")
    with pytest.raises(NerfkitError, match=r"not torchvision's VGG-19 weights"):
        VggFeatures.from_file(tmp_path / "other.pth")


def test_frechet_distance_of_commuting_gaussians_is_exact():
    mean, other = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 5.0])
    first = torch.tensor([4.0, 1.0, 0.25], dtype=torch.float64)
    second = torch.tensor([1.0, 9.0, 0.25], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    wanted = 5 + (first.sqrt() - second.sqrt()).square().sum().item()
    got = gaussian_frechet(mean, turn @ first.diag() @ turn.T, other, turn @ second.diag() @ turn.T)
    assert got == pytest.approx(wanted, rel=1e-12)


def test_frechet_distance_is_the_optimal_transport_of_any_gaussians():
    # Bures: a linear push-forward x -> T x with T symmetric positive is optimal
    generator = torch.Generator().manual_seed(1)
    half = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    covariance = half @ half.T
    half = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    transport = half @ half.T + torch.eye(4, dtype=torch.float64)
    pushed = transport @ covariance @ transport
    difference = transport - torch.eye(4)
    wanted = (difference @ covariance @ difference).trace().item()
    zero = torch.zeros(4)
    assert gaussian_frechet(zero, covariance, zero, pushed) == pytest.approx(wanted, rel=1e-9)


def test_statistics_do_not_depend_on_batches():
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(2)) + 100
    whole = gather([features])
    parts = gather(features.split([1, 20, 29]))
    torch.testing.assert_close(whole.mean, parts.mean)
    torch.testing.assert_close(whole.covariance, parts.covariance)
    torch.testing.assert_close(whole.covariance, torch.cov(features.double().T))
    assert frechet_distance(whole, parts) < 1e-9
    singular = gather([features[:3]])  # fewer samples than features
    assert frechet_distance(singular, singular) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="at least 2 features"):
        _ = FeatureStatistics().covariance
