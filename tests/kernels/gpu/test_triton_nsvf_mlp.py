"""nsvf_mlp: Triton against the reference, in float32 for the wiring and in float16 as it runs."""

import pytest
import torch
from closeness import assert_close
from on_device import DEVICE, on_device
from test_nsvf_mlp import ODD, TINY, doubles, make, named_gradients, run

pytest.importorskip("triton")

from nerfkit.kernels.nsvf_mlp import gpu
from nerfkit.kernels.nsvf_mlp.gpu import network_of
from nerfkit.kernels.shared import dense


def compare(config, inputs, rel):
    moved = {k: None if v is None else v.to(DEVICE) for k, v in inputs.items()}
    got, want = run(config, "gpu")(**moved), run(config, "reference")(**doubles(inputs))
    for name, g, w in zip(want._fields, got, want, strict=True):
        if w is not None:
            assert_close(name, g, w, rel, abs=20 * rel)
    got = named_gradients(config, "gpu", moved)
    want = named_gradients(config, "reference", doubles(inputs))
    for name in want:
        assert_close(f"d{name}", got[name], want[name], 4 * rel, abs=200 * rel)


@pytest.mark.parametrize(("config", "n", "n_rays"), [(TINY, 20, 3), (ODD, 17, None)])
def test_the_wiring_is_exact_in_float32(config, n, n_rays, monkeypatch):
    monkeypatch.setattr(gpu, "COMPUTE", torch.float32)
    monkeypatch.setattr(dense, "CHUNK", 16)  # the second piece is smaller
    monkeypatch.setattr(dense, "SPLITS", 2)
    compare(config, make(config, n, n_rays), rel=1e-5)


def test_densities_alone(monkeypatch):
    monkeypatch.setattr(gpu, "COMPUTE", torch.float32)
    monkeypatch.setattr(dense, "SPLITS", 1)
    compare(ODD, {**make(ODD, 9), "directions": None}, rel=1e-5)


def test_16_bit_products_have_32_bit_sums(monkeypatch):
    monkeypatch.setattr(dense, "SPLITS", 1)
    compare(ODD, make(ODD, 33), rel=5e-3)


def test_nothing_and_errors():
    inputs = on_device(make(ODD, 0))
    inputs["params"].requires_grad_()
    out = run(ODD, "gpu")(**inputs)
    assert out.rgb_raw.shape == (0, 3) and out.sigma_raw.shape == (0,)
    out.rgb_raw.sum().backward()
    assert not inputs["params"].grad.any()
    inputs = on_device(make(ODD, 2))
    with pytest.raises(ValueError, match="no gradient with respect to places"):
        run(ODD, "gpu")(**{**inputs, "places": inputs["places"].requires_grad_()})


@pytest.mark.parametrize("config", [TINY, ODD], ids=["tiny", "odd"])
def test_every_weight_has_its_gradient_once(config):
    network = network_of(config)
    places = network.places()
    assert len(places) == len(places.unique()) == config.n_params
    covered = torch.zeros(network.n_packed, dtype=torch.int64)
    for _, _, place, stride, wide, bias in network.products(list(network.layers)).tolist():
        o = torch.arange(min(wide, dense.WIDE))
        covered[(place + torch.arange(dense.WIDE)[:, None] * stride + o).reshape(-1)] += 1
        if bias >= 0:
            covered[bias + o] += 1
    assert (covered == 1).all()
