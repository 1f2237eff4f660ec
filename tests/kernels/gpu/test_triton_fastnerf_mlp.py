"""fastnerf_mlp: Triton against the reference; float32 for the wiring, and 16 bits as it runs."""

import pytest
import torch
from closeness import assert_close
from on_device import on_device
from test_fastnerf_mlp import ODD, TINY, doubles, make, named_gradients, run

pytest.importorskip("triton")

from nerfkit.kernels.fastnerf_mlp import gpu, point_components, view_weights
from nerfkit.kernels.shared import dense


def compare(config, inputs, rel):
    moved = on_device(inputs)
    got, want = run(config, "gpu")(**moved), run(config, "reference")(**doubles(inputs))
    for name, g, w in zip(want._fields, got, want, strict=True):
        assert_close(name, g, w, rel, abs=20 * rel)
    got = named_gradients(config, "gpu", moved)
    want = named_gradients(config, "reference", doubles(inputs))
    for name in want:
        assert_close(f"d{name}", got[name], want[name], 4 * rel, abs=200 * rel)


@pytest.mark.parametrize(("config", "n", "n_rays"), [(TINY, 20, 3), (ODD, 17, 18)])
def test_the_wiring_is_exact_in_float32(config, n, n_rays, monkeypatch):
    monkeypatch.setattr(gpu, "COMPUTE", torch.float32)
    monkeypatch.setattr(dense, "CHUNK", 16)  # the second piece is smaller
    monkeypatch.setattr(dense, "SPLITS", 2)
    compare(config, make(config, n, n_rays), rel=1e-5)


def test_16_bit_products_have_32_bit_sums(monkeypatch):
    monkeypatch.setattr(dense, "SPLITS", 1)
    compare(ODD, make(ODD, 33, 4), rel=5e-3)


def test_each_network_alone():
    inputs = make(ODD, 9, 5)
    moved = on_device(inputs)
    with torch.no_grad():
        got = point_components(moved["points"], moved["params"], config=ODD, backend="gpu")
        got += (view_weights(moved["directions"], moved["params"], config=ODD, backend="gpu"),)
        sizes = {"config": ODD, "backend": "reference"}
        want = point_components(inputs["points"], inputs["params"], **sizes)
        want += (view_weights(inputs["directions"], inputs["params"], **sizes),)
    for name, g, w in zip(("colors", "sigma_raw", "weights"), got, want, strict=True):
        assert_close(name, g, w, rel=5e-3, abs=5e-2)


def test_known_outputs_are_not_computed():
    inputs = on_device(make(ODD, 5, 2))
    known = run(ODD, "gpu")(**inputs)
    marked = known._replace(sigma_raw=known.sigma_raw + 1)
    params = inputs["params"].requires_grad_()
    out = run(ODD, "gpu")(**inputs, known=marked)
    assert torch.equal(out.sigma_raw, marked.sigma_raw)
    out.rgb_raw.sum().backward()
    assert params.grad.abs().sum() > 0


def test_nothing_and_errors():
    inputs = on_device(make(ODD, 0, 1))
    inputs["params"].requires_grad_()
    out = run(ODD, "gpu")(**inputs)
    assert out.rgb_raw.shape == (0, 3) and out.sigma_raw.shape == (0,)
    out.rgb_raw.sum().backward()
    assert not inputs["params"].grad.any()
    inputs = on_device(make(ODD, 2, 1))
    with pytest.raises(ValueError, match="no gradient with respect to points"):
        run(ODD, "gpu")(**{**inputs, "points": inputs["points"].requires_grad_()})
