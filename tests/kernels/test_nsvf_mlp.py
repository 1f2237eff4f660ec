"""nsvf_mlp: C++ against the torch reference, every gradient by name, odd shapes, the layout."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients

from nerfkit.kernels import _native
from nerfkit.kernels.nsvf_mlp import NsvfMlpConfig, nsvf_mlp, unpack

FORWARD = {"rel": 5e-6, "abs": 2e-5}  # measured 8.6e-7, 2.5e-6
# Sums over up to 600 samples. Measured 4.3e-6 (a bias, which cancels), 5.5e-5.
BACKWARD = {"rel": 2e-5, "abs": 4e-4}

PAPER = NsvfMlpConfig()
TINY = NsvfMlpConfig(embedding=8, width=16, density_width=8)
ODD = NsvfMlpConfig(
    embedding=5,
    width=37,
    density_width=3,
    feature_layers=1,
    color_layers=1,
    embedding_frequencies=2,
    direction_frequencies=0,
)
CONFIGS = pytest.mark.parametrize("config", [TINY, ODD], ids=["tiny", "odd"])


def make(config, n, n_rays=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n + 1)

    def randn(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    params = randn(config.n_params) * 0.1
    for name, view in unpack(params, config).items():
        if name.endswith("weight"):
            view *= 10 * 1.4 / view.shape[1] ** 0.5
    inputs = {
        "table": 0.5 * randn(30, config.embedding),
        "corners": torch.randint(30, (9, 8), generator=generator, dtype=torch.int32),
        "voxels": torch.randint(9, (n,), generator=generator),
        "places": torch.rand(n, 3, generator=generator, dtype=dtype),
        "directions": torch.nn.functional.normalize(randn(n_rays or n, 3), dim=1),
        "params": params,
    }
    if n_rays is not None:
        inputs["ray_indices"] = torch.randint(n_rays, (n,), generator=generator)
    return inputs


def run(config, backend):
    return lambda **inputs: nsvf_mlp(**inputs, config=config, backend=backend)


def named_gradients(config, backend, inputs):
    def op(**leaves):
        out = run(config, backend)(**{**inputs, **leaves})
        return [value for value in out if value is not None]

    leaves = {name: inputs[name] for name in ("table", "params")}
    found = gradients(op, leaves, list(leaves))
    return {"table": found["table"], **unpack(found["params"], config)}


def doubles(inputs):
    return {
        k: v.double() if v is not None and v.is_floating_point() else v for k, v in inputs.items()
    }


def assert_matches_reference(config, inputs):
    got, want = run(config, "cpu")(**inputs), run(config, "reference")(**doubles(inputs))
    for name in want._fields:
        if getattr(want, name) is not None:
            assert_close(name, getattr(got, name), getattr(want, name), **FORWARD)
    got = named_gradients(config, "cpu", inputs)
    want = named_gradients(config, "reference", doubles(inputs))
    assert_gradients_close(got, want, **BACKWARD)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 257, 600])
@pytest.mark.parametrize("n_rays", [None, 7], ids=["a direction each", "rays"])
@CONFIGS
def test_matches_reference(config, n, n_rays):
    assert_matches_reference(config, make(config, n, n_rays))


@CONFIGS
@pytest.mark.parametrize("n", [0, 300])
def test_density_alone(config, n):
    inputs = make(config, n)
    whole = run(config, "cpu")(**inputs)
    inputs["directions"] = None
    out = run(config, "cpu")(**inputs)
    assert out.rgb_raw is None and torch.equal(out.sigma_raw, whole.sigma_raw)
    assert_matches_reference(config, inputs)
    found = named_gradients(config, "cpu", inputs)
    assert not any(g.any() for name, g in found.items() if name.startswith(("color", "rgb")))


def test_matches_reference_at_full_size():
    assert_matches_reference(PAPER, make(PAPER, 301, 9))


@pytest.mark.parametrize("n_rays", [None, 7], ids=["a direction each", "rays"])
@pytest.mark.parametrize("kept", [0, 1, 33])
def test_samples_without_gradient_are_left_out(n_rays, kept):
    inputs = make(TINY, 300, n_rays)
    places = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:kept]
    upstream = torch.zeros(300, 4)
    upstream[places] = torch.randn(kept, 4, generator=torch.Generator().manual_seed(1))
    upstream[places[::2], :3] = 0  # some have one of sigma alone

    def masked(backend, tensors):
        def op(**leaves):
            out = run(TINY, backend)(**tensors | leaves)
            weights = upstream.to(out.rgb_raw.dtype)
            return (out.rgb_raw * weights[:, :3]).sum() + (out.sigma_raw * weights[:, 3]).sum()

        leaves = {name: tensors[name] for name in ("table", "params")}
        return gradients(op, leaves, list(leaves))

    got, want = masked("cpu", inputs), masked("reference", doubles(inputs))
    assert_gradients_close(got, want, **BACKWARD)
    assert bool(got["params"].any()) == bool(got["table"].any()) == (kept > 0)


def test_reference_gradcheck():
    config = ODD._replace(width=3, density_width=2, embedding=2)
    inputs = make(config, 4, 2, dtype=torch.float64)
    names = ("table", "places", "directions", "params")
    leaves = [inputs[name].requires_grad_() for name in names]

    def op(*values):
        return run(config, "reference")(**{**inputs, **dict(zip(names, values, strict=True))})

    assert torch.autograd.gradcheck(op, leaves)


@pytest.mark.usefixtures("one_thread")
def test_non_contiguous():
    inputs = make(TINY, 50, 50)
    strided = {k: torch.stack([v, v], -1)[..., 0] for k, v in inputs.items()}
    assert not any(v.is_contiguous() for v in strided.values())
    got, want = (named_gradients(TINY, "cpu", x) for x in (strided, inputs))
    assert all(torch.equal(got[k], want[k]) for k in want)
    assert torch.equal(run(TINY, "cpu")(**strided).rgb_raw, run(TINY, "cpu")(**inputs).rgb_raw)


def test_repeatable_with_one_thread_and_close_with_two():
    inputs = make(TINY, 5000, 40)
    before = _native.num_threads()
    try:
        _native.set_num_threads(1)
        one, again = (named_gradients(TINY, "cpu", inputs) for _ in range(2))
        _native.set_num_threads(2)
        two = named_gradients(TINY, "cpu", inputs)
    finally:
        _native.set_num_threads(before)
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert torch.equal(one["table"], two["table"])  # threads own its rows
    assert_gradients_close(two, one, rel=2e-5, abs=5e-3)  # as for nerf_mlp


def test_paper_network():
    layers = PAPER.layers
    assert layers["feature.0"] == (256, 32 * (1 + 2 * 6)) and layers["feature.2"] == (256, 256)
    assert layers["density"] == (128, 256) and layers["sigma"] == (1, 128)
    assert layers["color.0"] == (256, 256 + 27) and layers["color.3"] == (256, 256)
    assert layers["rgb"] == (3, 256) and "color.4" not in layers


def test_interpolation_is_trilinear():
    """With weights that pass the first number of the embedding on, sigma is that number."""
    config = NsvfMlpConfig(2, 4, 4, feature_layers=2, color_layers=1, embedding_frequencies=1)
    params = torch.zeros(config.n_params)
    views = unpack(params, config)
    for name in ("feature.0", "feature.1", "density", "sigma"):
        views[f"{name}.weight"][0, 0] = 1
    table = torch.rand(8, 2, generator=torch.Generator().manual_seed(0))
    corners = torch.arange(8, dtype=torch.int32)[None]
    place = torch.tensor([[0.25, 0.5, 1.0]])
    sigma = nsvf_mlp(table, corners, torch.zeros(1, dtype=torch.int64), place, None, params,
                     config=config).sigma_raw  # fmt: skip
    v = table[:, 0].view(2, 2, 2)  # z, y, x
    want = (0.75 * v[1, :, 0] + 0.25 * v[1, :, 1]).mean()
    assert abs(float(sigma - want)) < 1e-6  # measured 0


def test_bad_arguments():
    inputs = make(TINY, 4, 2)
    for change, message in [
        ({"table": torch.zeros(30, 9)}, r"table must have shape \(n_corners, 8\)"),
        ({"corners": torch.zeros(9, 8)}, "corners must be int32"),
        ({"corners": torch.full((9, 8), 30, dtype=torch.int32)}, r"corners must be in \[0, 30\)"),
        ({"voxels": torch.tensor([0, 1, 9, 0])}, r"voxels must be in \[0, 9\), got 0 to 9"),
        ({"places": torch.zeros(4)}, r"places must have shape \(4, 3\)"),
        ({"directions": torch.zeros(2, 2)}, r"directions must have shape \(n, 3\)"),
        ({"params": torch.zeros(5)}, r"params must have shape \(\d+,\), got \(5,\)"),
        ({"ray_indices": None}, "one a sample, without ray_indices"),
        ({"ray_indices": torch.tensor([0, -1, 1, 0])}, "got -1 to 1"),
        ({"config": TINY._replace(width=0)}, "1 or more"),
        ({"config": TINY._replace(embedding_frequencies=17)}, "0 to 16 frequencies"),
        ({"places": torch.zeros(4, 3).double()}, "places must be float32"),
        ({"places": torch.zeros(4, 3).requires_grad_()}, "no gradient with respect to places"),
    ]:
        with pytest.raises(ValueError, match=message):
            nsvf_mlp(**{**inputs, "config": TINY, **change}, backend="cpu")
