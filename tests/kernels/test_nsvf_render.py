"""nsvf_render: C++ against the reference, forward and gradients; rays of no voxels; errors."""

import pytest
import torch
from closeness import assert_close, assert_gradients_close

from nerfkit.fields.spans import Guide
from nerfkit.kernels import _native
from nerfkit.kernels.nsvf_mlp import NsvfMlpConfig, unpack
from nerfkit.kernels.nsvf_render import Voxels, render_rays
from nerfkit.octree import Octree
from nerfkit.octree.corners import Corners

needs_cpp = pytest.mark.skipif(not _native.available(), reason="C++ kernels are not built")
SMALL = NsvfMlpConfig(5, 20, 12, 2, 2, 2, 1)
SETTINGS = {"step": 0.11, "density_scale": 2.0, "early_stop": 0.05, "weight_min": 1e-3}


def octree() -> Octree:
    full = Octree.full(torch.tensor([-1.0, -1.5, -0.5]), 2.0, 2)
    return full.keep(torch.rand(len(full), generator=torch.Generator().manual_seed(8)) < 0.6)


def tensors(n: int, config: NsvfMlpConfig = SMALL) -> dict[str, torch.Tensor]:
    """Rays at the octree, and a field on it with both dense and empty places."""
    generator = torch.Generator().manual_seed(4)
    leaves = octree()
    origins = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1) * 4
    targets = leaves.box_min + leaves.size * torch.rand(n, 3, generator=generator)
    params = torch.randn(config.n_params, generator=generator) * 0.3
    unpack(params, config)["sigma.weight"].mul_(3)
    unpack(params, config)["sigma.bias"].fill_(0.5)
    return {
        "origins": origins,
        "directions": torch.nn.functional.normalize(targets - origins, dim=1),
        "background": torch.rand(n, 3, generator=generator),
        "table": torch.randn(len(Corners.of(leaves)), config.embedding, generator=generator),
        "params": params,
    }


def arguments(inputs: dict[str, torch.Tensor], near: float = 0.5) -> dict:
    """What `render_rays` takes, in the precision of the inputs."""
    leaves = octree().to(inputs["origins"].device)
    kind = inputs["origins"].dtype
    spans = Guide(leaves).spans(inputs["origins"].float(), inputs["directions"].float(), near)
    lows, corners = leaves.cells().to(kind), Corners.of(leaves).indices
    voxels = Voxels(lows, corners, leaves.box_min.to(kind), leaves.voxel)
    return {**inputs, "spans": spans, "voxels": voxels}


def seen(inputs, backend, config=SMALL, **more):
    settings = {**SETTINGS, **more}
    return render_rays(**arguments(inputs), config=config, backend=backend, **settings)


def gradients(inputs, backend, config=SMALL, **more):
    leaves = {name: inputs[name].clone().requires_grad_() for name in ("table", "params")}
    out = seen({**inputs, **leaves}, backend, config, **more)
    generator = torch.Generator().manual_seed(6)
    upstream = [torch.randn(x.shape, generator=generator).to(x) for x in (out[0], out[2])]
    total = (out.colors * upstream[0]).sum() + (out.opacities * upstream[1]).sum()
    return out, dict(zip(leaves, torch.autograd.grad(total, leaves.values()), strict=True))


# Worst measured: pixels 2e-6 of their size, gradients 3e-6.
@needs_cpp
@pytest.mark.parametrize("jitter", [False, True])
def test_cpu_matches_the_reference(jitter):
    inputs = tensors(23)
    given = [torch.Generator().manual_seed(1) if jitter else None for _ in range(2)]
    got, got_grads = gradients(inputs, "cpu", generator=given[0])
    want, want_grads = gradients(inputs, "reference", generator=given[1])
    for name, g, w in zip(got._fields[:3], got, want, strict=False):
        assert_close(name, g, w, rel=1e-5, abs=3e-5)
    assert got[3:] == want[3:] and 0 < want.n_shaded < want.n_samples
    assert want.opacities.std() > 0.1
    assert_gradients_close(got_grads, want_grads, rel=1e-4, abs=1e-3)


def test_rays_that_cross_nothing_show_the_background():
    inputs = tensors(5)
    inputs["directions"] = -inputs["directions"]
    out = seen(inputs, "reference")
    assert torch.equal(out.colors, inputs["background"]) and not out.opacities.any()
    assert out[3:] == (0, 0)
    assert seen(tensors(0), "reference").colors.shape == (0, 3)


def test_errors_name_the_argument():
    inputs = tensors(3)
    with pytest.raises(ValueError, match=r"background must have shape \(3, 3\), got \(2, 3\)"):
        seen({**inputs, "background": inputs["background"][:2]}, "reference")
    with pytest.raises(ValueError, match="step must be positive, got 0"):
        seen(inputs, "reference", step=0)
