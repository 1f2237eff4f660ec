"""fused_mlp: Triton against the reference."""

import itertools
import math

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients
from on_device import DEVICE, on_device

pytest.importorskip("triton")

from nerfkit.kernels.fused_mlp import fused_mlp, gpu

WIDTHS = {"usual": (25, 64, 3), "one_layer": (7, 5), "odd": (3, 17, 33, 2), "deep": (16,) * 6}


def network(n, widths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    inputs = {"x": torch.randn(n, widths[0], generator=generator)}
    for k, (i, o) in enumerate(itertools.pairwise(widths)):
        inputs[f"w{k}"] = torch.randn(o, i, generator=generator) * math.sqrt(2 / i)
        inputs[f"b{k}"] = torch.randn(o, generator=generator) * 0.1
    return inputs


def run(backend, activation="none"):
    def op(x, **params):
        layers = range(len(params) // 2)
        weights, biases = [params[f"w{k}"] for k in layers], [params[f"b{k}"] for k in layers]
        return fused_mlp(x, weights, biases, output_activation=activation, backend=backend)

    return op


def compare(inputs, activation, rel, abs):
    exact = {k: v.double() for k, v in inputs.items()}
    got = run("gpu", activation)(**on_device(inputs))
    assert_close("out", got, run("reference", activation)(**exact), rel, abs)
    got = gradients(run("gpu", activation), on_device(inputs), list(inputs))
    want = gradients(run("reference", activation), exact, list(inputs))
    assert_gradients_close(got, want, rel, 50 * abs)


# Worst measured: relative 5e-7, absolute 2e-6, of gradients 4e-5.
@pytest.mark.parametrize("n", [0, 1, 200])
@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_forward_and_gradients_match_the_reference(n, widths, activation):
    compare(network(n, widths), activation, rel=3e-6, abs=1e-5)


def test_networks_too_large_to_stay_on_the_chip(monkeypatch):
    monkeypatch.setattr(gpu, "RESIDENT_BYTES", 0)
    monkeypatch.setattr(gpu, "KEPT_VALUES", 0)
    compare(network(150, (5, 32, 3)), "sigmoid", rel=3e-6, abs=1e-5)


def test_16_bit_products_have_32_bit_sums():
    """Off by the rounding of single values, 2^-11, not by that of a sum of hundreds."""
    inputs = {k: v.half() for k, v in network(64, (32, 64, 3)).items()}  # gradients are kept
    compare(inputs, "sigmoid", rel=2e-3, abs=5e-3)  # 8e-4, 1e-3


def test_only_what_is_asked_for():
    inputs = on_device(network(70, (4, 16, 2)))
    inputs["x"].requires_grad_()
    run("gpu")(**inputs).sum().backward()
    assert inputs["x"].grad.abs().sum() > 0 and inputs["w0"].grad is None


def test_errors_name_the_argument():
    inputs = on_device(network(4, (4, 200, 2)))
    with pytest.raises(ValueError, match=r"of 1 to 128 units, got widths \[4, 200, 2\]"):
        run("gpu")(**inputs)
    inputs = network(4, (4, 8, 2))
    with pytest.raises(ValueError, match="`x` must be float32, float16 or bfloat16"):
        run("gpu")(**{k: v.double().to(DEVICE) for k, v in inputs.items()})
    with pytest.raises(ValueError, match=r"`weights\[0\]` must be torch.float32"):
        run("gpu")(**on_device({**inputs, "w0": inputs["w0"].double()}))
