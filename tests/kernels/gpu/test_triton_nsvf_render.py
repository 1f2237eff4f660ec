"""nsvf_render in Triton against the reference: pixels and gradients, in float32 and float16."""

from dataclasses import replace

import pytest
import torch
from closeness import assert_close, assert_gradients_close
from on_device import DEVICE, on_device
from test_nsvf_render import SMALL, gradients, seen, tensors

pytest.importorskip("triton")

from nerfkit.kernels.nsvf_mlp import NsvfMlpConfig
from nerfkit.kernels.nsvf_mlp import gpu as mlp
from nerfkit.kernels.nsvf_render import gpu
from nerfkit.kernels.shared import dense

# Few lanes, so that they take new rays and fill the queue as often as they can.
TINY = gpu.Launch(block=16, regen=3)
EVEN = NsvfMlpConfig(4, 70, 12, 2, 3, 1, 0)


@pytest.fixture
def exact(monkeypatch):
    """Products in float32."""
    monkeypatch.setattr(gpu, "USUAL", replace(TINY, dtype=torch.float32))
    monkeypatch.setattr(mlp, "COMPUTE", torch.float32)
    monkeypatch.setattr(dense, "SPLITS", 1)


def compare(inputs, config, rel, **more):
    got = seen(on_device(inputs), "gpu", config, **more)
    want = seen(inputs, "reference", config, **more)
    assert want.opacities.std() > 0.1 and want.n_shaded > 48
    for name, g, w in zip(want._fields[:3], got, want, strict=False):
        assert_close(name, g.cpu(), w, rel=rel, abs=20 * rel)
    return got, want


# Worst measured, interpreted: 1e-6 with float32 products, 1e-3 with float16.
@pytest.mark.parametrize("config", [SMALL, EVEN], ids=["small", "even"])
def test_pixels_match_the_reference(config, exact):
    got, want = compare(tensors(37, config), config, 1e-5)
    assert int(got.n_shaded) == want.n_shaded


def test_pixels_of_16_bit_products(monkeypatch):
    monkeypatch.setattr(gpu, "USUAL", TINY)
    compare(tensors(21), SMALL, 5e-3)


@pytest.mark.parametrize("jitter", [False, True])
def test_gradients_match_the_reference(jitter, exact):
    inputs = tensors(19)
    given = [torch.Generator(d).manual_seed(1) if jitter else None for d in (DEVICE, "cpu")]
    got, got_grads = gradients(on_device(inputs), "gpu", generator=given[0])
    if jitter and DEVICE != "cpu":
        pytest.skip("generators of two devices draw different numbers")
    want, want_grads = gradients(inputs, "reference", generator=given[1])
    assert_close("colors", got.colors.cpu(), want.colors, rel=1e-5, abs=2e-4)
    assert got.n_shaded == want.n_shaded
    got_grads = {k: v.cpu() for k, v in got_grads.items()}
    assert_gradients_close(got_grads, want_grads, rel=1e-4, abs=2e-3)


def test_rays_that_cross_nothing_and_none(exact):
    inputs = on_device(tensors(20))
    inputs["directions"] = -inputs["directions"]
    out = seen(inputs, "gpu")
    assert torch.equal(out.colors, inputs["background"]) and not out.opacities.any()
    assert seen(on_device(tensors(0)), "gpu").colors.shape == (0, 3)
