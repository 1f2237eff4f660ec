"""nerf_mlp: Triton against the reference, in float32 for the wiring and in float16 as it runs."""

import pytest
import torch
from closeness import assert_close, gradients
from on_device import DEVICE, on_device
from test_nerf_mlp import ODD, PAPER, doubles, make, run

pytest.importorskip("triton")

from nerfkit.kernels.nerf_mlp import NerfMlpConfig, gpu, nerf_mlp, unpack
from nerfkit.kernels.nerf_mlp.gpu_layout import Layout

SMALL = NerfMlpConfig(depth=3, width=64, view_width=32, skip=2, position_frequencies=6)


def compare(config, inputs, rel):
    got = run(config, "gpu")(**on_device(inputs))
    want = run(config, "reference")(**doubles(inputs))
    for name, g, w in zip(got._fields, got, want, strict=True):
        assert_close(name, g, w, rel, abs=10 * rel)
    flat = {k: v for k, v in inputs.items() if v.is_floating_point()}
    rest = {k: v for k, v in inputs.items() if k not in flat}

    def op(backend, rest):
        return lambda **leaves: run(config, backend)(**leaves, **rest)

    got = gradients(op("gpu", on_device(rest)), on_device(flat), ["params"])["params"]
    want = gradients(op("reference", rest), doubles(flat), ["params"])["params"]
    got, want = unpack(got.cpu(), config), unpack(want, config)
    for name in want:
        assert_close(f"d{name}", got[name], want[name], 4 * rel, abs=200 * rel)


@pytest.mark.parametrize(("config", "n", "n_rays"), [(ODD, 70, 5), (SMALL, 65, None)])
def test_the_wiring_is_exact_in_float32(config, n, n_rays, monkeypatch):
    monkeypatch.setattr(gpu, "COMPUTE", torch.float32)
    monkeypatch.setattr(gpu, "CHUNK", 64)  # the second piece is smaller
    monkeypatch.setattr(gpu, "SPLITS", 2)
    compare(config, make(config, n, n_rays), rel=1e-5)


def test_16_bit_products_have_32_bit_sums(monkeypatch):
    monkeypatch.setattr(gpu, "SPLITS", 1)
    compare(SMALL, make(SMALL, 64), rel=3e-3)


def test_tiny_gradients_do_not_vanish_in_16_bits(monkeypatch):
    """A mean over a million values makes gradients that float16 would round to 0."""
    monkeypatch.setattr(gpu, "SPLITS", 1)
    inputs = make(ODD, 20)
    found = []
    for factor in (1.0, 2.0**-30):
        params = inputs["params"].clone().to(DEVICE).requires_grad_()
        out = run(ODD, "gpu")(**{**on_device(inputs), "params": params})
        (factor * (out.rgb_raw.sum() + out.sigma_raw.sum())).backward()
        found.append(params.grad / factor)
    assert found[0].abs().max() > 1
    assert_close("dparams", found[1], found[0], rel=1e-3, abs=2e-2)


def test_known_outputs_are_not_computed():
    inputs = on_device(make(ODD, 5))
    known = run(ODD, "gpu")(**inputs)
    marked = known._replace(sigma_raw=known.sigma_raw + 1)
    params = inputs["params"].requires_grad_()
    out = run(ODD, "gpu")(**inputs, known=marked)
    assert torch.equal(out.sigma_raw, marked.sigma_raw)
    out.rgb_raw.sum().backward()
    assert params.grad.abs().sum() > 0


def test_nothing_and_errors():
    inputs = on_device(make(ODD, 0))
    inputs["params"].requires_grad_()
    out = run(ODD, "gpu")(**inputs)
    assert out.rgb_raw.shape == (0, 3) and out.sigma_raw.shape == (0,)
    out.rgb_raw.sum().backward()
    assert not inputs["params"].grad.any()
    inputs = on_device(make(ODD, 2))
    with pytest.raises(ValueError, match="no gradient with respect to points"):
        run(ODD, "gpu")(**{**inputs, "points": inputs["points"].requires_grad_()})
    wide = NerfMlpConfig(width=300)
    given = on_device(make(wide, 1))
    with pytest.raises(ValueError, match="at most 256 units a layer"):
        nerf_mlp(**given, config=wide, backend="gpu")


@pytest.mark.parametrize("config", [PAPER, ODD, SMALL])
def test_the_layout_has_a_place_for_each_parameter(config):
    layout = Layout.of(config)
    places = layout.places(config)
    assert len(places.unique()) == config.n_params and places.max() < layout.n_packed
    covered = torch.zeros(layout.n_packed, dtype=torch.int64)
    for _, _, place, stride, wide, bias in layout.products().tolist():
        o = torch.arange(min(wide, layout.block_out))
        rows = torch.arange(layout.block_in)[:, None] * stride
        covered[(place + rows + o).reshape(-1)] += 1
        if bias >= 0:
            covered[bias + o] += 1
    assert (covered == 1).all()
