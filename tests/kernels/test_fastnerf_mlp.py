"""fastnerf_mlp: C++ against the torch reference, every gradient by name, odd shapes, the layout."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients

from nerfkit.kernels import _native
from nerfkit.kernels.encodings import frequency_encoding
from nerfkit.kernels.fastnerf_mlp import (
    FastNerfMlpConfig,
    fastnerf_mlp,
    point_components,
    unpack,
    view_weights,
)

FORWARD = {"rel": 5e-6, "abs": 2e-5}  # measured 9.9e-7, 3.9e-6 (values to 13)
# Sums over up to 600 samples. Measured 4.3e-6 (a bias, which cancels), 1.1e-4 (values to 131).
BACKWARD = {"rel": 2e-5, "abs": 5e-4}

PAPER = FastNerfMlpConfig()
TINY = FastNerfMlpConfig(width=16, view_width=8, components=2)
ODD = FastNerfMlpConfig(
    *(3, 37, 1),
    *(1, 5, 3),
    position_frequencies=2,
    direction_frequencies=0,
)


def make(config, n, n_rays, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n + 1)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    params = randn(config.n_params) * 0.1
    for name, view in unpack(params, config).items():
        if name.endswith("weight"):
            view *= 10 * 1.4 / view.shape[1] ** 0.5
    return {
        "points": randn(n, 3),
        "directions": torch.nn.functional.normalize(randn(n_rays, 3), dim=1),
        "params": params,
        "ray_indices": torch.randint(max(n_rays, 1), (n,), generator=generator),
    }


def run(config, backend):
    return lambda **inputs: fastnerf_mlp(**inputs, config=config, backend=backend)


def named_gradients(config, backend, inputs):
    found = gradients(run(config, backend), inputs, ["params"])["params"]
    return unpack(found, config)


def doubles(inputs):
    return {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}


def assert_matches_reference(config, inputs):
    """In float64, where the reference does not itself take the wrong side of a ReLU."""
    got, want = run(config, "cpu")(**inputs), run(config, "reference")(**doubles(inputs))
    for name in want._fields:
        assert_close(name, getattr(got, name), getattr(want, name), **FORWARD)
    got = named_gradients(config, "cpu", inputs)
    want = named_gradients(config, "reference", doubles(inputs))
    assert_gradients_close(got, want, **BACKWARD)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 257, 600])
@pytest.mark.parametrize("n_rays", [1, 7, 300])
@pytest.mark.parametrize("config", [TINY, ODD], ids=["tiny", "odd"])
def test_matches_reference(config, n, n_rays):
    assert_matches_reference(config, make(config, n, n_rays))


def test_matches_reference_at_full_size():
    assert_matches_reference(PAPER, make(PAPER, 301, 9))


@pytest.mark.parametrize("output", ["rgb_raw", "sigma_raw"])
def test_gradient_of_one_output(output):
    inputs = make(TINY, 40, 3)
    got, want = (
        gradients(lambda **x: getattr(run(TINY, backend)(**x), output), tensors, ["params"])  # noqa: B023
        for backend, tensors in (("cpu", inputs), ("reference", doubles(inputs)))
    )
    assert_gradients_close(got, want, **BACKWARD)


@pytest.mark.parametrize("kept", [0, 1, 33])
def test_samples_without_gradient_are_left_out(kept):
    inputs = make(TINY, 300, 7)
    generator = torch.Generator().manual_seed(0)
    places = torch.randperm(300, generator=generator)[:kept]
    upstream = torch.zeros(300, 4)
    upstream[places] = torch.randn(kept, 4, generator=generator)
    upstream[places[::2], :3] = 0  # some have one of sigma alone

    def masked(backend, tensors):
        def op(**leaves):
            out = run(TINY, backend)(**tensors | leaves)
            weights = upstream.to(out.rgb_raw.dtype)
            return (out.rgb_raw * weights[:, :3]).sum() + (out.sigma_raw * weights[:, 3]).sum()

        return gradients(op, {"params": tensors["params"]}, ["params"])

    got, want = masked("cpu", inputs), masked("reference", doubles(inputs))
    assert_gradients_close(got, want, **BACKWARD)
    assert bool(got["params"].any()) == (kept > 0)


def test_reference_gradcheck():
    config = ODD._replace(width=3, view_width=2, components=2)
    inputs = make(config, 4, 2, dtype=torch.float64)
    indices = inputs.pop("ray_indices")
    leaves = [v.requires_grad_() for v in inputs.values()]
    op = run(config, "reference")
    assert torch.autograd.gradcheck(
        lambda *x: op(**dict(zip(inputs, x, strict=True)), ray_indices=indices), leaves
    )


@pytest.mark.usefixtures("one_thread")
def test_non_contiguous():
    inputs = make(TINY, 50, 6)
    strided = {k: torch.stack([v, v], -1)[..., 0] for k, v in inputs.items()}
    assert not any(v.is_contiguous() for v in strided.values())
    got, want = run(TINY, "cpu")(**strided), run(TINY, "cpu")(**inputs)
    assert torch.equal(got.rgb_raw, want.rgb_raw) and torch.equal(got.sigma_raw, want.sigma_raw)
    got, want = (named_gradients(TINY, "cpu", x) for x in (strided, inputs))
    assert all(torch.equal(got[k], want[k]) for k in want)


def test_repeatable_with_one_thread_and_close_with_two():
    inputs = make(TINY, 20000, 600)
    before = _native.num_threads()
    try:
        _native.set_num_threads(1)
        one, again = (named_gradients(TINY, "cpu", inputs) for _ in range(2))
        _native.set_num_threads(2)
        two = named_gradients(TINY, "cpu", inputs)
    finally:
        _native.set_num_threads(before)
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert_gradients_close(two, one, rel=2e-5, abs=5e-3)


def test_paper_networks():
    """Sizes and wiring of 2103.10380, with the weights set so that its parts show."""
    first, last = 384 * 64, 25 * 385
    assert PAPER.n_params == (
        first + 6 * 384 * 385 + 384 * (384 + 64) + last  # 8 layers of 384, and sigma, 8 (u, v, w)
        + 128 * 28 + 3 * 128 * 129 + 8 * 129  # 4 layers of 128, and 8 weights
    )  # fmt: skip
    assert PAPER.n_params == 1_147_425
    params = torch.zeros(PAPER.n_params)
    views = unpack(params)
    assert sum(v.numel() for v in views.values()) == PAPER.n_params
    points, directions = (make(TINY, 20, 20)[k].abs() for k in ("points", "directions"))
    # unit 0 of the position network's layers 5 to 7 passes on y, which enters again there
    views["position.5.weight"][0, 1] = 1
    views["position.6.weight"][0, 0] = views["position.7.weight"][0, 0] = 1
    views["sigma.weight"][0, 0] = 2
    # component 2 is (0, 5 y, 0), component 7 the colour (0, 0, 3)
    views["colors.weight"][3 * 2 + 1, 0] = 5
    views["colors.bias"][3 * 7 + 2] = 3
    # unit 1 of the direction network passes on 1 + the last column of its input, cos 8 z
    views["view.0.weight"][1, -1] = views["view.0.bias"][1] = 1
    for i in range(1, 4):
        views[f"view.{i}.weight"][1, 1] = 1
    views["weights.weight"][2, 1] = 1
    views["weights.bias"][7] = 4
    rays = torch.arange(20).flip(0)
    rgb, sigma = fastnerf_mlp(points, directions, params, ray_indices=rays)
    assert_close("sigma", sigma, 2 * points[:, 1], rel=1e-7, abs=1e-7)  # measured 0
    assert not rgb[:, 0].any()
    beta = 1 + frequency_encoding(directions, 4)[rays, -1]
    assert_close(
        "green", rgb[:, 1], beta * 5 * points[:, 1], rel=5e-7, abs=5e-6
    )  # measured 3.2e-8, 4.8e-7
    assert_close("blue", rgb[:, 2], torch.full((20,), 12.0), rel=1e-7, abs=1e-6)  # measured 0


@pytest.mark.parametrize("n", [0, 1, 300])
def test_each_network_alone(n):
    inputs = make(ODD, n, n)
    points, directions, params = (inputs[k] for k in ("points", "directions", "params"))
    for backend in ("reference", "cpu"):
        colors, sigma_raw = point_components(points, params, config=ODD, backend=backend)
        weights = view_weights(directions, params, config=ODD, backend=backend)
        assert colors.shape == (n, 3, 3) and weights.shape == (n, 3)
        want = run(ODD, "reference")(**doubles(inputs))
        assert_close("sigma", sigma_raw, want.sigma_raw, **FORWARD)
        rgb_raw = (weights[inputs["ray_indices"], :, None] * colors).sum(1)
        assert_close("rgb", rgb_raw, want.rgb_raw, **FORWARD)
    with pytest.raises(ValueError, match="no gradient with respect to params"):
        view_weights(directions, params.requires_grad_(), config=ODD, backend="cpu")


def test_density_does_not_see_the_direction():
    inputs = make(TINY, 50, 8)
    other = {**inputs, "directions": -inputs["directions"]}
    got, want = run(TINY, "cpu")(**other), run(TINY, "cpu")(**inputs)
    assert torch.equal(got.sigma_raw, want.sigma_raw)
    assert (got.rgb_raw != want.rgb_raw).any(1).all()


def test_bad_arguments():
    inputs = make(TINY, 4, 2)
    for change, message in [
        ({"points": torch.zeros(4)}, r"points must have shape \(n, 3\)"),
        ({"directions": torch.zeros(2, 2)}, r"directions must have shape \(n, 3\)"),
        ({"params": torch.zeros(5)}, r"params must have shape \(\d+,\), got \(5,\)"),
        ({"ray_indices": torch.zeros(3, dtype=torch.int64)}, r"int64 of shape \(4,\)"),
        ({"ray_indices": torch.zeros(4)}, "must be int64"),
        ({"ray_indices": torch.tensor([0, 1, 2, 0])}, r"must be in \[0, 2\), got 0 to 2"),
        ({"config": TINY._replace(skip=8)}, "1 <= skip < depth"),
        ({"config": TINY._replace(components=0)}, "sizes of 1 or more"),
        ({"config": TINY._replace(position_frequencies=17)}, "0 to 16 frequencies"),
        ({"points": torch.zeros(4, 3).double()}, "points must be float32"),
        ({"points": torch.zeros(4, 3).requires_grad_()}, "no gradient with respect to points"),
    ]:
        with pytest.raises(ValueError, match=message):
            fastnerf_mlp(**{**inputs, "config": TINY, **change}, backend="cpu")


def test_known_outputs_are_not_computed_again():
    inputs = make(ODD, 33, 7)
    params = inputs["params"].requires_grad_()
    upstream = torch.randn(33, 4, generator=torch.Generator().manual_seed(1)).split([3, 1], 1)
    upstream = upstream[0], upstream[1][:, 0]
    want = torch.autograd.grad(run(ODD, "cpu")(**inputs), params, upstream)[0]
    zeros = torch.zeros(33, 3), torch.zeros(33)
    outputs = fastnerf_mlp(**inputs, config=ODD, known=zeros, backend="cpu")
    assert not any(values.any() for values in outputs)
    torch.testing.assert_close(torch.autograd.grad(outputs, params, upstream)[0], want)
