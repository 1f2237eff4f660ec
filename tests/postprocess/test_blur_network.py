"""The unrolled network and its training: starts as the closed form, learns, resumes exactly."""

import math

import pytest
import torch

from nerfkit.errors import NerfkitError
from nerfkit.postprocess.blur import kernels
from nerfkit.postprocess.blur.network import BlindNetwork, reshaped
from nerfkit.postprocess.blur.train import (
    NETWORK,
    PatchSource,
    TrainConfig,
    Trainer,
    load_network,
)
from nerfkit.postprocess.blur.wiener import wiener_restore

SMALL = TrainConfig(scale=2, width=8, blocks=2, batch=4, patch=20, learning_rate=1e-2)


def images(count: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 24, 24, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, scale_factor=5)[:, 0]
    return list((255 * fine).to(torch.uint8))


def test_untrained_restorer_is_the_closed_form():
    network = BlindNetwork(2, width=8, blocks=2)
    y = torch.rand(2, 1, 24, 20)
    kernel = kernels.gaussian8(2)[:2]
    torch.testing.assert_close(network.restorer(y, kernel), wiener_restore(y, kernel, 2))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_forward_gives_images_and_kernels(scale):
    network = BlindNetwork(scale, width=8, blocks=2)
    x, kernel = network(torch.rand(2, 1, 48, 50), loops=2)
    assert x.shape == (2, 1, 48 * scale, 50 * scale)
    assert (kernel >= 0).all()
    torch.testing.assert_close(kernel.sum((1, 2)), torch.ones(2))


def test_full_network_is_within_a_million_parameters():
    assert sum(p.numel() for p in BlindNetwork(4).parameters()) < 1_000_000  # 187,596


def test_reshaping_widens_and_stretches_a_gaussian():
    start = kernels.gaussian_kernel(1.5)[None]
    rest = torch.zeros(1, 441)
    wider = reshaped(start, torch.tensor([[2 * math.log(1.2), 0.0, 0.0]]), rest)
    torch.testing.assert_close(wider[0], kernels.gaussian_kernel(1.8), rtol=0, atol=1e-6)
    stretched = reshaped(start, torch.tensor([[0.0, 0.4, 0.0]]), rest)[0]
    dx, dy = kernels.offsets(21)
    assert (stretched * dx**2).sum() > 1.4 * (stretched * dy**2).sum()


def test_patches_are_what_the_forward_model_says():
    source = PatchSource(images(), SMALL)
    y, x, truth = source.draw(torch.Generator().manual_seed(0))
    assert (y.shape, x.shape, truth.shape) == ((4, 1, 20, 20), (4, 1, 40, 40), (4, 21, 21))
    # the restored patch is closer to x than one restored with another kernel
    right = (wiener_restore(y, truth, 2) - x).square().mean()
    wrong = (wiener_restore(y, kernels.gaussian_kernel(3.0), 2) - x).square().mean()
    assert right < wrong


def test_training_learns_and_resumes_to_the_bit(tmp_path):
    straight = Trainer(SMALL, images(), tmp_path / "a")
    losses = [straight.advance() for _ in range(30)]
    assert sum(k for _, k in losses[-5:]) < 0.9 * sum(k for _, k in losses[:5])
    (tmp_path / "b").mkdir()
    first = Trainer(SMALL, images(), tmp_path / "b")
    for _ in range(20):
        first.advance()
    first.write()
    second = Trainer(SMALL, images(), tmp_path / "b")
    assert second.step == 20
    for _ in range(10):
        second.advance()
    wanted = straight.average.network.state_dict()
    for name, value in second.average.network.state_dict().items():
        assert torch.equal(value, wanted[name]), name
    loaded = load_network(tmp_path / "b" / NETWORK)
    assert loaded.scale == 2


def test_other_settings_do_not_resume(tmp_path):
    Trainer(SMALL, images(), tmp_path).write()
    with pytest.raises(NerfkitError, match="written with other settings"):
        Trainer(TrainConfig(scale=2, width=4), images(), tmp_path)
    (tmp_path / "text.safetensors").write_text("text")
    with pytest.raises(NerfkitError, match="not a blind super-resolution network"):
        load_network(tmp_path / "text.safetensors")
