"""Tiles, alpha, memory and precision of the upscaler."""

import pytest
import torch
from test_networks import shuffled
from torch import nn

from nerfkit.errors import NerfkitError
from nerfkit.postprocess.compact import CompactSR
from nerfkit.postprocess.networks import BicubicSkip, ResidualSR
from nerfkit.postprocess.upscale import Upscaler

NETWORKS = [
    lambda: CompactSR(scale=2, width=8, layers=3),
    lambda: CompactSR(scale=3, width=8, layers=2, channels=3),
    lambda: ResidualSR(scale=4, width=8, blocks=1, narrow_tail=False),
]


class Bicubic(nn.Module):
    """A network that adds nothing."""

    scale, channels, radius = 2, 1, 0
    cpu_tile = (96, 256)

    def residual(self, x):
        return x.new_zeros(1, 1, 2 * x.shape[2], 2 * x.shape[3])


def picture(*shape):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(5)).to(torch.uint8)


@pytest.mark.parametrize("make", NETWORKS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiles_change_nothing(make, channels):
    network, image = shuffled(make()), picture(23, 37, channels)
    whole = Upscaler(network, tile=0)(image)
    assert whole.shape == (23 * network.scale, 37 * network.scale, channels)
    for tile in (None, 5, 16):
        assert torch.equal(Upscaler(network, tile=tile)(image), whole)


@pytest.mark.parametrize("make", NETWORKS)
def test_colours_are_what_the_network_gives(make):
    network, image = shuffled(make()), picture(9, 8, 3).float() / 255
    planes = image.permute(2, 0, 1)[None]
    out = Upscaler(network)(image)
    if network.channels == 3:
        wanted = network(planes)
    else:  # by way of Y, Cb, Cr
        from nerfkit.postprocess.colour import rgb_to_ycbcr, ycbcr_to_rgb

        ycbcr = rgb_to_ycbcr(planes)
        big = BicubicSkip(network.scale)(ycbcr)
        wanted = ycbcr_to_rgb(torch.cat([network(ycbcr[:, :1]), big[:, 1:]], 1))
    # worst error measured 1.1e-6
    wanted = wanted[0].permute(1, 2, 0).clamp(0, 1)
    torch.testing.assert_close(out, wanted.detach(), atol=5e-6, rtol=0)


def test_what_transparent_pixels_hide_does_not_bleed():
    image = torch.zeros(12, 12, 4)
    image[:, :6] = torch.tensor([0.2, 0.4, 0.6, 1.0])
    image[:, 6:] = torch.tensor([1.0, 0.0, 1.0, 0.0])  # loud, but transparent
    out = Upscaler(Bicubic())(image)
    visible = out[out[..., 3] > 0.05]
    assert len(visible) > 100
    # worst error measured 4e-7
    torch.testing.assert_close(
        visible[:, :3], image[0, 0, :3].expand(len(visible), 3), atol=1e-5, rtol=0
    )


def test_opaque_alpha_changes_no_colour():
    network, image = shuffled(NETWORKS[0]()), picture(9, 8, 3)
    opaque = torch.cat([image, torch.full((9, 8, 1), 255, dtype=torch.uint8)], 2)
    out = Upscaler(network, alpha="bicubic")(opaque)
    assert torch.equal(out[..., :3], Upscaler(network)(image))
    assert (out[..., 3] == 255).all()


class Greedy(Bicubic):
    """Runs out of memory on more than `limit` pixels."""

    def __init__(self, limit, error):
        super().__init__()
        self.limit, self.error, self.calls = limit, error, 0

    def residual(self, x):
        self.calls += 1
        if x.shape[2] * x.shape[3] > self.limit:
            raise self.error
        return super().residual(x)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_out_of_memory_halves_the_tile_and_goes_on(error):
    image = picture(100, 60, 3)
    network = Greedy(2000, error)
    upscaler = Upscaler(network, tile=0)
    assert torch.equal(upscaler(image), Upscaler(Bicubic())(image))
    assert upscaler.tile == (50, 30)
    network.calls = 0
    upscaler(image)  # the next image starts with what fitted
    assert network.calls == 4


def test_hopeless_memory_is_one_clear_line():
    with pytest.raises(NerfkitError, match="out of memory even with tiles of 16"):
        Upscaler(Greedy(10, MemoryError()))(picture(100, 60, 3))
    with pytest.raises(RuntimeError, match="another"):
        Upscaler(Greedy(10, RuntimeError("another")))(picture(100, 60, 3))


def test_values_beyond_16_bits_are_computed_in_32():
    class Overflowing(Bicubic):
        def residual(self, x):
            out = super().residual(x)
            return out + torch.inf if torch.is_autocast_enabled("cpu") else out + 0.1

    upscaler, image = Upscaler(Overflowing()), picture(6, 5, 1)
    wanted = upscaler(image)
    upscaler.dtype = torch.float16
    assert torch.equal(upscaler(image), wanted)


def test_damaged_weights_are_one_clear_line():
    network = shuffled(NETWORKS[0]())
    network.tail.bias.data[0] = torch.nan
    with pytest.raises(NerfkitError, match="not finite"):
        Upscaler(network)(picture(6, 5, 3))
    with pytest.raises(NerfkitError, match=r"--tile: want 0 .* got -3"):
        Upscaler(network, tile=-3)
