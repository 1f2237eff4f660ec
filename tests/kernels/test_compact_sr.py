"""compact_sr: C++ against the reference, odd sizes, borders, the same bits in parts of an image."""

import pytest
import torch

from nerfkit.kernels import _native
from nerfkit.kernels.compact_sr import compact_sr

ERROR = {"atol": 3e-6, "rtol": 0}  # measured 8.9e-7, values to 1.1


def make(size, scale=2, colours=1, width=24, layers=7, n=1):
    generator = torch.Generator().manual_seed(size[0] + 7 * size[1])

    def randn(*shape, deviation=1.0):
        return deviation * torch.randn(*shape, generator=generator)

    shapes = [(width, colours, 5, 5), *[(width, width, 3, 3)] * layers]
    shapes.append((colours * scale**2, width, 3, 3))
    weights = [randn(*s, deviation=(s[1] * s[2] * s[3]) ** -0.5) for s in shapes]
    biases = [randn(s[0], deviation=0.1) for s in shapes]
    slopes = [0.2 + randn(width, deviation=0.1) for _ in shapes[1:]]
    return torch.rand(n, colours, *size, generator=generator), weights, biases, slopes, scale


def both(*inputs):
    with torch.no_grad():
        return (compact_sr(*inputs, backend=backend) for backend in ("cpu", "reference"))


@pytest.mark.parametrize("size", [(0, 4), (1, 1), (1, 9), (7, 1), (37, 171), (300, 23)])
def test_forward(size):
    found, truth = both(*make(size))
    assert found.shape == (1, 1, 2 * size[0], 2 * size[1])
    torch.testing.assert_close(found, truth, **ERROR)


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": 3},
        {"scale": 4, "n": 3},
        {"colours": 3, "scale": 2, "layers": 1},
        {"width": 5, "layers": 2},
        {"width": 32, "layers": 3},
        {"width": 40, "layers": 1},  # left to the reference
        {"scale": 1, "width": 8},
    ],
)
def test_shapes_of_the_network(settings):
    found, truth = both(*make((19, 13), **settings))
    torch.testing.assert_close(found, truth, **ERROR)


def test_parts_have_the_bits_of_the_whole():
    x, *network = make((330, 190))
    with torch.no_grad():
        whole = compact_sr(x, *network, backend="cpu")
        part = compact_sr(x[..., 40:, 23:150], *network, backend="cpu")
    radius = 10
    inside = (..., slice(2 * radius, None), slice(2 * radius, -2 * radius))
    assert torch.equal(part[inside], whole[..., 80:, 46:300][inside])


def test_threads_change_nothing():
    inputs, before = make((310, 170)), _native.num_threads()
    results = []
    try:
        for threads in (1, 2):
            _native.set_num_threads(threads)
            with torch.no_grad():
                results.append(compact_sr(*inputs, backend="cpu"))
    finally:
        _native.set_num_threads(before)
    assert torch.equal(*results)


def test_non_contiguous():
    x, weights, *rest = make((21, 34))
    strided = [w.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0) for w in weights]
    with torch.no_grad():
        want = compact_sr(x, weights, *rest, backend="cpu")
        found = compact_sr(x.mT.contiguous().mT, strided, *rest, backend="cpu")
    assert torch.equal(found, want)


def test_gradients_are_torchs():
    x, weights, biases, slopes, scale = make((6, 5), width=3, layers=1)
    leaves = [v.double().requires_grad_() for v in (x, *weights, *biases, *slopes)]

    def op(x, *flat):
        return compact_sr(x, flat[:3], flat[3:6], flat[6:], scale, backend="reference")

    assert torch.autograd.gradcheck(op, leaves)
    weights[0].requires_grad_()
    compact_sr(x, weights, biases, slopes, scale).sum().backward()
    assert weights[0].grad.any()


def test_wrong_arguments():
    x, weights, biases, slopes, scale = make((4, 5))
    with pytest.raises(ValueError, match="`x`"):
        compact_sr(x[0], weights, biases, slopes, scale)
    with pytest.raises(ValueError, match="`weights` and `biases`"):
        compact_sr(x, weights, biases, slopes, 3)
    with pytest.raises(ValueError, match="`slopes`"):
        compact_sr(x, weights, biases, slopes[1:], scale)
    with torch.no_grad(), pytest.raises(ValueError, match="float32"):
        compact_sr(x.double(), weights, biases, slopes, scale, backend="cpu")
