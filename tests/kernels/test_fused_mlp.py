"""fused_mlp: C++ against the torch reference, gradients by name, odd shapes, repeatability."""

import itertools

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients

from nerfkit.kernels import _native
from nerfkit.kernels.fused_mlp import fused_mlp

FORWARD = {"rel": 2e-6, "abs": 5e-6}  # measured 4.5e-7, 1.5e-6
# Sums over up to 1000 samples, in an order that depends on which thread is free. Measured 1.2e-6,
# 6.7e-4 (of a weight gradient of 758), but 5.3e-6 for the one number, which cancels, of a bias of
# width 1.
BACKWARD = {"rel": 2e-5, "abs": 2e-3}

WIDTHS = [(32, 64, 3), (32, 64, 64, 3), (27, 33, 1), (1, 1, 1), (5, 7), (16, 19, 18, 17, 70)]
WIDTHS += [(256, 256, 9)]


def make(widths, n, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    inputs = {"x": randn(n, widths[0])}
    for layer, (cin, cout) in enumerate(itertools.pairwise(widths)):
        inputs[f"weight_{layer}"] = randn(cout, cin) / cin**0.5
        inputs[f"bias_{layer}"] = randn(cout) * 0.3
    return inputs


def run(backend, activation):
    def op(**inputs):
        return fused_mlp(
            inputs["x"],
            [v for k, v in inputs.items() if k.startswith("weight")],
            [v for k, v in inputs.items() if k.startswith("bias")],
            output_activation=activation,
            backend=backend,
        )

    return op


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_matches_reference(widths, n, activation):
    inputs = make(widths, n)
    got, want = run("cpu", activation)(**inputs), run("reference", activation)(**inputs)
    assert_close("out", got, want, **FORWARD)
    names = list(inputs)
    assert_gradients_close(
        gradients(run("cpu", activation), inputs, names),
        gradients(run("reference", activation), inputs, names),
        **BACKWARD,
    )


@pytest.mark.parametrize("wanted", [["x"], ["weight_0", "bias_1"], ["bias_0"]], ids=str)
def test_gradients_of_some_inputs(wanted):
    inputs = make((32, 64, 3), 130)
    assert_gradients_close(
        gradients(run("cpu", "none"), inputs, wanted),
        gradients(run("reference", "none"), inputs, wanted),
        **BACKWARD,
    )


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
def test_reference_gradcheck(activation):
    inputs = make((3, 4, 5, 2), 6, dtype=torch.float64)
    names = list(inputs)
    leaves = [v.requires_grad_() for v in inputs.values()]
    op = run("reference", activation)
    assert torch.autograd.gradcheck(lambda *a: op(**dict(zip(names, a, strict=True))), leaves)


@pytest.mark.usefixtures("one_thread")
def test_non_contiguous():
    inputs = make((32, 64, 3), 100)
    strided = {k: v.T.contiguous().T if v.dim() == 2 else v for k, v in inputs.items()}
    assert not strided["x"].is_contiguous()
    got = gradients(run("cpu", "none"), strided, list(inputs))
    want = gradients(run("cpu", "none"), inputs, list(inputs))
    assert all(torch.equal(got[k], want[k]) for k in want)


def test_repeatable_with_one_thread_and_close_with_two():
    inputs = make((32, 64, 64, 3), 3000)
    before = _native.num_threads()
    try:
        _native.set_num_threads(1)
        one = gradients(run("cpu", "none"), inputs, list(inputs))
        again = gradients(run("cpu", "none"), inputs, list(inputs))
        _native.set_num_threads(2)
        two = gradients(run("cpu", "none"), inputs, list(inputs))
    finally:
        _native.set_num_threads(before)
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert_gradients_close(two, one, rel=5e-6, abs=1e-3)  # measured 1.2e-6, 1.5e-4


def test_is_positively_homogeneous_without_biases():
    inputs = make((32, 64, 64, 3), 70)
    op = run("cpu", "none")
    for k in inputs:
        if k.startswith("bias"):
            inputs[k].zero_()
    want = 4 * op(**inputs)
    inputs["x"] = 4 * inputs["x"]
    assert torch.equal(op(**inputs), want)  # scaling by a power of two is exact


def test_bad_arguments():
    x, w, b = torch.zeros(4, 3), torch.zeros(2, 3), torch.zeros(2)
    with pytest.raises(ValueError, match=r"`x` must have shape"):
        fused_mlp(x[0], [w], [b])
    with pytest.raises(ValueError, match=r"`weights\[1\]` must have shape \(out, 2\)"):
        fused_mlp(x, [w, w], [b, b])
    with pytest.raises(ValueError, match=r"`biases\[0\]` must have shape \(2,\)"):
        fused_mlp(x, [w], [b[:1]])
    with pytest.raises(ValueError, match="one tensor a layer"):
        fused_mlp(x, [w], [])
    with pytest.raises(ValueError, match="output_activation"):
        fused_mlp(x, [w], [b], output_activation="tanh")
    with pytest.raises(ValueError, match="must be float32"):
        fused_mlp(x.double(), [w], [b], backend="cpu")
    with pytest.raises(ValueError, match="at most 256 units"):
        fused_mlp(x, [torch.zeros(300, 3)], [torch.zeros(300)], backend="cpu")
