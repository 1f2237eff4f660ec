"""nerf_mlp: C++ against the torch reference, every gradient by name, odd shapes, the layout."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close, gradients

from nerfkit.kernels import _native
from nerfkit.kernels.encodings import frequency_encoding
from nerfkit.kernels.nerf_mlp import NerfMlpConfig, nerf_mlp, unpack

FORWARD = {"rel": 2e-6, "abs": 5e-6}
BACKWARD = {"rel": 2e-5, "abs": 1e-3}

PAPER = NerfMlpConfig()
TINY = NerfMlpConfig(width=16, view_width=8)
ODD = NerfMlpConfig(
    depth=3, width=37, view_width=5, skip=1, position_frequencies=2, direction_frequencies=0
)
WIDE = NerfMlpConfig(depth=4, width=384, view_width=128, skip=3)


def make(config, n, n_rays=None, dtype=torch.float32):
    generator = torch.Generator().manual_seed(n)

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


@pytest.mark.parametrize("n", [0, 1, 15, 16, 257, 600])
@pytest.mark.parametrize("n_rays", [None, 7], ids=["a direction each", "rays"])
@pytest.mark.parametrize("config", [TINY, ODD], ids=["tiny", "odd"])
def test_matches_reference(config, n, n_rays):
    inputs = make(config, n, n_rays)
    got, want = run(config, "cpu")(**inputs), run(config, "reference")(**inputs)
    for name in want._fields:
        assert_close(name, getattr(got, name), getattr(want, name), **FORWARD)
    got, want = (named_gradients(config, b, inputs) for b in ("cpu", "reference"))
    assert_gradients_close(got, want, **BACKWARD)


@pytest.mark.parametrize("config", [PAPER, WIDE], ids=["paper", "384 wide"])
def test_matches_reference_at_full_size(config):
    inputs = make(config, 301, 9)
    got, want = run(config, "cpu")(**inputs), run(config, "reference")(**inputs)
    for name in want._fields:
        assert_close(name, getattr(got, name), getattr(want, name), **FORWARD)
    got, want = (named_gradients(config, b, inputs) for b in ("cpu", "reference"))
    assert_gradients_close(got, want, **BACKWARD)
