"""nerf_mlp: C++ against the torch reference, every gradient by name, odd shapes, the layout."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients

from nerfkit.kernels import _native
from nerfkit.kernels.encodings import frequency_encoding
from nerfkit.kernels.nerf_mlp import NerfMlpConfig, nerf_mlp, unpack

FORWARD = {"rel": 5e-6, "abs": 2e-5}  # measured 1.6e-6, 3.3e-6 (values to 4)
# Sums over up to 600 samples. Measured 4.3e-6 (a bias, which cancels), 4.8e-5 (values to 73).
BACKWARD = {"rel": 2e-5, "abs": 3e-4}

PAPER = NerfMlpConfig()
TINY = NerfMlpConfig(width=16, view_width=8)
ODD = NerfMlpConfig(
    depth=3, width=37, view_width=5, skip=1, position_frequencies=2, direction_frequencies=0
)
WIDE = NerfMlpConfig(depth=4, width=384, view_width=128, skip=3)


def make(config, n, n_rays=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n + 1)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    params = randn(config.n_params) * 0.1
    for name, view in unpack(params, config).items():
        if name.endswith("weight"):
            view *= 10 * 1.4 / view.shape[1] ** 0.5
    directions = torch.nn.functional.normalize(randn(n if n_rays is None else n_rays, 3), dim=1)
    inputs = {"points": randn(n, 3), "directions": directions, "params": params}
    if n_rays is not None:
        inputs["ray_indices"] = torch.randint(n_rays, (n,), generator=generator)
    return inputs


def run(config, backend):
    return lambda **inputs: nerf_mlp(**inputs, config=config, backend=backend)


def named_gradients(config, backend, inputs):
    flat = {k: v for k, v in inputs.items() if v.is_floating_point()}
    rest = {k: v for k, v in inputs.items() if k not in flat}

    def op(**leaves):
        return run(config, backend)(**leaves, **rest)

    return unpack(gradients(op, flat, ["params"])["params"], config)


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
@pytest.mark.parametrize("n_rays", [None, 7], ids=["a direction each", "rays"])
@pytest.mark.parametrize("config", [TINY, ODD], ids=["tiny", "odd"])
def test_matches_reference(config, n, n_rays):
    assert_matches_reference(config, make(config, n, n_rays))


@pytest.mark.parametrize("config", [PAPER, WIDE], ids=["paper", "384 wide"])
def test_matches_reference_at_full_size(config):
    assert_matches_reference(config, make(config, 301, 9))


@pytest.mark.parametrize("output", ["rgb_raw", "sigma_raw"])
def test_gradient_of_one_output(output):
    inputs = make(TINY, 40)
    got, want = (
        gradients(lambda **x: getattr(run(TINY, backend)(**x), output), tensors, ["params"])  # noqa: B023
        for backend, tensors in (("cpu", inputs), ("reference", doubles(inputs)))
    )
    assert_gradients_close(got, want, **BACKWARD)


@pytest.mark.parametrize("n_rays", [None, 7], ids=["a direction each", "rays"])
@pytest.mark.parametrize("kept", [0, 1, 33])
def test_samples_without_gradient_are_left_out(n_rays, kept):
    inputs = make(TINY, 300, n_rays)
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
    config = ODD._replace(width=3, view_width=2)
    inputs = make(config, 4, 2, dtype=torch.float64)
    indices = inputs.pop("ray_indices")
    leaves = [v.requires_grad_() for v in inputs.values()]
    op = run(config, "reference")
    assert torch.autograd.gradcheck(
        lambda *x: op(**dict(zip(inputs, x, strict=True)), ray_indices=indices), leaves
    )


@pytest.mark.usefixtures("one_thread")
def test_non_contiguous():
    inputs = make(TINY, 50, 50)
    strided = {k: torch.stack([v, v], -1)[..., 0] for k, v in inputs.items()}
    assert not any(v.is_contiguous() for v in strided.values())
    got, want = run(TINY, "cpu")(**strided), run(TINY, "cpu")(**inputs)
    assert torch.equal(got.rgb_raw, want.rgb_raw) and torch.equal(got.sigma_raw, want.sigma_raw)
    got, want = (named_gradients(TINY, "cpu", x) for x in (strided, inputs))
    assert all(torch.equal(got[k], want[k]) for k in want)


def test_repeatable_with_one_thread_and_close_with_two():
    inputs = make(TINY, 20000, 40)
    before = _native.num_threads()
    try:
        _native.set_num_threads(1)
        one, again = (named_gradients(TINY, "cpu", inputs) for _ in range(2))
        _native.set_num_threads(2)
        two = named_gradients(TINY, "cpu", inputs)
    finally:
        _native.set_num_threads(before)
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert_gradients_close(two, one, rel=2e-5, abs=5e-3)  # measured 4.3e-6, 1.2e-3


def test_paper_network():
    """Sizes and wiring of 2003.08934, figure 7, with the weights set so that its parts show."""
    assert PAPER.n_params == 595_844
    params = torch.zeros(PAPER.n_params)
    views = unpack(params)
    assert sum(v.numel() for v in views.values()) == PAPER.n_params
    assert views["trunk.0.weight"].shape == (256, 63)
    assert views["trunk.5.weight"].shape == (256, 63 + 256)
    assert views["view.weight"].shape == (128, 256 + 27)
    points, directions = (make(TINY, 20)[k].abs() for k in ("points", "directions"))
    # unit 0 of the trunk's layers 5 to 7 passes on y, which enters again with the skip
    views["trunk.5.weight"][0, 1] = 1
    views["trunk.6.weight"][0, 0] = views["trunk.7.weight"][0, 0] = 1
    views["sigma.weight"][0, 0] = 2
    # unit 1 of the view layer is 1 + the last column of the encoded direction, cos 8 z
    views["view.weight"][1, -1] = 1
    views["view.bias"][1] = 1
    views["rgb.weight"][2, 1] = 3
    rgb, sigma = nerf_mlp(points, directions, params)
    assert_close("sigma", sigma, 2 * points[:, 1], rel=1e-7, abs=1e-7)  # measured 0
    assert not rgb[:, :2].any()
    want = 3 + 3 * frequency_encoding(directions, 4)[:, -1]
    assert_close("blue", rgb[:, 2], want, rel=5e-7, abs=2e-6)  # measured 5.4e-8, 4.8e-7


def test_rays_are_directions_looked_up():
    inputs = make(TINY, 77, 6)
    each = {**inputs, "directions": inputs["directions"][inputs["ray_indices"]]}
    del each["ray_indices"]
    got, want = run(TINY, "cpu")(**inputs), run(TINY, "cpu")(**each)
    assert torch.equal(got.rgb_raw, want.rgb_raw) and torch.equal(got.sigma_raw, want.sigma_raw)


def test_density_does_not_see_the_direction():
    inputs = make(TINY, 50)
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
        ({"ray_indices": None}, "one a point, without ray_indices"),
        ({"ray_indices": torch.zeros(3, dtype=torch.int64)}, r"int64 of shape \(4,\)"),
        ({"ray_indices": torch.zeros(4)}, "must be int64"),
        ({"ray_indices": torch.tensor([0, 1, 2, 0])}, r"must be in \[0, 2\), got 0 to 2"),
        ({"ray_indices": torch.tensor([0, -1, 1, 0])}, "got -1 to 1"),
        ({"config": TINY._replace(skip=8)}, "1 <= skip < depth"),
        ({"config": TINY._replace(width=0)}, "widths of 1 or more"),
        ({"config": TINY._replace(position_frequencies=17)}, "0 to 16 frequencies"),
        ({"points": torch.zeros(4, 3).double()}, "points must be float32"),
        ({"points": torch.zeros(4, 3).requires_grad_()}, "no gradient with respect to points"),
    ]:
        with pytest.raises(ValueError, match=message):
            nerf_mlp(**{**inputs, "config": TINY, **change}, backend="cpu")


def test_known_outputs_are_not_computed_again():
    inputs = make(ODD, 33, 7)
    params = inputs["params"].requires_grad_()
    upstream = torch.randn(33, 4, generator=torch.Generator().manual_seed(1)).split([3, 1], 1)
    upstream = upstream[0], upstream[1][:, 0]
    want = torch.autograd.grad(run(ODD, "cpu")(**inputs), params, upstream)[0]
    zeros = torch.zeros(33, 3), torch.zeros(33)
    outputs = nerf_mlp(**inputs, config=ODD, known=zeros, backend="cpu")
    assert not any(values.any() for values in outputs)
    torch.testing.assert_close(torch.autograd.grad(outputs, params, upstream)[0], want)
