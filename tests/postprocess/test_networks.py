"""Super-resolution networks: sizes, bicubic start, collapsing, receptive field, files."""

import pytest
import torch

from nerfkit.errors import NerfkitError
from nerfkit.postprocess import models
from nerfkit.postprocess.compact import CompactSR
from nerfkit.postprocess.networks import ResidualSR

SMALL = [
    (CompactSR, {"width": 8, "layers": 2}),
    (CompactSR, {"width": 8, "layers": 2, "channels": 3, "hidden": 16}),
    (ResidualSR, {"width": 8, "blocks": 1}),
    (ResidualSR, {"width": 8, "blocks": 1, "channels": 1, "narrow_tail": False}),
]


def shuffled(network):
    """The network with random weights everywhere, the zero tail included."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


@pytest.mark.parametrize(
    ("preset", "counts"),
    [
        ("compact", (38140, 39225, 40744)),
        ("edsr-small", (106092, 110427, 116496)),
        # arXiv:1707.02921 and its authors' code: 1.37, 1.55, 1.52 M and 40.7, 43.7, 43.1 M
        ("edsr-baseline", (1369859, 1554499, 1517571)),
        ("edsr", (40729603, 43680003, 43089923)),
    ],
)
def test_parameters(preset, counts):
    for scale, count in zip((2, 3, 4), counts, strict=True):
        with torch.device("meta") if preset == "edsr" else torch.device("cpu"):
            network = models.build(preset, scale)
        if isinstance(network, CompactSR):
            network = network.collapse()
        assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(("kind", "settings"), SMALL)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_untrained_is_bicubic(kind, settings, scale):
    network = kind(scale=scale, **settings)
    x = torch.rand(2, network.channels, 5, 6)
    out = network(x)
    assert out.shape == (2, network.channels, 5 * scale, 6 * scale)
    torch.testing.assert_close(out, network.skip(x), atol=0, rtol=0)


@pytest.mark.parametrize(("kind", "settings"), SMALL)
def test_sees_no_further_than_its_radius(kind, settings):
    network = shuffled(kind(**settings))
    side = 2 * network.radius + 9
    x = torch.rand(1, network.channels, side, side, requires_grad=True)
    centre = network.scale * (side // 2)
    network(x)[0, :, centre, centre].sum().backward()
    seen = x.grad[0].abs().sum(0).nonzero() - side // 2
    assert seen.abs().max() <= network.radius
    assert seen.abs().max() >= network.radius - 1  # and not much is wasted


def test_collapsed_is_the_same_function():
    network = shuffled(CompactSR(scale=3, width=8, layers=2, hidden=20))
    plain = network.collapse()
    x = torch.rand(1, 1, 9, 7)
    assert plain.hidden == 0
    torch.testing.assert_close(plain(x), network(x))  # worst error measured 0


@pytest.mark.parametrize(("kind", "settings"), SMALL)
def test_file_gives_the_network_back(tmp_path, kind, settings):
    network = shuffled(kind(scale=3, **settings))
    models.save_network(tmp_path / "n.safetensors", network, {"step": 1})
    again = models.load_network(tmp_path / "n.safetensors")
    x = torch.rand(1, network.channels, 6, 5)
    torch.testing.assert_close(again(x), network(x))


def test_start_from_another_scale_keeps_all_but_the_tail(tmp_path):
    source = shuffled(CompactSR(scale=2, width=8, layers=2))
    models.save_network(tmp_path / "n.safetensors", source, {})
    network = CompactSR(scale=4, width=8, layers=2, hidden=16)
    assert models.start_from(network, tmp_path / "n.safetensors") == ["tail"]
    plain = network.collapse()
    torch.testing.assert_close(plain.head.weight, source.head.weight)
    torch.testing.assert_close(plain.body[1].weight, source.body[1].weight)
    torch.testing.assert_close(plain.slopes[2].weight, source.slopes[2].weight)
    assert not plain.tail.weight.any()


def test_wrong_files_and_names_are_one_clear_line(tmp_path):
    (tmp_path / "n.safetensors").write_bytes(b"no")
    for path in (tmp_path / "n.safetensors", tmp_path / "absent.safetensors"):
        with pytest.raises(NerfkitError, match="not a network file we can read"):
            models.load_network(path)
    with pytest.raises(NerfkitError, match="want one of compact"):
        models.build("huge", 2)
    with pytest.raises(NerfkitError, match="want one of 2, 3, 4, got 5"):
        models.build("compact", 5)
