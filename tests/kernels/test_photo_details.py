"""photo_details: C++ against the reference, odd shapes, borders, straight lines and edges."""

import pytest
import torch

from nerfkit.kernels.photo_details import photo_details


def make(height, width, sources=3, scale=4, n_hints=3, photo=(37, 41)):
    generator = torch.Generator().manual_seed(height + 7 * width)
    photos = [
        torch.randint(256, (*photo, 3), generator=generator, dtype=torch.uint8)
        for _ in range(sources)
    ]
    # some beyond the photographs
    size = torch.tensor([photo[1], photo[0]]) / scale
    positions = (torch.rand(sources, height, width, 2, generator=generator) * 1.4 - 0.2) * size
    hints = torch.rand(sources, height, width, n_hints, generator=generator)
    hints[..., 0] = (hints[..., 0] > 0.3).float()
    enlarged = torch.rand(height, width, 3 * scale * scale, generator=generator)
    return photos, positions, hints, enlarged


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(0, 5), (1, 1), (1, 6), (6, 1), (33, 29)])
def test_forward(size, scale):
    inputs = make(*size, scale=scale, n_hints=1 + scale)
    found, truth = (photo_details(*inputs, backend=b) for b in ("cpu", "reference"))
    assert found.shape == (3, *size, 3 * scale**2 + 1 + scale)
    torch.testing.assert_close(found, truth, atol=2e-5, rtol=0)  # measured 6.3e-6


@pytest.mark.parametrize("photo", [(2, 2), (2, 9)])
def test_smallest_photographs(photo):
    inputs = make(7, 5, photo=photo)
    found, truth = (photo_details(*inputs, backend=b) for b in ("cpu", "reference"))
    torch.testing.assert_close(found, truth, atol=3e-6, rtol=0)  # measured 7.7e-7


def test_no_sources():
    found = photo_details([], torch.empty(0, 4, 5, 2), torch.empty(0, 4, 5, 3), torch.rand(4, 5, 3))
    assert found.shape == (0, 4, 5, 6)


def test_non_contiguous():
    photos, positions, hints, enlarged = make(9, 8)
    strided = [
        [photo.transpose(0, 1).contiguous().transpose(0, 1) for photo in photos],
        positions.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        hints.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        enlarged.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    ]
    assert not any(x.is_contiguous() for x in strided[1:])
    found = photo_details(*strided, backend="cpu")
    assert torch.equal(found, photo_details(photos, positions, hints, enlarged, backend="cpu"))


def test_far_positions_show_the_corner():
    photos, positions, hints, enlarged = make(2, 2, sources=1)
    positions[:] = 1e6
    hints[..., 0] = 1
    for backend in ("cpu", "reference"):
        found = photo_details(photos, positions, hints, enlarged, backend=backend)
        colours = (found[0, ..., :48] + enlarged).unflatten(-1, (3, 16))
        corner = (photos[0][-1, -1] / 255)[:, None].expand(2, 2, 3, 16)
        torch.testing.assert_close(colours, corner, atol=1e-6, rtol=0)  # measured 6.0e-8


def colours_at(photo, positions, backend):
    """The photograph's colours at x4 places of each position: [3, 4 h, 4 w]."""
    enlarged = torch.zeros(*positions.shape[:2], 48)
    hints = torch.ones(1, *positions.shape[:2], 1)
    seen = photo_details([photo], positions[None], hints, enlarged, backend=backend)
    return torch.nn.functional.pixel_shuffle(seen[..., :48].permute(0, 3, 1, 2), 4)[0]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_follows_straight_lines(backend):
    # red is 2 x, rounded down: a shift by (1.25, -0.5) small pixels keeps it linear
    y, x = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    photo = torch.stack([2 * x, 3 * y, x + y], -1).to(torch.uint8)
    rows, columns = torch.meshgrid(torch.arange(8) + 4.5, torch.arange(6) + 2.5, indexing="ij")
    out = colours_at(photo, torch.stack([columns + 1.25, rows - 0.5], -1), backend) * 255
    truth = (torch.arange(24) + 0.5 + 4 * 3.25) * 2
    torch.testing.assert_close(out[0, 5], truth, rtol=0, atol=1e-4)  # measured 8e-6


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_keeps_to_each_side_of_an_edge(backend):
    photo = torch.zeros(64, 64, 3, dtype=torch.uint8)
    photo[:, 32:] = 255
    columns = torch.tensor([1.5, 2.5, 3.5, 12.5, 13.5, 14.5])  # jumps across the photograph
    where = torch.stack(torch.meshgrid(columns, torch.arange(6) + 4.5, indexing="xy"), -1)
    out = colours_at(photo, where, backend)
    assert (out[..., :12] == 0).all() and ((out[..., 12:] - 1).abs() < 1e-6).all()


def test_wrong_arguments():
    photos, positions, hints, enlarged = make(4, 5)
    with pytest.raises(ValueError, match="`positions`"):
        photo_details(photos[:2], positions, hints, enlarged)
    with pytest.raises(ValueError, match="`hints`"):
        photo_details(photos, positions, hints[:, :3], enlarged)
    with pytest.raises(ValueError, match="`enlarged`"):
        photo_details(photos, positions, hints, enlarged[..., :47])
    with pytest.raises(ValueError, match="`photos`"):
        photo_details([p[:1] for p in photos], positions, hints, enlarged)
    with pytest.raises(ValueError, match="uint8"):
        photo_details([p.float() for p in photos], positions, hints, enlarged)
    with pytest.raises(ValueError, match="float32"):
        photo_details(photos, positions.double(), hints, enlarged, backend="cpu")
